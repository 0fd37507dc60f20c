"""`vllmstack status`: one table of what runs."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import docker
from rich.table import Table

from vllmstack.console import out
from vllmstack.engine_metrics import EngineNumbers, read_numbers
from vllmstack.host.containers import Container, connect, containers, engine_metrics
from vllmstack.host.running import running_deployment
from vllmstack.project import find_project

SAMPLE_SECONDS = 1.0
"""Between the two readings that tokens/s comes from."""


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def command(as_json: bool) -> None:
    """Show models, replicas, GPUs, state, load and tokens/s."""
    project = find_project()
    deployment = running_deployment(project)
    client = connect()
    stack = containers(client)
    rows = [_row(one, *numbers) for one, numbers in zip(stack, _measure(client, stack), strict=True)]
    if as_json:
        out.print_json(json.dumps({"deployment": deployment, "services": rows}))
        return
    if not rows:
        out.print(f"{deployment} is down; `vllmstack up` starts a deployment")
        return
    _print(deployment, rows)


def _measure(client: docker.DockerClient, stack: list[Container]) -> list[tuple[EngineNumbers | None, float | None]]:
    """For each container its numbers and output tokens a second; None where it is no engine or does not answer."""

    def read(one: Container) -> tuple[EngineNumbers | None, float]:
        text = engine_metrics(client, one) if one.state == "serving" else None
        return (read_numbers(text) if text else None), time.monotonic()

    if not stack:
        return []
    with ThreadPoolExecutor(max_workers=len(stack)) as pool:
        first = list(pool.map(read, stack))
        if any(numbers for numbers, _ in first):
            time.sleep(SAMPLE_SECONDS)
        second = list(pool.map(read, stack))
    measured: list[tuple[EngineNumbers | None, float | None]] = []
    for (before, then), (after, now) in zip(first, second, strict=True):
        rate = (after.generation_tokens - before.generation_tokens) / (now - then) if before and after else None
        measured.append((after, rate))
    return measured


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


def _print(deployment: str, rows: list[dict[str, Any]]) -> None:
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
    out.print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
