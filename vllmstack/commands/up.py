"""`vllmstack up`: from a deployment file to a model that answers."""

import json
import time
from collections.abc import Mapping

import click
import docker

from vllmstack.commands.model_progress import ModelProgress
from vllmstack.commands.preparation import Prepared, prepare
from vllmstack.commands.progress import Progress
from vllmstack.commands.rendering import refuse_what_cannot_work, render, warn_of_unlocked
from vllmstack.commands.rolling import apply_deployment, runs_already
from vllmstack.console import notes, out, step, warn
from vllmstack.errors import HostError, StackError
from vllmstack.host.change_lock import changing
from vllmstack.host.compose import Compose
from vllmstack.host.containers import connect, containers
from vllmstack.host.docker_engine import ensure
from vllmstack.host.files import current_deployment, make_current, write_rendered
from vllmstack.host.gateway_client import await_ready, check_key
from vllmstack.host.key_file import read_keys
from vllmstack.host.loadtest_web import close_web_ui
from vllmstack.host.preloading import preload, remove_preloads
from vllmstack.host.running import running_key
from vllmstack.host.secret_files import GRAFANA_PASSWORD, STACK_KEY, prepare_secrets
from vllmstack.host.stack_facts import note_change, note_containers, prepare_facts
from vllmstack.host.startup import LOGS, await_stack, end, keep_logs, warm_stack
from vllmstack.render.preload import preload_service
from vllmstack.render.stack import gateway_url


@click.command("up")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Start a deployment and wait until it answers.

    NAME is a file below deployments/ or a path. Left out: cpu-smoke where there
    is no GPU, llama-3.2-1b-fp8 where there is one. Of the deployment that
    runs, what has changed in its file is applied without a request lost, as by
    `vllmstack apply`; another deployment is replaced.
    """
    bring_up(name)


def bring_up(name: str | None) -> None:
    """From a deployment's name or path to one that answers; `load` of a bundle ends with it too.

    Raises:
        VllmstackError: the file is wrong, this machine lacks something, or an engine does not come up; nothing
            half-started stays behind.
    """
    started = time.monotonic()
    prepared = prepare(name)
    deployment = prepared.deployment
    step(f"{prepared.file}: {(deployment.description.strip() or deployment.name).splitlines()[0]}")
    for warning in prepared.plan.warnings:
        warn(warning)
    warn_of_unlocked(prepared)
    ensure()
    client = connect()
    refuse_what_cannot_work(prepared, client)
    with changing(prepared.project, "up"):
        rendering = render(prepared, client)
        if runs_already(prepared.project, deployment.name, client):
            step(f"{deployment.name} runs: what has changed is applied a step at a time, as `vllmstack apply` does")
            count = apply_deployment(prepared, rendering, client)
            done = "changed" if count else "as it was"
        else:
            write_rendered(prepared.project, deployment.name, rendering.files)
            prepare_secrets(prepared.project, deployment)
            prepare_facts(prepared.project)
            _start(prepared, client)
            note_containers(prepared.project, client)
            note_change(prepared.project, "up")
            done = "up"
    seconds = time.monotonic() - started
    _farewell(prepared, grafana="grafana" in rendering.services, done=f"{done} in {seconds:.0f} s")


def _start(prepared: Prepared, client: docker.DockerClient) -> None:
    compose = Compose(prepared.project, prepared.deployment.name)
    before = {one.identity: one.restarts for one in containers(client)}
    # Before anything is touched: it may take an hour, and what runs goes on meanwhile.
    if services := [preload_service(model) for model in prepared.deployment.models if model.source.hub]:
        with ModelProgress() as models:
            preload(compose, client, services, models.show)
    previous = current_deployment(prepared.project)
    if previous != prepared.deployment.name and close_web_ui(compose, client):
        step("the load test's web UI was the other deployment's: `vllmstack load` opens it again")
    # From here on `status`, `logs` and `down`, in another terminal too, speak of this deployment.
    make_current(prepared.project, prepared.deployment.name)
    log = prepared.project.state / ".build" / "compose-up.log"
    seconds = max(model.startup_seconds for model in prepared.deployment.models)
    # Replicas that share a cache start one after the other: twice the time, and the health checks' own.
    arguments = ["up", "--detach", "--remove-orphans", "--wait", "--wait-timeout", str(2 * seconds + 120)]
    process = compose.start(*arguments, log=log)
    try:
        with Progress() as progress:
            await_stack(client, process, log, before, progress.show)
        url = gateway_url(prepared.deployment.gateway)
        step("warming: one token from each replica")
        warm_stack(client)
        await_ready(url, seconds=60)
        check_key(url, running_key(prepared.project))
        remove_preloads(client)
    except BaseException as error:
        end(process)
        if isinstance(error, StackError):
            keep_logs(client, prepared.project.root / LOGS)
            step(f"what the containers said is in {LOGS}/")
        _undo(compose, client, before)
        if not before:
            make_current(prepared.project, previous)
        raise


def _undo(compose: Compose, client: docker.DockerClient, before: Mapping[str, int]) -> None:
    """Nothing half-started stays behind: all of it goes, or, where something ran before, what is new and unhealthy."""
    try:
        if not before:
            step("stopping what was started")
            compose.run("--profile", "*", "down", "--remove-orphans", "--timeout", "10", doing="docker compose down")
            return
        unhealthy = [
            one.service for one in containers(client) if one.identity not in before and one.health != "healthy"
        ]
        if unhealthy:
            step(f"removing what did not come up: {', '.join(unhealthy)}")
            compose.run("rm", "--stop", "--force", *unhealthy, doing="docker compose rm")
        warn("the rest goes on as it is: `vllmstack status` shows it, `vllmstack down` stops it")
    except HostError as error:
        warn(str(error))


def _farewell(prepared: Prepared, *, grafana: bool, done: str) -> None:
    """The URLs, and a curl line that works as it stands."""
    gateway = prepared.deployment.gateway
    url = gateway_url(gateway)
    model = prepared.deployment.models[0].name
    replicas = len(prepared.plan.replicas)
    step(f"{done}: {replicas} replica{'s' if replicas > 1 else ''} answer")
    out.print()
    # An IPv6 address in brackets looks like markup.
    out.print(f"OpenAI endpoint  {url}/v1", soft_wrap=True, markup=False)
    if grafana:
        line = f"Grafana          {url}/grafana/  (admin, password in secrets/{GRAFANA_PASSWORD})"
        out.print(line, soft_wrap=True, markup=False)
    out.print()
    header = f' -H "Authorization: Bearer $(cat secrets/{STACK_KEY})"' if gateway.api_keys_file else ""
    insecure = " --insecure" if gateway.tls else ""
    message = {"role": "user", "content": "What is the capital of France?"}
    question = json.dumps({"model": model, "messages": [message]})
    lines = (
        f"curl{insecure} {url}/v1/chat/completions{header}",
        "-H 'Content-Type: application/json'",
        f"-d '{question}'",
    )
    out.print(" \\\n  ".join(lines), soft_wrap=True, markup=False)
    if not gateway.api_keys_file:
        out.print()
        notes.print(
            "[yellow]![/yellow] no API keys: everyone on this machine may use it, and it is published on the loopback "
            "address alone. `gateway.api_keys_file` in the deployment changes both."
        )
    elif not read_keys(gateway.api_keys_file, str(gateway.api_keys_file)):
        out.print()
        warn(f"nobody has a key yet but the stack itself: `vllmstack keys add NAME --deployment {prepared.file}`")
