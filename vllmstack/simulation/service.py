"""Many requests at a service of one or many replicas: the planner's question, which the routing experiments do not ask.

Here requests are lengths and a time, made as they are needed: a million of them fit.
"""

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from vllmstack.simulation.engine import Engine, EngineProfile
from vllmstack.simulation.gateway import ReplicaView
from vllmstack.simulation.policies import Asked, Policy
from vllmstack.simulation.timeline import Timeline


@dataclass(slots=True)
class Lengths:
    """A request, by what it takes. The first ``shared_tokens`` of its prompt are those of all with this ``prefix``."""

    prompt_tokens: int
    completion_tokens: int
    shared_tokens: int = 0
    prefix: int = 0

    def blocks(self, block_tokens: int) -> list[int]:
        """The shared prefix' own; nobody asks for the rest again."""
        if not self.shared_tokens:
            return []
        return [self.prefix << 20 | index for index in range(self.shared_tokens // block_tokens)]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the requests, in the order in which they ended. Seconds, unless a name says otherwise."""

    asked_at: "array[float]" = field(default_factory=lambda: array("d"))
    ttft: "array[float]" = field(default_factory=lambda: array("d"))
    tpot: "array[float]" = field(default_factory=lambda: array("d"))
    """Of answers of more than one token; else -1."""
    e2e: "array[float]" = field(default_factory=lambda: array("d"))
    completion_tokens: "array[int]" = field(default_factory=lambda: array("l"))
    seconds: float = 0.0
    """Until the last answer was complete."""
    busy_ratio: float = 0.0
    """Of the replicas' time until then, what they were at work."""
    preemptions: int = 0
    wasted_ratio: float = 0.0
    """Of the KV cache that was held when most was, what no token was in; mean of the replicas."""
    held_ratio: float = 0.0
    """Of the KV cache, what was held at most; of the fullest replica."""


def serve_users(requests: Iterable[Lengths], users: int, profile: EngineProfile, **service: object) -> Outcome:
    """Closed loop: each user asks the next request as soon as the last one's answer is complete.

    ``service`` is that of ``serve_arrivals``.
    """
    run = _Service(profile, **service)  # type: ignore[arg-type]
    following = iter(requests)

    def ask() -> None:
        request = next(following, None)
        if request is not None:
            run.ask(request, then=ask)

    for _ in range(users):
        ask()
    return run.finish()


def serve_arrivals(
    arrivals: Iterable[tuple[float, Lengths]],
    profile: EngineProfile,
    *,
    replicas: int = 1,
    policy: Policy | None = None,
) -> Outcome:
    """Open loop: requests at their times, which must not go back.

    Args:
        arrivals: seconds, and the request.
        profile: each replica's.
        replicas: how many there are.
        policy: which replica gets a request; needed where there are several.

    Raises:
        ValueError: a request needs more KV cache than a replica has.
    """
    run = _Service(profile, replicas=replicas, policy=policy)
    run.follow(iter(arrivals))
    return run.finish()


class _Service:
    """Replicas, and who chooses among them."""

    def __init__(self, profile: EngineProfile, *, replicas: int = 1, policy: Policy | None = None) -> None:
        if replicas > 1 and policy is None:
            raise ValueError("several replicas need a policy")
        self.timeline = Timeline()
        self.engines = [Engine(self.timeline, profile) for _ in range(replicas)]
        self.views = [ReplicaView(f"engine-{number}") for number in range(1, replicas + 1)]
        self.policy = policy if replicas > 1 else None
        self.outcome = Outcome()
        self._numbers = itertools.count()

    def follow(self, arrivals: Iterator[tuple[float, Lengths]]) -> None:
        """Asks each at its time; one at a time is in the timeline."""
        following = next(arrivals, None)
        if following is None:
            return
        at, request = following

        def arrive() -> None:
            self.ask(request)
            self.follow(arrivals)

        self.timeline.at(at, arrive)

    def ask(self, request: Lengths, then: Callable[[], None] | None = None) -> None:
        """Sends a request to a replica now; ``then`` is called when its answer is complete."""
        index = 0
        if self.policy is not None:
            number = next(self._numbers)
            prefix = str(request.prefix)
            asked = Asked(number=number, tokens=request.prompt_tokens, session=str(number), prefix=prefix)
            index = self.policy.choose(asked, self.views)
        view = self.views[index]
        view.in_flight += 1
        view.pending_tokens += request.prompt_tokens
        self.engines[index].submit(request, _Watch(self, request, view, then))

    def finish(self) -> Outcome:
        """Runs to the end."""
        self.timeline.run()
        outcome, engines = self.outcome, self.engines
        outcome.seconds = max(map(sum, zip(outcome.asked_at, outcome.e2e, strict=True)), default=0.0)
        busy = sum(engine.busy_seconds for engine in engines)
        outcome.busy_ratio = busy / (len(engines) * outcome.seconds) if outcome.seconds else 0.0
        outcome.preemptions = sum(engine.preemptions for engine in engines)
        outcome.wasted_ratio = sum(engine.wasted_ratio for engine in engines) / len(engines)
        outcome.held_ratio = max(engine.held_ratio for engine in engines)
        return outcome


class _Watch:
    """One request until its end."""

    __slots__ = ("_asked_at", "_first_at", "_request", "_service", "_then", "_view")

    def __init__(self, service: _Service, request: Lengths, view: ReplicaView, then: Callable[[], None] | None) -> None:
        self._service = service
        self._request = request
        self._view = view
        self._then = then
        self._asked_at = service.timeline.now
        self._first_at = 0.0

    def first_token(self, at: float) -> None:
        """The gateway learns of it too."""
        self._first_at = at
        self._view.pending_tokens -= self._request.prompt_tokens

    def ended(self, at: float, cached_tokens: int) -> None:
        """Keeps its times."""
        outcome, tokens = self._service.outcome, self._request.completion_tokens
        self._view.in_flight -= 1
        outcome.asked_at.append(self._asked_at)
        outcome.ttft.append(self._first_at - self._asked_at)
        outcome.tpot.append((at - self._first_at) / (tokens - 1) if tokens > 1 else -1.0)
        outcome.e2e.append(at - self._asked_at)
        outcome.completion_tokens.append(tokens)
        if self._then is not None:
            self._service.timeline.at(at, self._then)
