"""From a plan to requests: the texts of one session, each of the planned length."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any

from loadtest.errors import LoadTestError
from loadtest.workload import bodies
from loadtest.workload.code import PythonFile
from loadtest.workload.plan import Plan
from loadtest.workload.prompts import Frame, Prompts
from loadtest.workload.randomness import source
from loadtest.workload.scenario import Scenario
from loadtest.workload.sections import Endpoint, Text
from loadtest.workload.steps import CHAT, COMPLETIONS, EMBEDDINGS, Request, Session, Think
from loadtest.workload.texts import SharedTexts

_PATHS = {Endpoint.CHAT: CHAT, Endpoint.COMPLETIONS: COMPLETIONS, Endpoint.EMBEDDINGS: EMBEDDINGS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A session whose texts are there: nothing is left to tokenize, unless an answer makes a history long."""

    plan: Plan
    first: Request
    messages: list[dict[str, Any]]
    """Of the first request, chats only."""
    later_messages: tuple[str, ...] = ()
    """The user's part of each later turn."""


class Writer:
    """Writes the sessions of one scenario for one model."""

    def __init__(
        self, scenario: Scenario, prompts: Prompts, *, model: str, max_model_len: int | None, seed: int, salt: str
    ) -> None:
        self.scenario = scenario
        self.prompts = prompts
        self.raised = 0
        """Requests of a trace that were too short for the chat template and were sent as short as it allows."""
        self._model = model
        self._longest = max_model_len
        self._purpose = (seed, salt, scenario.name)
        self._shared = SharedTexts(scenario, prompts, seed=seed, salt=salt)

    def write(self, plan: Plan) -> Written:
        """The first request, and what the user will say later.

        Raises:
            LoadTestError: no prompt of the planned length is possible.
        """
        scenario, lexicon = self.scenario, self.prompts.lexicon
        numbers = source(*self._purpose, "text", plan.index)
        texts, total = [], 0
        for tokens in plan.prompt_tokens:
            frame = self._frame(plan, tokens)
            try:
                text = self.prompts.text(tokens, frame, numbers, self._beginning(plan, tokens))
            except LoadTestError:
                if not plan.from_trace:
                    raise
                self.raised += 1
                tokens = self.prompts.shortest(frame)  # noqa: PLW2901
                text = self.prompts.text(tokens, frame, numbers)
            texts.append(frame.around(text))
            total += tokens
        messages = self._messages(plan, texts[0]) if scenario.endpoint is Endpoint.CHAT else []
        return Written(
            plan=plan,
            first=self._request(plan, 0, self._body(plan, texts, messages), expected=total),
            messages=messages,
            later_messages=tuple(" ".join(lexicon.draw(numbers, turn.message_tokens)) for turn in plan.turns[1:]),
        )

    def session(self, written: Written) -> Session:
        """The steps of a session. A conversation ends early if a request fails, or if its history becomes too long."""
        plan, messages = written.plan, list(written.messages)
        answer = yield written.first
        later = zip(plan.turns[1:], written.later_messages, strict=True)
        for number, (turn, question) in enumerate(later, start=1):
            if answer is None:
                return
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": question}]
            if not self._fits(written, messages, turn.completion_tokens):
                return
            yield Think(turn.think_seconds)
            answer = yield self._request(plan, number, self._body(plan, [], messages, number))

    def shortest(self, plan: Plan, tokens: int) -> int:
        """Tokens of the shortest prompt that a session like this can begin with, where so many are wanted."""
        return self.prompts.shortest(self._frame(plan, tokens))

    @cached_property
    def turn_overhead(self) -> int:
        """Tokens that the chat template puts around an answer and the next question.

        Raises:
            LoadTestError: the template refuses a conversation.
        """
        tokenizer = self.prompts.tokenizer
        word = self.prompts.lexicon.starters[0]
        first = [{"role": "user", "content": word}]
        more = [*first, {"role": "assistant", "content": word}, *first]
        alone = len(tokenizer.encode(word, special=False))
        return max(tokenizer.count_chat(more) - tokenizer.count_chat(first) - 2 * alone, 0)

    def _frame(self, plan: Plan, tokens: int) -> Frame:
        """What stands around the own text of a session's prompt."""
        tokenizer = self.prompts.tokenizer
        if self.scenario.endpoint is Endpoint.CHAT:
            tools = self.scenario.tools or None
            kind = f"chat {self.scenario.name} {plan.tenant} {plan.document_set}"
            return Frame(lambda text: tokenizer.count_chat(self._messages(plan, text), tools), kind)
        if self.scenario.text is Text.CODE:
            numbers = source(*self._purpose, "code", plan.index)
            file = PythonFile(
                tokens,
                count=lambda piece: len(tokenizer.encode(piece, special=False)),
                lexicon=self.prompts.lexicon,
                numbers=numbers,
            )
            return Frame(lambda text: tokenizer.count(file.text(text)), around=file.text)
        before = self._shared_beginning(plan)
        kind = f"plain {self.scenario.name} {plan.tenant} {plan.document_set}"
        return Frame(lambda text: tokenizer.count(before + text), kind, lambda text: before + text)

    def _shared_beginning(self, plan: Plan) -> str:
        system = self._shared.system_prompt(plan)
        return (f"{system}\n\n" if system else "") + self._shared.documents(plan)

    def _messages(self, plan: Plan, text: str) -> list[dict[str, Any]]:
        system = self._shared.system_prompt(plan)
        user = {"role": "user", "content": self._shared.documents(plan) + text}
        return [{"role": "system", "content": system}, user] if system else [user]

    def _beginning(self, plan: Plan, tokens: int) -> Sequence[str]:
        """The words that a trace's prompt begins with, as far as it is long."""
        pieces = (self._shared.block(number, plan.block_tokens) for number in plan.prefix_blocks)
        return list(islice(chain.from_iterable(pieces), tokens))

    def _body(self, plan: Plan, texts: list[str], messages: list[dict[str, Any]], turn: int = 0) -> bytes:
        user = self._tenant(plan)
        if self.scenario.endpoint is Endpoint.CHAT:
            return bodies.chat(self.scenario, self._model, messages, plan.turns[turn], user)
        if self.scenario.endpoint is Endpoint.COMPLETIONS:
            return bodies.completion(self.scenario, self._model, texts[0], plan.turns[turn], user)
        return bodies.embeddings(self._model, texts, user)

    def _request(self, plan: Plan, turn: int, body: bytes, expected: int | None = None) -> Request:
        session = f"{self.scenario.name}-{plan.index}"
        headers = {}
        if self.scenario.conversation:
            headers["X-Session-Id"] = session
        if self.scenario.tenants and (tenant := self._tenant(plan)):
            headers[self.scenario.tenants.header] = tenant
        return Request(
            scenario=self.scenario.name,
            model=self._model,
            path=_PATHS[self.scenario.endpoint],
            body=body,
            streamed=self.scenario.endpoint is not Endpoint.EMBEDDINGS,
            expected_prompt_tokens=expected,
            session=session,
            turn=turn,
            headers=headers,
            abandon_after_seconds=plan.turns[turn].abandon_after_seconds,
            keep_text=turn + 1 < len(plan.turns),
        )

    def _tenant(self, plan: Plan) -> str | None:
        return None if plan.tenant is None else f"tenant-{plan.tenant:03d}"

    def _fits(self, written: Written, messages: list[dict[str, Any]], completion_tokens: int) -> bool:
        """Whether the model takes the history. A text has at most as many tokens as bytes: mostly, none are counted."""
        if self._longest is None:
            return True
        since = messages[len(written.messages) :]
        at_most = (written.first.expected_prompt_tokens or 0) + len(since) * self.turn_overhead
        at_most += sum(len(message["content"].encode()) for message in since)
        if at_most + completion_tokens <= self._longest:
            return True
        return self.prompts.tokenizer.count_chat(messages) + completion_tokens <= self._longest
