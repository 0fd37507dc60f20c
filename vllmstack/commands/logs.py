"""`vllmstack logs`: what the services say."""

import sys

import click

from vllmstack.errors import InvalidInput, Problem
from vllmstack.host.compose import Compose
from vllmstack.host.containers import connect, containers
from vllmstack.host.running import running_deployment
from vllmstack.project import find_project


@click.command("logs")
@click.argument("names", metavar="[MODEL|SERVICE]…", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines.")
@click.option("-n", "--tail", default="200", show_default=True, help="Lines of each service, or `all`.")
@click.option("--since", help="A time or a span, such as 10m.")
def command(names: tuple[str, ...], follow: bool, tail: str, since: str | None) -> None:
    """Show the logs of all services, of a model's replicas, or of one service."""
    project = find_project()
    compose = Compose(project, running_deployment(project))
    stack = containers(connect())
    services = [one.service for name in names for one in stack if name in (one.model, one.service)]
    known = sorted({one.model for one in stack if one.model} | {one.service for one in stack})
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInput(
            Problem(
                fact=f"nothing that runs is called {', '.join(unknown)}", hint=f"known: {', '.join(known) or 'nothing'}"
            )
        )
    arguments = ["logs", "--tail", tail]
    arguments += ["--follow"] if follow else []
    arguments += ["--since", since] if since else []
    status = compose.follow([*arguments, *services])
    if status:
        sys.exit(status)
