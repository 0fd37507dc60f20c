"""The stack's containers, through the Docker SDK."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import requests.exceptions

from vllmstack.errors import HostError, Problem
from vllmstack.log_lines import plain
from vllmstack.project import compose_project_name

HEALTH_PROGRAM = ["python3", "/etc/vllmstack/health.py"]


@dataclass(frozen=True, kw_only=True)
class Container:
    """What one look at a container showed."""

    service: str
    identity: str
    model: str
    """Empty for what is not an engine."""
    replica: int
    gpus: str
    status: str
    """Docker's word: created, running, restarting, exited…"""
    health: str
    """starting, healthy, unhealthy, or empty."""
    health_line: str
    """What the health check printed last."""
    restarts: int
    exit_code: int
    out_of_memory: bool
    preloads: str = ""
    """The model whose files it brings before its engines start; empty for what goes on running."""
    host_ports: tuple[int, ...] = ()
    """Where it is published."""
    digest: str = ""
    """What it was made from, as its label says."""
    image: str = ""
    """The image's id."""
    started_at: str = ""
    """RFC 3339, in UTC."""
    stop_seconds: int = 10
    """Between being asked to stop and being killed."""
    startup_seconds: int = 0
    """How long it may take to become healthy."""

    @property
    def is_engine(self) -> bool:
        return bool(self.model)

    @property
    def is_done(self) -> bool:
        """A preload that has brought everything: it is meant to end."""
        return bool(self.preloads) and self.status == "exited" and self.exit_code == 0

    @property
    def state(self) -> str:
        """One word for a person: loading, serving, broken, stopped, or Docker's own."""
        if self.is_done:
            return "done"
        if self.status != "running":
            return {"exited": "stopped", "created": "waiting"}.get(self.status, self.status)
        if not self.is_engine:
            return self.health or "running"
        word = self.health_line.partition(":")[0]
        if self.health == "unhealthy":
            return "broken"
        return word if word in ("loading", "serving", "broken") else "loading"


def connect(silent_seconds: int = 120) -> docker.DockerClient:
    """A client for the daemon that the docker command uses; it gives up when that says nothing for so long.

    Raises:
        HostError: it does not answer.
    """
    try:
        client = docker.from_env(timeout=silent_seconds)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        raise HostError(
            Problem(fact=f"the Docker daemon does not answer: {error}", hint="start it, or run `vllmstack doctor`")
        ) from None
    return client


def containers(client: docker.DockerClient) -> list[Container]:
    """All containers of the stack, engines first, in a stable order."""
    found = [_look(attributes) for attributes in _inspect_all(client)]
    return sorted(found, key=lambda one: (not one.is_engine, one.model, one.replica, one.service))


def last_lines(client: docker.DockerClient, container: Container, count: int) -> list[str]:
    """The container's own last words; a line of JSON as the text that it stands for."""
    try:
        text = client.containers.get(container.identity).logs(tail=count, stream=False)
    except docker.errors.APIError:
        return []
    lines = text.decode(errors="replace").splitlines() if isinstance(text, bytes) else []
    return [said for line in lines for said in plain(line).split("\n")]


def engine_metrics(client: docker.DockerClient, container: Container) -> str | None:
    """The engine's /metrics, asked for inside its container; None if it does not answer."""
    try:
        done = client.containers.get(container.identity).exec_run([*HEALTH_PROGRAM, "metrics"], stderr=False)
    except (docker.errors.APIError, requests.exceptions.RequestException):
        return None
    return done.output.decode() if done.exit_code == 0 and isinstance(done.output, bytes) else None


def warm_engine(client: docker.DockerClient, container: Container) -> str:
    """One token from the engine, asked for inside its container. Empty, or what it said instead."""
    try:
        done = client.containers.get(container.identity).exec_run([*HEALTH_PROGRAM, "warm", container.model])
    except (docker.errors.APIError, requests.exceptions.RequestException) as error:
        return str(error)
    output = done.output.decode(errors="replace").strip() if isinstance(done.output, bytes) else ""
    return "" if done.exit_code == 0 else output or "no answer"


def _inspect_all(client: docker.DockerClient) -> Iterator[dict[str, Any]]:
    filters = {"label": [f"com.docker.compose.project={compose_project_name()}", "com.docker.compose.oneoff=False"]}
    for summary in client.api.containers(all=True, filters=filters):
        try:
            yield client.api.inspect_container(summary["Id"])
        except docker.errors.NotFound:
            continue  # removed between the two calls


def _look(attributes: dict[str, Any]) -> Container:
    labels = attributes["Config"]["Labels"]
    state = attributes["State"]
    health = state.get("Health") or {}
    checks = health.get("Log") or []
    return Container(
        service=labels.get("com.docker.compose.service", ""),
        identity=attributes["Id"],
        model=labels.get("vllmstack.model", ""),
        replica=int(labels.get("vllmstack.replica", 0)),
        preloads=labels.get("vllmstack.preload", ""),
        gpus=labels.get("vllmstack.gpus", ""),
        status=state["Status"],
        health=health.get("Status", ""),
        health_line=checks[-1]["Output"].strip() if checks else "",
        restarts=attributes.get("RestartCount", 0),
        exit_code=state.get("ExitCode", 0),
        out_of_memory=bool(state.get("OOMKilled")),
        host_ports=tuple(
            int(binding["HostPort"])
            for bindings in (attributes["HostConfig"].get("PortBindings") or {}).values()
            for binding in bindings
            if binding["HostPort"]
        ),
        digest=labels.get("vllmstack.config", ""),
        image=attributes.get("Image", ""),
        started_at=state.get("StartedAt", ""),
        stop_seconds=attributes["Config"].get("StopTimeout") or 10,
        startup_seconds=(attributes["Config"].get("Healthcheck") or {}).get("StartPeriod", 0) // 1_000_000_000,
    )
