"""Traces: files that say when real requests came and how long they were, to be replayed.

The kind of file is told from its keys or its header:

- our own, JSON lines or CSV: ``at`` (seconds), ``prompt_tokens``, ``completion_tokens``
- Mooncake, JSON lines: ``timestamp`` (milliseconds), ``input_length``, ``output_length``, ``hash_ids``
  (https://github.com/kvcache-ai/Mooncake, FAST25-release: each hash stands for 512 tokens)
- Azure's LLM inference traces, CSV: ``TIMESTAMP``, ``ContextTokens``, ``GeneratedTokens``
  (https://github.com/Azure/AzurePublicDataset)
- BurstGPT, CSV: ``Timestamp`` (seconds), ``Request tokens``, ``Response tokens`` (https://github.com/HPMLL/BurstGPT)
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from vllmstack.deployment.wording import listed, shown
from vllmstack.errors import Problem

MOST_ENTRIES = 5_000_000
MOST_PROBLEMS = 20
"""Shown; a file of the wrong kind has as many as lines."""
LARGEST_TOKENS = 10_000_000
LARGEST_BYTES = 2 << 30
MOONCAKE_BLOCK_TOKENS = 512
_OWN_HINT = 'write lines like {"at": 1.5, "prompt_tokens": 512, "completion_tokens": 128}'


@dataclass(frozen=True)
class _Format:
    """Which columns say what."""

    name: str
    at: str
    prompt: str
    completion: str
    seconds: Callable[[Any], float]
    times: str
    """How its times are written."""
    blocks: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.at, self.prompt, self.completion)


class _WrongValue(Exception):
    """A value that cannot be used: what is wrong with it, and what belongs there."""


def load_trace(path: Path, *, speed: float = 1.0) -> list[Arrival]:
    """The arrivals of a trace, in order, the first at 0; ``speed`` 2 replays it in half the time.

    Raises:
        LoadTestError: the file cannot be read, is of no known kind, or with every line that is wrong.
    """
    if not (math.isfinite(speed) and speed > 0):
        hint = "1 replays it as it was, 2 twice as fast, 0.5 half as fast"
        raise LoadTestError(Problem(place="--trace-speed", fact=f"{speed:g} is not above 0", hint=hint))
    file = str(path)
    text = _text(path)
    kind, rows = _rows(text, file)
    found: list[Arrival] = []
    problems: list[Problem] = []
    for line, row in rows:
        try:
            found.append(_arrival(row, kind))
        except _WrongValue as error:
            fact, hint = error.args
            problems.append(Problem(file=file, place=f"line {line}", fact=fact, hint=hint))
            if len(problems) == MOST_PROBLEMS:
                break
        if len(found) > MOST_ENTRIES:
            fact = f"has more than {MOST_ENTRIES:,} requests"
            raise LoadTestError(Problem(file=file, fact=fact, hint="replay a part of it"))
    if problems:
        raise LoadTestError(problems)
    if not found:
        raise LoadTestError(Problem(file=file, fact="holds no requests", hint=_OWN_HINT))
    begin = min(arrival.at for arrival in found)
    scaled = [replace(arrival, at=(arrival.at - begin) / speed) for arrival in found]
    return sorted(scaled, key=lambda arrival: arrival.at)


def within(arrivals: Iterable[Arrival], longest_tokens: int) -> list[Arrival]:
    """Those whose prompt and answer together have at most so many tokens, e.g. a model's max_model_len."""
    return [one for one in arrivals if (one.prompt_tokens or 0) + max(one.completion_tokens or 0, 1) <= longest_tokens]


