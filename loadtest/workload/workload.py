"""The sessions of a run: each by its number, the same on whichever worker it is asked for."""

import itertools
from collections.abc import Iterable

from loadtest.errors import LoadTestError
from loadtest.offered.arrival import Arrival
from loadtest.stack import ServedModel
from loadtest.workload.fits import arrival_problems, fit_problems
from loadtest.workload.plan import Planner
from loadtest.workload.prompts import Prompts
from loadtest.workload.randomness import pick, source
from loadtest.workload.scenario import Scenario
from loadtest.workload.steps import Session
from loadtest.workload.tokenizer import Tokenizer
from loadtest.workload.writer import Writer, Written
from vllmstack.errors import Problem


class Workload:
    """What is sent to one model."""

    def __init__(
        self, scenario: Scenario, *, model: ServedModel, tokenizer: Tokenizer, seed: int = 0, salt: str = ""
    ) -> None:
        """Two workloads of the same scenario, model, tokenizer, seed and salt send the same bytes.

        ``seed`` decides lengths, pauses and texts; ``salt`` only texts. A run that gets a salt of its own, its id,
        finds nothing in the prefix cache that an earlier run with the same seed has left there.

        Raises:
            LoadTestError: the model cannot serve the scenario, with every reason; or its tokenizer has no words.
        """
        self.scenario = scenario
        self.model = model
        self._seed = seed
        self._prompts = Prompts(tokenizer)
        scenarios = [part.definition for part in scenario.mix if part.definition] or [scenario]
        self._weights = list(itertools.accumulate(part.weight for part in scenario.mix)) or [1.0]
        self._planners = [Planner(one, seed) for one in scenarios]
        self._writers = [
            Writer(one, self._prompts, model=model.name, max_model_len=model.max_model_len, seed=seed, salt=salt)
            for one in scenarios
        ]
        self._prepared: dict[tuple[int, Arrival | None], Written] = {}
        problems = [
            Problem(file=f"scenario {writer.scenario.name}", place=one.place, fact=one.fact, hint=one.hint)
            for writer in self._writers
            for one in fit_problems(writer.scenario, model, writer)
        ]
        if problems:
            raise LoadTestError(problems)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was sent otherwise than asked, each in one sentence; known once sessions have been made."""
        raised = sum(writer.raised for writer in self._writers)
        if not raised:
            return ()
        return (f"{raised:,} prompts of the trace are too short for the chat template: they were sent somewhat longer",)

    def check(self, arrivals: Iterable[Arrival]) -> None:
        """Looks whether the model takes the lengths of a trace.

        Raises:
            LoadTestError: some are longer than ``max_model_len``.
        """
        if problems := list(arrival_problems(arrivals, self.model)):
            raise LoadTestError(problems)

    def prepare(self, sessions: int | Iterable[int | tuple[int, Arrival]]) -> None:
        """Writes the texts of these sessions (of the first so many) now, so that none is tokenized later.

        A session that will be asked for with an arrival must be prepared with it. Each takes about as many bytes as
        its requests, and is forgotten once it has been asked for. Another thread may do this while sessions are asked
        for: tokenizing, which is most of the work, lets other threads run.

        Raises:
            LoadTestError: no prompt of a session's length is possible.
        """
        wanted = range(sessions) if isinstance(sessions, int) else sessions
        for one in wanted:
            index, arrival = (one, None) if isinstance(one, int) else one
            self._prepared[index, _lengths(arrival)] = self._write(index, arrival)

    def session(self, index: int, arrival: Arrival | None = None) -> Session:
        """The session of this number; a trace's lengths in ``arrival`` come before the scenario's.

        Raises:
            LoadTestError: at the first step, if no prompt of the session's length is possible.
        """
        written = self._prepared.pop((index, _lengths(arrival)), None) or self._write(index, arrival)
        yield from self._writer(index).session(written)

    def _write(self, index: int, arrival: Arrival | None) -> Written:
        part = self._part(index)
        return self._writers[part].write(self._planners[part].plan(index, arrival))

    def _writer(self, index: int) -> Writer:
        return self._writers[self._part(index)]

    def _part(self, index: int) -> int:
        """Which scenario of the mix the session belongs to."""
        if len(self._writers) == 1:
            return 0
        return pick(self._weights, source(self._seed, "mix", self.scenario.name, index))


def _lengths(arrival: Arrival | None) -> Arrival | None:
    """What makes an arrival's requests differ from the scenario's: not the time, which a changed schedule moves."""
    if arrival is None or (arrival.prompt_tokens is None and arrival.completion_tokens is None):
        return None
    return Arrival(0.0, arrival.prompt_tokens, arrival.completion_tokens, arrival.prefix_blocks, arrival.block_tokens)
