"""The hub's cache in the volume: what is whole in it, what is not, and what is checked. See ``layout``."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from vllmstack.hub import layout
from vllmstack.hub.selection import answers
from vllmstack.hub.wishes import HubFile, Snapshot, Wish, as_json, snapshot_from

COMMIT = re.compile(r"[0-9a-f]{40}")
PART = ".part"
CHUNK_BYTES = 4 * 1024 * 1024


class Store:
    """The cache below ``home``, which is HF_HOME in the engines."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def blob(self, hub: str, file: HubFile) -> Path:
        """Where a file's content lies, or shall."""
        return self._cache / layout.blobs(hub) / file.digest

    def commit_of(self, hub: str, revision: str) -> str | None:
        """The commit that a revision stands for here; None: nobody has asked for it yet."""
        if COMMIT.fullmatch(revision):
            return revision
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = (self._cache / layout.refs(hub) / revision).read_text("ascii").strip()
            return commit if COMMIT.fullmatch(commit) else None
        return None

    def revisions_of(self, hub: str, commit: str) -> list[str]:
        """Branches and tags that stand for the commit here."""
        refs = self._cache / layout.refs(hub)
        names = [str(file.relative_to(refs)) for file in refs.rglob("*") if file.is_file()]
        return sorted(name for name in names if self.commit_of(hub, name) == commit)

    def snapshot(self, hub: str, commit: str) -> Snapshot | None:
        """The snapshot, if each of its files is there in its full size."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = snapshot_from(json.loads(self._manifest(hub, commit).read_text("utf-8")))
            folder = self._snapshot(hub, commit)
            # Without any file, which an older release kept, there is nothing to serve or to lock.
            if found.files and all((folder / file.path).stat().st_size == file.size for file in found.files):
                return found
        return None

    def present(self, wish: Wish) -> Snapshot | None:
        """The snapshot that a wish means, if it is whole and has all that is asked for."""
        commit = wish.commit or self.commit_of(wish.hub, wish.revision)
        found = self.snapshot(wish.hub, commit) if commit and not wish.update else None
        return found if found and answers(found, wish) else None

    def snapshots(self) -> list[Snapshot]:
        """All that are whole, by id and commit."""
        found = [
            self.snapshot(layout.hub_id(manifest.parent.name), manifest.stem)
            for manifest in (self.home / layout.MANIFESTS).glob(f"{layout.REPOSITORIES}/*.json")
        ]
        return sorted((one for one in found if one), key=lambda one: (one.hub.lower(), one.commit))

    def leftovers(self) -> dict[str, int]:
        """Bytes by id of repositories without a whole snapshot: half a download, or what an older release left."""
        whole = {one.hub for one in self.snapshots()}
        folders = self._cache.glob(layout.REPOSITORIES)
        sizes = {layout.hub_id(folder.name): _bytes_below(folder) for folder in folders}
        return {hub: size for hub, size in sorted(sizes.items()) if hub not in whole and size}

    def keep(self, snapshot: Snapshot) -> None:
        """Makes a snapshot of files that are all there and were checked, with its manifest."""
        folder = self._snapshot(snapshot.hub, snapshot.commit)
        for file in snapshot.files:
            link = folder / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            _point(link, os.path.relpath(self.blob(snapshot.hub, file), link.parent))
        _write(self._manifest(snapshot.hub, snapshot.commit), json.dumps(as_json(snapshot), indent=1) + "\n")

    def refer(self, hub: str, revision: str, commit: str) -> None:
        """From now on the revision stands for the commit: engines that ask for the branch get it."""
        if revision != commit and self.commit_of(hub, revision) != commit:
            _write(self._cache / layout.refs(hub) / revision, commit)

    def differences(
        self, snapshot: Snapshot, told: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[str, str]]:
        """Each file whose content is not what it should be, and why; ``told`` hears of bytes that were read."""
        folder = self._snapshot(snapshot.hub, snapshot.commit)
        for file in snapshot.files:
            try:
                size = (folder / file.path).stat().st_size
                found = digest_of(folder / file.path, file, told)
            except OSError as error:
                yield file.path, "is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
                continue
            if size != file.size:
                yield file.path, f"has {size:,} bytes instead of {file.size:,}"
            elif found != file.digest:
                yield file.path, f"has the digest {found[:12]}… instead of {file.digest[:12]}…"

    def forget(self, hub: str, commit: str) -> None:
        """A snapshot is not whole any more. Nothing is removed: the next pull looks at each file's digest."""
        self._manifest(hub, commit).unlink(missing_ok=True)

    def remove(self, hub: str, commit: str | None = None) -> int:
        """Removes a snapshot, or all there is of a repository; returns the bytes that it gave back."""
        folder, snapshots = self._cache / layout.repository(hub), self._cache / layout.snapshots(hub)
        before = _bytes_below(folder)
        if commit:
            self._manifest(hub, commit).unlink(missing_ok=True)
            shutil.rmtree(self._snapshot(hub, commit), ignore_errors=True)
            self._remove_unused(hub)
        if commit is None or not any(snapshots.glob("*")):
            # The manifests first: what is half removed must not count as present.
            shutil.rmtree(self._manifest(hub, "").parent, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
        return before - _bytes_below(folder)

    @contextlib.contextmanager
    def locked(self, hub: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Nobody else writes to this repository within the block; ``waiting`` is called if somebody does now."""
        file = self.home / ".locks" / layout.repository(hub)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _remove_unused(self, hub: str) -> None:
        snapshots = self._cache / layout.snapshots(hub)
        used = {link.resolve() for link in snapshots.rglob("*") if link.is_symlink()}
        for blob in (self._cache / layout.blobs(hub)).glob("*"):
            if blob.resolve() not in used:
                blob.unlink()
        commits = {one.name for one in snapshots.glob("*")}
        for ref in (self._cache / layout.refs(hub)).rglob("*"):
            if ref.is_file() and ref.read_text("ascii").strip() not in commits:
                ref.unlink()

    @property
    def _cache(self) -> Path:
        return self.home / layout.CACHE

    def _snapshot(self, hub: str, commit: str) -> Path:
        return self._cache / layout.snapshots(hub) / commit

    def _manifest(self, hub: str, commit: str) -> Path:
        return self.home / layout.manifest(hub, commit)


def digest_of(path: Path, file: HubFile, told: Callable[[int], None] = lambda _: None) -> str:
    """The digest of what is on the disk, of the kind that the file has."""
    # Not for security in Git's case: what a commit names is told by SHA-1 alone.
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
    if not file.sha256:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            told(len(chunk))
    return digest.hexdigest()


def _bytes_below(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(file.stat().st_size for file in files)


def _point(link: Path, target: str) -> None:
    if link.is_symlink() and link.readlink() == Path(target):
        return
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
