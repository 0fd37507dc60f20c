"""Folders of results: one run, the repeats of a check, a sweep; and which is the newest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from loadtest.errors import LoadTestError
from loadtest.report.repeating import changed_parameters
from loadtest.results import RUN_FILE, RunResult, load
from loadtest.verdict.capacity import Capacity
from loadtest.verdict.capacity_outputs import CAPACITY_FILE
from loadtest.verdict.outputs import JSON_FILE, CheckDocument
from loadtest.verdict.targets import TargetVerdict
from vllmstack.errors import Problem

Document = TypeVar("Document", bound=BaseModel)

DEPTH = 3
"""Folders below a given one: a check has RESULT/TARGET/REPEAT/run.json."""
WARMUP = "warmup"
"""A run of this name warmed an engine up: it is measured, and nobody's result."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lay in the given folders."""

    runs: tuple[RunResult, ...]
    verdicts: tuple[TargetVerdict, ...]
    capacities: tuple[str, ...]
    """Sentences of capacity.json: the highest load that met the targets, and which one binds."""
    parameters: dict[str, dict[str, str]]
    """By run's id, the scenario's parameters that are not as in its file."""


def read_runs(folders: Sequence[Path]) -> Found:
    """Every run in these folders and below them, with the verdicts of check.json and capacity.json.

    Ids are made unique: repeats are called 1, 2, 3 in every check.

    Raises:
        LoadTestError: for each folder that holds no run, and each file that cannot be read.
    """
    runs: list[RunResult] = []
    verdicts: list[TargetVerdict] = []
    capacities: list[str] = []
    problems: list[Problem] = []
    for folder in folders:
        try:
            files = run_files(folder)
            found = [load(file) for file in files]
            verdicts += [one for one in _verdicts(folder, found) if one not in verdicts]
            capacities += _capacity(folder)
            runs += [_called(run, file, folder) for run, file in zip(found, files, strict=True)]
        except LoadTestError as error:
            problems += error.problems
    if problems:
        raise LoadTestError(problems)
    if len({run.id for run in runs}) < len(runs):
        runs = [run.model_copy(update={"id": f"{number}: {run.id}"}) for number, run in enumerate(runs, 1)]
    return Found(
        runs=tuple(runs),
        verdicts=tuple(verdicts),
        capacities=tuple(capacities),
        parameters={run.id: changed_parameters(run) for run in runs},
    )


def run_files(folder: Path) -> list[Path]:
    """Each run.json of a run's own folder, or below.

    Raises:
        LoadTestError: there is none.
    """
    if folder.is_file():
        return [folder]
    if (folder / RUN_FILE).is_file():
        return [folder / RUN_FILE]
    patterns = ["/".join(["*"] * depth + [RUN_FILE]) for depth in range(1, DEPTH + 1)]
    found = [file for pattern in patterns for file in folder.glob(pattern) if file.parent.name != WARMUP]
    if not found:
        fact = f"holds no {RUN_FILE}" if folder.is_dir() else "there is no such folder"
        raise LoadTestError(Problem(file=str(folder), fact=fact, hint="give the folder of a run, or of several"))
    return sorted(found)


def newest(results: Path) -> Path:
    """The folder right below ``results`` that holds the run that ended last.

    Raises:
        LoadTestError: there is no run.
    """
    files = run_files(results) if results.is_dir() else []
    if not files:
        raise LoadTestError(
            Problem(file=str(results), fact="there is no such folder", hint="measure first: `vllmstack load`")
        )
    last = max(files, key=lambda file: file.stat().st_mtime)
    return results / last.relative_to(results).parts[0]


def _called(run: RunResult, file: Path, folder: Path) -> RunResult:
    """By its place below the folder that was given, if it is not that folder itself."""
    place = file.parent
    if place == folder or folder.is_file():
        return run
    return run.model_copy(update={"id": str(place.relative_to(folder))})


def _verdicts(folder: Path, runs: Sequence[RunResult]) -> list[TargetVerdict]:
    """Of the check that the folder is, or that its run is part of."""
    start = folder.parent if folder.is_file() else folder
    for place in (start, start.parent, start.parent.parent):
        file = place / JSON_FILE
        if not file.is_file():
            continue
        found = _read(file, CheckDocument, "check").targets
        loads = {(run.scenario, str(run.load)) for run in runs}
        return [one for one in found if place == start or (one.scenario, str(one.load)) in loads]
    return []


def _capacity(folder: Path) -> list[str]:
    file = folder / CAPACITY_FILE
    return [_read(file, Capacity, "capacity").summary] if file.is_file() else []


def _read(file: Path, kind: type[Document], name: str) -> Document:
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = f"run `vllmstack {name}` again, or delete the file"
        raise LoadTestError(Problem(file=str(file), fact=f"is no {name} of this version", hint=hint)) from error
