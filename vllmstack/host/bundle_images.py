"""Images out of this machine's Docker and into it, as `docker save` and `docker load` do it."""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import docker
import docker.errors
import requests.exceptions
from docker.models.images import Image as DockerImage

from vllmstack.bundle.archive import CHUNK_BYTES
from vllmstack.bundle.manifest import BundledImage
from vllmstack.errors import HostError, Problem

CONFIGURATION = (
    *("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "OnBuild", "Shell", "StopSignal", "User"),
    *("Volumes", "WorkingDir"),
)
"""Of an image's Config: what the OCI's image specification has, and what Docker adds. The rest is of containers."""
SILENT_SECONDS = 3600
"""How long the daemon may say nothing: it writes a whole image to its own disk before the first byte of it comes."""


def look_at(client: docker.DockerClient, references: Mapping[str, str]) -> tuple[BundledImage, ...]:
    """What there is of the images, by name of docker/images.yaml; all of them are on this machine."""
    found = []
    for name, reference in sorted(references.items()):
        image = client.images.get(reference)
        found.append(
            BundledImage(
                name=name,
                reference=portable(name, reference),
                id=str(image.id),
                layers=_layers(image),
                configuration=_configuration(image),
                size_bytes=int(image.attrs["Size"]),
            )
        )
    return tuple(found)


def portable(name: str, reference: str) -> str:
    """What the image is called on the other host: a digest is a registry's, and `docker load` knows none."""
    _, _, digest = reference.partition("@sha256:")
    return f"vllmstack/{name}:{digest[:12]}" if digest else reference


def saved(client: docker.DockerClient, image: BundledImage) -> Iterator[bytes]:
    """The image as `docker save` writes it.

    Raises:
        HostError: the daemon cannot give it.
    """
    with daemon_errors_said_clearly(f"saving {image.reference}"):
        # By its name, which travels with it; by its id where it has none that could.
        by_name = _find(client, image.reference)
        wanted = image.reference if by_name and by_name.id == image.id else image.id
        yield from client.api.get_image(wanted, chunk_size=CHUNK_BYTES)


def missing(client: docker.DockerClient, images: Iterable[BundledImage]) -> list[BundledImage]:
    """Those that are not on this machine under their name."""
    return [image for image in images if not _is(image, _find(client, image.reference))]


class LoadedImages:
    """Loads images one by one; ``undo`` takes back what was loaded until then."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._before: list[tuple[str, DockerImage | None]] = []

    def load(self, image: BundledImage, chunks: Iterator[bytes]) -> None:
        """Brings one image here, under its name.

        Raises:
            HostError: the daemon refused it (its disk is full), or made another image of it.
        """
        self._before.append((image.reference, _find(self._client, image.reference)))
        with daemon_errors_said_clearly(f"loading {image.reference}"):
            api: Any = self._client.api  # load_image has no types
            for event in api.load_image(chunks, quiet=False):
                if "error" in event:
                    raise HostError(_failed(f"loading {image.reference}", str(event["error"])))
            found = _find(self._client, image.reference)
            if not _is(image, found) and (by_id := _find(self._client, image.id)):
                repository, _, tag = image.reference.rpartition(":")
                by_id.tag(repository, tag)
                found = by_id
        if not _is(image, found):
            raise HostError(
                Problem(
                    fact=f"loading {image.reference}: it is another image than the one that was saved",
                    hint="make the bundle again; the daemons' versions (`docker version`) may not fit together",
                )
            )

    def undo(self) -> None:
        """Every name means again what it meant before."""
        for reference, before in reversed(self._before):
            with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
                now = _find(self._client, reference)
                if before is None and now is not None:
                    self._client.images.remove(reference)
                elif before is not None and now is not None and now.id != before.id:
                    repository, _, tag = reference.rpartition(":")
                    before.tag(repository, tag)
                    self._client.images.remove(str(now.id))


def _find(client: docker.DockerClient, reference: str) -> DockerImage | None:
    try:
        return client.images.get(reference)
    except docker.errors.ImageNotFound:
        return None


def _is(image: BundledImage, found: DockerImage | None) -> bool:
    """Whether a container of the one is as one of the other.

    Docker's own store takes the digest of an image's configuration as its id, which `docker save` and `load` keep;
    containerd's takes that of its manifest, which they do not. So an id that differs says nothing by itself.
    """
    if found is None:
        return False
    return found.id == image.id or (_layers(found), _configuration(found)) == (image.layers, image.configuration)


def _layers(image: DockerImage) -> tuple[str, ...]:
    layers: Sequence[str] = image.attrs.get("RootFS", {}).get("Layers") or ()
    return tuple(layers)


def _configuration(image: DockerImage) -> str:
    """Of what is set: what is not, one daemon leaves out and another one writes as null, false or empty."""
    config: Mapping[str, Any] = image.attrs.get("Config") or {}
    values = {name: config[name] for name in CONFIGURATION if config.get(name)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def daemon_errors_said_clearly(doing: str) -> Iterator[None]:
    """What the daemon, or the way to it, refuses becomes a HostError."""
    try:
        yield
    except docker.errors.APIError as error:
        raise HostError(_failed(doing, str(error.explanation or error))) from None
    except requests.exceptions.RequestException as error:
        raise HostError(_failed(doing, str(error))) from None


def _failed(doing: str, complaint: str) -> Problem:
    last = (complaint.strip() or "no reason given").splitlines()[-1]
    hint = "see the daemon's log"
    if "no space left" in last:
        hint = "free space below Docker's data-root (`docker system df` shows what it keeps)"
    return Problem(fact=f"{doing}: {last[-200:]}", hint=hint)
