"""Prompts have just the length that was asked for, by every kind of tokenizer, and do not begin alike."""

import time
from collections.abc import Callable

import pytest

from loadtest.errors import LoadTestError
from loadtest.workload.prompts import Frame, Prompts
from loadtest.workload.randomness import source
from loadtest.workload.tokenizer import Tokenizer

ALL_KINDS = ("smoke", "word-level", "sentence-piece", "unigram", "word-piece", "characters")
CHAT_KINDS = tuple(kind for kind in ALL_KINDS if kind != "word-piece")
WORD_KINDS = tuple(kind for kind in ALL_KINDS if kind != "characters")
"""Of single bytes, a block has room for two words, which are not different enough."""
BLOCK_TOKENS = 16
"""vLLM caches whole blocks of so many tokens."""


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_plain_prompt_has_exactly_the_asked_tokens(kind: str, tokenizers: Callable[[str], Tokenizer]) -> None:
    tokenizer = tokenizers(kind)
    prompts = Prompts(tokenizer)
    for tokens in (*range(20, 60), 200, 333, 1000):
        text = prompts.text(tokens, Frame(tokenizer.count, "plain"), source("plain", tokens))
        assert tokenizer.count(text) == len(tokenizer.encode(text)) == tokens


@pytest.mark.parametrize("kind", CHAT_KINDS)
def test_a_chat_has_exactly_the_asked_tokens_with_its_template(
    kind: str, tokenizers: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizers(kind)
    prompts = Prompts(tokenizer)

    def count(text: str) -> int:
        return tokenizer.count_chat([{"role": "user", "content": text}])

    for tokens in (*range(90, 110), 257, 512):
        text = prompts.text(tokens, Frame(count, "chat"), source("chat", tokens))
        assert count(text) == tokens


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_texts_come_back_as_they_were_after_encoding_and_decoding(
    kind: str, tokenizers: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizers(kind)
    text = Prompts(tokenizer).text(300, Frame(tokenizer.count), source("round trip"))
    assert tokenizer.decode(tokenizer.encode(text)).strip() == text


@pytest.mark.parametrize("kind", WORD_KINDS)
def test_prompts_of_different_sessions_share_no_block_of_the_prefix_cache(
    kind: str, tokenizers: Callable[[str], Tokenizer]
) -> None:
    tokenizer = tokenizers(kind)
    prompts, frame = Prompts(tokenizer), Frame(tokenizer.count, "plain")
    texts = [prompts.text(64, frame, source("session", number)) for number in range(300)]
    beginnings = {tuple(tokenizer.encode(text)[:BLOCK_TOKENS]) for text in texts}
    assert len(beginnings) == len(texts)


def test_a_length_below_the_template_is_refused_with_the_least_one(smoke: Tokenizer, prompts: Prompts) -> None:
    frame = Frame(lambda text: smoke.count_chat([{"role": "user", "content": text}]))
    # One word of one token, and the template's own eight.
    least = 9
    assert smoke.count_chat([{"role": "user", "content": ""}]) == least - 1
    with pytest.raises(LoadTestError) as caught:
        prompts.text(least - 1, frame, source("short"))
    (problem,) = caught.value.problems
    assert problem.fact == (
        f"no prompt can have {least - 1} tokens: the shortest one, with all that is around it, has {least}"
    )
    assert problem.hint == f"ask for {least} or more"


def test_the_least_length_is_possible(smoke: Tokenizer, prompts: Prompts) -> None:
    frame = Frame(lambda text: smoke.count_chat([{"role": "user", "content": text}]))
    assert frame.count(prompts.text(prompts.shortest(frame), frame, source("least"))) == prompts.shortest(frame)


def test_a_tokenizer_that_never_gives_the_length_ends_with_a_problem(prompts: Prompts) -> None:
    counted: list[str] = []

    def odd(text: str) -> int:
        counted.append(text)
        return 2 * len(text.split()) + 1

    with pytest.raises(LoadTestError, match="no text was found that makes 50 tokens"):
        prompts.text(50, Frame(odd), source("odd"))
    assert len(counted) < 60


def test_a_text_begins_with_the_given_words_as_far_as_there_is_room(smoke: Tokenizer, prompts: Prompts) -> None:
    beginning = prompts.lexicon.draw(source("beginning"), 100, starts=True)
    long = prompts.text(150, Frame(smoke.count), source("long"), beginning)
    short = prompts.text(50, Frame(smoke.count), source("short"), beginning)
    assert long.split()[:100] == beginning
    assert short.split()[:48] == beginning[:48]
    assert (smoke.count(long), smoke.count(short)) == (150, 50)


def test_the_first_attempt_is_right_nearly_always(smoke: Tokenizer, prompts: Prompts) -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return smoke.count_chat([{"role": "user", "content": text}])

    for number in range(100):
        prompts.text(300, Frame(count, "measured"), source("speed", number))
    assert len(counted) <= 105


def test_a_core_writes_five_hundred_prompts_of_512_tokens_a_second(smoke: Tokenizer, prompts: Prompts) -> None:
    frame = Frame(smoke.count, "speed")
    prompts.text(512, frame, source("warm"))
    begin = time.process_time()
    for number in range(50):
        prompts.text(512, frame, source("fast", number))
    # Measured: 1,800 a second. CPU time, so that other work on the machine does not count.
    assert (time.process_time() - begin) / 50 < 1 / 500
