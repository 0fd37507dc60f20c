"""Loads to simulate: who asks what, when. The same seed gives the same load, whatever serves it."""

from dataclasses import dataclass
from itertools import accumulate, count
from random import Random

from vllmstack.simulation.requests import Conversation, Piece, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLoad:
    """Customers with instructions of their own, each with many conversations of several turns.

    Amounts are means of exponential distributions, in tokens or seconds, cut off at four times the mean.
    """

    conversations_per_second: float
    seconds: float
    """How long conversations begin; those that have begun go on to their end."""
    tenants: int
    system_tokens: tuple[int, int]
    """Of a tenant's instructions, least and most."""
    popularity: float = 1.0
    """Zipf's exponent: the n-th tenant has 1 ÷ n^popularity of the first one's conversations."""
    turns: float = 4
    message_tokens: float = 100
    answer_tokens: float = 150
    pause_seconds: float = 10
    """Between an answer and the next question."""


def conversations(load: ChatLoad, seed: int) -> list[Conversation]:
    """A Poisson process of conversations."""
    random = Random(seed)  # noqa: S311 # repeatable on purpose
    identities = count(load.tenants)
    systems = [Piece(tenant, random.randint(*load.system_tokens)) for tenant in range(load.tenants)]
    shares = list(accumulate(1 / (tenant + 1) ** load.popularity for tenant in range(load.tenants)))

    def amount(mean: float) -> int:
        return max(1, round(min(random.expovariate(1 / mean), 4 * mean)))

    def talk(number: int, arrival: float) -> Conversation:
        pieces = [random.choices(systems, cum_weights=shares)[0]]
        turns: list[Turn] = []
        for index in range(amount(load.turns)):
            pieces.append(Piece(next(identities), pieces[-1].end + amount(load.message_tokens)))
            answer = Piece(next(identities), pieces[-1].end + amount(load.answer_tokens))
            pause = min(random.expovariate(1 / load.pause_seconds), 4 * load.pause_seconds) if index else 0.0
            turns.append(Turn(prompt=tuple(pieces), answer=answer, pause_seconds=pause))
            pieces.append(answer)
        return Conversation(key=f"session-{number}", arrival_seconds=arrival, turns=turns)

    begun: list[Conversation] = []
    arrival = random.expovariate(load.conversations_per_second)
    while arrival < load.seconds:
        begun.append(talk(len(begun), arrival))
        arrival += random.expovariate(load.conversations_per_second)
    return begun
