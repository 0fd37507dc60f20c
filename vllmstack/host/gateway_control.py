"""The gateway's own control: which replicas get requests, and taking one out and back in.

`gateway-control` runs inside the gateway's container and reaches a port that nothing else does.
"""

import json
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import requests.exceptions

from vllmstack.errors import Problem, StackError
from vllmstack.host.containers import containers

PROGRAM = "gateway-control"
SERVICE = "gateway"


@dataclass(frozen=True, kw_only=True)
class ReplicaState:
    """A replica as the gateway sees it."""

    replica: str
    model: str
    state: str
    """unknown, starting, serving, draining, hung or dead."""
    detail: str
    in_flight: int


class GatewayControl:
    """Asks the running gateway.

    Every method raises StackError if there is none, or if it refuses.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

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
        container = next((one for one in containers(self._client) if one.service == SERVICE), None)
        if container is None or container.status != "running":
            raise _complaint("does not run", hint="run `vllmstack up`")
        try:
            done = self._client.containers.get(container.identity).exec_run([PROGRAM, *arguments])
        except (docker.errors.APIError, requests.exceptions.RequestException) as error:
            raise _complaint(f"cannot be asked: {error}") from None
        said = done.output.decode(errors="replace").strip() if isinstance(done.output, bytes) else ""
        if done.exit_code != 0:
            raise _complaint(f"{PROGRAM} {' '.join(arguments)}: {said[-500:] or f'exit {done.exit_code}'}")
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError:
            raise _complaint(f"{PROGRAM} {' '.join(arguments)} said {said[:200]!r}, which is no JSON") from None
        return answer


def _state(answer: dict[str, Any]) -> ReplicaState:
    return ReplicaState(
        replica=answer["replica"],
        model=answer["model"],
        state=answer["state"],
        detail=answer.get("detail") or "",
        in_flight=int(answer["in_flight"]),
    )


def _complaint(fact: str, hint: str = "see `vllmstack logs gateway`") -> StackError:
    return StackError(Problem(file=SERVICE, fact=fact, hint=hint))
