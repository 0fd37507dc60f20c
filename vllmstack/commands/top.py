"""`vllmstack top`: what the dashboards show first, for a terminal."""

import json
import time
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click
import docker
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape

from vllmstack.commands.top_frame import frame, title
from vllmstack.console import out
from vllmstack.errors import StackError
from vllmstack.host import prometheus
from vllmstack.host.containers import connect
from vllmstack.host.running import running_deployment, running_variables
from vllmstack.project import find_project
from vllmstack.stack_queries import expressions, question, window_seconds
from vllmstack.stack_view import StackView, view_of

SHORTEST_REFRESH_SECONDS = 2.0
LONGEST_REFRESH_SECONDS = 10.0
"""Between them it is as long as a scrape: nothing new can be seen sooner, and each question costs a process."""

SCRAPE_SECONDS = "VLLMSTACK_SCRAPE_SECONDS"


@click.command("top")
@click.option("--once", is_flag=True, help="One frame; so it is without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One frame, for scripts.")
def command(once: bool, as_json: bool) -> None:
    """Show traffic, latencies, replicas, GPUs and alerts, live.

    The figures are Prometheus', as in the dashboards. Ctrl-C ends it.
    """
    project = find_project()
    deployment = running_deployment(project)
    scrape_seconds = int(running_variables(project).get(SCRAPE_SECONDS, "5"))
    window = window_seconds(scrape_seconds)
    client = connect()
    view = _ask(client, window)
    if as_json:
        out.print_json(json.dumps(_document(deployment, window, view)))
    elif once or not out.is_terminal:
        out.print(_frame(deployment, window, view))
    else:
        pause = min(max(float(scrape_seconds), SHORTEST_REFRESH_SECONDS), LONGEST_REFRESH_SECONDS)
        _live(client, deployment, window, _frame(deployment, window, view), pause)


def _ask(client: docker.DockerClient, window: int) -> StackView:
    return view_of(prometheus.ask(client, question(expressions(window))))


def _live(client: docker.DockerClient, deployment: str, window: int, first: RenderableType, pause: float) -> None:
    """Until Ctrl-C. While Prometheus is away, as in its restart, the last figures stay, under what is wrong."""
    seen = first
    with Live(seen, console=out, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(pause)
            try:
                seen = _frame(deployment, window, _ask(client, window))
                live.update(seen, refresh=True)
            except StackError as error:
                live.update(Group(f"[red]{escape(str(error))}[/red]", "", seen), refresh=True)


def _frame(deployment: str, window: int, view: StackView) -> RenderableType:
    return frame(view, title=title(deployment, view, window, _clock()))


def _clock() -> str:
    return f"{datetime.now():%H:%M:%S}"


def _document(deployment: str, window: int, view: StackView) -> dict[str, Any]:
    return {"deployment": deployment, "window_seconds": window, **asdict(view)}
