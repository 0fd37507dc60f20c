"""Steps on the running stack, carried out and told: what `up`, `apply` and `restart` share."""

import json
from collections.abc import Mapping, Sequence

import docker

from vllmstack.commands.comparison import running_replicas, steps_to
from vllmstack.commands.preparation import Prepared
from vllmstack.commands.rendering import Rendering
from vllmstack.console import step, warn
from vllmstack.host.compose import Compose
from vllmstack.host.containers import Container, containers
from vllmstack.host.files import current_deployment, read_rendered
from vllmstack.host.gateway_client import await_ready, check_key
from vllmstack.host.gateway_control import SERVICE as GATEWAY
from vllmstack.host.gateway_control import GatewayControl
from vllmstack.host.preloading import remove_preloads
from vllmstack.host.rendered_change import RenderedChange
from vllmstack.host.running import running_key
from vllmstack.host.secret_files import prepare_secrets
from vllmstack.host.stack_facts import note_change, note_containers, prepare_facts
from vllmstack.host.stack_roll import StackRoll
from vllmstack.host.startup import last_start_seconds
from vllmstack.project import Project
from vllmstack.render.stack import gateway_url
from vllmstack.rolling.steps import Action, Step, interrupted_models

READY_SECONDS = 60
GUESSED_START_SECONDS = 60.0
"""Where the log does not say how long an engine took: few GPU engines are faster."""


def runs_already(project: Project, name: str, client: docker.DockerClient) -> bool:
    """Whether this deployment has a gateway that runs: then it is changed, not started."""
    return current_deployment(project) == name and any(
        one.service == GATEWAY and one.status == "running" for one in containers(client)
    )


def apply_deployment(prepared: Prepared, rendering: Rendering, client: docker.DockerClient) -> int:
    """Changes the running stack into what is rendered, without a request lost; how many steps that took.

    Raises:
        StackError: a step failed; it was undone, and what serves goes on.
    """
    steps = steps_to(prepared, rendering, containers(client))
    for number, one in enumerate(steps, start=1):
        step(f"step {number} of {len(steps)}: {one}")
    # After the comparison, which needs to see an old certificate.
    prepare_secrets(prepared.project, prepared.deployment)
    prepare_facts(prepared.project)
    carry_out(prepared.project, prepared.deployment.name, steps, client, verb="apply", files=rendering.files)
    remove_preloads(client)
    url = gateway_url(prepared.deployment.gateway)
    # What loads since before may go on as long as any start.
    loading = [one.startup_seconds for one in containers(client) if one.is_engine and one.health == "starting"]
    await_ready(url, seconds=max([READY_SECONDS, *loading]))
    check_key(url, running_key(prepared.project))
    return len(steps)


def carry_out(
    project: Project,
    name: str,
    steps: Sequence[Step],
    client: docker.DockerClient,
    *,
    verb: str,
    files: Mapping[str, str] | None = None,
) -> None:
    """Every step in turn, of the command ``verb``; ``files``: what shall be rendered then.

    Raises:
        StackError: one failed; it was undone, and what serves goes on.
    """
    warn_of_waiting(project, name, steps, containers(client), client)
    if steps and not any(one.action is Action.NEW_GATEWAY for one in steps):
        _warn_of_drained(client, steps)
    change = None if files is None else RenderedChange(project, name, files)
    try:
        StackRoll(project, Compose(project, name), client, change=change).run(steps)
    finally:
        # Of a roll that fails some containers are new, too.
        note_containers(project, client)
    if steps:
        note_change(project, verb)


def warn_of_waiting(
    project: Project, name: str, steps: Sequence[Step], stack: Sequence[Container], client: docker.DockerClient
) -> None:
    """A model with one replica: the gateway holds its requests meanwhile, for as long as the deployment says."""
    routes = read_rendered(project, name, "gateway/routes.json")
    held = {
        model["name"]: float(model.get("hold_seconds", 0))
        for text in routes.values()
        for model in json.loads(text)["models"]
    }
    for model in interrupted_models(steps, running_replicas(stack)):
        known = [last_start_seconds(client, one) for one in stack if one.model == model]
        longest = max((seconds for seconds in known if seconds is not None), default=None)
        took = f"its last start took {longest:.0f} s" if longest else "a start may take a minute and more"
        hold = held.get(model, 0)
        if (longest or GUESSED_START_SECONDS) * 1.1 > hold:
            warn(
                f"{model} is without a replica for a while: requests wait for {hold:.0f} s and fail then, and {took}; "
                "`admission: {hold_seconds: …}` in the deployment is for that"
            )
        else:
            step(f"{model} is without a replica for a while: requests wait, for {hold:.0f} s at most; {took}")


def _warn_of_drained(client: docker.DockerClient, steps: Sequence[Step]) -> None:
    touched = {one.service for one in steps}
    for one in GatewayControl(client).replicas().values():
        if one.state == "draining" and one.replica not in touched:
            warn(f"{one.replica} is drained at the gateway, and stays so: `vllmstack restart {one.model}` ends that")