def _text(path: Path) -> str:
    file = str(path)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise LoadTestError(Problem(file=file, fact="is larger than 2 GiB", hint="replay a part of it"))
        return path.read_text("utf-8-sig")
    except OSError as error:
        reason = (
            "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise LoadTestError(Problem(file=file, fact=reason, hint="give a trace's path by --trace")) from error
    except UnicodeDecodeError as error:
        fact = f"is not UTF-8 text (byte {error.start + 1})"
        raise LoadTestError(Problem(file=file, fact=fact, hint="unpack it if it is compressed")) from error


def _rows(text: str, file: str) -> tuple[_Format, Iterator[tuple[int, Any]]]:
    """The file's kind, and its lines with their numbers."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        try:
            keys = list(json.loads(first))
        except ValueError:
            keys = []  # told below, with the line
        rows: Iterator[tuple[int, Any]] = (
            (number, _json(line)) for number, line in enumerate(lines, start=1) if line.strip()
        )
        kind = _kind(keys, _JSON_FORMATS) or (_OWN if not keys else None)
    else:
        keys, rows = _csv(text)
        kind = _kind(keys, _CSV_FORMATS)
    if kind is None:
        names = listed(dict.fromkeys(known.name for known in (*_JSON_FORMATS, *_CSV_FORMATS)))
        seen = f"its columns are {listed(map(str, keys))}" if keys else "it has no columns"
        fact = f"is no trace of a known kind: {seen}" if first else "is empty"
        raise LoadTestError(Problem(file=file, fact=fact, hint=f"known are {names}; or {_OWN_HINT}"))
    return kind, rows


def _kind(keys: Sequence[str], formats: Iterable[_Format]) -> _Format | None:
    return next((known for known in formats if set(known.columns) <= set(keys)), None)


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        return _WrongValue(f"is not JSON: {error}", "write one object a line")


def _csv(text: str) -> tuple[list[str], Iterator[tuple[int, Any]]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True, restkey="")

    def rows() -> Iterator[tuple[int, Any]]:
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, _WrongValue(f"is not CSV: {error}", "write values with commas between them")
                continue
            yield reader.line_num, row

    try:
        return list(reader.fieldnames or []), rows()
    except csv.Error:
        return [], rows()


def _arrival(row: Any, kind: _Format) -> Arrival:
    if isinstance(row, _WrongValue):
        raise row
    if not isinstance(row, Mapping):
        raise _WrongValue(f"{shown(row)} is no object", _OWN_HINT)
    missing = [column for column in kind.columns if row.get(column) in (None, "")]
    if missing:
        raise _WrongValue(f"lacks {listed(missing)}", f"{kind.name} traces have {listed(kind.columns)} on each line")
    prompt = _tokens(row, kind.prompt, least=1)
    completion = _tokens(row, kind.completion, least=0)
    try:
        at = kind.seconds(row[kind.at])
    except (ValueError, TypeError, OverflowError):
        at = math.nan
    if not math.isfinite(at):
        raise _WrongValue(f"{kind.at}: {shown(row[kind.at])} is no time", f"write {kind.times}")
    blocks = _blocks(row.get(kind.blocks), kind.blocks) if kind.blocks else ()
    return Arrival(at, prompt, completion, blocks, MOONCAKE_BLOCK_TOKENS if blocks else 0)


def _tokens(row: Mapping[str, Any], column: str, *, least: int) -> int:
    value = row[column]
    try:
        number = float(value)
    except (ValueError, TypeError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer():
        raise _WrongValue(f"{column}: {shown(value)} is no whole number", "write a number of tokens")
    if not least <= number <= LARGEST_TOKENS:
        raise _WrongValue(f"{column}: {shown(value)} is out of range", f"write {least} to {LARGEST_TOKENS:,} tokens")
    return int(number)


def _blocks(value: Any, column: str) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in value):
        raise _WrongValue(f"{column}: {shown(value)} is no list of numbers", "leave it out, or write e.g. [0, 1, 2]")
    return tuple(value)


def _milliseconds(value: Any) -> float:
    return float(value) / 1000


def _date(value: Any) -> float:
    """``2023-11-16 18:15:46.6805900``, without a zone or with one."""
    moment = datetime.fromisoformat(str(value).strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_OWN = _Format("our own", "at", "prompt_tokens", "completion_tokens", float, "seconds, e.g. 1.5")
_MOONCAKE = _Format(
    "Mooncake", "timestamp", "input_length", "output_length", _milliseconds, "milliseconds, e.g. 1500", "hash_ids"
)
_AZURE = _Format(
    "Azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", _date, "a date and a time, e.g. 2023-11-16 18:15:46.68"
)
_BURST_GPT = _Format("BurstGPT", "Timestamp", "Request tokens", "Response tokens", float, "seconds, e.g. 1.5")
_JSON_FORMATS = (_OWN, _MOONCAKE)
_CSV_FORMATS = (_OWN, _AZURE, _BURST_GPT)
