"""`vllmstack status`: one table of what runs."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import docker
from rich.live import Live
from rich.table import Table

from vllmstack.console import out
from vllmstack.engine_metrics import EngineNumbers, read_numbers
from vllmstack.host.containers import Container, connect, containers, engine_metrics
from vllmstack.host.running import running_deployment
from vllmstack.project import find_project

SAMPLE_SECONDS = 1.0
"""Between the two readings that tokens/s comes from."""

WATCH_SECONDS = 2.0
"""From one table to the next; then the readings of two tables are those that tokens/s comes from."""

Reading = tuple[EngineNumbers | None, float]
"""An engine's numbers, None where it does not answer, and when it was asked."""


@click.command("status")
@click.option("--watch", is_flag=True, help="Again every 2 s, until Ctrl-C; once without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Once, for scripts.")
def command(watch: bool, as_json: bool) -> None:
    """Show models, replicas, GPUs, state, load and tokens/s."""
    project = find_project()
    deployment = running_deployment(project)
    client = connect()
    stack = containers(client)
    before = _read(client, stack)
    if any(numbers for numbers, _ in before.values()):
        time.sleep(SAMPLE_SECONDS)
    readings = _read(client, stack)
    rows = _rows(stack, before, readings)
    if as_json:
        out.print_json(json.dumps({"deployment": deployment, "services": rows}))
    elif watch and out.is_terminal:
        _watch(client, deployment, rows, readings)
    else:
        out.print(_shown(deployment, rows))


def _watch(
    client: docker.DockerClient, deployment: str, rows: list[dict[str, Any]], readings: dict[str, Reading]
) -> None:
    with Live(_shown(deployment, rows), console=out, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            before, stack = readings, containers(client)
            readings = _read(client, stack)
            live.update(_shown(deployment, _rows(stack, before, readings)), refresh=True)


def _read(client: docker.DockerClient, stack: list[Container]) -> dict[str, Reading]:
    """By the container's identity: that of a replica which was made anew has another, and no reading before it."""

    def read(one: Container) -> Reading:
        text = engine_metrics(client, one) if one.state == "serving" else None
        return (read_numbers(text) if text else None), time.monotonic()

    if not stack:
        return {}
    with ThreadPoolExecutor(max_workers=len(stack)) as pool:
        return {one.identity: reading for one, reading in zip(stack, pool.map(read, stack), strict=True)}


def _rows(stack: list[Container], before: dict[str, Reading], readings: dict[str, Reading]) -> list[dict[str, Any]]:
    found = []
    for one in stack:
        if one.is_done:
            continue
        numbers, now = readings[one.identity]
        earlier, then = before.get(one.identity, (None, 0.0))
        tokens = numbers.generation_tokens - earlier.generation_tokens if numbers and earlier else None
        # Less than before: the engine was started anew in between.
        found.append(_row(one, numbers, None if tokens is None or tokens < 0 else tokens / (now - then)))
    return found


def _row(one: Container, numbers: EngineNumbers | None, tokens_per_second: float | None) -> dict[str, Any]:
    return {
        "service": one.service,
        "model": one.model or None,
        "replica": one.replica or None,
        "gpus": one.gpus or None,
        "state": one.state,
        "detail": one.health_line or None,
        "restarts": one.restarts,
        "running": numbers.running if numbers else None,
        "waiting": numbers.waiting if numbers else None,
        "kv_cache_ratio": numbers.kv_cache_ratio if numbers else None,
        "output_tokens_per_second": tokens_per_second,
    }


STYLES = {"serving": "green", "healthy": "green", "loading": "yellow", "starting": "yellow", "waiting": "yellow"}


def _shown(deployment: str, rows: list[dict[str, Any]]) -> Table | str:
    if not rows:
        return f"{deployment} is down; `vllmstack up` starts a deployment"
    table = Table(title=deployment, title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    for heading in ("replica", "GPU"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for heading in ("running", "waiting", "KV", "tok/s"):
        table.add_column(heading, justify="right")
    for row in rows:
        state = f"[{STYLES.get(row['state'], 'red')}]{row['state']}[/]"
        if row["model"]:
            table.add_row(
                row["model"], str(row["replica"]), row["gpus"] or "–", state,
                _number(row["running"]), _number(row["waiting"]),
                "–" if row["kv_cache_ratio"] is None else f"{row['kv_cache_ratio']:.0%}",
                _number(row["output_tokens_per_second"]),
            )  # fmt: skip
        else:
            table.add_row(f"[dim]{row['service']}[/dim]", "", "", state, "", "", "", "")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
