"""Rendered files on the disk: whole or not at all, and none left of an earlier rendering."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vllmstack.errors import HostError, Problem
from vllmstack.project import Project


def write_rendered(project: Project, deployment_name: str, files: Mapping[str, str], *, alone: bool = True) -> Path:
    """Writes the files below ``.vllmstack/NAME/``; ``alone``: others that an earlier rendering left there are removed.

    An unchanged file is not touched. Returns the folder.

    Raises:
        HostError: the folder cannot be written, the disk is full.
    """
    folder = project.rendered(deployment_name)
    with _errors_told(folder):
        for path, text in files.items():
            replace_file(folder / path, text)
        wanted = {folder / path for path in files}
        for parent in {file.parent for file in wanted}:
            # Containers enter them as other users, whatever this one's umask is.
            if parent.stat().st_mode & 0o777 != 0o755:
                parent.chmod(0o755)
        for file in folder.rglob("*") if alone else ():
            if file.is_file() and file not in wanted:
                file.unlink()
    return folder


def write_whole(file: Path, text: str) -> None:
    """One file that containers read, whole or not at all, with its folder.

    Raises:
        HostError: it cannot be written.
    """
    with _errors_told(file):
        replace_file(file, text)
        file.parent.chmod(0o755)


@contextlib.contextmanager
def _errors_told(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(
            Problem(
                fact=f"cannot write {error.filename or place}: {error.strerror}",
                hint="give this user the folder .vllmstack, and look at `df -h .`",
            )
        ) from None


def read_rendered(project: Project, deployment_name: str, *prefixes: str) -> dict[str, str]:
    """Text by path of what is rendered below ``.vllmstack/NAME/``, where the path begins with one of these.

    Raises:
        HostError: a file cannot be read.
    """
    folder = project.rendered(deployment_name)
    found = {}
    try:
        for file in sorted(folder.rglob("*")):
            path = str(file.relative_to(folder))
            if path.startswith(prefixes) and file.is_file() and not file.name.startswith("."):
                found[path] = file.read_text()
    except OSError as error:
        raise HostError(
            Problem(
                fact=f"cannot read {error.filename or folder}: {error.strerror}",
                hint="give this user the folder .vllmstack",
            )
        ) from None
    return found


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """One command at a time within the block: for a file in it that is read, changed and replaced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def make_current(project: Project, deployment_name: str | None) -> None:
    """Points ``.vllmstack/.current`` at the deployment that runs, for plain `docker compose`; None removes it."""
    if deployment_name is None:
        project.current.unlink(missing_ok=True)
        return
    fresh = project.state / ".current-new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(deployment_name)
    fresh.replace(project.current)


def current_deployment(project: Project) -> str | None:
    """The deployment that `up` started last, or None."""
    return project.current.readlink().name if project.current.is_symlink() else None


def replace_file(file: Path, text: str) -> None:
    """Writes a file whole or not at all, readable for everybody; one that has this text already is not touched."""
    content = text.encode()
    if file.is_file() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    put_whole(file, content, mode=0o644)  # containers read them as other users


def put_whole(file: Path, content: bytes, *, mode: int | None = None) -> None:
    """Writes a file whole or not at all, on the disk when this returns.

    Raises:
        OSError: it cannot be written; what was there before still is.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        with fresh.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if mode is not None:
            fresh.chmod(mode)
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
