"""The first page: key numbers of a load, all loads of a sweep, targets and their verdicts, distributions."""

import math
from collections.abc import Sequence

import matplotlib as mpl

from loadtest.clock.histogram import Histogram
from loadtest.report import wording
from loadtest.report.charts.canvas import BLUE, FAINT, drawn
from loadtest.report.charts.distributions import Curve, distribution
from loadtest.report.document import Block, Card, Cards, Cell, Columns, Figures, Notice, Table, Tone, table
from loadtest.report.grouping import Point, Sweep
from loadtest.report.measures import (
    BY_KEY,
    ERRORS,
    GOODPUT,
    LATENCIES,
    OUTPUT_TOKENS,
    REQUESTS,
    Latency,
    Measure,
    judged,
)
from loadtest.verdict.measured import ENOUGH_REPEATS, infinitely_slow
from loadtest.verdict.statistics import percentile
from loadtest.verdict.targets import Row, TargetVerdict, Verdict

MOST_CURVES = 6
"""In one chart; more cannot be told apart."""
NOTABLE_LATENESS = 0.05
"""From so much on, latency from the schedule and from sending are shown as two curves."""
_VERDICTS: dict[Verdict, Tone] = {Verdict.MET: "good", Verdict.MISSED: "bad", Verdict.INVALID: "warn"}


def validity(sweep: Sweep) -> list[Block]:
    """What says that numbers must not be used, in plain words; nothing if all is well."""
    doubted = [point for point in sweep.points if not point.valid]
    blocks: list[Block] = []
    if doubted:
        reasons = {
            f"{point.name}: {reason}" if len(sweep.points) > 1 else reason
            for point in doubted
            for run in point.runs
            for reason in run.invalid_reasons
        }
        whole = len(doubted) == len(sweep.points)
        title = "INVALID: these numbers say nothing about the server" if whole else "Some loads are INVALID"
        blocks.append(Notice(title, sorted(reasons), "bad"))
    interrupted = ", ".join(run.id for run in sweep.runs if run.interrupted)
    if interrupted:
        blocks.append(Notice("Interrupted", [f"{interrupted}: ended early; what it measured is here"], "warn"))
    return blocks


def key_numbers(point: Point) -> list[Block]:
    """Cards and the table of latencies with intervals."""
    return [_cards(point), Columns([_latencies(point), _requests(point)])]


def _cards(point: Point) -> Cards:
    cards = [_card(point, OUTPUT_TOKENS), _card(point, BY_KEY["ttft_seconds.p95"])]
    tpot = point.estimate(BY_KEY["tpot_seconds.p50"])
    if tpot is not None:
        user = f"{wording.number(1 / tpot.estimate)} tok/s for a user" if 0 < tpot.estimate < float("inf") else ""
        cards.append(_card(point, BY_KEY["tpot_seconds.p50"], note=user))
    cards.append(_card(point, REQUESTS))
    if point.estimate(GOODPUT) is not None:
        limits = ", ".join(f"{name.upper()} ≤ {wording.seconds(limit)}" for name, limit in point.first.limits.items())
        cards.append(_card(point, GOODPUT, note=f"within {limits}"))
    counts = point.total.counts
    tone: Tone = "bad" if counts.failed else "good"
    cards.append(_card(point, ERRORS, note=f"{counts.failed:,} of {judged(point.total):,} requests", tone=tone))
    return Cards([card for card in cards if card.value != wording.NOTHING])


def _card(point: Point, one: Measure, *, note: str | None = None, tone: Tone = "") -> Card:
    found = point.estimate(one)
    value, _, unit = wording.quantity(None if found is None else found.estimate, one.unit).partition(" ")
    interval = wording.interval(found, one.unit)
    return Card(title=one.title, value=value, unit=unit, note=interval if note is None else note, tone=tone)


def measured(point: Point, one: Measure, *, narrow: bool = False) -> Cell:
    """The number with its interval below; ``narrow``: without the unit that stands above, so that many fit a line."""
    found = point.estimate(one)
    if found is None:
        return Cell(wording.NOTHING)
    text, note = wording.quantity(found.estimate, one.unit), wording.interval(found, one.unit)
    tone: Tone = "" if math.isfinite(found.estimate) else "bad"
    return Cell(text, tone, note.removesuffix(" " + text.rpartition(" ")[2]) if narrow else note)


