"""The gateway's own control: which replicas get requests, and taking one out and back in.

`gateway-control` runs inside the gateway's container and reaches a port that nothing else does.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import requests.exceptions

from vllmstack.errors import Problem, StackError
from vllmstack.host.containers import containers

PROGRAM = "gateway-control"
SERVICE = "gateway"
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
"""Docker has started a killed gateway again by then."""


@dataclass(frozen=True, kw_only=True)
class ReplicaState:
    """A replica as the gateway sees it."""

    replica: str
    model: str
    state: str
    """unknown, starting, serving, draining, hung or dead."""
    detail: str
    in_flight: int


class _AwayError(StackError):
    """The gateway does not answer just now."""


class GatewayControl:
    """Asks the running gateway.

    Every method raises StackError if there is none, or if it refuses.
    """

    def __init__(self, client: docker.DockerClient, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._client = client
        self._patience_seconds = patience_seconds

    def replicas(self) -> dict[str, ReplicaState]:
        """All that the gateway knows, by service."""
        return {one.replica: one for one in map(_state, self._ask("replicas")["replicas"])}

    def drain(self, replica: str) -> ReplicaState:
        """No new request for it from now on, until :meth:`resume`; what is in flight goes on."""
        return _state(self._ask("drain", replica))

    def resume(self, replica: str) -> ReplicaState:
        """Requests for it again, once it has answered one token."""
        return _state(self._ask("resume", replica))

    def _ask(self, *arguments: str) -> dict[str, Any]:
        """The program's answer; from a gateway that was killed and is coming back, a little later."""
        deadline = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._ask_once(*arguments)
            except _AwayError as error:
                if time.monotonic() >= deadline:
                    raise StackError(error.problems) from None
            time.sleep(POLL_SECONDS)

    def _ask_once(self, *arguments: str) -> dict[str, Any]:
        container = next((one for one in containers(self._client) if one.service == SERVICE), None)
        if container is None or container.status != "running":
            raise _AwayError(_problem("does not run", hint="run `vllmstack up`"))
        try:
            done = self._client.containers.get(container.identity).exec_run([PROGRAM, *arguments])
        except (docker.errors.APIError, requests.exceptions.RequestException) as error:
            raise _AwayError(_problem(f"cannot be asked: {error}")) from None
        asked = " ".join((PROGRAM, *arguments))
        said = done.output.decode(errors="replace").strip() if isinstance(done.output, bytes) else ""
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:  # nginx does not listen yet, or not any more
            raise _AwayError(_problem(f"{asked} said {said[-200:]!r}, which is no JSON")) from None
        if done.exit_code != 0:
            raise StackError(_problem(f"{asked}: {answer.get('error', said)}"))
        return answer


def _state(answer: dict[str, Any]) -> ReplicaState:
    return ReplicaState(
        replica=answer["replica"],
        model=answer["model"],
        state=answer["state"],
        detail=answer.get("detail") or "",
        in_flight=int(answer["in_flight"]),
    )


def _problem(fact: str, hint: str = "see `vllmstack logs gateway`") -> Problem:
    return Problem(file=SERVICE, fact=fact, hint=hint)
