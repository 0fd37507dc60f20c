"""From what runs to what is wanted: the steps, in an order in which the stack serves all the time.

    preload                  of models whose replicas are made or replaced
    new gateway container    then, where nothing less will do: what it takes is needed by the rest
    new and changed replicas one at a time; those that do not serve before those that do
    drain                    replicas that are to go, of models that stay
    reload the gateway       it learns of new replicas and models, and forgets those that are to go
    remove                   what nothing is sent to any more
    other services           Prometheus, Grafana

A replica whose GPUs another one still holds comes after that one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class RunningReplica:
    """An engine's container, as it is."""

    service: str
    model: str
    digest: str
    """Of all that the deployment decides about the container."""
    image: str
    """The image's id."""
    gpu_ids: tuple[int, ...] = ()
    complaint: str = ""
    """Why it cannot serve as it is, after "it": "is stopped". Empty: it serves, or is about to."""


@dataclass(frozen=True, kw_only=True)
class WantedReplica:
    """An engine's container, as the deployment wants it."""

    service: str
    model: str
    digest: str
    image: str
    """The image's id; empty while the image is not on this machine."""
    gpu_ids: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OtherChange:
    """A service that is no engine: made or made anew, or removed."""

    service: str
    reason: str
    removed: bool = False


class Action(StrEnum):
    """What a step does."""

    PRELOAD = "preload"
    """Brings a model's files into the volume: nothing that serves is touched before they are all there."""
    NEW_GATEWAY = "new gateway"
    START = "start"
    REPLACE = "replace"
    STOP = "stop"
    """Only stopped: a later step starts it on other GPUs."""
    DRAIN = "drain"
    RELOAD = "reload"
    REMOVE = "remove"
    RENEW = "renew"
    """A service that is no engine."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step. ``service`` is the one that it is about."""

    action: Action
    service: str
    reason: str
    model: str = ""
    """Of an engine."""
    gpu_ids: tuple[int, ...] = ()
    """That an engine has after a start, or gives back."""

    def __str__(self) -> str:
        """One line for a person."""
        verb = {
            Action.NEW_GATEWAY: f"new container for {self.service}",
            Action.RELOAD: f"reload {self.service}",
            Action.RENEW: f"new container for {self.service}",
        }.get(self.action, f"{self.action.value} {self.service}")
        return f"{verb}: {self.reason}"


NEW_REPLICA = "it is new"
NO_LONGER = "the deployment has it no longer"


def replica_steps(
    running: Sequence[RunningReplica], wanted: Sequence[WantedReplica], differences: Mapping[str, str]
) -> tuple[list[Step], list[Step]]:
    """The steps that make and replace replicas, and the removals that come after them.

    ``differences`` says by service what of its configuration has changed, for those of which it is known.
    """
    now = {one.service: one for one in running}
    then = {one.service: one for one in wanted}
    reasons = {one.service: _reason(now.get(one.service), one, differences.get(one.service, "")) for one in wanted}
    added = [one for one in wanted if one.service not in now]
    changed = [one for one in wanted if one.service in now and reasons[one.service]]
    # What does not serve has nothing to lose, and what serves is drained only when more of its model serve.
    changed.sort(key=lambda one: not now[one.service].complaint)
    order = _Order(now=now, then=then, reasons=reasons)
    for one in (*added, *changed):
        order.visit(one.service)
    later = [_removal(one) for one in running if one.service not in then and one.service not in order.done]
    return order.steps, later


def restart_steps(running: Sequence[RunningReplica]) -> list[Step]:
    """Every one of them made anew as it is, those first that do not serve."""
    return [
        Step(action=Action.REPLACE, service=one.service, reason="as it is", model=one.model, gpu_ids=one.gpu_ids)
        for one in sorted(running, key=lambda one: not one.complaint)
    ]


def all_steps(
    replicas: tuple[Sequence[Step], Sequence[Step]],
    *,
    models: Collection[str],
    preloads: Mapping[str, str] | None = None,
    gateway_container: str = "",
    gateway_files: str = "",
    others: Sequence[OtherChange] = (),
) -> list[Step]:
    """Every step in its order.

    ``replicas`` is what :func:`replica_steps` gave, ``models`` are those that the deployment has, ``preloads`` the
    services that bring models' files, by model. Why the gateway needs
    a new container or new configuration files; empty: it does not.
    """
    before, removals = replicas
    steps = _preloads(before, preloads or {})
    if gateway_container:
        steps.append(Step(action=Action.NEW_GATEWAY, service="gateway", reason=gateway_container))
    steps += before
    if gateway_files and not gateway_container:
        # Of a model that goes altogether nothing is drained: its requests are refused from the reload on, not held.
        staying = [one for one in removals if one.model in models]
        steps += [Step(action=Action.DRAIN, service=one.service, reason="it goes", model=one.model) for one in staying]
        steps.append(Step(action=Action.RELOAD, service="gateway", reason=gateway_files))
    steps += removals
    steps += [
        Step(action=Action.REMOVE if one.removed else Action.RENEW, service=one.service, reason=one.reason)
        for one in others
    ]
    return steps


