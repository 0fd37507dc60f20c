"""What a batch has answered, on the disk: it goes on where it was, however it ended.

Answers and errors are appended, each as one write of one line. A line of the input is done when its number stands in
one of the two files; a last line without its end is cut off, and its request is sent again. So a kill between an
answer and its line costs that answer, and no line is there twice.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Self

from vllmstack.batch.source import Numbers, Source
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.files import put_whole

ID = "batch_req_"
"""Begins an answer's ``id``, and its line's number ends it."""


class Journal:
    """Answers and errors of one input file."""

    def __init__(self, source: Source, answers: Path, errors: Path, *, again: bool = False) -> None:
        """Opens both, and reads what is done; ``again``: errors of before are not.

        Raises:
            HostError: a file cannot be opened, or another process works on it.
            InvalidInput: they are of another input.
        """
        self.done = Numbers()
        self.failed = 0
        self._files: dict[FileIO, Path] = {}
        self._fresh: list[Path] = []
        _check_paths(source.file, answers, errors)
        try:
            self._answers = self._open(answers)
            self._errors = self._open(errors)
            _check_input(source, answers, errors)
            for number in _kept(self._answers, answers):
                self.done.add(number)
            # Read before they are dropped: a file that no batch wrote stays as it is.
            failed = Numbers()
            for number in _kept(self._errors, errors):
                failed.add(number)
                if not again:
                    self.done.add(number)
            self.failed = 0 if again else failed.count
            for file in (answers, errors):
                self._note(source, file)
            if again:
                os.ftruncate(self._errors.fileno(), 0)
        except OSError as error:
            self._give_up()
            raise _cannot_write(Path(error.filename or answers), error) from None
        except BaseException:
            self._give_up()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Until then nobody else works on them."""
        for file in self._files:
            file.close()

    def answer(self, number: int, document: dict[str, Any]) -> None:
        """One answer, on the disk when this returns (in the kernel's hands: a kill loses nothing).

        Raises:
            HostError: it cannot be written: the disk is full. The file has none of it.
        """
        self._append(self._answers, number, document)

    def error(self, number: int, document: dict[str, Any]) -> None:
        """One line that has no answer, and why.

        Raises:
            HostError: as :meth:`answer`.
        """
        self._append(self._errors, number, document)
        self.failed += 1

    def drop_errors(self) -> None:
        """Where no line failed, their file goes, and its note."""
        path = self._files[self._errors]
        path.unlink(missing_ok=True)
        _note_beside(path).unlink(missing_ok=True)

    def sync(self) -> None:
        """Returns when all of it would outlast a power cut.

        Raises:
            HostError: the disk failed.
        """
        for file, path in self._files.items():
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise _cannot_write(path, error) from None

    def _append(self, file: FileIO, number: int, document: dict[str, Any]) -> None:
        whole = {"id": f"{ID}{number}", **document}
        try:
            line = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can only escape
            line = json.dumps(whole, separators=(",", ":")).encode()
        end = os.fstat(file.fileno()).st_size
        rest = memoryview(line + b"\n")
        try:
            while rest:
                rest = rest[file.write(rest) or 0 :]
        except OSError as error:
            os.ftruncate(file.fileno(), end)
            raise _cannot_write(self._files[file], error) from None
        self.done.add(number)

    def _note(self, source: Source, file: Path) -> None:
        """Writes beside a file whose it is, before anything of it is there."""
        note = _note_beside(file)
        if note.exists():
            if _noted(note)[1] == source.digest:
                return
        else:
            self._fresh.append(note)
        text = json.dumps({"path": str(source.file.resolve()), "sha256": source.digest}) + "\n"
        put_whole(note, text.encode())

    def _give_up(self) -> None:
        """Nothing was begun, so nothing is left of it."""
        for path in self._fresh:
            path.unlink(missing_ok=True)
        self.close()

    def _open(self, path: Path) -> FileIO:
        there = path.exists()
        if there and not (path.is_file() or path.is_dir()):
            fact = "is no regular file: answers could not be read again"
            raise InvalidInput(Problem(file=str(path), fact=fact, hint="name a file"))
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666), "r+")
        self._files[file] = path
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(
                Problem(file=str(path), fact="another batch writes it", hint="wait for its end, then run this again")
            ) from None
        if not there:  # and nobody else has made it meanwhile
            self._fresh.append(path)
        return file


def _cannot_write(path: Path, error: OSError) -> HostError:
    hint = "look at `df -h .` and the folder's owner; the same command goes on where this one was"
    return HostError(Problem(fact=f"cannot write {path}: {error.strerror}", hint=hint))


def _check_paths(source: Path, answers: Path, errors: Path) -> None:
    named = [path.resolve() for path in (source, answers, errors)]
    if len(set(named)) < len(named):
        fact = f"input, answers and errors are three files, and {answers} or {errors} is named twice"
        raise InvalidInput(Problem(fact=fact, hint="give `--output` and `--errors` names of their own"))


def _check_input(source: Source, answers: Path, errors: Path) -> None:
    """A note beside each file says whose it is: a number there is a line of that input, and of no other."""
    checked = (_fault(source, answers, "answers to", "--output"), _fault(source, errors, "errors of", "--errors"))
    problems = [one for one in checked if one]
    if problems:
        raise InvalidInput(problems)


def _fault(source: Source, file: Path, what: str, option: str) -> Problem | None:
    note = _note_beside(file)
    try:
        known = _noted(note) if note.is_file() else None
    except (ValueError, KeyError, TypeError):
        fact = f"does not say which input's {what.partition(' ')[0]} are beside it"
        return Problem(file=str(note), fact=fact, hint=f"name another by `{option} FILE`")
    if not file.stat().st_size:
        return None  # nobody's, whatever a run that wrote nothing, or a file that was removed, has left beside it
    if known is None:
        hint = f"name another by `{option} FILE`"
        return Problem(file=str(file), fact="is there already, and is no batch's", hint=hint)
    if known[1] != source.digest:
        same = known[0] == str(source.file.resolve())
        whose = "this input as it was before it changed" if same else known[0]
        hint = f"name another file by `{option} FILE`, or remove this one"
        return Problem(file=str(file), fact=f"holds {what} {whose}", hint=hint)
    return None


def _note_beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.input")


def _noted(note: Path) -> tuple[str, str]:
    """Path and digest of an input; a ValueError, KeyError or TypeError if the note is none of a batch's."""
    before = json.loads(note.read_text(encoding="utf-8"))
    return str(before["path"]), str(before["sha256"])


_BEGIN = f'{{"id":"{ID}'.encode()
"""Of every line: what is cut off has it too, unless it is cut off within, or is the zeros that a power cut leaves."""


def _kept(file: FileIO, path: Path) -> Iterator[int]:
    """Numbers of the whole lines; what stands behind the last of them is cut off.

    Raises:
        InvalidInput: a line is none of a batch's.
    """
    end = 0
    with open(os.dup(file.fileno()), "rb") as stream:  # noqa: PTH123 # one that has its own buffer
        stream.seek(0)
        for line in stream:
            if not line.endswith(b"\n") and (line.startswith(_BEGIN) or _BEGIN.startswith(line.rstrip(b"\0"))):
                break
            try:
                number = int(json.loads(line)["id"].removeprefix(ID))
            except (ValueError, KeyError, TypeError, AttributeError):
                fact = f"has a line that no batch wrote, {end:,} bytes into it"
                hint = "name another by `--output FILE` or `--errors FILE`"
                raise InvalidInput(Problem(file=str(path), fact=fact, hint=hint)) from None
            end += len(line)
            yield number
    os.ftruncate(file.fileno(), end)
