"""`vllmstack down`: stops the stack; weights, compile cache, metrics and dashboards' data stay."""

import click

from vllmstack.console import step
from vllmstack.host.change_lock import changing
from vllmstack.host.compose import Compose
from vllmstack.host.docker_engine import ensure_running
from vllmstack.host.running import running_deployment
from vllmstack.project import find_project


@click.command("down")
@click.option("--delete-data", is_flag=True, help="Delete the volumes too: weights, compile cache, metrics.")
def command(delete_data: bool) -> None:
    """Stop and remove the containers; requests in flight may end."""
    project = find_project()
    ensure_running()
    compose = Compose(project, running_deployment(project))
    options = ["--remove-orphans", *(["--volumes"] if delete_data else [])]
    with changing(project, "down"):
        step("stopping; requests in flight get their drain time")
        compose.run("--profile", "*", "down", *options, doing="docker compose down")
    step("down" + (", data deleted" if delete_data else "; weights, caches and metrics are kept"))
