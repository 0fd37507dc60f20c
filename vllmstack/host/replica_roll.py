"""One replica out of service and back in, without a request that fails: each part is a line with its seconds."""

import time
from collections.abc import Callable, Iterable

import docker
import docker.errors
import requests.exceptions

from vllmstack.console import step, warn
from vllmstack.errors import Problem, StackError
from vllmstack.host.compose import Compose
from vllmstack.host.containers import Container, containers, warm_engine
from vllmstack.host.gateway_control import GatewayControl, ReplicaState
from vllmstack.host.startup import await_service
from vllmstack.render.engines import GRACE_SECONDS

POLL_SECONDS = 0.5
IDLE_STOP_SECONDS = 10
"""What an engine gets that has nothing in flight: its teardown takes up to 30 s on busy cores, for nobody."""
SERVING_SECONDS = 60.0
"""How long the gateway may take to hear one token from a replica that is healthy, and to take it in."""


class ReplicaRoll:
    """The parts of a roll, each for one service."""

    def __init__(self, compose: Compose, client: docker.DockerClient, control: GatewayControl) -> None:
        self._compose = compose
        self._client = client
        self._control = control
        self._idle: set[str] = set()
        """Containers that were drained to the last request."""

    def find(self, service: str) -> Container | None:
        """The service's container, whatever it does."""
        return next((one for one in containers(self._client) if one.service == service), None)

    def drain(self, service: str) -> None:
        """No new requests; returns when none is in flight, or after the replica's own drain time."""
        one = self.find(service)
        if one is None or one.status != "running" or service not in self._control.replicas():
            return
        started = time.monotonic()
        self._control.drain(service)
        patience = max(0, one.stop_seconds - GRACE_SECONDS)
        left = self._await(self._control.replicas, lambda seen: _in_flight(seen, service) == 0, seconds=patience)
        if (count := _in_flight(left, service)) > 0:
            say = "request is" if count == 1 else "requests are"
            told(started, service, f"draining: {count} {say} still in flight, and the engine goes on with them")
        else:
            self._idle.add(one.identity)
            told(started, service, "drained")

    def stop(self, service: str) -> None:
        """Ends what runs; the engine lets requests in flight end, for its drain time at most."""
        one = self.find(service)
        if one is None or one.status not in ("running", "restarting", "paused"):
            return
        started = time.monotonic()
        grace = min(one.stop_seconds, IDLE_STOP_SECONDS) if one.identity in self._idle else one.stop_seconds
        self._docker(service, lambda: self._client.containers.get(one.identity).stop(timeout=grace))
        told(started, service, "stopped")

    def start(self, service: str) -> None:
        """A new container from the rendered files; returns when it is healthy and has made one token.

        Raises:
            StackError: it did not come up, with its own last lines, or gave no token.
        """
        started = time.monotonic()
        self.make(service)
        phases: list[str] = []

        def show(seen: list[tuple[Container, str]]) -> None:
            for _, phase in seen:
                if phases[-1:] != [phase]:
                    phases.append(phase)
                    told(started, service, phase)

        one = await_service(self._client, service, show)
        warming = time.monotonic()
        if complaint := warm_engine(self._client, one):
            raise StackError(
                Problem(
                    file=service,
                    fact=f"answers no request: {complaint}",
                    hint=f"see .vllmstack/.logs/{service}.log",
                )
            )
        told(warming, service, "one token made")

    def make(self, service: str) -> None:
        """A new container, started; nobody waits for it."""
        arguments = ["up", "--detach", "--no-deps", "--force-recreate", service]
        self._compose.run(*arguments, doing=f"making a new container for {service}")

    def admit(self, service: str) -> None:
        """Back in at the gateway; returns when requests go there.

        Raises:
            StackError: the gateway does not take it in, with what it says of it.
        """
        started = time.monotonic()
        if self.resume(service):
            self.await_serving([service])
            told(started, service, "serving")

    def resume(self, service: str) -> bool:
        """Lets the gateway take it in as soon as it answers; False if the gateway does not know it."""
        if service not in self._control.replicas():
            return False
        self._control.resume(service)
        return True

    def await_serving(self, services: Iterable[str]) -> None:
        """Returns when the gateway sends requests to all of them.

        Raises:
            StackError: it does not, with what it says of each.
        """
        wanted = list(services)
        seen = self._await(
            self._control.replicas,
            lambda seen: all(one in seen and seen[one].state == "serving" for one in wanted),
            seconds=SERVING_SECONDS,
        )
        problems = [
            Problem(
                file=one,
                fact=f"the gateway does not take it in: {_described(seen.get(one))}",
                hint="see `vllmstack logs gateway`",
            )
            for one in wanted
            if one not in seen or seen[one].state != "serving"
        ]
        if problems:
            raise StackError(problems)

    def await_back(self, services: Iterable[str]) -> None:
        """Returns when each of these is healthy and serves again, as it did before.

        Raises:
            StackError: one does not.
        """
        for service in services:
            started = time.monotonic()
            await_service(self._client, service, lambda _: None)
            self.await_serving([service])
            told(started, service, "serves again as it did before")

    def remove(self, service: str) -> None:
        """Stops and removes the container; its volumes are everybody's and stay."""
        self.stop(service)
        if (one := self.find(service)) is not None:
            self._docker(service, lambda: self._client.containers.get(one.identity).remove(force=True))
            step(f"         {service}: removed")

    def _await(
        self,
        look: Callable[[], dict[str, ReplicaState]],
        good: Callable[[dict[str, ReplicaState]], bool],
        *,
        seconds: float,
    ) -> dict[str, ReplicaState]:
        """What the gateway says once it is good, or after so many seconds; a gateway that restarts is asked again."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                seen = look()
            except StackError:
                if time.monotonic() >= deadline:
                    raise
            else:
                if good(seen) or time.monotonic() >= deadline:
                    return seen
            time.sleep(POLL_SECONDS)

    def _docker(self, service: str, action: Callable[[], object]) -> None:
        try:
            action()
        except docker.errors.NotFound:
            warn(f"{service}: its container was removed by somebody else")
        except (docker.errors.APIError, requests.exceptions.RequestException) as error:
            raise StackError(
                Problem(file=service, fact=f"Docker could not do it: {error}", hint="see `docker ps` and Docker's log")
            ) from None


def told(started: float, service: str, what: str) -> None:
    """One line: what was reached, and how long it took."""
    step(f"{time.monotonic() - started:6.1f} s {service}: {what}")


def _in_flight(seen: dict[str, ReplicaState], service: str) -> int:
    return seen[service].in_flight if service in seen else 0


def _described(one: ReplicaState | None) -> str:
    if one is None:
        return "it does not know it"
    return f"{one.state}, {one.detail}" if one.detail else one.state
