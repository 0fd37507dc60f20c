"""`vllmstack apply`: a changed deployment file to the stack that runs, without a request lost."""

import time

import click
import docker

from vllmstack.commands.comparison import steps_to
from vllmstack.commands.preparation import Prepared, prepare
from vllmstack.commands.rendering import refuse_what_cannot_work, render, warn_of_unlocked
from vllmstack.commands.rolling import apply_deployment, runs_already, warn_of_waiting
from vllmstack.console import out, step, warn
from vllmstack.errors import HostError, Problem
from vllmstack.host.change_lock import changing
from vllmstack.host.containers import connect, containers
from vllmstack.host.docker_engine import ensure_running
from vllmstack.host.running import running_deployment, running_file
from vllmstack.project import find_project


@click.command("apply")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Print the steps, and end.")
def command(name: str | None, dry_run: bool) -> None:
    """Apply a changed deployment file to the stack that runs.

    NAME is a file below deployments/ or a path. Left out: the file that runs.
    Replicas are made and replaced one at a time, while the others serve; the
    gateway takes new models and replicas over without losing a stream. A replica
    that does not come up ends it, and what ran before serves on.
    """
    started = time.monotonic()
    project = find_project()
    running = running_deployment(project)
    prepared = prepare(name or running_file(project))
    ensure_running()
    client = connect()
    _refuse_another(prepared, running)
    if not runs_already(project, running, client):
        raise HostError(Problem(fact=f"{running} is down", hint=f"`vllmstack up {prepared.file}` starts it"))
    for warning in prepared.plan.warnings:
        warn(warning)
    warn_of_unlocked(prepared)
    refuse_what_cannot_work(prepared, client)
    if dry_run:
        _foretell(prepared, client)
        return
    with changing(project, "apply"):
        count = apply_deployment(prepared, render(prepared, client), client)
    if count:
        step(f"applied in {time.monotonic() - started:.0f} s")
    else:
        step(f"{running} runs as {prepared.file} says: nothing to do")


def _foretell(prepared: Prepared, client: docker.DockerClient) -> None:
    """The steps on standard output, and which model's requests will have to wait."""
    name, stack = prepared.deployment.name, containers(client)
    steps = steps_to(prepared, render(prepared, client, bring_images=False), stack)
    for number, one in enumerate(steps, start=1):
        out.print(f"{number}. {one}", soft_wrap=True, markup=False)
    warn_of_waiting(prepared.project, name, steps, stack, client)
    if not steps:
        out.print(f"{name} runs as {prepared.file} says: nothing to do", soft_wrap=True, markup=False)


def _refuse_another(prepared: Prepared, running: str) -> None:
    name = prepared.deployment.name
    if name != running:
        hint = f"`vllmstack up {prepared.file}` replaces it; `vllmstack apply` without a name takes the file that runs"
        raise HostError(Problem(file=prepared.file, fact=f"is the deployment {name}, and {running} runs", hint=hint))
