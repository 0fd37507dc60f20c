"""Models into the volume before engines start: the preload services of a deployment, one after the other."""

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import docker
import docker.errors
import requests.exceptions

from vllmstack.console import step
from vllmstack.errors import Problem, StackError
from vllmstack.host.compose import Compose
from vllmstack.host.containers import containers

Show = Callable[[dict[str, Any]], None]
"""Is called with each line of the container: see ``vllmstack.hub.__main__``."""
LINE_SECONDS = 10.0
STOP_SECONDS = 5
LAST_LINES = 6


@dataclass(kw_only=True)
class Said:
    """What a container of docker/models said until its end."""

    status: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    leftovers: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def preload(compose: Compose, client: docker.DockerClient, services: Sequence[str], show: Show) -> None:
    """Returns when the files of every service's model are in the volume, whole and checked.

    Raises:
        StackError: the hub, the network or the disk failed; what has come stays, and the next time goes on from there.
        HostError: Compose or Docker did.
    """
    for service in services:
        compose.run("up", "--detach", "--no-deps", "--force-recreate", service, doing=f"starting {service}")
        one = next((one for one in containers(client) if one.service == service), None)
        if one is None:
            fact = "its container is gone"
            raise StackError(Problem(file=service, fact=fact, hint="see who removed it: `docker events`"))
        try:
            said = follow(client, one.identity, service, show)
        except BaseException:
            _remove(client, one.identity)
            raise
        if said.problems:
            _remove(client, one.identity)
            raise StackError(said.problems)


def remove_preloads(client: docker.DockerClient) -> None:
    """Removes the containers of preloads that are done: they hold nothing, and their models may be gone."""
    for one in containers(client):
        if one.is_done:
            _remove(client, one.identity)


def follow(client: docker.DockerClient, identity: str, name: str, show: Show) -> Said:
    """What the container says, as it says it, until its end; one that failed has at least one Problem.

    An interruption stops the container.

    Raises:
        StackError: it is gone, or Docker does not answer.
    """
    said, last = Said(), deque[str](maxlen=LAST_LINES)
    try:
        container = client.containers.get(identity)
        for text in _lines(container.logs(stream=True, follow=True)):
            line = _parsed(text)
            show(line)
            last.append(str(line["message"]))
            for key, kept in (("result", said.results), ("leftover", said.leftovers)):
                if key in line:
                    kept.append(line[key])
            if "problem" in line:
                said.problems.append(Problem(**line["problem"]))
        said.status = int(container.wait()["StatusCode"])
    except (docker.errors.APIError, requests.exceptions.RequestException) as error:
        hint = "see `docker events`; what has come stays, and the next time goes on from there"
        raise StackError(Problem(file=name, fact=f"Docker lost its container: {error}", hint=hint)) from None
    except BaseException:
        with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
            client.containers.get(identity).stop(timeout=STOP_SECONDS)
        raise
    if said.status and not said.problems:
        words = "\n".join(f"    {line[:300]}" for line in last)
        fact = f"the container stopped (exit {said.status}); its last words:\n{words}"
        said.problems.append(Problem(file=name, fact=fact, hint="137 is a kill: by `docker kill`, or out of memory"))
    return said


def told_now_and_then() -> Show:
    """For those who look at lines: what is said, and of bytes that come a line every ten seconds."""
    told = time.monotonic()

    def show(line: dict[str, Any]) -> None:
        nonlocal told
        now = time.monotonic()
        if "problem" in line or ("progress" in line and now - told < LINE_SECONDS):
            return
        told = now
        step(str(line["message"]))

    return show


def _lines(chunks: Any) -> Iterator[str]:
    """A long line comes in several chunks, and several short ones may come in one."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole if line.strip())
    if rest.strip():
        yield rest.decode(errors="replace")


def _parsed(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        line = json.loads(text)
        if isinstance(line, dict) and "message" in line:
            return line
    return {"message": text}


def _remove(client: docker.DockerClient, identity: str) -> None:
    with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
        client.containers.get(identity).remove(force=True)
