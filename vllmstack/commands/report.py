"""`vllmstack report`: a page from measured runs, and the comparison of two or more of them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from loadtest.errors import EXIT_MISSED, LoadTestError
from vllmstack.commands.measurement import new_results_folder
from vllmstack.console import out, warn
from vllmstack.errors import HostError, Problem, VllmstackError
from vllmstack.host.loadtest_container import RESULTS, has_loadtest_extra, is_inside, run_in_container
from vllmstack.project import find_project

if TYPE_CHECKING:
    from loadtest.report.comparable import Variant
    from loadtest.report.compare import Comparison, LoadComparison

STYLES = {"better": "green", "worse": "yellow", "regression": "bold red"}


class DefaultCommand(click.Group):
    """`report RUN…` is `report make RUN…`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Inserts the name that was left out."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else ["make", *args])


@click.group("report", cls=DefaultCommand)
def command() -> None:
    """Write a page about measured runs, or compare them.

    \b
    vllmstack report                     the newest run below results/
    vllmstack report RESULT…             these runs, checks or sweeps, on one page
    vllmstack report compare A B [C…]    side by side; exit status 1 on a regression
    """


@command.command("make")
@click.argument("folders", metavar="[RUN]…", nargs=-1, type=click.Path(path_type=Path))
@click.option("--output", metavar="DIRECTORY", type=click.Path(path_type=Path), help="Instead of the run's folder.")
def make(folders: tuple[Path, ...], output: Path | None) -> None:
    """Write report.html, report.md and charts/ (the default).

    A RUN is the folder of a run, of a check, or of several runs. Several loads of
    one scenario give a curve of throughput against latency.
    """
    _in_container_if_needed(["report", "make", *_output(output), *folders])
    from loadtest.report.reading import newest, read_runs
    from loadtest.report.report import report
    from loadtest.report.writing import write_report

    folders = folders or (newest(_results()),)
    found = read_runs(folders)
    document = report(found.runs, verdicts=found.verdicts, capacities=found.capacities, parameters=found.parameters)
    page = write_report(document, output or _beside(folders))
    out.print(f"{escape(document.title)}: [bold]{escape(document.badge)}[/bold]")
    out.print(str(page), soft_wrap=True, markup=False)


@command.command("compare")
@click.argument("baseline", metavar="A", type=click.Path(path_type=Path))
@click.argument("others", metavar="B [C]…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    metavar="PERCENT",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="A change for the worse that is surely larger is a regression.",
)
@click.option("--force", is_flag=True, help="Compare different scenarios, different loads and invalid runs too.")
@click.option("--output", metavar="DIRECTORY", type=click.Path(path_type=Path), help="Instead of one in results/.")
def compare(baseline: Path, others: tuple[Path, ...], threshold: float, force: bool, output: Path | None) -> None:
    """Compare B, C… with A, each a run, its repeats or a sweep.

    Exit status 0: no regression; 1: at least one; 2: they cannot be compared.
    """
    options = ["--threshold", f"{threshold:g}", *(["--force"] if force else []), *_output(output)]
    _in_container_if_needed(["report", "compare", *options, baseline, *others])
    from loadtest.report.compare import compare as compare_variants
    from loadtest.report.compare import single_runs
    from loadtest.report.comparison_report import comparison_report
    from loadtest.report.writing import write_report

    first, *rest = _variants([baseline, *others])
    comparisons = compare_variants(first, rest, threshold=threshold / 100, force=force)
    for one in comparisons:
        for load in one.loads:
            out.print(_table(one, load))
    if single_runs(comparisons):
        warn("single runs: intervals hold nothing of what differs from run to run; measure repeats")
    page = write_report(comparison_report(comparisons), output or new_results_folder("comparison"), "comparison")
    out.print(str(page), soft_wrap=True, markup=False)
    if any(one.regressions for one in comparisons):
        sys.exit(EXIT_MISSED)


def _in_container_if_needed(arguments: Sequence[str | Path]) -> None:
    """Ends this program with the container's status where this Python has not what drawing needs."""
    if is_inside() or has_loadtest_extra():
        return
    try:
        sys.exit(run_in_container(arguments, needs_stack=False))
    except VllmstackError as error:
        raise LoadTestError(error.problems) from error


def _output(output: Path | None) -> list[str | Path]:
    return ["--output", output] if output else []


def _results() -> Path:
    try:
        return Path(RESULTS) if is_inside() else find_project().root / RESULTS
    except HostError as error:
        raise LoadTestError(error.problems) from error


def _beside(folders: Sequence[Path]) -> Path:
    """A lone run's own folder; of several none is the right one."""
    if len(folders) > 1:
        return new_results_folder("report")
    return folders[0].parent if folders[0].is_file() else folders[0]


def _variants(folders: Sequence[Path]) -> "list[Variant]":
    """Each folder under the shortest name that tells it from the others."""
    from loadtest.report.comparable import Variant
    from loadtest.report.reading import read_runs

    problems: list[Problem] = []
    found = []
    for folder, name in zip(folders, _names(folders), strict=True):
        try:
            found.append(Variant(name=name, runs=read_runs([folder]).runs))
        except LoadTestError as error:
            problems += error.problems
    if problems:
        raise LoadTestError(problems)
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    places = [folder.parent if folder.is_file() else folder for folder in folders]
    parts = [place.resolve().parts for place in places]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{number}: {place.name}" for number, place in enumerate(places, 1)]


def _table(one: "Comparison", load: "LoadComparison") -> Table:
    from loadtest.report.wording import quantity

    title = f"{one.candidate.name} against {one.baseline.name}, {load.before.name}"
    table = Table(box=None, pad_edge=False, header_style="bold", title=escape(title), title_justify="left")
    table.add_column("")
    for heading in (one.baseline.name, one.candidate.name, "difference", "95 %"):
        table.add_column(escape(heading), justify="right", overflow="fold")
    table.add_column("")
    for change in load.changes:
        word = "regression" if change.regression else str(change.verdict)
        style = STYLES.get(word, "dim")
        values = (quantity(value, change.measure.unit) for value in (change.before, change.after))
        interval = change.interval_text.rpartition(" ")[0]
        table.add_row(change.measure.title, *values, change.text, interval, f"[{style}]{word}[/{style}]")
    return table
