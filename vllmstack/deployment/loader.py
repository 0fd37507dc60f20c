"""From ``deployments/NAME.yaml`` to a Deployment, or to everything that is wrong with it at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vllmstack.deployment import checks, messages, path_checks, routing_checks
from vllmstack.deployment.adapters import OPTION, Adapter, adapter_problems, adapters_of
from vllmstack.deployment.model import Deployment, Gateway, Model, Tls
from vllmstack.deployment.options import normalised
from vllmstack.deployment.salvage import areas, salvaged
from vllmstack.deployment.serve_checks import serve_problems
from vllmstack.deployment.wording import listed, perhaps
from vllmstack.deployment.yaml_file import read_mapping
from vllmstack.errors import InvalidInput, Problem
from vllmstack.planning.gpus import gpu_types

IMAGES_FILE = Path(__file__).resolve().parents[2] / "docker" / "images.yaml"
SUFFIXES = (".yaml", ".yml")


def find(name_or_path: str, folder: Path, noun: str = "deployment") -> Path:
    """The deployment file (or ``noun``) that a name (``cpu-smoke``) or a path means.

    Raises:
        InvalidInput: there is none; the hint names what is near, or all there are.
    """
    path = Path(name_or_path)
    if path.suffix in SUFFIXES or "/" in name_or_path:
        if path.exists():
            return path
        raise InvalidInput(
            Problem(
                file=name_or_path,
                fact="there is no such file",
                hint=_perhaps_a_name(path.stem, folder, noun),
            )
        )
    for suffix in SUFFIXES:
        candidate = folder / f"{name_or_path}{suffix}"
        if candidate.is_file():
            return candidate
    raise InvalidInput(
        Problem(fact=f"there is no {noun} named {name_or_path!r}", hint=_perhaps_a_name(name_or_path, folder, noun))
    )


def names(folder: Path) -> list[str]:
    """What :func:`find` knows by name, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*") if path.suffix in SUFFIXES)


def _perhaps_a_name(name: str, folder: Path, noun: str) -> str:
    known = names(folder)
    if not known:
        return f"{folder} holds no {noun}; write one, or name a file by its path"
    return perhaps(name, known) or f"the {noun}s are {listed(known)}"


def load(path: Path) -> Deployment:
    """Reads and checks a deployment file.

    In the result, paths are absolute, options under ``serve`` have underscores, and LoRA adapters are mappings.

    Raises:
        InvalidInput: with every mistake there is, in the file's order of sections; the file is named as ``path`` is
            written.
    """
    data, problems = read_mapping(path)
    file = str(path)
    broken: set[str] = set()
    try:
        deployment: Deployment | None = Deployment.model_validate(data)
    except ValidationError as error:
        problems += messages.problems(error, data, file)
        broken = areas(messages.locations(error))
        deployment = salvaged(data)
    problems += [_in_file(problem, file) for problem in _serve_problems(data)]
    if deployment is not None:
        normal = _normalised(deployment)
        resolved = _resolved(normal, path.absolute().parent)
        found = [*_rule_problems(normal), *_disk_problems(normal, resolved)]
        problems += [_in_file(problem, file) for problem in found if not _is_within(problem.place, broken)]
        if not problems:
            return resolved
    raise InvalidInput(sorted(dict.fromkeys(problems), key=_order))


def _rule_problems(deployment: Deployment) -> Iterator[Problem]:
    models = deployment.models
    for index, model in enumerate(models):
        yield from checks.model_problems(index, model)
        yield from checks.replicas_problems(index, model)
        yield from routing_checks.hang_problems(index, model, deployment.gateway)
    yield from routing_checks.names_problems(models, deployment.splits)
    for index, split in enumerate(deployment.splits):
        yield from routing_checks.split_problems(index, split, models)
    yield from checks.gpu_ids_problems(list(enumerate(models)))
    yield from checks.gateway_problems(deployment.gateway)
    yield from checks.gpu_type_problems(deployment.gpu, gpu_types())
    yield from checks.image_problems(deployment.images, image_names())


