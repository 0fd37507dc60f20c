"""The steps of a roll, one after the other; one that fails is undone, and what serves goes on serving."""

from collections.abc import Callable, Sequence

import docker

from vllmstack.console import step, warn
from vllmstack.errors import StackError, VllmstackError
from vllmstack.host.compose import Compose
from vllmstack.host.containers import containers
from vllmstack.host.gateway_control import GatewayControl
from vllmstack.host.gateway_reload import check_configuration, reload_gateway
from vllmstack.host.preloading import preload, told_now_and_then
from vllmstack.host.rendered_change import RenderedChange
from vllmstack.host.replica_roll import ReplicaRoll
from vllmstack.host.startup import LOGS, keep_logs
from vllmstack.project import Project
from vllmstack.rolling.steps import Action, Step

GATEWAY_SECONDS = 60
OTHERS_SECONDS = 120

_BEFORE_THE_FILES_ARE_FINAL = {
    *(Action.PRELOAD, Action.NEW_GATEWAY, Action.START, Action.REPLACE, Action.STOP, Action.DRAIN, Action.RELOAD),
}


class StackRoll:
    """Carries out steps on the running stack. Without a ``change`` its files stay as they are."""

    def __init__(
        self,
        project: Project,
        compose: Compose,
        client: docker.DockerClient,
        *,
        change: RenderedChange | None = None,
    ) -> None:
        self._project = project
        self._compose = compose
        self._client = client
        self._change = change
        self._control = GatewayControl(client)
        self._replica = ReplicaRoll(compose, client, self._control)
        self._added: list[str] = []
        """Started, and not known to the gateway yet."""
        self._drained: list[str] = []
        """Taken out at the gateway, to be put back."""
        self._gone: dict[str, Step] = {}
        """Stopped, and nothing has taken their place yet."""
        self._taken_gpus: set[int] = set()
        """Of replicas that were replaced and serve."""
        self._reloaded = False
        self._final = change is None

    def run(self, steps: Sequence[Step]) -> None:
        """Every step in turn.

        Raises:
            StackError: one failed, with the engine's own last lines; it was undone, and what was done before it stays.
            HostError: Docker or Compose did.
        """
        served = {one.service for one in containers(self._client) if one.health == "healthy"}
        left = list(steps)
        try:
            if self._change:
                self._change.offer_engines()
            while left:
                self._settle(left)
                self._carry_out(left[0])
                left.pop(0)
            self._settle(left)
        except BaseException as error:
            self._give_up(error, left, served)
            raise

    def _settle(self, left: Sequence[Step]) -> None:
        """Once nothing is ahead that might have to be undone, the files are what was asked for."""
        if self._change and not self._final and not any(one.action in _BEFORE_THE_FILES_ARE_FINAL for one in left):
            self._change.finish()
            self._final = True
            self._added.clear()
            self._drained.clear()
            self._gone.clear()

    def _carry_out(self, one: Step) -> None:
        match one.action:
            case Action.PRELOAD:
                preload(self._compose, self._client, [one.service], told_now_and_then())
            case Action.START:
                self._start(one.service)
            case Action.REPLACE:
                self._drain(one.service)
                self._gone[one.service] = one
                self._replica.stop(one.service)
                self._replica.start(one.service)
                self._replica.admit(one.service)
                del self._gone[one.service]
                self._drained.remove(one.service)
                self._taken_gpus.update(one.gpu_ids)
            case Action.STOP:
                self._drain(one.service)
                self._gone[one.service] = one
                self._replica.stop(one.service)
            case Action.DRAIN:
                self._drain(one.service)
            case Action.REMOVE:
                if not self._final:
                    self._drain(one.service)
                    self._gone[one.service] = one
                self._replica.remove(one.service)
            case Action.NEW_GATEWAY:
                self._new_gateway()
            case Action.RELOAD:
                self._reload()
            case Action.RENEW:
                step(str(one))
                self._up(one.service, OTHERS_SECONDS)

    def _drain(self, service: str) -> None:
        if service not in self._drained:
            self._drained.append(service)
        self._replica.drain(service)

    def _start(self, service: str) -> None:
        self._added.append(service)
        self._replica.start(service)
        # One whose container was removed by hand is known already.
        if service in self._control.replicas():
            self._replica.admit(service)
            self._added.remove(service)

    def _new_gateway(self) -> None:
        step("new container for the gateway: it answers nobody for some seconds")
        if self._change:
            self._change.offer_gateway()
        self._up("gateway", GATEWAY_SECONDS, "--force-recreate")
        if self._change:
            self._change.keep_gateway()

    def _reload(self) -> None:
        if self._change:
            self._change.offer_gateway()
        check_configuration(self._client)
        self._reloaded = True
        reload_gateway(self._client)
        step("         gateway: reloaded")
        for service in self._added:
            # One of this name may have been drained before it was removed.
            self._replica.resume(service)
        self._replica.await_serving(self._added)
        for service in self._added:
            step(f"         {service}: serving")
        if self._change:
            self._change.keep_gateway()
        self._reloaded = False
        self._added.clear()
        self._drained.clear()
        self._gone.clear()

    def _up(self, service: str, seconds: int, *options: str) -> None:
        wait = ["--wait", "--wait-timeout", str(seconds)]
        self._compose.run(
            "up", "--detach", "--no-deps", *options, *wait, service, doing=f"making a new container for {service}"
        )

    def _give_up(self, error: BaseException, left: Sequence[Step], served: set[str]) -> None:
        """Undoes what the step did that is first in ``left``, and says what is left to do."""
        if isinstance(error, StackError):
            keep_logs(self._client, self._project.root / LOGS)
            step(f"what the containers said is in {LOGS}/")
        self._put_back(error, left[0] if left else None, served)
        if left:
            warn("what serves goes on serving; not done:")
            for one in left:
                warn(f"  {one}")

    def _put_back(self, error: BaseException, failed: Step | None, served: set[str]) -> None:
        """As much of it as can be: what serves matters more than why one part cannot be undone."""
        for service in self._added:
            _attempt(self._replica.remove, service)
        if self._change and not self._final:
            _attempt(self._change.put_back)
            if self._reloaded:
                _attempt(reload_gateway, self._client)
            if failed and failed.action is Action.NEW_GATEWAY:
                _attempt(self._up, "gateway", GATEWAY_SECONDS, "--force-recreate")
        remade = [one.service for one in self._gone.values() if self._can_be_remade(one, error)]
        for service in remade:
            step(f"putting {service} back")
            _attempt(self._replica.make, service)
        for service in self._drained:
            # The gateway takes it in by itself as soon as it answers.
            _attempt(self._replica.resume, service)
        if isinstance(error, VllmstackError):
            # After Ctrl-C nobody waits.
            _attempt(self._replica.await_back, [service for service in remade if service in served])

    def _can_be_remade(self, one: Step, error: BaseException) -> bool:
        if self._change is None and isinstance(error, VllmstackError):
            # As it failed just now it would fail again; Docker goes on trying, and the gateway lets it in.
            return False
        if one.action is not Action.REPLACE and self._taken_gpus & set(one.gpu_ids):
            warn(f"{one.service} stays down: its GPUs are another one's by now")
            return False
        return True


def _attempt(action: Callable[..., object], *arguments: object) -> None:
    """Undoes a part; that it could not be undone is a line."""
    try:
        action(*arguments)
    except VllmstackError as problem:
        warn(str(problem))
