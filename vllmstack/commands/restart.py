"""`vllmstack restart`: every replica anew, one at a time, without a request lost."""

import time

import click

from vllmstack.commands.comparison import running_replicas
from vllmstack.commands.rolling import carry_out, runs_already
from vllmstack.console import step
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.change_lock import changing
from vllmstack.host.containers import connect, containers
from vllmstack.host.docker_engine import ensure_running
from vllmstack.host.running import running_deployment
from vllmstack.project import find_project
from vllmstack.rolling.steps import RunningReplica, restart_steps


@click.command("restart")
@click.argument("model", required=False)
def command(model: str | None) -> None:
    """Restart all replicas, or those of MODEL, one at a time.

    Each is taken out at the gateway, ends its requests, is made anew, gives one
    token and is put back before the next one goes. A model with one replica:
    its requests wait at the gateway.
    """
    started = time.monotonic()
    project = find_project()
    running = running_deployment(project)
    ensure_running()
    client = connect()
    if not runs_already(project, running, client):
        raise HostError(Problem(fact=f"{running} is down", hint="`vllmstack up` starts it"))
    with changing(project, "restart"):
        replicas = _chosen(running_replicas(containers(client)), model)
        carry_out(project, running, restart_steps(replicas), client, verb="restart")
    count = f"{len(replicas)} replica{'s' if len(replicas) > 1 else ''}"
    step(f"restarted {count} in {time.monotonic() - started:.0f} s")


def _chosen(replicas: list[RunningReplica], model: str | None) -> list[RunningReplica]:
    """Those of the model, or the one of that service."""
    chosen = [one for one in replicas if model in (None, one.model, one.service)]
    if not chosen:
        known = sorted({one.model for one in replicas})
        raise InvalidInput(
            Problem(fact=f"no model that runs is called {model}", hint=f"known: {', '.join(known) or 'nothing'}")
        )
    return chosen
