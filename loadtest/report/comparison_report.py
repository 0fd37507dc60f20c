"""Variants side by side as a document: verdict, differences with intervals, distributions, environments."""

from collections.abc import Sequence
from itertools import cycle

from loadtest.clock.histogram import Histogram
from loadtest.report import wording
from loadtest.report.background import environment_differences, meanings
from loadtest.report.charts.canvas import VARIANTS, Drawing, drawn
from loadtest.report.charts.curve import HOW_TO_READ, throughput_against_latency
from loadtest.report.charts.differences import differences
from loadtest.report.charts.distributions import Curve, distribution
from loadtest.report.comparable import Variant
from loadtest.report.compare import Change, Comparison, LoadComparison, Verdict, single_runs
from loadtest.report.document import (
    Block,
    Cell,
    Columns,
    Document,
    Figures,
    Notice,
    Paragraph,
    Section,
    Table,
    Tone,
    table,
)
from loadtest.report.grouping import Sweep
from loadtest.report.measures import LATENCIES, TPOT, TTFT
from loadtest.report.overview import measured
from loadtest.results import RunResult

_TONES: dict[Verdict, Tone] = {
    Verdict.BETTER: "good",
    Verdict.WORSE: "warn",
    Verdict.SAME: "quiet",
    Verdict.UNCLEAR: "quiet",
}
LONGEST_LABEL = 13
"""Characters of a variant's name that fit beside a curve; longer ones are called A, B, C there."""
MOST_DISTRIBUTIONS = 3
"""Loads of which distributions are drawn: the lowest, the middle and the highest of more."""


def comparison_report(comparisons: Sequence[Comparison]) -> Document:
    """All candidates against one baseline.

    Raises:
        ValueError: there is none.
    """
    if not comparisons:
        raise ValueError("a comparison needs a candidate")
    baseline = comparisons[0].baseline
    regressions = sum(len(one.regressions) for one in comparisons)
    sections = [Section("Verdict", verdict(comparisons))]
    curves = _curves(comparisons)
    if curves:
        sections.append(Section("Throughput against latency", [Paragraph(HOW_TO_READ), Figures(curves)]))
    first_label, *others = labels(comparisons)
    for one, label in zip(comparisons, others, strict=True):
        sections += _differences(one, (first_label, label), alone=len(comparisons) == 1)
    sections.append(Section("Latency distributions", _distributions(comparisons)))
    sections.append(Section("Environment and configuration", _environments(comparisons)))
    sections.append(meanings())
    names = [baseline.name, *(one.candidate.name for one in comparisons)]
    first, last = comparisons[0].loads[0].before, comparisons[0].loads[-1].before
    return Document(
        title=" against ".join([" and ".join(names[1:]), names[0]]),
        badge=wording.plural(regressions, "regression") if regressions else "no regression",
        tone="bad" if regressions else "good",
        facts=[
            f"{first.first.scenario}, {first.name}" + (f" to {last.short_name}" if last is not first else ""),
            *(
                (f"{label}: " if label != variant.name else "")
                + f"{variant.name}, {wording.plural(len(variant.runs), 'run')}"
                for variant, label in zip(_variants(comparisons), labels(comparisons), strict=True)
            ),
        ],
        sections=sections,
    )


def labels(comparisons: Sequence[Comparison]) -> list[str]:
    """What each variant is called in charts, the baseline first."""
    names = [variant.name for variant in _variants(comparisons)]
    short = all(len(name) <= LONGEST_LABEL for name in names)
    return names if short else list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(names)])


def verdict(comparisons: Sequence[Comparison]) -> list[Block]:
    """What got worse for sure, and what the comparison rests on."""
    blocks: list[Block] = []
    for one in comparisons:
        worse = _lines(one, [(load, change) for load, change in one.regressions])
        if worse:
            blocks.append(Notice(f"{one.candidate.name}: {_count(one)}", worse, "bad"))
            continue
        gains = [(load, change) for load in one.loads for change in load.changes if change.verdict is Verdict.BETTER]
        blocks.append(Notice(f"{one.candidate.name}: no regression", _lines(one, gains), "good"))
    if single_runs(comparisons):
        blocks.append(
            Notice(
                "Single runs",
                ["Intervals hold what varies inside a run, not what differs from run to run: measure repeats."],
                "warn",
            )
        )
    differ = environment_differences([one.runs[0] for one in _variants(comparisons)])
    if differ:
        names = ", ".join(name for name, _ in differ)
        blocks.append(Notice("Environments differ", [f"{names}: see below"], "warn"))
    threshold = wording.share(comparisons[0].threshold)
    how = (
        f"A regression is a change for the worse whose whole 95 % interval lies beyond {threshold} (goodput: "
        "percentage points; errors: any increase beyond chance). What is only “worse” is surely worse, but not surely "
        "by as much. One interval in twenty misses the true change: a lone regression deserves a second look."
    )
    return [*blocks, Paragraph(how)]