def _latencies(point: Point) -> Table:
    rows: list[list[Cell | str]] = []
    for latency in LATENCIES:
        histogram = Histogram.of(latency.data(point.first, point.total))
        if not histogram.count:
            continue
        mean, largest = wording.seconds(histogram.mean), wording.seconds(histogram.quantile(1))
        percentiles = [measured(point, BY_KEY[f"{latency.name}_seconds.{name}"]) for name in ("p50", "p95", "p99")]
        rows.append([latency.title, mean, *percentiles, largest])
        if latency.field(point.first) != latency.name:
            sent = Histogram.of(getattr(point.total.latencies, latency.name))
            failed = infinitely_slow(latency.name, point.total)
            percentiles_sent = [percentile(sent, share, infinite=failed) for share in (0.5, 0.95, 0.99)]
            values = (sent.mean, *percentiles_sent, sent.quantile(1))
            rows.append([Cell("from sending", "quiet"), *(Cell(wording.seconds(value), "quiet") for value in values)])
    caption = "Small: 95 % intervals."
    if point.total.counts.failed:
        caption += (
            f" {wording.plural(point.total.counts.failed, 'request')} failed and count as slower than every answer in "
            "percentiles; mean and largest are of answers."
        )
    return table(("", "#mean", "#p50", "#p95", "#p99", "#largest"), rows, caption)


def _requests(point: Point) -> Table:
    total, tokens = point.total, point.total.tokens
    counts = total.counts
    rows: list[list[Cell | str]] = [["requests due in the window", f"{counts.sent:,}", _outcomes(point)]]
    for name, data in (("a prompt", total.lengths_prompt), ("an answer", total.lengths_completion)):
        lengths = Histogram.of(data)
        if lengths.count and lengths.maximum:
            spread = f"p50 {_whole(lengths.quantile(0.5))}, p99 {_whole(lengths.quantile(0.99))}"
            rows.append(
                [f"tokens {name}", wording.number(lengths.mean), f"{spread}, largest {_whole(lengths.maximum)}"]
            )
    if tokens.cached is not None:
        cached = wording.share(tokens.cached / tokens.prompt if tokens.prompt else 0)
        rows.append(["prompt tokens from the prefix cache", f"{tokens.cached:,}", f"{cached} of all prompt tokens"])
    if tokens.prompt_mismatches:
        rows.append(["prompts of another length than meant", f"{tokens.prompt_mismatches:,}", ""])
    if counts.by_finish_reason:
        reasons = ", ".join(f"{name or 'none'} {times:,}" for name, times in counts.by_finish_reason.items())
        rows.append(["why answers ended", "", reasons])
    return table(("", "#", ""), rows)


def _whole(value: float | None) -> str:
    return wording.NOTHING if value is None else f"{value:,.0f}"


def _outcomes(point: Point) -> str:
    outcomes = point.total.counts.by_outcome
    return ", ".join(f"{times:,} {name.replace('_', ' ')}" for name, times in outcomes.items() if times)


_LOAD_COLUMNS = (
    OUTPUT_TOKENS,
    REQUESTS,
    *(BY_KEY[f"ttft_seconds.{name}"] for name in ("p50", "p95", "p99")),
    *(BY_KEY[f"tpot_seconds.{name}"] for name in ("p50", "p95")),
    BY_KEY["itl_seconds.p99"],
    *(BY_KEY[f"e2e_seconds.{name}"] for name in ("p50", "p95")),
    GOODPUT,
    ERRORS,
)


def loads(sweep: Sweep) -> Table:
    """A row for each load."""
    columns = [one for one in _LOAD_COLUMNS if any(point.estimate(one) is not None for point in sweep.points)]
    rows: list[list[Cell | str]] = []
    for point in sweep.points:
        remarks = ["knee"] * (point is sweep.knee) + ["INVALID"] * (not point.valid)
        repeats = f"{len(point.runs)} runs" if len(point.runs) > 1 else ""
        tone: Tone = "" if point.valid else "bad"
        name = Cell(", ".join([point.short_name, *remarks]), tone, repeats)
        rows.append([name, *(measured(point, one, narrow=True) for one in columns)])
    head = "concurrency" if sweep.first.load.concurrency is not None else "rate"
    repeated = any(len(point.runs) >= ENOUGH_REPEATS for point in sweep.points)
    caption = "Small: 95 % intervals" + " over the repeats" * repeated + "."
    return table((head, *(f"#{one.title}" for one in columns)), rows, caption)


