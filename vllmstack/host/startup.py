"""Waiting for the stack to come up: what each engine is doing, read off its log, and why one failed."""

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker

from vllmstack.errors import Problem, StackError
from vllmstack.host.containers import Container, containers, last_lines, warm_engine
from vllmstack.host.request_logs import moment
from vllmstack.log_lines import telling

POLL_SECONDS = 1.0
LOG_LINES = 60
LOGS = ".vllmstack/.logs"
"""What containers said that did not come up; they are removed."""

# vLLM's own log lines, 0.26 to 0.32, the latest phase first.
STARTED = re.compile(r"Application startup complete|Uvicorn running")
PHASES = (
    (STARTED, "serving"),
    (re.compile(r"Starting vLLM (API )?server|Warming up|Supported tasks"), "warming"),
    (re.compile(r"Capturing (CUDA|cudagraph)|Graph capturing"), "capturing CUDA graphs"),
    (re.compile(r"GPU KV cache size|Available KV cache memory|CPU KV cache"), "making the KV cache"),
    (re.compile(r"torch\.compile (takes|took)|Dynamo bytecode|Compiling a graph|Start compiling"), "compiling"),
    (re.compile(r"Loading weights took|Model loading took"), "profiling memory"),
    (re.compile(r"Starting to load model|Loading safetensors|Time spent downloading"), "loading weights"),
)
KEPT_LINES = 10_000


def phase(log: list[str]) -> str:
    """What the engine does, by the last telling line of its log."""
    for line in reversed(log):
        for pattern, name in PHASES:
            if pattern.search(line):
                return name
    return "starting"


def await_stack(
    client: docker.DockerClient,
    compose: "subprocess.Popen[bytes]",
    compose_log: Path,
    before: Mapping[str, int],
    show: Callable[[list[tuple[Container, str]]], None],
) -> None:
    """Returns when Compose says that every service is healthy.

    ``before`` has the restarts of each container that was there before Compose began, by identity: Compose stops and
    removes those that it replaces. ``show`` is called about once a second with each container and its phase.

    Raises:
        StackError: an engine stopped or was restarted (with vLLM's own last lines), or Compose gave up.
    """
    while True:
        ended = compose.poll()
        seen = containers(client)
        show([(one, _phase_of(client, one)) for one in seen])
        failed = [one for one in seen if _has_failed(one, before)]
        if failed:
            end(compose)
            raise StackError([_explain(client, one) for one in failed])
        if ended == 0:
            return
        if ended is not None:
            tail = "\n".join(f"    {line}" for line in compose_log.read_text(errors="replace").splitlines()[-8:])
            raise StackError(Problem(fact=f"docker compose up failed:\n{tail}", hint="see .vllmstack/.logs/"))
        time.sleep(POLL_SECONDS)


def await_service(
    client: docker.DockerClient, service: str, show: Callable[[list[tuple[Container, str]]], None]
) -> Container:
    """Returns one service's container, just made, once it is healthy. ``show`` is as in :func:`await_stack`.

    Raises:
        StackError: it stopped or was restarted (with its own last lines), is gone, or took longer than it may.
    """
    while True:
        one = next((one for one in containers(client) if one.service == service), None)
        if one is None:
            raise StackError(
                Problem(file=service, fact="its container is gone", hint="see who removed it: `docker events`")
            )
        show([(one, _phase_of(client, one))])
        if _has_failed(one, {}) or one.health == "unhealthy":
            raise StackError([_explain(client, one)])
        if one.status == "running" and one.health == "healthy":
            return one
        time.sleep(POLL_SECONDS)


def last_start_seconds(client: docker.DockerClient, container: Container) -> float | None:
    """From the engine's start to its "Application startup complete", by its log; None if that does not say."""
    try:
        started = moment(container.started_at)
        text = client.containers.get(container.identity).logs(
            since=started, until=started + max(container.startup_seconds, 60), timestamps=True, stream=False
        )
    except (docker.errors.APIError, ValueError):
        return None
    for line in text.decode(errors="replace").splitlines():
        stamp, _, said = line.partition(" ")
        if STARTED.search(said):
            return moment(stamp) - started
    return None


def warm_stack(client: docker.DockerClient) -> None:
    """One token from every engine, all at once.

    Raises:
        StackError: engines that are healthy and yet do not answer, each with what it said.
    """
    engines = [one for one in containers(client) if one.is_engine]
    with ThreadPoolExecutor(max_workers=max(1, len(engines))) as pool:
        complaints = list(pool.map(lambda one: warm_engine(client, one), engines))
    failed = [(one, complaint) for one, complaint in zip(engines, complaints, strict=True) if complaint]
    if failed:
        raise StackError(
            [
                Problem(
                    file=one.service,
                    fact=f"answers no request: {complaint}",
                    hint=f"see .vllmstack/.logs/{one.service}.log",
                )
                for one, complaint in failed
            ]
        )


def _phase_of(client: docker.DockerClient, container: Container) -> str:
    if not container.is_engine or container.status != "running" or container.state != "loading":
        return container.state
    return phase(last_lines(client, container, LOG_LINES))


def _has_failed(container: Container, before: Mapping[str, int]) -> bool:
    """An engine is restarted by Docker when it dies: one restart during its start is a failed start."""
    if container.status in ("exited", "dead"):
        return container.identity not in before and not container.is_done
    return container.restarts > before.get(container.identity, 0)


def keep_logs(client: docker.DockerClient, folder: Path) -> None:
    """What every container of the stack said, a file a service: those that failed are about to be removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in containers(client):
        (folder / f"{one.service}.log").write_text("\n".join(last_lines(client, one, KEPT_LINES)) + "\n")


def _explain(client: docker.DockerClient, container: Container) -> Problem:
    quoted = "\n".join(f"    {line}" for line in telling(last_lines(client, container, 200)))
    if container.status == "running" and not container.restarts:
        said = f"the container does not become healthy ({container.health_line or 'no word'}); its last words:"
        return Problem(
            file=container.service,
            fact=f"{said}\n{quoted}",
            hint="raise `startup_seconds` in the deployment if it only needs more time",
        )
    reason = "was killed: out of memory" if container.out_of_memory else f"stopped (exit {container.exit_code})"
    return Problem(
        file=container.service,
        fact=f"the container {reason} while starting; its last words:\n{quoted}",
        hint="raise `memory_gib` in the deployment"
        if container.out_of_memory
        else "mend the option that the lines name, under `serve:` in the deployment, and run `vllmstack plan`",
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that still runs, by force after 20 s."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
