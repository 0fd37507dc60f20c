"""`vllmstack check`: the deployment's targets, measured like tests."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from loadtest.options import DEFAULT_TIMEOUT_SECONDS, RunOptions
from vllmstack.commands.measurement import (
    measure_in_container,
    measures_here,
    new_results_folder,
    surroundings,
)
from vllmstack.console import out, step
from vllmstack.errors import EXIT_INTERRUPTED

DURATION_SECONDS = 30.0
WARMUP_SECONDS = 5.0


def run_options(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What `check` and `capacity` take of each of their runs; ``name`` is that of their results."""
    options = (
        click.option(
            "--duration", type=click.FloatRange(min=1), default=DURATION_SECONDS, metavar="SECONDS",
            help=f"That are measured of each run.  [{DURATION_SECONDS:g}]",
        ),
        click.option(
            "--warmup", type=click.FloatRange(min=0), default=WARMUP_SECONDS, metavar="SECONDS",
            help=f"Before, not measured.  [{WARMUP_SECONDS:g}]",
        ),
        click.option("--seed", type=int, default=0, help="The same seed asks the same.  [0]"),
        click.option(
            "--timeout", type=click.FloatRange(min=1), default=DEFAULT_TIMEOUT_SECONDS, metavar="SECONDS",
            help=f"Of one request.  [{DEFAULT_TIMEOUT_SECONDS:g}]",
        ),
        click.option("--processes", type=click.IntRange(min=1), default=1, help="That send.  [1]"),
        click.option("--no-calibration", is_flag=True, help="Do not measure the client first."),
        click.option(
            "--result", metavar="DIRECTORY", type=click.Path(path_type=Path), help=f"Below results/.  [TIME-{name}]"
        ),
        click.option("--here", is_flag=True, help="In this process' Python, not in the container."),
    )  # fmt: skip

    def added(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            option(function)
        return function

    return added


@click.command("check")
@click.option("--scenario", metavar="NAME", help="Only targets of this scenario; with --profile, what is asked.")
@click.option("--model", metavar="NAME", help="Only this model's.")
@click.option("--profile", metavar="NAME", help="These limits instead: loadtest/profiles/.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="With --profile: requests/s.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="With --profile: users, instead.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each target.")
@run_options("check")
def command(here: bool, **given: Any) -> None:
    """Measure the targets of the running deployment; exit 0, 1 or 2.

    0: all are met. 1: one is missed. 2: a measurement is not valid, or could not
    be made. Writes check.json, check.csv and junit.xml beside the runs.
    """
    if not measures_here(here):
        measure_in_container(["check", "--here", *as_words(given)])
    _check_here(**given)


def _check_here(
    *, scenario: str | None, model: str | None, profile: str | None, rate: float | None, concurrency: int | None,
    repeats: int, result: Path | None, **given: Any,
) -> None:  # fmt: skip
    # Only a measurement needs Locust and numpy; this host's Python may not have them.
    from loadtest.check import check
    from loadtest.verdict.outputs import JSON_FILE, verdict_table
    from loadtest.verdict.targets import exit_code

    base = base_options(**given)
    chosen = _jobs(base.stack, scenario=scenario, model=model, profile=profile, rate=rate, concurrency=concurrency)
    folder = result or new_results_folder("check")
    try:
        verdicts = check(chosen, base=base, folder=folder, repeats=repeats, echo=step)
    except KeyboardInterrupt:
        if (folder / JSON_FILE).is_file():
            step(f"what was judged before is in {folder}")
        sys.exit(EXIT_INTERRUPTED)
    for verdict in verdicts:
        out.print(verdict_table(verdict))
        out.print()
    out.print(f"runs, check.json, check.csv and junit.xml: {folder}", soft_wrap=True, markup=False)
    sys.exit(exit_code(verdicts))


def _jobs(
    stack_file: str, *, scenario: str | None, model: str | None, profile: str | None, rate: float | None,
    concurrency: int | None,
) -> list[Any]:  # fmt: skip
    from loadtest.check import jobs, profile_job
    from loadtest.stack import load_stack

    stack = load_stack(Path(stack_file))
    if profile is None:
        if rate is not None or concurrency is not None:
            raise click.UsageError(
                "--rate and --concurrency belong to --profile: a deployment's targets have their own"
            )
        return jobs(stack, model=model, scenario=scenario)
    return [profile_job(stack, profile, model=model, scenario=scenario, rate=rate, concurrency=concurrency)]


def base_options(
    *, duration: float, warmup: float, seed: int, timeout: float, processes: int, no_calibration: bool
) -> RunOptions:
    """What all runs have in common."""
    return RunOptions(
        duration_seconds=duration,
        warmup_seconds=warmup,
        seed=seed,
        timeout_seconds=timeout,
        processes=processes,
        calibrate=not no_calibration,
        **surroundings(),
    )


def as_words(given: dict[str, Any]) -> list[str | Path]:
    """The options again, as words of a command line; a Path is a file of this host."""
    words: list[str | Path] = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value not in (None, False):
            words += [flag, value if isinstance(value, Path) else str(value)]
    return words