def distributions(sweep: Sweep) -> Figures:
    """Percentile curves: of one load alone, or of up to MOST_CURVES loads of a sweep in one chart."""
    points = _chosen(sweep)
    limits = points[0].first.limits
    charts = []
    for latency in LATENCIES:
        histograms = [Histogram.of(latency.data(point.first, point.total)) for point in points]
        if not any(histogram.count for histogram in histograms):
            continue
        if len(points) == 1:
            charts.append(distribution(latency, _alone(latency, points[0]), limit=limits.get(latency.name)))
            continue
        curves = [
            Curve(name=point.short_name, histogram=histogram, colour=colour)
            for point, histogram, colour in zip(points, histograms, _graded(len(points)), strict=True)
        ]
        charts.append(distribution(latency, curves, limit=limits.get(latency.name)))
    return Figures([drawn(chart) for chart in charts])


def _alone(latency: Latency, point: Point) -> list[Curve]:
    histogram = Histogram.of(latency.data(point.first, point.total))
    failed = infinitely_slow(latency.name, point.total)
    curve = Curve(name="from due", histogram=histogram, colour=BLUE, infinite=failed)
    if latency.field(point.first) == latency.name:
        return [curve]
    sent = Histogram.of(getattr(point.total.latencies, latency.name))
    apart = [
        (due or 0) > (1 + NOTABLE_LATENESS) * (own or 0)
        for due, own in ((histogram.quantile(share), sent.quantile(share)) for share in (0.5, 0.95, 0.99))
    ]
    if not any(apart):
        return [curve]
    return [curve, Curve(name="from sent", histogram=sent, colour=FAINT, dashed=True, infinite=failed)]


def _chosen(sweep: Sweep) -> list[Point]:
    """At most MOST_CURVES loads: the first, the last, the knee, and others evenly between."""
    points = [point for point in sweep.points if point.valid] or list(sweep.points)
    if len(points) <= MOST_CURVES:
        return points
    step = (len(points) - 1) / (MOST_CURVES - 1)
    chosen = {round(at * step) for at in range(MOST_CURVES)}
    if sweep.knee in points and points.index(sweep.knee) not in chosen:
        bend = points.index(sweep.knee)
        chosen.remove(min(chosen - {0, len(points) - 1}, key=lambda at: abs(at - bend)))
        chosen.add(bend)
    return [points[at] for at in sorted(chosen)]


def _graded(count: int) -> list[str]:
    """From light to dark, as loads have an order: viridis, without the end that is too light for text."""
    shades = mpl.colormaps["viridis"]
    places = [0.68 * (1 - at / max(count - 1, 1)) for at in range(count)]
    return [mpl.colors.to_hex(shades(place)) for place in places]


def targets(verdicts: Sequence[TargetVerdict]) -> list[Block]:
    """A table for each target, its verdict above."""
    blocks: list[Block] = []
    for verdict in verdicts:
        tone = _VERDICTS[verdict.verdict]
        blocks.append(Notice(f"{verdict.name}: {verdict.verdict}", _unique(verdict), tone))
        rows = [_target_row(row) for row in verdict.rows]
        runs = f"Of {wording.plural(len(verdict.runs), 'run')}." if verdict.runs else ""
        blocks.append(table(("limit", "#target", "#measured", "#margin", "verdict", ""), rows, runs))
    return blocks


def _unique(verdict: TargetVerdict) -> list[str]:
    return list(dict.fromkeys([*verdict.reasons, *verdict.warnings]))


def _target_row(row: Row) -> list[Cell | str]:
    measured = None if row.measured is None else row.measured.estimate
    return [
        row.limit,
        f"{'≤' if row.at_most else '≥'} {wording.quantity(row.asked, row.unit)}",
        Cell(wording.quantity(measured, row.unit), note=wording.interval(row.measured, row.unit)),
        wording.change(row.margin),
        Cell(str(row.verdict), _VERDICTS[row.verdict]),
        Cell(row.note, "quiet"),
    ]
