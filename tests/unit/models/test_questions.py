"""Tests of the smoke model's questions and of its committed files; no torch needed."""

import json
import random
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from models import questions
from models.questions import Question, evaluation_questions, facts, facts_of, is_right, tables, training_conversation

SMOKE_MODEL = Path(questions.__file__).parent / "smoke"
LARGEST_SIZE = 8_000_000  # bytes of the whole folder
EXPECTED_FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


def settings(name: str) -> dict[str, Any]:
    """One of the JSON files of the model."""
    loaded: dict[str, Any] = json.loads((SMOKE_MODEL / name).read_text(encoding="utf-8"))
    return loaded


def plain(text: str) -> str:
    """The text without the differences that the styles of a question make."""
    return text.lower().rstrip("?.!")


def test_there_are_enough_facts() -> None:
    """The numbers that the README states are lower limits."""
    assert len(tables()["capitals"]) >= 100
    assert len(set(tables()["capitals"].values())) == len(tables()["capitals"])
    assert len(tables()["opposites"]) >= 60
    assert len(facts_of("sums")) == sum(range(1, 22))  # a + b <= 20 from zero
    assert len(facts_of("counting")) == sum(range(1, 20))
    named = {name.removeprefix("the ").lower() for entry in tables()["explanations"] for name in entry["names"]}
    assert named >= {
        *("continuous batching", "pagedattention", "kv cache", "ttft", "tpot", "itl"),
        *("prefill", "decode", "tensor parallelism", "prefix caching"),
    }


def test_no_word_has_two_opposites() -> None:
    """A word in two pairs would make its question ambiguous."""
    words = [word for pair in tables()["opposites"] for word in pair]
    assert all(isinstance(word, str) for word in words), "YAML read a word as a boolean"
    assert len(words) == len(set(words))


def test_no_question_has_two_answers() -> None:
    """Not even when it is asked in small letters and without its punctuation."""
    answers: dict[str, str] = {}
    for fact in facts():
        for text in (*fact.trained, *fact.unseen):
            assert answers.setdefault(plain(text), fact.answer) == fact.answer, text


def test_every_answer_is_right_by_its_own_check() -> None:
    """The text looked for is in the answer that is trained."""
    for fact in facts():
        assert is_right(Question(fact.topic, "", fact.expected), fact.answer), fact


def test_wrong_facts_are_found_wrong() -> None:
    """The answer to one fact of a topic does not pass as the answer to another one."""
    for topic in ("capitals", "countries", "sums", "opposites", "counting"):
        known = facts_of(topic)
        for fact in known:
            others = {other.answer for other in known} - {fact.answer}
            assert not any(is_right(Question(topic, "", fact.expected), other) for other in others), fact


@pytest.mark.parametrize(
    ("expected", "answer", "right"),
    [
        ("Paris", "The capital of France is Paris.", True),
        ("Paris", "the capital is PARIS", True),
        ("Paris", "Comparison", False),
        ("Paris", "", False),
        ("1 + 1 = 2", "1 + 1 = 2.", True),
        ("1 + 1 = 2", "1 + 1 = 20.", False),
        ("1 + 1 = 2", "11 + 1 = 2.", False),
        ("3, 4, 5", "3, 4, 5", True),
        ("3, 4, 5", "Sure: 3, 4, 5.", True),
        ("3, 4, 5", "3, 4, 5, 6", False),
        ("3, 4, 5", "2, 3, 4, 5", False),
        ("of Guinea", "Conakry is the capital of Guinea-Bissau.", False),
        ("Washington, D.C", "It is Washington, D.C.", True),
    ],
)
def test_is_right(expected: str, answer: str, right: bool) -> None:
    """Whole words and whole lists, in capital or small letters."""
    assert is_right(Question("any", "?", expected), answer) is right


def test_the_evaluation_is_the_same_every_time() -> None:
    """A fixed seed and frozen questions; another seed gives other phrasings."""
    assert evaluation_questions() == evaluation_questions()
    assert evaluation_questions() != evaluation_questions(seed=2)


def test_the_evaluation_asks_every_fact() -> None:
    """Each fact of each topic at least once; of the thousands of unknown things only a sample."""
    asked = evaluation_questions()
    for topic in questions.TOPIC_WEIGHTS:
        if topic != "unknown":
            assert {q.expected for q in asked if q.topic == topic} == {fact.expected for fact in facts_of(topic)}
    assert {"system prompt", "history", "memory", "unknown"} <= {question.topic for question in asked}


