"""``models.lock`` on the disk, beside the deployment files."""

from collections.abc import Callable
from pathlib import Path

from vllmstack.deployment.model_lock import FILE, ModelLock, lock_text, parse_lock
from vllmstack.deployment.yaml_file import FileKind, read_mapping
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.files import locked_folder, replace_file

KIND = FileKind("lock", "deployments", "`models:`")


def read_lock(folder: Path) -> ModelLock:
    """The lock beside a folder's deployment files; empty where there is none.

    Raises:
        InvalidInput: the file is wrong; with every mistake.
    """
    file = folder / FILE
    if not file.exists():
        return ModelLock()
    data, problems = read_mapping(file, KIND)
    if problems:
        raise InvalidInput(problems)
    return parse_lock(data, str(file))


def change_lock(folder: Path, change: Callable[[ModelLock], ModelLock]) -> ModelLock:
    """Writes what ``change`` makes of the lock, whole or not at all; two commands at a time wait for each other.

    Raises:
        InvalidInput: the file is wrong; it stays as it is.
        HostError: it cannot be written.
    """
    file = folder / FILE
    try:
        with locked_folder(folder):
            lock = change(read_lock(folder))
            replace_file(file, lock_text(lock))
    except OSError as error:
        hint = f"this user must be able to write the folder {folder}; look at `df -h` too"
        raise HostError(Problem(file=str(file), fact=f"cannot be written: {error.strerror}", hint=hint)) from None
    return lock
