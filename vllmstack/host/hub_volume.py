"""Snapshots of hub models in the stack's volume `hub-cache`, read through a container that is made and never started.

The volume holds huggingface_hub's cache (its guide "Understand caching"): a snapshot is a folder of links to blobs.
That the folder is there says nothing: what is whole, and was checked, has a manifest (``vllmstack.hub.store``).
"""

import contextlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, cast

import docker
import docker.errors
from docker.models.containers import Container

from vllmstack.bundle.archive import CHUNK_BYTES, Source
from vllmstack.errors import HostError, Problem
from vllmstack.host.bundle_images import daemon_errors_said_clearly
from vllmstack.hub import wishes
from vllmstack.hub.selection import answers
from vllmstack.project import compose_project_name

VOLUME = "hub-cache"
_MOUNT = "/hub"
_CACHE = f"{_MOUNT}/hub"
"""`$HF_HOME/hub` of the engines, whose HF_HOME is the volume."""
_MANIFESTS = f"{_MOUNT}/manifests"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A revision of a hub repository, whole."""

    hub: str
    commit: str
    files: tuple[Source, ...]


class HubVolume:
    """What is in the volume. ``image``: any that is on this machine; nothing of it runs."""

    def __init__(self, client: docker.DockerClient, image: str) -> None:
        self._client = client
        self._image = image
        self._container: Container | None = None

    def __enter__(self) -> "HubVolume":
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is not None:
            with contextlib.suppress(docker.errors.APIError):
                self._container.remove(force=True)

    def snapshot(self, wish: wishes.Wish) -> Snapshot:
        """The revision that is in the volume, with the files of its manifest.

        Raises:
            HostError: the volume has none of it, not all of it, or no weights where the wish is for these.
        """
        folder = f"models--{wish.hub.replace('/', '--')}"
        repository, name = f"{_CACHE}/{folder}", wish.revision
        try:
            commit = self._text(f"{repository}/refs/{name}").strip() or name
        except docker.errors.NotFound:
            commit = name
        try:
            wanted = self._manifest(f"{_MANIFESTS}/{folder}/{commit}.json", wish)
            there = {one.path: one for one in self._files(f"{repository}/snapshots/{commit}")} if wanted else {}
        except docker.errors.NotFound:
            wanted, there = {}, {}
        files = tuple(one for path, size in wanted.items() if (one := there.get(path)) and one.size_bytes == size)
        if not wanted or len(files) < len(wanted):
            raise HostError(
                Problem(
                    fact=f"{wish.hub} (revision {name}) is not in the volume {VOLUME}: its weights were not downloaded "
                    "yet",
                    hint=f"`vllmstack models pull {wish.hub}` downloads them",
                )
            )
        return Snapshot(hub=wish.hub, commit=commit, files=files)

    def _manifest(self, file: str, wish: wishes.Wish) -> dict[str, int]:
        """Bytes by path of the files that were checked; none where these are not what is wished for."""
        text = self._text(file)
        try:
            found = wishes.snapshot_from(json.loads(text))
        except (ValueError, KeyError, TypeError):
            return {}
        # Pickles are there only where somebody allowed them, which the deployment itself does not say.
        if not answers(found, replace(wish, pickles=found.pickles)):
            return {}
        return {one.path: one.size for one in found.files}

    def _files(self, folder: str) -> Iterator[Source]:
        with _archive(self._stream(folder)) as archive:
            found = [(one.name.partition("/")[2], one.linkname if one.issym() else "", one.isfile()) for one in archive]
        for path, link, is_file in found:
            if not (link or is_file):
                continue
            place = posixpath.normpath(
                posixpath.join(folder, posixpath.dirname(path), link or posixpath.basename(path))
            )
            if not place.startswith(f"{_CACHE}/"):
                raise HostError(
                    Problem(
                        file=f"{VOLUME}: {path}",
                        fact="is a link out of the volume",
                        hint="remove the model from the volume, and download it again",
                    )
                )
            yield Source(path=path, size_bytes=self._size(place), read=partial(self._content, place))

    def _text(self, path: str) -> str:
        return b"".join(self._read(path)).decode()

    def _size(self, path: str) -> int:
        stream, about = self._mounted().get_archive(path)
        del stream  # only what is said of it is wanted
        return int((about or {})["size"])

    def _content(self, path: str) -> Iterator[bytes]:
        with daemon_errors_said_clearly(f"reading {path} in the volume {VOLUME}"):
            yield from self._read(path)

    def _read(self, path: str) -> Iterator[bytes]:
        with _archive(self._stream(path)) as archive:
            member = archive.next()
            content = archive.extractfile(member) if member else None
            while content and (chunk := content.read(CHUNK_BYTES)):
                yield chunk

    def _stream(self, path: str) -> Iterator[bytes]:
        stream, _ = self._mounted().get_archive(path, chunk_size=CHUNK_BYTES)
        return stream

    def _mounted(self) -> Container:
        if self._container is None:
            volume = f"{compose_project_name()}_{VOLUME}"
            self._client.volumes.get(volume)  # else the container would make an empty one
            self._container = self._client.containers.create(
                self._image,
                entrypoint=["/never-started"],
                command=[],
                network_disabled=True,
                volumes={volume: {"bind": _MOUNT, "mode": "ro"}},
            )
        return self._container


@contextlib.contextmanager
def _archive(chunks: Iterator[bytes]) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=cast("IO[bytes]", _Reader(chunks)), mode="r|", bufsize=CHUNK_BYTES) as archive:
        yield archive


class _Reader:
    """Chunks as tarfile reads a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._kept = b""

    def read(self, size: int) -> bytes:
        while len(self._kept) < size and (chunk := next(self._chunks, b"")):
            self._kept += chunk
        taken, self._kept = self._kept[:size], self._kept[size:]
        return taken
