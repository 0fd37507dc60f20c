"""The load test's web UI: Locust in the service `loadtest`, with more senders where they are asked for."""

import hashlib
from pathlib import Path

import docker

from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.compose import Compose
from vllmstack.host.containers import containers, last_lines
from vllmstack.host.engine_addresses import HOST_STACK_FILE
from vllmstack.host.loadtest_container import WORKER_SERVICE, loadtest_compose, running_stack
from vllmstack.host.running import running_deployment
from vllmstack.project import Project

SERVICE = "loadtest"
LOOPBACK = "127.0.0.1"
PUBLISHED = f"{LOOPBACK}:8089"
"""Where the web UI is published if nobody says otherwise; Locust's own port."""
MASTER_PORT = 5557
"""Locust's, for workers on other hosts."""
MASTER_OVERRIDE = Path("docker") / "loadtest" / "published-master.yaml"
START_SECONDS = 90
QUOTED_LINES = 12


def open_web_ui(
    project: Project,
    *,
    publish: str = PUBLISHED,
    processes: int = 1,
    workers: int = 0,
    publish_master: str | None = None,
) -> str:
    """Starts the web UI and returns its URL. What already runs goes on if nothing of it has changed.

    ``processes`` send in its own container, or, with ``workers``, that many containers; ``publish_master``
    (ADDRESS:PORT) lets workers on other hosts in.

    Raises:
        HostError: the stack is not up, the port is taken, or Locust does not start; with its last words.
        InvalidInput: an address that is none.
    """
    address, port = published_at(publish)
    client = running_stack()
    distributed = workers > 0 or publish_master is not None
    variables = {
        "VLLMSTACK_LOADTEST_PUBLISH": f"{address}:{port}",
        "VLLMSTACK_LOADTEST_MODE": _mode(processes, distributed=distributed),
        "VLLMSTACK_LOADTEST_DIGEST": _digest(project),
    }
    overrides: list[Path] = []
    if publish_master is not None:
        variables["VLLMSTACK_LOADTEST_MASTER_PUBLISH"] = ":".join(map(str, published_at(publish_master)))
        overrides = [project.root / MASTER_OVERRIDE]
    compose = loadtest_compose(project, client, variables, overrides=overrides)
    if not workers:
        _remove(compose, client, {WORKER_SERVICE})
    services = [SERVICE] + ([WORKER_SERVICE] if workers else [])
    scale = ["--scale", f"{WORKER_SERVICE}={workers}"] if workers else []
    wait = ["--wait", "--wait-timeout", str(START_SECONDS)]
    try:
        compose.run("up", "--detach", "--no-deps", *wait, *scale, *services, doing="starting the load test's web UI")
    except HostError as error:
        said = _last_words(client)
        _remove(compose, client, {SERVICE, WORKER_SERVICE})
        raise _with(error, said) from None
    return f"http://{_reachable(address)}:{port}/"


def close_web_ui(compose: Compose, client: docker.DockerClient) -> bool:
    """Stops it and its workers, of whichever deployment; False if there was nothing to stop."""
    return _remove(compose, client, {SERVICE, WORKER_SERVICE})


def published_at(text: str) -> tuple[str, int]:
    """Address and port of ``ADDRESS:PORT`` or ``PORT``, which is on the loopback address.

    Raises:
        InvalidInput: it is neither.
    """
    address, _, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536 or (":" in address and not address.startswith("[")):
        raise InvalidInput(
            Problem(fact=f"{text!r} is no address to publish on", hint=f"write ADDRESS:PORT, such as {PUBLISHED}")
        )
    return address or LOOPBACK, int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches it."""
    return address.startswith("127.") or address in ("[::1]", "localhost")


def _reachable(address: str) -> str:
    """Where a browser on this host finds what is published there."""
    return LOOPBACK if address in ("0.0.0.0", "[::]") else address  # noqa: S104 - compared, not bound


def _mode(processes: int, *, distributed: bool) -> str:
    """Locust's own options."""
    if distributed:
        return "--master"
    return f"--processes {processes}" if processes > 1 else ""


def _digest(project: Project) -> str:
    """Of all that is mounted and read only at the start: a changed scenario makes a new container."""
    digest = hashlib.sha256()
    state = project.rendered(running_deployment(project)) / "loadtest"
    for folder in (project.root / "loadtest", project.root / "vllmstack", state):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.name != Path(HOST_STACK_FILE).name:
                digest.update(str(file).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _remove(compose: Compose, client: docker.DockerClient, services: set[str]) -> bool:
    there = sorted(services & {one.service for one in containers(client)})
    if there:
        compose.run("rm", "--stop", "--force", *there, doing=f"removing {', '.join(there)}")
    return bool(there)


def _last_words(client: docker.DockerClient) -> list[str]:
    lines = [line for one in containers(client) if one.service == SERVICE for line in last_lines(client, one, 50)]
    return [line for line in lines if line.strip()][-QUOTED_LINES:]


def _with(error: HostError, said: list[str]) -> HostError:
    """Compose says that a container did not come up; why, only the container says."""
    problem = error.problems[0]
    quoted = "\n".join(f"    {line[:300]}" for line in said)
    fact = f"{problem.fact}\n  the container's last words:\n{quoted}" if said else problem.fact
    return HostError(Problem(fact=fact, hint="mend what the lines name, then run `vllmstack load` again"))
