"""Words whose tokens add up."""

from collections.abc import Callable

import pytest

from loadtest.errors import LoadTestError
from loadtest.workload.lexicon import Lexicon
from loadtest.workload.randomness import source
from loadtest.workload.tokenizer import Tokenizer
from tests.unit.loadtest.workload.tokenizer_files import KINDS


@pytest.mark.parametrize("kind", ["smoke", *KINDS])
def test_the_tokens_of_words_add_up(kind: str, tokenizers: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizers(kind)
    lexicon = Lexicon(tokenizer)
    words = lexicon.draw(source("sum"), 2000, starts=True)
    # The first word has no space before it: a token less where spaces are tokens.
    counted = len(tokenizer.encode(" ".join(words), special=False))
    assert abs(counted - sum(lexicon.costs[word] for word in words)) <= 1


@pytest.mark.parametrize("kind", ["smoke", "sentence-piece", "unigram", "word-piece"])
def test_words_are_ordinary_ones_of_one_token(kind: str, tokenizers: Callable[[str], Tokenizer]) -> None:
    lexicon = Lexicon(tokenizers(kind))
    assert len(lexicon.words) >= 100
    ordinary = [word for word in lexicon.words if word.isalpha() and word.islower()]
    assert len(ordinary) / len(lexicon.words) > 0.5
    assert lexicon.typical_cost == 1


def test_special_tokens_and_unknown_words_are_no_words(tokenizers: Callable[[str], Tokenizer]) -> None:
    assert not {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} & set(Lexicon(tokenizers("smoke")).words)
    assert "<unk>" not in Lexicon(tokenizers("word-level")).words


def test_without_words_of_one_token_letters_fill_the_rest(tokenizers: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizers("characters")
    lexicon = Lexicon(tokenizer)
    assert lexicon.typical_cost > 5
    assert lexicon.letter
    words = lexicon.lengthened(["water"], 3, source("letters"))
    assert words == ["water" + 3 * lexicon.letter]


def test_words_at_the_end_go_until_enough_tokens_are_gone(tokenizers: Callable[[str], Tokenizer]) -> None:
    lexicon = Lexicon(tokenizers("characters"))
    words = ["water", "house", "night"]
    assert lexicon.costs["night"] == 6
    assert lexicon.shortened(words, 6) == ["water", "house"]
    assert lexicon.shortened(words, 7) == ["water"]
    assert lexicon.shortened(words, 0) == words
    assert lexicon.shortened(words, 99) == []


def test_a_tokenizer_that_knows_no_word_is_told(tokenizers: Callable[[str], Tokenizer], smoke: Tokenizer) -> None:
    class Deaf(Tokenizer):
        def decode(self, tokens: object) -> str:
            return ""

    with pytest.raises(LoadTestError, match="no word of the tokenizer comes back as it was"):
        Lexicon(Deaf(smoke.backend, {}, name="deaf"))
