"""The keys file that a deployment names, on the disk: read, and changed by one command at a time."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from vllmstack.deployment.api_keys import ApiKey, keys_text, parse_keys
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.files import locked_folder

Change = Callable[[Sequence[ApiKey]], Sequence[ApiKey]]


def read_keys(file: Path, shown: str) -> tuple[ApiKey, ...]:
    """The file's keys; none where there is no such file. ``shown`` is the file as messages name it.

    Raises:
        InvalidInput: the file is wrong; with every mistake.
        HostError: it cannot be read.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise InvalidInput(Problem(file=shown, fact="is not a text file", hint="name another file")) from None
    except OSError as error:
        hint = "check the path and its permissions: the file belongs to who manages the keys"
        raise HostError(Problem(file=shown, fact=f"cannot be read: {error.strerror}", hint=hint)) from None
    try:
        return parse_keys(text)
    except InvalidInput as error:
        raise _in_file(error, shown) from None


def change_keys(file: Path, shown: str, change: Change) -> tuple[ApiKey, ...]:
    """Writes what ``change`` makes of the file's keys, whole or not at all, closed to others (0600); returns it.

    Two commands at a time wait for each other: neither loses what the other did.

    Raises:
        InvalidInput: the file is wrong, or ``change`` refuses; nothing is written.
        HostError: the folder cannot be written.
    """
    # A link stays one: the file that it leads to is replaced.
    file = file.resolve()
    try:
        with locked_folder(file.parent):
            before = read_keys(file, shown)
            try:
                keys = tuple(change(before))
            except InvalidInput as error:
                raise _in_file(error, shown) from None
            _replace(file, keys_text(keys))
    except OSError as error:
        fact = f"cannot be written: {error.strerror}"
        hint = f"this user must be able to write the folder {file.parent}; look at `df -h` too"
        raise HostError(Problem(file=shown, fact=fact, hint=hint)) from None
    return keys


def _in_file(error: InvalidInput, shown: str) -> InvalidInput:
    return InvalidInput([Problem(file=shown, place=one.place, fact=one.fact, hint=one.hint) for one in error.problems])


def _replace(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w") as stream:
            if os.geteuid() == 0 and file.exists():
                # `sudo vllmstack keys …` takes nobody's file away.
                before = file.stat()
                os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
