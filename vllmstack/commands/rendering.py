"""A deployment as files, with the images that they name: what `up` starts and `apply` changes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from vllmstack.commands.preparation import Prepared
from vllmstack.console import warn
from vllmstack.deployment.hub_models import unlocked
from vllmstack.deployment.model_lock import FILE
from vllmstack.errors import HostError
from vllmstack.host.checks import Check, preflight
from vllmstack.host.image_supply import ImageSupply
from vllmstack.host.running import FILE_RECORD
from vllmstack.host.tokenizer_files import tokenizer_files
from vllmstack.images import Image, images_for, load_images, needed_at_start
from vllmstack.render.stack import render_stack


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """A deployment's files, and the images that they name."""

    files: Mapping[str, str]
    images: Mapping[str, str]
    """Ids by reference; empty for one that is not on this machine yet."""
    services: frozenset[str]
    """Names of the images that are there: grafana's may not be."""


def refuse_what_cannot_work(prepared: Prepared, client: docker.DockerClient) -> None:
    """Before anything is pulled or started: ports, GPUs, disk, token; all that is missing at once."""
    failed: list[Check] = [check for check in preflight(prepared.project, prepared.plan, client) if check.failed]
    if failed:
        raise HostError([check.problem for check in failed])


def warn_of_unlocked(prepared: Prepared) -> None:
    """A branch of the hub may be something else the next time; a commit is not."""
    for name, wish in unlocked(prepared.deployment, prepared.lock):
        command = f"`vllmstack models pull {prepared.file}` writes it into {FILE}"
        warn(f"{name}: {wish.hub} is not locked to a commit: {command}")


def render(prepared: Prepared, client: docker.DockerClient, *, bring_images: bool = True) -> Rendering:
    """All files of the deployment, with the images pulled or built, or only foreseen."""
    images = images_for(prepared.deployment, load_images(prepared.project.images_file))
    supply = ImageSupply(prepared.project, client)
    at_start = needed_at_start(images)
    references = supply.provide(at_start) if bring_images else supply.foresee(at_start)
    later = {key: image for key, image in images.items() if image.on_demand}
    provided = later | {key: Image(reference=reference) for key, reference in references.items()}
    alertmanager = prepared.project.alertmanager_file.read_text()
    record = {FILE_RECORD: f"{Path(prepared.file).resolve()}\n"}
    files = render_stack(prepared.plan, provided, alertmanager, prepared.lock)
    return Rendering(
        files=files | tokenizer_files(prepared.plan) | record,
        images={reference: supply.identity(reference, images[key]) for key, reference in references.items()},
        services=frozenset(references),
    )
