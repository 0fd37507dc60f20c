"""Texts that make a prompt of just so many tokens, by the model's own tokenizer.

A text is written from words that take a known number of tokens, then counted as the engine counts it, chat template
included, and mended until the count is right; what is returned has been counted.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.errors import LoadTestError
from loadtest.workload.lexicon import Lexicon
from loadtest.workload.tokenizer import Tokenizer
from vllmstack.errors import Problem

ATTEMPTS = 24
"""The first is right nearly always, the second corrects it; more are for words that melt into their neighbours."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a text in its prompt."""

    count: Callable[[str], int]
    """Tokens of the whole prompt that holds this text."""
    kind: str = ""
    """The same for prompts that have the same around their texts; empty: no other is like it."""
    around: Callable[[str], str] = str
    """The whole of what the request holds, for a text; by default the text itself."""


class Prompts:
    """Writes texts for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Reads the vocabulary; see :class:`Lexicon` for what it raises."""
        self.tokenizer = tokenizer
        self.lexicon = Lexicon(tokenizer)
        least = min(self.lexicon.costs[word] for word in self.lexicon.starters)
        self._shortest = [word for word in self.lexicon.starters if self.lexicon.costs[word] == least]
        self._overheads: dict[str, int] = {}
        """Tokens that a kind of prompt has beside its text's words, as last seen: makes the first attempt right."""

    def shortest(self, frame: Frame) -> int:
        """Tokens of the shortest prompt: one word and what is around it."""
        return frame.count(self._shortest[0])

    def text(self, tokens: int, frame: Frame, numbers: random.Random, beginning: Sequence[str] = ()) -> str:
        """A text with ``frame.count(text) == tokens``.

        ``numbers`` decides the words; the text begins with those of ``beginning``, as far as there is room for them.

        Raises:
            LoadTestError: there is no such text; the problem names the least number of tokens.
        """
        overhead = self._overheads.get(frame.kind)
        if overhead is None:
            overhead = self.shortest(frame) - self._cost(self._shortest[:1])
        words = self._guess(tokens - overhead, beginning, numbers)
        for attempt in range(ATTEMPTS):
            text = " ".join(words)
            short = tokens - frame.count(text)
            if short == 0:
                if frame.kind:
                    self._overheads[frame.kind] = tokens - self._cost(words)
                return text
            if short < 0 and len(words) == 1 and words[0] in self._shortest:
                break
            words = self._mended(words, short, numbers, redraw=attempt > 3)
        raise self._impossible(tokens, frame)

    def _guess(self, tokens: int, beginning: Sequence[str], numbers: random.Random) -> list[str]:
        if not beginning:
            return self.lexicon.draw(numbers, tokens, starts=True)
        words = self.lexicon.shortened(beginning, self._cost(beginning) - tokens)
        return self.lexicon.lengthened(words, tokens - self._cost(words), numbers)

    def _mended(self, words: list[str], short: int, numbers: random.Random, *, redraw: bool) -> list[str]:
        """Longer or shorter by what is lacking; ``redraw``: with other words at the end, which may be to blame."""
        cost = self._cost(words)
        mended = self.lexicon.shortened(words, max(-short, 4 if redraw else 0))
        mended = self.lexicon.lengthened(mended, cost + short - self._cost(mended), numbers)
        return mended or [numbers.choice(self._shortest)]

    def _cost(self, words: Sequence[str]) -> int:
        return sum(self.lexicon.costs.get(word, 1) for word in words)

    def _impossible(self, tokens: int, frame: Frame) -> LoadTestError:
        shortest = self.shortest(frame)
        if tokens < shortest:
            fact = (
                f"no prompt can have {tokens:,} tokens: the shortest one, with all that is around it, has {shortest:,}"
            )
            return LoadTestError(Problem(place="prompt_tokens", fact=fact, hint=f"ask for {shortest:,} or more"))
        fact = f"no text was found that makes {tokens:,} tokens with the tokenizer in {self.tokenizer.name}"
        return LoadTestError(Problem(place="prompt_tokens", fact=fact, hint="ask for a few tokens more or less"))
