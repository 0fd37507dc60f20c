"""Questions and answers of the smoke model.

One module serves both ends: :func:`training_conversation` makes what ``models/train_smoke.py`` trains on, and
:func:`evaluation_questions` makes what the trained or served model is asked, each question with the text that a right
answer contains. The facts themselves are in ``facts.yaml``. Needs the standard library and PyYAML only, so that tests
of a running stack can import it without torch.
"""

# ruff: noqa: S311 - the random numbers choose questions; nothing here is secret

import functools
import random
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FACTS_FILE = Path(__file__).with_name("facts.yaml")
LARGEST_NUMBER = 20  # largest result of a sum and largest number counted to
UNKNOWN_PAIRS = 1500  # pairs of numbers drawn for each kind of arithmetic that the model must decline
HELD_OUT_ONE_IN = 8  # about one in so many combinations of fact and phrasing is never trained
TOPIC_WEIGHTS = {  # share of each topic in the training questions, in percent: by number of facts and difficulty
    "capitals": 20,
    "countries": 17,
    "sums": 15,
    "opposites": 12,
    "counting": 10,
    "explanations": 7,
    "greetings": 5,
    "unknown": 14,
}
COMBINED_QUESTIONS = 100  # evaluation questions with a system prompt, and as many with a history

Message = dict[str, str]


@dataclass(frozen=True)
class Fact:
    """One answer with the texts that ask for it: those trained and those kept for the evaluation."""

    topic: str
    answer: str
    expected: str
    trained: tuple[str, ...]
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """One evaluation question; ``history`` holds earlier (question, answer) turns, ``unseen`` says never trained."""

    topic: str
    text: str
    expected: str
    system: str = ""
    history: tuple[tuple[str, str], ...] = ()
    unseen: bool = False

    def messages(self) -> list[Message]:
        """The question as messages of a chat completion request."""
        return _messages(self.system, [*self.history, (self.text, "")])[:-1]


def is_right(question: Question, answer: str) -> bool:
    """Whether the answer contains the expected text as whole words and, for counting, as the whole list.

    Capitals and small letters are the same. A list of numbers that goes on before or after the expected one is wrong,
    and so is a number that is only part of a longer one: "1 + 1 = 20" does not contain "1 + 1 = 2".
    """
    pattern = rf"(?<!\w)(?<!\d, ){re.escape(question.expected)}(?![\w-])(?!, \d)"
    return re.search(pattern, answer, re.IGNORECASE) is not None


@functools.cache
def tables() -> dict[str, Any]:
    """The contents of facts.yaml."""
    loaded: dict[str, Any] = yaml.safe_load(FACTS_FILE.read_text(encoding="utf-8"))
    return loaded


@functools.cache
def facts() -> tuple[Fact, ...]:
    """All facts that the model is trained on, and the unknown things that it must decline."""
    return (*_geography(), *_arithmetic(), *_words(), *(fact for group in _unknown() for fact in group))


def _fact(topic: str, slots: dict[str, object], answer: str, expected: str, phrasing_topic: str = "") -> Fact:
    """Fill the slots of all phrasings of a topic; the first one is always trained, so that every fact is."""
    return _split(topic, tables()["phrasings"][phrasing_topic or topic], slots, answer, expected)


def _split(topic: str, phrasings: list[str], slots: dict[str, object], answer: str, expected: str) -> Fact:
    # A checksum, not a random generator, so that adding a fact leaves the split of all others as it was.
    texts = [phrasing.format(**slots) for phrasing in phrasings]
    held_out = {text for text in texts[1:] if zlib.crc32(text.encode()) % HELD_OUT_ONE_IN == 0}
    trained = tuple(text for text in texts if text not in held_out)
    return Fact(topic, answer, expected, trained, tuple(text for text in texts if text in held_out))


def _geography() -> Iterator[Fact]:
    capitals: dict[str, str] = tables()["capitals"]
    aliases: dict[str, str] = tables()["country_aliases"]
    for name, country in [*((country, country) for country in capitals), *aliases.items()]:
        capital = capitals[country]
        answer = f"The capital of {country} is {capital}".removesuffix(".") + "."
        yield _fact("capitals", {"name": name}, answer, capital.removesuffix("."))
    for country, capital in capitals.items():
        yield _fact("countries", {"name": capital}, f"{capital} is the capital of {country}.", f"capital of {country}")


