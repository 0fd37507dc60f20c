"""Files of this host that go into a bundle, and the folder that a bundle is unpacked to."""

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from vllmstack.bundle.archive import CHUNK_BYTES, Source
from vllmstack.bundle.manifest import CLONE
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.processes import run
from vllmstack.plain_path import is_plain_path
from vllmstack.project import Project

WHEELS = "wheels"
"""Below the clone, not in git: what scripts/bootstrap.sh installs from where there is no index."""
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
"""Those that scripts/bootstrap.sh looks for."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")


def folder_files(directory: Path) -> list[Source]:
    """Every file below the folder, links followed, in order; what begins with a dot is left out (.git, .cache).

    Raises:
        InvalidInput: a name does not fit into an archive, a file cannot be read.
    """
    found: list[Source] = []
    seen: set[tuple[int, int]] = set()
    try:
        for here, folders, names in os.walk(directory, followlinks=True, onerror=_raise):
            state = Path(here).stat()
            if (state.st_dev, state.st_ino) in seen:
                raise InvalidInput(Problem(file=here, fact="is reached twice, by a link", hint="remove the link"))
            seen.add((state.st_dev, state.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                file = Path(here) / name
                if not name.startswith(".") and file.is_file():
                    found.append(_source(file, str(file.relative_to(directory))))
    except OSError as error:
        raise InvalidInput(
            Problem(file=str(error.filename or directory), fact=f"cannot be read: {error.strerror}", hint="mend it")
        ) from None
    return found


def clone_files(project: Project) -> list[Source]:
    """Every file of the clone that git knows, below the archive's folder for it.

    Raises:
        HostError: git does not say which.
    """
    listed = run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        doing="listing the clone's files",
        hint="`--with-project` needs git, and a clone that it made",
        folder=project.root,
    )
    names = sorted(name for name in listed.split("\0") if name and (project.root / name).is_file())
    return [_source(project.root / name, f"{CLONE}/{name}") for name in names]


def fetched_wheels(project: Project, folder: Path) -> list[Source]:
    """What requirements.txt asks for, for each Python that may be on the other host; kept in ``folder``.

    Raises:
        HostError: pip cannot have them.
    """
    requirements = project.root / "requirements.txt"
    machine = os.uname().machine
    for version in PYTHON_VERSIONS:
        platforms = [f"--platform={name}_{machine}" for name in PLATFORMS]
        run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--only-binary=:all:", f"--python-version={version}", *platforms, "--require-hashes",
             "--dest", str(folder), "--requirement", str(requirements)],
            doing=f"fetching packages for Python {version}",
            hint="give this machine access to a package index, as pip is configured; or leave out `--with-project`",
        )  # fmt: skip
    return [_source(wheel, f"{CLONE}/{WHEELS}/{wheel.name}") for wheel in sorted(folder.glob("*.whl"))]


def write_member(file: Path, chunks: Iterable[bytes]) -> None:
    """A file that containers read as other users, on the disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    file.chmod(0o644)


@contextlib.contextmanager
def appearing_whole(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write a file or a folder to: it becomes ``target`` at the end, or goes.

    Raises:
        HostError: it cannot be written: the disk is full, the folder another user's; or another process writes it.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with _alone(target):
            try:
                _remove(part)  # of one that was killed
                yield part
                part.rename(target)
                _sync_folder(target.parent)
            finally:
                _remove(part)
    except OSError as error:
        raise HostError(
            Problem(
                fact=f"cannot write {error.filename or target}: {error.strerror}",
                hint="nothing of it was kept; look at `df -h` and at who owns the folder",
            )
        ) from None


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Nobody else writes ``target`` within the block: its half has one name, so that what a kill leaves is found."""
    lock = target.with_name(f".{target.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        if _is_taken(stream):
            hint = "wait for its end, or name another file"
            raise HostError(Problem(file=str(target), fact="is being written by another process", hint=hint))
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _is_taken(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return os.fstat(stream.fileno()).st_nlink == 0  # removed by its owner just now: the next one makes another


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _source(file: Path, path: str) -> Source:
    if not is_plain_path(path):
        shown = os.fsencode(file).decode(errors="replace")
        hint = "rename it: UTF-8, without control characters and `\\`"
        raise InvalidInput(Problem(file=shown, fact="has a name that a bundle cannot hold", hint=hint))
    state = file.stat()
    with file.open("rb"):  # an error now, not after an hour
        pass
    return Source(
        path=path, size_bytes=state.st_size, read=partial(_chunks, file), executable=bool(state.st_mode & 0o100)
    )


def _chunks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        hint = "look at the disk (`dmesg`), and bundle again"
        raise HostError(Problem(file=str(file), fact=f"cannot be read: {error.strerror}", hint=hint)) from None


def _raise(error: OSError) -> None:
    raise error