def _disk_problems(deployment: Deployment, resolved: Deployment) -> Iterator[Problem]:
    for index, model in enumerate(deployment.models):
        written, directory = model.source.directory, resolved.models[index].source.directory
        if written and directory:
            yield from path_checks.model_directory_problems(f"models/{index}/source/directory", written, directory)
        found = adapters_of(resolved.models[index].serve)
        for adapter, resolved_adapter in zip(adapters_of(model.serve), found, strict=True):
            place = f"models/{index}/serve/{adapter.place}"
            hub = model.source.hub is not None
            yield from path_checks.adapter_problems(place, adapter.path, resolved_adapter.folder, can_download=hub)
    gateway, there = deployment.gateway, resolved.gateway
    if gateway.api_keys_file and there.api_keys_file:
        yield from path_checks.api_keys_problems("gateway/api_keys_file", gateway.api_keys_file, there.api_keys_file)
    if gateway.tls and there.tls:
        yield from path_checks.tls_problems(gateway.tls, there.tls)


def _serve_problems(data: Mapping[Any, Any]) -> Iterator[Problem]:
    """On the file's own values, so that names stand in messages as they were written."""
    models = data.get("models")
    for index, model in enumerate(models if isinstance(models, list) else []):
        serve = model.get("serve") if isinstance(model, dict) else None
        found = [*serve_problems(serve), *adapter_problems(serve)] if isinstance(serve, dict) else []
        for problem in found:
            yield Problem(place=f"models/{index}/serve/{problem.place}", fact=problem.fact, hint=problem.hint)


def image_names() -> list[str]:
    """The names that ``images:`` may use."""
    return list(yaml.safe_load(IMAGES_FILE.read_text("utf-8"))["images"])


def _normalised(deployment: Deployment) -> Deployment:
    models = tuple(model.model_copy(update={"serve": normalised(model.serve)}) for model in deployment.models)
    return deployment.model_copy(update={"models": models})


def _resolved(deployment: Deployment, folder: Path) -> Deployment:
    """The same with absolute paths; the file's own are relative to its folder."""

    def adapter_there(adapter: Adapter) -> dict[str, Any]:
        # As vLLM has it: a folder that is there, else the hub's.
        path = (folder / adapter.path).resolve()
        return adapter.at(str(path) if path.is_dir() or not adapter.may_be_on_the_hub else adapter.path)

    def model_there(model: Model) -> Model:
        update: dict[str, Any] = {}
        if adapters := adapters_of(model.serve):
            update["serve"] = {**model.serve, OPTION: [adapter_there(adapter) for adapter in adapters]}
        if model.source.directory is not None:
            directory = (folder / model.source.directory).resolve()
            update["source"] = model.source.model_copy(update={"directory": directory})
        return model.model_copy(update=update)

    def gateway_there(gateway: Gateway) -> Gateway:
        update: dict[str, Any] = {}
        if gateway.api_keys_file:
            update["api_keys_file"] = (folder / gateway.api_keys_file).resolve()
        if gateway.tls:
            certificate, key = ((folder / path).resolve() for path in (gateway.tls.certificate, gateway.tls.key))
            update["tls"] = Tls(certificate=certificate, key=key)
        return gateway.model_copy(update=update)

    models = tuple(model_there(model) for model in deployment.models)
    return deployment.model_copy(update={"models": models, "gateway": gateway_there(deployment.gateway)})


def _in_file(problem: Problem, file: str) -> Problem:
    return Problem(file=file, place=problem.place, fact=problem.fact, hint=problem.hint)


def _is_within(place: str, broken: set[str]) -> bool:
    return any(place == area or place.startswith(f"{area}/") for area in broken)


def _order(problem: Problem) -> tuple[int, list[tuple[int, str]]]:
    """Sections in the model's order, then models by number; the order of finding within them stays."""
    first, *rest = problem.place.split("/")
    sections = list(Deployment.model_fields)
    numbers = [(int(part), "") for part in rest[:1] if part.isdigit()]
    return (sections.index(first) if first in sections else -1, numbers)