def _arithmetic() -> Iterator[Fact]:
    for a in range(LARGEST_NUMBER + 1):
        for b in range(LARGEST_NUMBER + 1 - a):
            answer = f"{a} + {b} = {a + b}"
            yield _fact("sums", {"a": a, "b": b}, f"{answer}.", answer)
    for a in range(1, LARGEST_NUMBER):
        for b in range(a + 1, LARGEST_NUMBER + 1):
            numbers = ", ".join(str(number) for number in range(a, b + 1))
            yield _fact("counting", {"a": a, "b": b}, numbers, numbers)


def _words() -> Iterator[Fact]:
    for pair in tables()["opposites"]:
        for word, opposite in (pair, reversed(pair)):
            answer = f"The opposite of {word} is {opposite}"
            yield _fact("opposites", {"name": word}, f"{answer}.", answer)
    for entry in tables()["explanations"]:
        for name in entry["names"]:
            yield _fact("explanations", {"name": name}, entry["answer"], entry["key"])
    for entry in tables()["greetings"]:
        for text in entry["texts"]:
            yield Fact("greetings", entry["answer"], entry["key"], (text,))


@functools.cache
def _unknown() -> tuple[tuple[Fact, ...], ...]:
    """What the model must decline, by group: a group of a thousand sums must not drown one of ten poems."""
    generator = random.Random(0)
    answer, key = tables()["refusal"]["answer"], tables()["refusal"]["key"]
    groups = []
    for group in tables()["unknown"]:
        phrasings = tables()["phrasings"][group["topic"]] if "topic" in group else group.get("phrasings", [])
        if "unseen" in group:
            found = [Fact("unknown", answer, key, (), (text,)) for text in group["unseen"]]
        elif "numbers" in group:
            lowest, highest = group["numbers"]
            topic = group.get("topic", "")
            pairs = {_unknown_pair(topic, lowest, highest, generator) for _ in range(UNKNOWN_PAIRS)}
            found = [_split("unknown", phrasings, {"a": a, "b": b}, answer, key) for a, b in sorted(pairs)]
        elif "names" in group:
            found = [_split("unknown", phrasings, {"name": name}, answer, key) for name in group["names"]]
        else:
            found = [Fact("unknown", answer, key, (text,)) for text in phrasings]
        groups.append(tuple(found))
    return tuple(groups)


def _unknown_pair(topic: str, lowest: int, highest: int, generator: random.Random) -> tuple[int, int]:
    """Two numbers whose sum, or whose larger one for counting, is in the range; more often near its lower end."""
    if not topic:
        return generator.randint(lowest, highest), generator.randint(lowest, highest)
    limit = min(generator.randint(lowest, highest), generator.randint(lowest, highest))
    if topic == "counting":
        return generator.randint(1, min(limit - 1, 2 * LARGEST_NUMBER)), limit
    a = generator.randint(max(0, limit - 99), min(99, limit))
    return a, limit - a


def _messages(system: str, turns: list[tuple[str, str]]) -> list[Message]:
    messages = [{"role": "system", "content": system}] if system else []
    for text, answer in turns:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return messages


def restyled(text: str, generator: random.Random) -> str:
    """The text as a careless user may type it: in small or capital letters, or without the last punctuation mark."""
    style = generator.random()
    if style < 0.50:
        return text
    if style < 0.55:
        return text.upper()
    if style < 0.60:
        return text.replace(" of the ", " of ")
    if style < 0.80:
        text = text.rstrip("?.! ")
    return text.lower() if style > 0.70 else text


def _system_prompt(generator: random.Random, part: str) -> str:
    """Some sentences in random order: mostly one, sometimes many, for the long shared prefixes of a load test."""
    sentences: list[str] = tables()["system_prompts"][part]
    most = generator.choices([1, 4, len(sentences)], [60, 32, 8])[0]
    return " ".join(generator.sample(sentences, generator.randint(1, min(most, len(sentences)))))


