"""Snapshots of hub models in the stack's volume `hub-cache`, read through a container that is made and never started.

That a snapshot's folder is there says nothing: what is whole, and was checked, has a manifest
(``vllmstack.hub.layout``).
"""

import contextlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO, cast

import docker
import docker.errors
from docker.models.containers import Container

from vllmstack.bundle.archive import CHUNK_BYTES, Source
from vllmstack.errors import HostError, Problem
from vllmstack.host.bundle_images import daemon_errors_said_clearly
from vllmstack.hub import layout, wishes
from vllmstack.hub.selection import answers, wanted
from vllmstack.project import compose_project_name

VOLUME = "hub-cache"
_MOUNT = PurePosixPath("/hub")
_CACHE = _MOUNT / layout.CACHE


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
            HostError: the volume has none of it, not all of it, or not as it is locked.
        """
        name = wish.revision
        try:
            commit = wish.commit or self._text(_CACHE / layout.refs(wish.hub) / name).strip() or name
        except docker.errors.NotFound:
            commit = name
        try:
            needed = self._needed(_MOUNT / layout.manifest(wish.hub, commit), wish)
            there = {one.path: one for one in self._files(_CACHE / layout.snapshots(wish.hub) / commit)}
        except docker.errors.NotFound:
            needed, there = {}, {}
        files = tuple(one for path, size in needed.items() if (one := there.get(path)) and one.size_bytes == size)
        if not needed or len(files) < len(needed):
            raise HostError(
                Problem(
                    fact=f"{wish.hub} (revision {name}) is not in the volume {VOLUME}: its weights were not downloaded "
                    "yet",
                    hint=f"`vllmstack models pull {wish.hub}` downloads them",
                )
            )
        return Snapshot(hub=wish.hub, commit=commit, files=files)

    def _needed(self, manifest: PurePosixPath, wish: wishes.Wish) -> dict[str, int]:
        """Bytes by path of those of the files that were checked; none where these are not what is wished for."""
        text = self._text(manifest)
        try:
            found = wishes.snapshot_from(json.loads(text))
        except (ValueError, KeyError, TypeError):
            return {}
        # Pickles are there only where somebody allowed them, which the deployment itself does not say.
        allowed = replace(wish, pickles=found.pickles)
        return {one.path: one.size for one in wanted(found.files, allowed)} if answers(found, allowed) else {}

    def _files(self, folder: PurePosixPath) -> Iterator[Source]:
        with _archive(self._stream(folder)) as archive:
            found = [(one.name.partition("/")[2], one.linkname if one.issym() else "", one.isfile()) for one in archive]
        for path, link, is_file in found:
            if not (link or is_file):
                continue
            name = link or posixpath.basename(path)
            place = PurePosixPath(posixpath.normpath(folder / posixpath.dirname(path) / name))
            if not place.is_relative_to(_CACHE):
                raise HostError(
                    Problem(
                        file=f"{VOLUME}: {path}",
                        fact="is a link out of the volume",
                        hint="remove the model from the volume, and download it again",
                    )
                )
            yield Source(path=path, size_bytes=self._size(place), read=partial(self._content, place))

    def _text(self, path: PurePosixPath) -> str:
        return b"".join(self._read(path)).decode()

    def _size(self, path: PurePosixPath) -> int:
        stream, about = self._mounted().get_archive(str(path))
        del stream  # only what is said of it is wanted
        return int((about or {})["size"])

    def _content(self, path: PurePosixPath) -> Iterator[bytes]:
        with daemon_errors_said_clearly(f"reading {path} in the volume {VOLUME}"):
            yield from self._read(path)

    def _read(self, path: PurePosixPath) -> Iterator[bytes]:
        with _archive(self._stream(path)) as archive:
            member = archive.next()
            content = archive.extractfile(member) if member else None
            while content and (chunk := content.read(CHUNK_BYTES)):
                yield chunk

    def _stream(self, path: PurePosixPath) -> Iterator[bytes]:
        stream, _ = self._mounted().get_archive(str(path), chunk_size=CHUNK_BYTES)
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
                volumes={volume: {"bind": str(_MOUNT), "mode": "ro"}},
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
