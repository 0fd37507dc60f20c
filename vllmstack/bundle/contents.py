"""What of a deployment travels, and how its file reads on the other host: pure arithmetic over a Deployment."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllmstack.bundle.deployment_text import Place
from vllmstack.bundle.manifest import ADAPTERS, MODELS
from vllmstack.deployment.adapters import OPTION, adapters_of
from vllmstack.deployment.hub_models import MAIN, needs_of
from vllmstack.deployment.model import Deployment, Model
from vllmstack.deployment.model_lock import ModelLock
from vllmstack.errors import InvalidInput, Problem
from vllmstack.hub.wishes import Wish
from vllmstack.planning.placement import model_slug

WEIGHTS_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

_SECRETS = "../../secrets"
"""From ``bundles/NAME-IDENTITY/``."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Files that one folder of the archive holds: of the host, or of the hub's cache."""

    archived_as: str
    place: str
    """In the deployment file."""
    directory: Path | None = None
    wish: Wish | None = None
    """What the hub's cache must have of it."""

    @property
    def described(self) -> str:
        return self.wish.hub if self.wish else str(self.directory)


def folders_of(deployment: Deployment, lock: ModelLock, file: str) -> list[Folder]:
    """Models and LoRA adapters, each as it is locked.

    Raises:
        InvalidInput: an engine fetches something from the hub that a bundle cannot hold; ``file`` is the deployment's.
    """
    problems = [problem for index, model in enumerate(deployment.models) for problem in _unheld(index, model, file)]
    if problems:
        raise InvalidInput(problems)
    folders = []
    for index, model in enumerate(deployment.models):
        slug = model_slug(model)
        wishes = {need.place: lock.applied(need.wish) for need in needs_of(model)}
        folders.append(
            Folder(
                archived_as=f"{MODELS}/{slug}",
                place=f"models/{index}/source",
                directory=model.source.directory,
                wish=wishes.get(("source",)),
            )
        )
        for number, adapter in enumerate(adapters_of(model.serve), start=1):
            folders.append(
                Folder(
                    archived_as=f"{ADAPTERS}/{slug}-{number}",
                    place=f"models/{index}/serve/{OPTION}",
                    directory=adapter.folder,
                    wish=wishes.get(("serve", OPTION, str(number - 1))),
                )
            )
    return folders


def _unheld(index: int, model: Model, file: str) -> Iterator[Problem]:
    for need in needs_of(model):
        # The model's own folder has its tokenizer, if it is of the same revision.
        is_own = (need.wish.hub, need.wish.revision) == (model.source.hub, model.source.revision or MAIN)
        if need.place == ("source",) or OPTION in need.place or (need.place[-1] == "tokenizer_revision" and is_own):
            continue
        yield Problem(
            file=file,
            place="/".join(["models", str(index), *need.place]),
            fact=f"{need.wish.hub} is fetched from the hub by the engine, and a bundle holds a model's own files alone",
            hint="put what the engine needs of it into the model's folder, or leave the option out",
        )


def changed_values(deployment: Deployment, images: Mapping[str, str]) -> dict[Place, Any]:
    """What the file says otherwise on the other host: nothing there is pulled, built or downloaded.

    ``images`` has the reference of each image of the bundle. Without Grafana's the deployment is without Grafana.
    """
    values: dict[Place, Any] = {}
    for index, model in enumerate(deployment.models):
        slug = model_slug(model)
        values["models", index, "source"] = {"directory": f"{MODELS}/{slug}"}
        if adapters := adapters_of(model.serve):
            values["models", index, "serve", OPTION] = [
                adapter.at(f"{ADAPTERS}/{slug}-{number}") for number, adapter in enumerate(adapters, start=1)
            ]
    gateway = deployment.gateway
    if gateway.api_keys_file:
        values["gateway", "api_keys_file"] = f"{_SECRETS}/{key_file(deployment)}"
    if gateway.tls:
        certificate, key = tls_files(deployment)
        values["gateway", "tls"] = {"certificate": f"{_SECRETS}/{certificate}", "key": f"{_SECRETS}/{key}"}
    values["images",] = {**deployment.images, **images}
    if "grafana" not in images and deployment.monitoring.grafana:
        values["monitoring", "grafana"] = False
    return values


def key_file(deployment: Deployment) -> str:
    """Below ``secrets/`` of the other host: who may ask there."""
    return f"{deployment.name}.keys.json"


def tls_files(deployment: Deployment) -> tuple[str, str]:
    """Below ``secrets/`` of the other host: its certificate, and the key of that."""
    return f"{deployment.name}.certificate.pem", f"{deployment.name}.key.pem"


def receiver_files(deployment: Deployment) -> list[str]:
    """Names below ``secrets/alerts/`` that the deployment's receivers read."""

    def found(value: Any) -> Iterator[str]:
        if isinstance(value, str) and value.startswith("/run/secrets/alerts/"):
            yield value.removeprefix("/run/secrets/alerts/")
        elif isinstance(value, Mapping | list | tuple):
            for part in value.values() if isinstance(value, Mapping) else value:
                yield from found(part)

    return sorted(set(found(deployment.monitoring.receivers.model_dump())))


def missing_weights(files: Collection[str], indexes: Mapping[str, str]) -> list[str]:
    """Names of weights that a folder's index lists and the folder lacks: a download that did not end.

    ``indexes``: texts of those of ``WEIGHTS_INDEX`` that are there. One of the two kinds of weights is enough.
    """
    missing: list[str] = []
    for text in indexes.values():
        try:
            weight_map = json.loads(text)["weight_map"]
            lacking = sorted(set(weight_map.values()) - set(files))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # what vLLM makes of it is not for a bundle to say
        if not lacking:
            return []
        missing = missing or lacking
    return missing