def _count(one: Comparison) -> str:
    return wording.plural(len(one.regressions), "regression")


def _lines(one: Comparison, changes: Sequence[tuple[LoadComparison, Change]]) -> list[str]:
    """A sentence for each change of a single load; a line for each measure over several."""
    if len(one.loads) == 1:
        return [_sentence(change) for _, change in changes]
    by_measure: dict[str, list[tuple[LoadComparison, Change]]] = {}
    for load, change in changes:
        by_measure.setdefault(change.measure.title, []).append((load, change))
    return [
        f"{title}: " + ", ".join(f"{change.text} at {load.before.short_name}" for load, change in members)
        for title, members in by_measure.items()
    ]


def _sentence(change: Change) -> str:
    before, after = (wording.quantity(value, change.measure.unit) for value in (change.before, change.after))
    return f"{change.measure.title} {change.text} ({change.interval_text}): {before} → {after}"


def _differences(one: Comparison, names: tuple[str, str], *, alone: bool) -> list[Section]:
    sections = []
    for number, load in enumerate(one.loads):
        name = load.before.name if load.before.name == load.after.name else f"{load.before.name} → {load.after.name}"
        title = name if alone else f"{one.candidate.name}: {name}"
        chart = differences(
            load.changes,
            threshold=one.threshold,
            name=f"differences-{_file_name(one.candidate.name)}-{number + 1}",
            title=f"{names[1]} against {names[0]}",
        )
        sections.append(Section(title, [Columns([changes_table(load, names), Figures([drawn(chart)])])]))
    return sections


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in ".-" else "-" for character in text)


def changes_table(load: LoadComparison, names: tuple[str, str]) -> Table:
    """A row a measure: the difference with its interval, the verdict, and both values with theirs."""
    rows: list[list[Cell | str]] = []
    for change in load.changes:
        found = [measured(point, change.measure, narrow=True) for point in (load.before, load.after)]
        word = "regression" if change.regression else str(change.verdict)
        tone: Tone = "bad" if change.regression else _TONES[change.verdict]
        rows.append([change.measure.title, Cell(change.text, note=change.interval_text), Cell(word, tone), *found])
    heads = ("", "#difference", "", *(f"#{name}" for name in names))
    return table(heads, rows, "Small: 95 % intervals.")


def _variants(comparisons: Sequence[Comparison]) -> list[Variant]:
    return [comparisons[0].baseline, *(one.candidate for one in comparisons)]


def _curves(comparisons: Sequence[Comparison]) -> list[Drawing]:
    """Each variant's curve over the common loads."""
    lines: list[tuple[str, Sweep]] = []
    for index, label in enumerate(labels(comparisons)):
        one = comparisons[max(index - 1, 0)]
        points = [load.before if index == 0 else load.after for load in one.loads]
        lines.append((label, Sweep(tuple(points))))
    if not all(sweep.has_curve for _, sweep in lines):
        return []
    return [drawn(throughput_against_latency(lines, latency)) for latency in (TTFT, TPOT)]


def _distributions(comparisons: Sequence[Comparison]) -> list[Block]:
    blocks: list[Block] = []
    loads = comparisons[0].loads
    if len(loads) > MOST_DISTRIBUTIONS:
        loads = (loads[0], loads[len(loads) // 2], loads[-1])
    for number, load in enumerate(loads):
        first_name, *others = labels(comparisons)
        named = [(first_name, load.before)]
        for one, name in zip(comparisons, others, strict=True):
            named += [(name, other.after) for other in one.loads if _place(other) == _place(load)]
        charts = []
        for latency in LATENCIES:
            curves = [
                Curve(name=name, histogram=Histogram.of(latency.data(point.first, point.total)), colour=colour)
                for (name, point), colour in zip(named, cycle(VARIANTS), strict=False)
            ]
            if any(curve.histogram.count for curve in curves):
                charts.append(distribution(latency, curves, name=f"latency-{latency.name}-{number + 1}"))
        blocks += [Paragraph(f"At {load.before.name}."), Figures([drawn(chart) for chart in charts])]
    return blocks


def _place(load: LoadComparison) -> tuple[str, str]:
    return load.before.first.scenario, load.before.name


def _environments(comparisons: Sequence[Comparison]) -> list[Block]:
    variants = _variants(comparisons)
    firsts: list[RunResult] = [variant.runs[0] for variant in variants]
    differ = environment_differences(firsts)
    if not differ:
        return [Paragraph("The same deployment, versions, options and machine, as far as the runs know.")]
    rows = [[name, *values] for name, values in differ]
    return [table(("differs", *(variant.name for variant in variants)), rows, "By the first run of each.")]
