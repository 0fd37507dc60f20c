"""One frame of `vllmstack top`: tables of 80 columns, from figures to text."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from vllmstack.stack_view import Alert, GpuFigures, ModelFigures, ReplicaFigures, StackView

NAME_COLUMNS = 20
"""Of 80: what the widest table leaves for names. Of longer ones the end is kept, where replicas have their number."""
ALERTS_SHOWN = 6
GIB = 1 << 30
NOTHING = "–"


def frame(view: StackView, *, title: str) -> RenderableType:
    """Alerts, models, replicas, GPUs: what matters most first, since a short terminal cuts the end off."""
    parts: list[RenderableType] = [f"[bold]{escape(title)}[/bold]", *_alerts(view.alerts), ""]
    if not view.replicas:
        parts.append("Prometheus knows no replica yet: it has been started just now, or scrapes none")
        return Group(*parts)
    parts += [_traffic(view.models), "", _speed(view.models), "", _replicas(view.replicas)]
    if view.gpus:
        parts += ["", _gpus(view.gpus)]
    return Group(*parts)


def title(deployment: str, view: StackView, window_seconds: int, clock: str) -> str:
    """The first line: ``two-models · 2 of 3 replicas take requests · rates over 1 min · 12:04:31``."""
    taking = f"{view.replicas_that_take_requests} of {len(view.replicas)} replicas take requests"
    minutes, seconds = divmod(window_seconds, 60)
    span = f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{deployment} · {taking} · rates over {span} · {clock}"


def _alerts(alerts: Sequence[Alert]) -> Iterable[str]:
    if not alerts:
        yield "[dim]no alert fires[/dim]"
    for alert in alerts[:ALERTS_SHOWN]:
        of = " ".join(f"{name}={value}" for name, value in alert.labels.items())
        severity = f" ({alert.severity})" if alert.severity else ""
        yield f"[red]![/red] {escape(f'{alert.name}{severity} {of}'.rstrip())}"
    if len(alerts) > ALERTS_SHOWN:
        yield f"[red]![/red] and {len(alerts) - ALERTS_SHOWN} more"


def _traffic(models: Sequence[ModelFigures]) -> Table:
    table = _table("model", "req/s", "in flight", "queued", "5xx/s", "429/s", "in target")
    for one in models:
        table.add_row(
            _name(one.model),
            amount(one.requests_per_second),
            amount(one.in_flight),
            _marked(amount(one.queued), bool(one.queued), "yellow"),
            _marked(amount(one.errors_per_second), bool(one.errors_per_second), "red"),
            _marked(amount(one.refused_per_second), bool(one.refused_per_second), "yellow"),
            ratio(one.within_targets_ratio),
        )
    return table


def _speed(models: Sequence[ModelFigures]) -> Table:
    table = _table("model", "TTFT p50", "p95", "TPOT p50", "p95", "tok/s", "prompt", "prefix")
    for one in models:
        table.add_row(
            _name(one.model),
            latency(one.ttft_p50_seconds),
            latency(one.ttft_p95_seconds),
            latency(one.tpot_p50_seconds),
            latency(one.tpot_p95_seconds),
            amount(one.output_tokens_per_second),
            amount(one.prompt_tokens_per_second),
            ratio(one.prefix_hit_ratio),
        )
    return table


def _replicas(replicas: Sequence[ReplicaFigures]) -> Table:
    table = _table("replica", "gateway", "running", "waiting", "KV", "tok/s", "preempt/s")
    table.columns[1].justify = "left"
    for one in replicas:
        table.add_row(
            _name(one.replica),
            _state(one),
            amount(one.running),
            _marked(amount(one.waiting), bool(one.waiting), "yellow"),
            ratio(one.kv_cache_ratio),
            amount(one.output_tokens_per_second),
            _marked(amount(one.preemptions_per_second), bool(one.preemptions_per_second), "yellow"),
        )
    return table


def _state(one: ReplicaFigures) -> str:
    if one.takes_requests is None:
        return NOTHING
    if one.takes_requests:
        return "[green]in[/green]"
    return "[yellow]out, alive[/yellow]" if one.answers else "[red]out, silent[/red]"


def _gpus(gpus: Sequence[GpuFigures]) -> Table:
    table = _table("GPU", "busy", "memory", "power", "temperature")
    for one in gpus:
        used, total = one.memory_used_bytes, one.memory_total_bytes
        table.add_row(
            _name(one.gpu),
            ratio(one.utilization_ratio),
            NOTHING if used is None or total is None else f"{used / GIB:.1f} of {total / GIB:.0f} GiB",
            NOTHING if one.power_watts is None else f"{one.power_watts:.0f} W",
            NOTHING if one.temperature_celsius is None else f"{one.temperature_celsius:.0f} °C",
        )
    return table


def _table(first: str, *further: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column(first, no_wrap=True)
    for heading in further:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _name(name: str) -> str:
    return escape(name if len(name) <= NAME_COLUMNS else f"…{name[1 - NAME_COLUMNS :]}")


def _marked(text: str, is_notable: bool, style: str) -> str:
    return f"[{style}]{text}[/{style}]" if is_notable else text


def amount(value: float | None) -> str:
    """A count or a rate in at most six characters: ``–``, ``0``, ``<0.01``, ``0.25``, ``3.4``, ``1,234``, ``56k``."""
    if value is None:
        return NOTHING
    if value == 0 or value >= 9.95 or value == int(value):
        return f"{value / 1000:,.0f}k" if value >= 9999.5 else f"{value:,.0f}"
    if value >= 0.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.005 else "<0.01"


def ratio(value: float | None) -> str:
    """A share: ``72%``, ``99.5%``; nearly all is not all."""
    if value is None:
        return NOTHING
    return (
        f"{value:.0%}" if value in (0.0, 1.0) or value < 0.9 else f"{min(value, 0.9999):.1%}".replace("100.0%", "99.9%")
    )


def latency(seconds: float | None) -> str:
    """``4.2 ms``, ``180 ms``, ``1.25 s``, ``42 s``."""
    if seconds is None:
        return NOTHING
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.0f} s"