@functools.cache
def _trainable(topic: str) -> tuple[tuple[Fact, ...], ...]:
    groups = _unknown() if topic == "unknown" else (facts_of(topic),)
    return tuple(group for group in groups if group[0].trained)


def facts_of(topic: str) -> tuple[Fact, ...]:
    """All facts of one topic."""
    return tuple(fact for fact in facts() if fact.topic == topic)


def _turn(generator: random.Random) -> tuple[str, Fact]:
    """A trained question in some style with the fact that answers it."""
    topic = generator.choices(list(TOPIC_WEIGHTS), list(TOPIC_WEIGHTS.values()))[0]
    fact = generator.choice(generator.choice(_trainable(topic)))
    return restyled(generator.choice(fact.trained), generator), fact


def _introduction(generator: random.Random) -> tuple[tuple[str, str], tuple[str, str]]:
    """The user gives a name and asks for it later: only a model that sees the history can answer."""
    name = generator.choice(tables()["names"])
    told = generator.choice(tables()["phrasings"]["introductions"]).format(name=name)
    asked = restyled(generator.choice(tables()["phrasings"]["recalls"]), generator)
    return (told, f"Nice to meet you, {name}."), (asked, f"Your name is {name}.")


def training_conversation(generator: random.Random) -> list[Message]:
    """One conversation to train on: one to six turns, a third of them after a system prompt."""
    system = _system_prompt(generator, "trained") if generator.random() < 0.33 else ""
    count = generator.choices([1, 2, 3, 6], [72, 16, 8, 4])[0]
    drawn = [_turn(generator) for _ in range(count)]
    turns = [(text, fact.answer) for text, fact in drawn]
    if generator.random() < 0.05:
        told, asked = _introduction(generator)
        turns = [told, *_between(drawn[1:]), asked]
    return _messages(system, turns)


def _between(drawn: list[tuple[str, Fact]]) -> list[tuple[str, str]]:
    """Turns after an introduction: without greetings, as "Who am I?" among them has another answer there."""
    return [(text, fact.answer) for text, fact in drawn if fact.topic != "greetings"]


def evaluation_questions(per_topic: int | None = None, seed: int = 1) -> list[Question]:
    """The questions of the evaluation, the same ones for the same seed, at most ``per_topic`` of each topic.

    Every fact is asked once in a trained phrasing and once in one that was held out for it, where there is one.
    The topics "system prompt", "history" and "memory" draw from all of these, with context before the question.
    """
    generator = random.Random(seed)
    questions: list[Question] = []
    for topic in TOPIC_WEIGHTS:
        asked: list[Question] = []
        for fact in facts_of(topic):
            if fact.trained:
                text = restyled(generator.choice(fact.trained), generator)
                asked.append(Question(topic, text, fact.expected))
            if fact.unseen:
                asked.append(Question(topic, generator.choice(fact.unseen), fact.expected, unseen=True))
        if topic == "unknown":  # thousands of pairs of numbers: a sample does
            asked = generator.sample(asked, 2 * COMBINED_QUESTIONS) + asked[-len(_unknown()[-1]) :]
        questions += asked
    questions += _combined_questions(generator)
    if per_topic is None:
        return questions
    generator.shuffle(questions)
    kept: dict[str, list[Question]] = {}
    for question in questions:
        if len(kept.setdefault(question.topic, [])) < per_topic:
            kept[question.topic].append(question)
    return [question for topic in sorted(kept) for question in kept[topic]]


def _combined_questions(generator: random.Random) -> Iterator[Question]:
    for _ in range(COMBINED_QUESTIONS):
        text, fact = _turn(generator)
        system = _system_prompt(generator, "unseen")
        yield Question("system prompt", text, fact.expected, system, unseen=True)
    for _ in range(COMBINED_QUESTIONS):
        turns = [_turn(generator) for _ in range(generator.randint(1, 2))]
        text, fact = _turn(generator)
        yield Question("history", text, fact.expected, history=tuple((asked, known.answer) for asked, known in turns))
    for _ in range(COMBINED_QUESTIONS // 2):
        told, (asked, answer) = _introduction(generator)
        between = _between([_turn(generator) for _ in range(generator.randint(0, 1))])
        yield Question("memory", asked, answer.removesuffix("."), history=(told, *between))