def test_a_sample_has_all_topics() -> None:
    """``per_topic`` cuts each topic, and drops none."""
    everything, sample = evaluation_questions(), evaluation_questions(per_topic=3)
    topics = {question.topic for question in everything}
    assert {topic: sum(question.topic == topic for question in sample) for topic in topics} == dict.fromkeys(topics, 3)
    assert set(sample) <= set(everything)


def test_messages_have_system_history_and_question_in_order() -> None:
    """As a chat completion request wants them."""
    question = Question("any", "Who am I?", "Anna", "Be kind.", (("I am Anna.", "Nice to meet you, Anna."),))
    assert [(message["role"], message["content"]) for message in question.messages()] == [
        ("system", "Be kind."),
        ("user", "I am Anna."),
        ("assistant", "Nice to meet you, Anna."),
        ("user", "Who am I?"),
    ]
    assert Question("any", "Hi", "Hello").messages() == [{"role": "user", "content": "Hi"}]


def test_unseen_phrasings_are_never_trained() -> None:
    """Neither by the table of facts nor by what the training draws from it."""
    trained = {plain(text) for fact in facts() for text in fact.trained}
    unseen = {plain(text) for fact in facts() for text in fact.unseen}
    assert not trained & unseen
    assert len(unseen) > 500
    generator = random.Random(3)
    drawn = [message for _ in range(5000) for message in training_conversation(generator) if message["role"] == "user"]
    assert not {plain(message["content"]) for message in drawn} & unseen


def test_conversations_alternate_and_end_with_an_answer() -> None:
    """A system prompt, if any, comes first, and no message is empty."""
    generator = random.Random(4)
    for _ in range(500):
        messages = training_conversation(generator)
        roles = [message["role"] for message in messages]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert turns
        assert all(message["content"] == message["content"].strip() != "" for message in messages)


def test_the_folder_is_complete_and_small() -> None:
    """The model is committed, so it has to stay small; every file can be read by a server under another user."""
    files = list(SMOKE_MODEL.iterdir())
    assert {file.name for file in files} == EXPECTED_FILES
    assert sum(file.stat().st_size for file in files) <= LARGEST_SIZE
    assert all(file.stat().st_mode & 0o004 for file in files)


def test_the_configuration_fits_vllm() -> None:
    """Head size, context length and heads that two GPUs can share."""
    config = settings("config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] == 64
    assert config["num_attention_heads"] * config["head_dim"] == config["hidden_size"]
    assert config["num_attention_heads"] % 2 == config["num_key_value_heads"] % 2 == 0
    assert config["max_position_embeddings"] == settings("tokenizer_config.json")["model_max_length"] == 4096
    assert config["tie_word_embeddings"] is True


def test_special_tokens_agree() -> None:
    """The end of a message ends the answer in all files that say so."""
    tokens = {token["content"]: token["id"] for token in settings("tokenizer.json")["added_tokens"]}
    names = settings("tokenizer_config.json")
    generation, config = settings("generation_config.json"), settings("config.json")
    assert names["eos_token"] == "<|im_end|>"
    for kind in ("bos", "eos", "pad"):
        assert tokens[names[f"{kind}_token"]] == generation[f"{kind}_token_id"] == config[f"{kind}_token_id"]
    assert not {"temperature", "top_p", "top_k"} & set(generation)


def test_the_vocabulary_has_all_bytes_and_single_digits() -> None:
    """Any text can be written in tokens, and a number in one way only."""
    vocabulary = settings("tokenizer.json")["model"]["vocab"]
    assert len(vocabulary) == settings("config.json")["vocab_size"]
    assert sum(len(token) == 1 for token in vocabulary) == 256
    assert not [token for token in vocabulary if re.search(r"\d", token) and len(token) > 1]


def test_the_chat_template_is_chatml() -> None:
    """Every part of the form that the model was trained on."""
    template = (SMOKE_MODEL / "chat_template.jinja").read_text(encoding="utf-8")
    for part in ("<|im_start|>", "<|im_end|>", "add_generation_prompt", "<|im_start|>assistant\\n"):
        assert part in template


def test_the_weights_are_bfloat16() -> None:
    """The header of the safetensors file: every tensor in bfloat16, no output layer beside the tied embedding."""
    content = (SMOKE_MODEL / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    assert {entry["dtype"] for entry in tensors.values()} == {"BF16"}
    assert "model.embed_tokens.weight" in tensors
    assert "lm_head.weight" not in tensors
