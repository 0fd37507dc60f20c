"""Words of a model's vocabulary whose lengths in tokens add up, so that a text of a given length can be written."""

import random
from collections.abc import Callable, Iterator, Sequence
from keyword import iskeyword

from loadtest.errors import LoadTestError
from loadtest.workload.tokenizer import Tokenizer
from vllmstack.errors import Problem

WANTED_WORDS = 8192
ENOUGH_WORDS = 256
"""With so many plain words, stranger ones are not looked for."""
FEWEST_WORDS = 64
"""Four of them in a row are 16 million beginnings; with fewer, words of several tokens are taken, too."""
ENOUGH_NAMES = 16
_COMMON = tuple(
    word
    for line in (
        "about after again answer because before between change country different every family follow great house",
        "important large learn letter light little might mother mountain never night number often other paper people",
        "picture place plant point question right river school sentence should small sound spell still story study",
        "thing think thought through together under until water where which while world would write year",
    )
    for word in line.split()
)
"""For tokenizers that have no words: of single bytes or characters."""


class Lexicon:
    """Words that each take the same number of tokens, or nearly so, when a space stands before them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Looks through the vocabulary, in less than a second for 128,000 tokens.

        Raises:
            LoadTestError: no word of any kind comes back as it was after encoding and decoding.
        """
        self._tokenizer = tokenizer
        self.costs: dict[str, int] = {}
        """Tokens of each word with a space before it."""
        for plain in (_is_plain_word, str.isalnum, str.isprintable):
            for word in self._candidates(plain):
                if len(self.costs) >= WANTED_WORDS:
                    break
                if word not in self.costs and self._cost(word) == 1:
                    self.costs[word] = 1
            if len(self.costs) >= ENOUGH_WORDS:
                break
        self.letter = ""
        """Makes a word one token longer where words take several tokens each; empty where it is not needed."""
        if len(self.costs) < FEWEST_WORDS:
            self._take_long_words()
        self.words: tuple[str, ...] = tuple(self.costs)
        self.typical_cost = sum(self.costs.values()) / len(self.words)
        alone = (word for word in self.words if len(tokenizer.encode(word, special=False)) == self.costs[word])
        self.starters: tuple[str, ...] = tuple(alone) or self.words
        """Words that take no other number of tokens without a space before them."""
        names = tuple(word for word in self.words if word.isidentifier() and not iskeyword(word))
        self.names: tuple[str, ...] = names if len(names) >= ENOUGH_NAMES else tuple(f"name_{one}" for one in range(64))
        """Words that Python code may use as names."""

    def _candidates(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Words of the vocabulary, those with low numbers first: frequent ones, in most vocabularies."""
        backend = self._tokenizer.backend
        special = backend.get_added_tokens_decoder()
        for number in range(backend.get_vocab_size(with_added_tokens=False)):
            word = self._tokenizer.decode([number]).strip() if number not in special else ""
            if word and "\ufffd" not in word and not any(map(str.isspace, word)) and wanted(word):
                yield word

    def _cost(self, word: str) -> int | None:
        """Tokens that the word adds to a sentence; None if it does not come back as it was."""
        tokens = self._tokenizer.encode(f"a {word} a", special=False)
        if word not in self._tokenizer.decode(tokens):
            return None
        return len(tokens) - len(self._tokenizer.encode("a a", special=False))

    def _take_long_words(self) -> None:
        costs = {word: self._cost(word) for word in _COMMON}
        for word, cost in costs.items():
            if cost and word not in self.costs:
                self.costs[word] = cost
        if not self.costs:
            raise LoadTestError(
                Problem(
                    file=self._tokenizer.name,
                    fact="no word of the tokenizer comes back as it was after encoding and decoding",
                    hint="look whether tokenizer.json is whole",
                )
            )
        longer = {letter: self._cost(f"water{letter}") for letter in "aeio"}
        self.letter = next((letter for letter, cost in longer.items() if cost == (costs["water"] or 0) + 1), "")

    def draw(self, numbers: random.Random, tokens: int, *, starts: bool = False) -> list[str]:
        """Words of about this many tokens together, at least one; ``starts``: the first one begins a text."""
        if self.typical_cost == 1:
            words = numbers.choices(self.words, k=max(tokens, 1))
        else:
            words = []
            left = tokens
            while left > 0 or not words:
                words.append(numbers.choice(self.words))
                left -= self.costs[words[-1]]
        if starts:
            words[0] = numbers.choice(self.starters)
        return words

    def shortened(self, words: Sequence[str], tokens: int) -> list[str]:
        """Without words at the end that take at least this many tokens together."""
        kept = list(words)
        while kept and tokens > 0:
            tokens -= self.costs.get(kept.pop(), 1)
        return kept

    def lengthened(self, words: Sequence[str], tokens: int, numbers: random.Random) -> list[str]:
        """With words of this many tokens more, or a few less where words take several each and letters do not help."""
        longer = list(words)
        fitting = [word for word in self.words if self.costs[word] <= tokens]
        while tokens > 0 and fitting:
            longer.append(numbers.choice(fitting))
            tokens -= self.costs[longer[-1]]
            if self.typical_cost > 1:
                fitting = [word for word in fitting if self.costs[word] <= tokens]
        if tokens > 0 and self.letter and longer:
            longer[-1] += self.letter * tokens
        return longer


def _is_plain_word(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower() and len(word) > 2
