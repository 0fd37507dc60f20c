"""``docker/images.yaml``: which images the stack is made of, and what replaces one that cannot be pulled."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from vllmstack.deployment.model import Deployment, Engine


class Build(BaseModel):
    """A Dockerfile of this repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    """Under ``docker/``."""
    base: str
    """The Debian release that the Dockerfile stands on."""


class Image(BaseModel):
    """One image: pulled, or built, or both in that order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str
    pulled: bool = True
    """Whether a registry has it; false for those that only this repository makes."""
    build: Build | None = None
    on_demand: bool = False
    """Brought onto the machine by the first command that needs it, not by `up`."""


class ImageList(BaseModel):
    """The file's contents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vllm: str
    """The release that options, metrics and engines are pinned to."""
    images: dict[str, Image]


def load_images(file: Path) -> ImageList:
    """Reads images.yaml, a file of this repository: a mistake in it is a bug, not a user's error."""
    return ImageList.model_validate(yaml.safe_load(file.read_text()))


def images_for(deployment: Deployment, known: ImageList) -> Mapping[str, Image]:
    """The images this deployment needs, by name, with the deployment's own references put in.

    An image that a deployment names is only pulled or taken as it is: what this repository would build is
    something else.
    """
    names = ["gateway", "prometheus", "alertmanager", "node-exporter", "exporters"]
    if deployment.monitoring.grafana:
        names.append("grafana")
    engines = {model.engine for model in deployment.models}
    names += [name for engine, name in ENGINE_IMAGES.items() if engine in engines]
    if any(model.source.hub for model in deployment.models):
        names.append(MODELS_IMAGE)
    names += [name for name, image in known.images.items() if image.on_demand]
    return {
        name: Image(reference=deployment.images[name], on_demand=known.images[name].on_demand)
        if name in deployment.images
        else known.images[name]
        for name in names
    }


def image_variable(name: str) -> str:
    """The variable of compose.yaml that holds an image's reference."""
    return f"VLLMSTACK_IMAGE_{name.upper().replace('-', '_')}"


def needed_at_start(images: Mapping[str, Image]) -> dict[str, Image]:
    """Without those that `up` does not wait for."""
    return {name: image for name, image in images.items() if not image.on_demand}


MONITORING_SERVICES = {
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "node-exporter": "node-exporter",
    "container-exporter": "exporters",
    "gpu-exporter": "exporters",
    "gpu-exporter-cdi": "exporters",
    "grafana": "grafana",
}
"""Image by service, of what compose.yaml has beside gateway, engines and load test."""

PROFILES = {"grafana": "grafana", "gpu-exporter": "gpu-nvidia", "gpu-exporter-cdi": "gpu-cdi"}
"""Services that run only where their profile is asked for."""

MODELS_IMAGE = "models"
"""Of what fetches models from the hub."""

ENGINE_IMAGES = {Engine.VLLM: "engine", Engine.VLLM_CPU: "engine-cpu"}
