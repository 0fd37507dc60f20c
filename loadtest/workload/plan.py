"""What one session will be like, before any text is written: lengths, pauses, and which shared things it uses.

A plan depends on the scenario, the seed and the session's number alone, so that runs with one seed have sessions of the
same lengths even where their texts must differ.
"""

from dataclasses import dataclass
from functools import cached_property

from loadtest.offered.arrival import Arrival
from loadtest.workload.amounts import Whole
from loadtest.workload.randomness import pick, source, zipf
from loadtest.workload.scenario import Scenario
from loadtest.workload.sections import Endpoint

_NOTHING = Whole(value=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a session."""

    completion_tokens: int
    message_tokens: int = 0
    """Of a conversation's later turns; the first prompt's length is the plan's."""
    think_seconds: float = 0.0
    """Before the request; 0 for the first."""
    abandon_after_seconds: float | None = None
    sampling_seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One session."""

    index: int
    prompt_tokens: tuple[int, ...]
    """Of the first request: one text, or several inputs of an embeddings request."""
    turns: tuple[Turn, ...]
    tenant: int | None = None
    document_set: int | None = None
    prefix_blocks: tuple[int, ...] = ()
    """From a trace: pieces of text that other requests begin with, too."""
    block_tokens: int = 0
    from_trace: bool = False
    """The lengths are a trace's: one that is too short for the chat template is raised, not refused."""


class Planner:
    """Plans the sessions of one scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._seed = seed

    @cached_property
    def _tenants(self) -> list[float]:
        tenants = self._scenario.tenants
        return zipf(tenants.count, tenants.popularity) if tenants else []

    @cached_property
    def _document_sets(self) -> list[float]:
        documents = self._scenario.documents
        return zipf(documents.sets, documents.popularity) if documents else []

    def plan(self, index: int, arrival: Arrival | None = None) -> Plan:
        """The session of this number; a trace's lengths come before the scenario's."""
        scenario = self._scenario
        numbers = source(self._seed, "plan", scenario.name, index)
        given_prompt = arrival.prompt_tokens if arrival else None
        given_completion = arrival.completion_tokens if arrival else None
        inputs = scenario.inputs_per_request if scenario.endpoint is Endpoint.EMBEDDINGS else 1
        lengths = tuple((scenario.prompt_tokens or _NOTHING).pick(numbers) for _ in range(inputs))
        tenant = pick(self._tenants, numbers) if self._tenants else None
        document_set = pick(self._document_sets, numbers) if self._document_sets else None
        conversation = scenario.conversation
        count = conversation.turns.pick(numbers) if conversation else 1
        turns = []
        for number in range(count):
            length = (scenario.completion_tokens or _NOTHING).pick(numbers)
            abandonment = scenario.abandonment
            leaves = abandonment is not None and numbers.random() < abandonment.share
            later = conversation if number else None
            turns.append(
                Turn(
                    completion_tokens=length if given_completion is None else max(given_completion, 1),
                    message_tokens=later.message_tokens.pick(numbers) if later else 0,
                    think_seconds=later.think_seconds.draw(numbers) if later else 0.0,
                    abandon_after_seconds=abandonment.after_seconds.draw(numbers) if abandonment and leaves else None,
                    sampling_seed=numbers.getrandbits(31),
                )
            )
        return Plan(
            index=index,
            prompt_tokens=lengths if given_prompt is None else (given_prompt,) * inputs,
            turns=tuple(turns),
            tenant=tenant,
            document_set=document_set,
            prefix_blocks=arrival.prefix_blocks if arrival else (),
            block_tokens=arrival.block_tokens if arrival else 0,
            from_trace=given_prompt is not None,
        )
