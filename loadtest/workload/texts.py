"""Texts that requests have in common: system prompts, documents, and the pieces that a trace names."""

from collections.abc import Callable

from loadtest.workload.plan import Plan
from loadtest.workload.prompts import Frame, Prompts
from loadtest.workload.randomness import source
from loadtest.workload.scenario import Scenario
from loadtest.workload.sections import SharedBy

KEPT_TEXTS = 4096
"""Of those used last; a text is the same whenever it is written."""


class SharedTexts:
    """Writes each text once and keeps it."""

    def __init__(self, scenario: Scenario, prompts: Prompts, *, seed: int, salt: str) -> None:
        self._scenario = scenario
        self._prompts = prompts
        self._purpose = (seed, salt, scenario.name)
        self._kept: dict[tuple[object, ...], str] = {}
        """Those used last stand last."""

    def system_prompt(self, plan: Plan) -> str | None:
        """The system prompt of this session; None if the scenario has none."""
        system = self._scenario.system_prompt
        if system is None:
            return None
        whose: object = "all"
        if system.shared_by is SharedBy.TENANT:
            whose = plan.tenant
        elif system.shared_by is SharedBy.NOBODY:
            whose = f"session {plan.index}"
        return self._text(system.tokens, "system", whose)

    def documents(self, plan: Plan) -> str:
        """The passages of this session's set, under headings; empty if the scenario has none."""
        documents = self._scenario.documents
        if documents is None:
            return ""
        key = ("set", plan.document_set)

        def written() -> str:
            passages = [
                self._text(documents.tokens, "document", plan.document_set, number)
                for number in range(documents.per_request)
            ]
            return "".join(f"Document {number}:\n{text}\n\n" for number, text in enumerate(passages, start=1))

        return self._remembered(key, written)

    def block(self, number: int, tokens: int) -> list[str]:
        """The words of one piece of a trace's prompts; equal numbers are equal texts."""
        numbers = source(*self._purpose, "block", number, tokens)
        return self._remembered(
            ("block", number, tokens), lambda: " ".join(self._prompts.lexicon.draw(numbers, tokens))
        ).split()

    def _text(self, tokens: int, *key: object) -> str:
        tokenizer, numbers = self._prompts.tokenizer, source(*self._purpose, *key)
        frame = Frame(lambda text: len(tokenizer.encode(text, special=False)), kind="alone")
        return self._remembered(key, lambda: self._prompts.text(tokens, frame, numbers))

    def _remembered(self, key: tuple[object, ...], written: Callable[[], str]) -> str:
        """Safe where another thread prepares sessions: at worst, two write the same text."""
        text = self._kept.pop(key, None)
        if text is None:
            text = written()
            for oldest in list(self._kept)[: max(len(self._kept) + 1 - KEPT_TEXTS, 0)]:
                self._kept.pop(oldest, None)
        self._kept[key] = text
        return text