def _preloads(steps: Sequence[Step], services: Mapping[str, str]) -> list[Step]:
    """One for each model of which a container is made."""
    makes = (Action.START, Action.REPLACE)
    models = dict.fromkeys(one.model for one in steps if one.action in makes and one.model in services)
    return [
        Step(action=Action.PRELOAD, service=services[model], reason="its engines read its files", model=model)
        for model in models
    ]


def interrupted_models(steps: Sequence[Step], running: Sequence[RunningReplica]) -> list[str]:
    """Models that are without a replica during a step: their requests wait at the gateway meanwhile."""
    serving = {one.service: one.model for one in running if not one.complaint}
    unknown_to_gateway: dict[str, str] = {}
    told: dict[str, None] = {}
    for step in steps:
        model = serving.pop(step.service, "")
        if model and step.action in (Action.REPLACE, Action.STOP) and step.model not in serving.values():
            told[step.model] = None
        if step.action is Action.REPLACE:
            serving[step.service] = step.model
        elif step.action is Action.START:
            unknown_to_gateway[step.service] = step.model
        elif step.action is Action.RELOAD:
            serving |= unknown_to_gateway
    return list(told)


def _reason(now: RunningReplica | None, then: WantedReplica, difference: str) -> str:
    if now is None:
        return NEW_REPLICA
    if now.gpu_ids != then.gpu_ids:
        return f"it moves from GPU {_listed(now.gpu_ids)} to GPU {_listed(then.gpu_ids)}"
    if now.digest != then.digest:
        return f"changed: {difference}" if difference else "its configuration has changed"
    if now.image != then.image:
        return "its image has changed"
    return f"it {now.complaint}" if now.complaint else ""


def _listed(ids: Sequence[int]) -> str:
    return "+".join(map(str, ids)) or "none"


def _removal(one: RunningReplica, reason: str = NO_LONGER) -> Step:
    return Step(action=Action.REMOVE, service=one.service, reason=reason, model=one.model, gpu_ids=one.gpu_ids)


@dataclass(kw_only=True)
class _Order:
    """A walk over the replicas that is at one only after those that hold its GPUs."""

    now: Mapping[str, RunningReplica]
    then: Mapping[str, WantedReplica]
    reasons: Mapping[str, str]

    def __post_init__(self) -> None:
        self.steps: list[Step] = []
        self.done: set[str] = set()
        self._entered: set[str] = set()

    def visit(self, service: str) -> None:
        """The steps for a replica that is new or changed, after all that it waits for."""
        if service in self.done:
            return
        self._entered.add(service)
        for holder in self._holders(service):
            if holder in self.done:
                continue
            if holder not in self.then:
                self.steps.append(_removal(self.now[holder], f"{service} needs its GPUs"))
                self.done.add(holder)
            elif holder in self._entered:
                # Each waits for the other's GPUs: one has to let go before it is started elsewhere.
                self._emit(Action.STOP, holder, f"{service} needs its GPUs", self.now[holder].gpu_ids)
            else:
                self.visit(holder)
        action = Action.REPLACE if service in self.now else Action.START
        self._emit(action, service, self.reasons[service], self.then[service].gpu_ids)
        self.done.add(service)

    def _holders(self, service: str) -> list[str]:
        """Replicas, themselves to be changed or removed, on GPUs that this one does not have yet."""
        before = self.now[service].gpu_ids if service in self.now else ()
        asked = set(self.then[service].gpu_ids) - set(before)
        return [
            one.service
            for one in self.now.values()
            if one.service != service
            and asked & set(one.gpu_ids)
            and (one.service not in self.then or self.reasons[one.service])
        ]

    def _emit(self, action: Action, service: str, reason: str, gpu_ids: tuple[int, ...]) -> None:
        if action is Action.STOP and any(one.action is Action.STOP and one.service == service for one in self.steps):
            return
        model = (self.then.get(service) or self.now[service]).model
        self.steps.append(Step(action=action, service=service, reason=reason, model=model, gpu_ids=gpu_ids))
