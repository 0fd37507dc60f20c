"""Replicas behind a policy: one run of a load, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from vllmstack.simulation.engine import Engine, EngineProfile
from vllmstack.simulation.gateway import PrefixIndex, ReplicaView
from vllmstack.simulation.policies import Asked, Policy
from vllmstack.simulation.requests import Conversation
from vllmstack.simulation.timeline import Timeline

REMEMBERED_PREFIXES = 100_000
"""What the gateway's shared dictionary holds, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What became of one request. Times are in simulated seconds."""

    replica: int
    asked_at: float
    ttft_seconds: float
    seconds: float
    """Until the answer was complete."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def simulate(load: Sequence[Conversation], policy: Policy, profile: EngineProfile, *, replicas: int) -> list[Served]:
    """Every conversation to its end; requests in the order in which they ended.

    Raises:
        ValueError: a request needs more KV cache than a replica has.
    """
    fleet = _Fleet(policy, profile, replicas)
    for conversation in load:
        _Talk(fleet, conversation).ask_at(conversation.arrival_seconds)
    fleet.timeline.run()
    return fleet.served


class _Fleet:
    """Replicas, and the gateway before them."""

    def __init__(self, policy: Policy, profile: EngineProfile, replicas: int) -> None:
        self.policy = policy
        self.timeline = Timeline()
        self.views = [ReplicaView(f"engine-{number}") for number in range(1, replicas + 1)]
        self.engines = [Engine(self.timeline, profile) for _ in self.views]
        self.index = PrefixIndex(self.views, REMEMBERED_PREFIXES)
        self.asked = 0
        self.served: list[Served] = []


class _Talk:
    """One conversation in progress: asks, and watches its request."""

    def __init__(self, fleet: _Fleet, conversation: Conversation) -> None:
        self._fleet = fleet
        self._conversation = conversation
        self._turns = iter(conversation.turns)
        self._turn = next(self._turns)

    def ask_at(self, seconds: float) -> None:
        """Asks the turn at hand once the user is ready."""
        self._fleet.timeline.at(seconds + self._turn.pause_seconds, self._ask)

    def _ask(self) -> None:
        fleet, turn = self._fleet, self._turn
        fleet.index.match(turn.prompt)
        asked = Asked(
            number=fleet.asked,
            tokens=turn.prompt_tokens,
            session=self._conversation.key,
            prefix=str(turn.prompt[0].identity),
        )
        fleet.asked += 1
        chosen = fleet.policy.choose(asked, fleet.views)
        fleet.index.remember(turn.prompt, chosen)
        self._chosen = chosen
        self._asked_at = fleet.timeline.now
        view = fleet.views[chosen]
        self._new_tokens = turn.prompt_tokens - view.matched_tokens
        view.in_flight += 1
        view.pending_tokens += self._new_tokens
        fleet.engines[chosen].submit(turn, self)

    def first_token(self, at: float) -> None:
        """The gateway learns of the first byte."""
        self._first_at = at
        self._fleet.views[self._chosen].pending_tokens -= self._new_tokens

    def ended(self, at: float, cached_tokens: int) -> None:
        """The next turn follows, if there is one."""
        self._fleet.views[self._chosen].in_flight -= 1
        self._fleet.served.append(
            Served(
                replica=self._chosen,
                asked_at=self._asked_at,
                ttft_seconds=self._first_at - self._asked_at,
                seconds=at - self._asked_at,
                prompt_tokens=self._turn.prompt_tokens,
                cached_tokens=cached_tokens,
                completion_tokens=self._turn.completion_tokens,
            )
        )
        following = next(self._turns, None)
        if following is not None:
            self._turn = following
            self.ask_at(at)
