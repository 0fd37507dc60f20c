"""One run as a person reads it in a terminal; everything else is in the folder."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from loadtest.clock.histogram import Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.report.measures import LATENCIES
from loadtest.report.wording import load_name, number, plural, seconds, share, span
from loadtest.results import Flag, LoadKind, RunResult
from vllmstack.console import out

QUANTILES = (0.5, 0.9, 0.95, 0.99)
MARKS = {"invalid": "[red]✗[/red]", "warning": "[yellow]![/yellow]", "note": "[dim]·[/dim]"}


def print_run(result: RunResult, folder: Path) -> None:
    """Latencies, rates, what is to be said of them, and where the rest lies."""
    out.print()
    out.print(f"[bold]{escape(_title(result))}[/bold]", soft_wrap=True)
    out.print(_latencies(result))
    for name, text in _lines(result):
        out.print(f"{name:<12}{escape(text)}", soft_wrap=True)
    for flag in sorted(result.flags, key=lambda flag: list(MARKS).index(flag.severity)):
        _print_flag(flag)
    if not result.valid:
        out.print("[red]INVALID[/red]: these numbers say nothing about the server")
    elif result.interrupted:
        out.print("[yellow]interrupted[/yellow]: these numbers are of what was measured until then")
    out.print(f"\nresults in {folder}/", soft_wrap=True, markup=False)


def _title(result: RunResult) -> str:
    models = ", ".join(model.name for model in result.environment.models)
    of = f" on {models}" if models else ""
    return f"{result.scenario}{of}, {load_name(result)}, {span(result.duration_seconds)}"


def _latencies(result: RunResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("mean", *(f"p{quantile * 100:g}" for quantile in QUANTILES)):
        table.add_column(heading, justify="right", min_width=8)
    for latency in LATENCIES:
        table.add_row(latency.title, *_row(latency.data(result)))
        if latency.field(result) != latency.name:
            # By the schedule above; this is what the server took, once it was asked.
            table.add_row("  from sending", *_row(getattr(result.total.latencies, latency.name)))
    return table


def _row(data: HistogramData) -> list[str]:
    histogram = Histogram.of(data)
    return [seconds(histogram.mean), *(seconds(histogram.quantile(quantile)) for quantile in QUANTILES)]


def _lines(result: RunResult) -> list[tuple[str, str]]:
    total, counts = result.total, result.total.counts
    failures = ", ".join(
        f"{count:,} {name}" for name, count in counts.by_outcome.items() if name not in ("ok", "abandoned")
    )
    requests = f"{counts.ok:,} ok ({number(total.requests_per_second)}/s), {counts.failed:,} failed"
    requests += f" ({failures})" if failures else ""
    requests += f", {counts.abandoned:,} abandoned" if counts.abandoned else ""
    tokens = f"{number(total.output_tokens_per_second)} tok/s out, {total.tokens.prompt:,} tokens in"
    lines = [("requests", requests), ("tokens", tokens)]
    if result.limits:
        lines.append(("goodput", f"{share(total.goodput_ratio)} within every limit"))
    if result.load.kind is LoadKind.OPEN:
        offered = result.offered
        rates = f"{number(offered.asked_per_second)}/s asked, {number(offered.sent_per_second)}/s sent"
        lines.append(("offered", f"{rates} ({share(offered.ratio)})"))
    lines += [("error", f"{plural(count, 'time')}: {text}") for text, count in list(counts.errors.items())[:3]]
    return lines


def _print_flag(flag: Flag) -> None:
    out.print(f"{MARKS[flag.severity]} {escape(flag.fact)}", soft_wrap=True)
    out.print(f"  [dim]hint: {escape(flag.hint)}[/dim]", soft_wrap=True)
