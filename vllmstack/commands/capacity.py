"""`vllmstack capacity`: the highest load that meets the targets, and what binds."""

import sys
from pathlib import Path
from typing import Any

import click

from vllmstack.commands.check import as_words, base_options, run_options
from vllmstack.commands.measurement import measure_in_container, measures_here, new_results_folder
from vllmstack.console import out, step
from vllmstack.errors import EXIT_INTERRUPTED


@click.command("capacity")
@click.option("--scenario", metavar="NAME", help="Whose limits hold; with --profile, what is asked.")
@click.option("--model", metavar="NAME", help="Name or alias of the model.  [the first]")
@click.option("--profile", metavar="NAME", help="These limits instead of the deployment's: loadtest/profiles/.")
@click.option("--concurrency", is_flag=True, help="Search users (closed loop) instead of requests a second.")
@click.option("--from", "low", type=click.FloatRange(min=0, min_open=True), default=1.0, metavar="N",
              help="Lowest load that is tried.  [1]")  # fmt: skip
@click.option("--to", "high", type=click.FloatRange(min=0, min_open=True), metavar="N", help="No load above this.")
@click.option("--precision", type=click.FloatRange(min=0.001, max=1), default=0.05, metavar="SHARE",
              help="How close met and missed must be.  [0.05]")  # fmt: skip
@click.option("--runs", type=click.IntRange(min=1), default=20, help="Measurements at most.  [20]")
@run_options("capacity")
def command(here: bool, **given: Any) -> None:
    """Find the highest load that meets the targets, by bisection.

    Limits of throughput are left out: more load never misses them. Exit 0 with an
    answer, 1 if even the lowest load misses, 2 if nothing valid could be measured.
    """
    if not measures_here(here):
        measure_in_container(["capacity", "--here", *_words(given)])
    _search_here(**given)


def _words(given: dict[str, Any]) -> list[str | Path]:
    renamed = {{"low": "from", "high": "to"}.get(name, name): value for name, value in given.items()}
    return as_words(renamed)


def _search_here(
    *, scenario: str | None, model: str | None, profile: str | None, concurrency: bool, low: float, high: float | None,
    precision: float, runs: int, result: Path | None, **given: Any,
) -> None:  # fmt: skip
    # Only a measurement needs Locust and numpy; this host's Python may not have them.
    from loadtest.capacity import capacity
    from loadtest.check import jobs, profile_job
    from loadtest.stack import load_stack
    from loadtest.verdict.capacity import Ending
    from loadtest.verdict.capacity_outputs import capacity_table
    from loadtest.verdict.outputs import verdict_table

    if high is not None and high < low:
        raise click.UsageError(f"--to {high:g} is below --from {low:g}")
    base = base_options(**given)
    stack = load_stack(Path(base.stack))
    if profile:
        job = profile_job(stack, profile, model=model, scenario=scenario, rate=low)
    else:
        job = jobs(stack, model=model, scenario=scenario)[0]
    folder = result or new_results_folder("capacity")
    try:
        found = capacity(
            job, base=base, folder=folder, low=low, high=high, precision=precision, max_runs=runs,
            by_concurrency=concurrency, echo=step,
        )  # fmt: skip
    except KeyboardInterrupt:
        step(f"the runs so far are in {folder}")
        sys.exit(EXIT_INTERRUPTED)
    out.print(capacity_table(found, " users" if concurrency else "/s"))
    if found.best is not None:
        out.print()
        out.print(verdict_table(found.best))
    out.print(f"runs and capacity.json: {folder}", soft_wrap=True, markup=False)
    sys.exit({Ending.NONE_MET: 1, Ending.CLIENT: 0 if found.highest_met is not None else 2}.get(found.ending, 0))
