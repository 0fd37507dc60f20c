"""Offline generation: what vLLM is asked, and what becomes of its answers and errors."""

from pathlib import Path
from typing import Any

import pytest

from vllmstack.deployment.presets import PRESETS
from vllmstack.errors import HostError, InvalidInput, StackError, VllmstackError
from vllmstack.serving import create_llm, create_sampling_params, generate_offline, llm_counter, presets

CHAT = [{"role": "user", "content": "hi"}]


@pytest.fixture
def llm(fake_vllm: Path, model: str) -> Any:
    return create_llm(model)


def test_an_engine_gets_what_the_plan_chose_and_what_was_given(fake_vllm: Path, model: str) -> None:
    made: Any = create_llm(model, dtype="float32", max_model_len=128)

    assert made.model == model
    assert made.options == {
        "disable_log_stats": False, "kv_cache_memory_bytes": 256 << 20, "dtype": "float32", "max_model_len": 128,
        "max_num_batched_tokens": 8192,
    }  # fmt: skip


def test_prefill_in_one_piece_is_batched_as_vllm_does(fake_vllm: Path, model: str) -> None:
    made: Any = create_llm(model, enable_chunked_prefill=False)

    assert "max_num_batched_tokens" not in made.options


@pytest.mark.parametrize(
    ("options", "kind", "fact"),
    [
        ({"nonsense": 1}, InvalidInput, "vLLM takes no such option: .*'nonsense'"),
        ({"load_format": "broken"}, InvalidInput, "vLLM refuses .*: load_format must be one of"),
        ({"dtype": "broken"}, InvalidInput, "dtype: "),
        ({"seed": 13}, HostError, r"vLLM did not start with .*: Engine core initialization failed\."),
        ({"max_model_len": "many"}, InvalidInput, 'max_model_len: "many" is text'),
    ],
)
def test_an_engine_that_does_not_start_is_told(
    fake_vllm: Path, model: str, options: dict[str, Any], kind: type[VllmstackError], fact: str
) -> None:
    with pytest.raises(kind, match=fact):
        create_llm(model, **options)


def test_texts_and_chats_are_answered_in_their_order(llm: Any) -> None:
    texts = generate_offline(llm, ["one", "two"])
    chats = generate_offline(llm, [CHAT, [{"role": "user", "content": "ho"}]])

    assert [answer.text for answer in (*texts, *chats)] == ["ONE", "TWO", "HI", "HO"]
    assert llm.calls == [("generate", 2), ("chat", 2)]
    assert (texts[0].prompt_tokens, texts[0].output_tokens, texts[0].finish_reason) == (3, 5, "stop")


def test_one_text_and_one_chat_are_lists_of_one(llm: Any) -> None:
    assert [answer.text for answer in generate_offline(llm, "one")] == ["ONE"]
    assert [answer.text for answer in generate_offline(llm, CHAT)] == ["HI"]
    assert generate_offline(llm, []) == []


def test_times_are_the_engines_own(llm: Any) -> None:
    (answer,) = generate_offline(llm, "one")

    assert (answer.ttft_seconds, answer.seconds, answer.tpot_seconds) == (0.5, 2.5, 0.5)


def test_without_the_engines_times_there_is_the_whole_calls(fake_vllm: Path, model: str) -> None:
    (answer,) = generate_offline(create_llm(model, disable_log_stats=True), "one")

    assert answer.ttft_seconds is None
    assert 0 < answer.seconds < 5


@pytest.mark.parametrize(
    ("prompts", "kind", "fact"),
    [
        (["one", CHAT], InvalidInput, "texts and chats are mixed"),
        (["long"], InvalidInput, "vLLM refuses a prompt: The decoder prompt"),
        (["dead"], StackError, "the engine died: EngineCore encountered an issue"),
    ],
)
def test_what_cannot_be_answered_is_told(llm: Any, prompts: list[Any], kind: type[VllmstackError], fact: str) -> None:
    with pytest.raises(kind, match=fact):
        generate_offline(llm, prompts)


def test_several_answers_a_prompt_are_not_dropped_in_silence(llm: Any) -> None:
    with pytest.raises(InvalidInput, match="n=2 asks for several answers"):
        generate_offline(llm, ["one"], create_sampling_params(n=2))


def test_a_chats_tokens_are_counted_by_the_models_own_template(llm: Any) -> None:
    assert llm_counter(llm)([*CHAT, *CHAT]) == 20


def test_sampling_has_the_defaults_that_it_names(fake_vllm: Path) -> None:
    made: Any = create_sampling_params()
    other: Any = create_sampling_params(0.1, top_k=5)

    assert made.given == {"temperature": 0.8, "top_p": 0.95, "max_tokens": 100}
    assert other.given == {"temperature": 0.1, "top_p": 0.95, "max_tokens": 100, "top_k": 5}


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"temperature": -1}, "temperature must be non-negative"),
        ({"max_token": 5}, "no `max_token`\n  hint: Perhaps you meant `max_tokens`"),
        ({"_x": 5}, "no `_x`"),
    ],
)
def test_a_parameter_that_cannot_be_is_told(fake_vllm: Path, options: dict[str, Any], fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        create_sampling_params(**options)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_of_deployments_is_there(fake_vllm: Path, name: str) -> None:
    made: Any = getattr(presets, name)(max_tokens=7, temperature=0.3)

    assert made.given == {**PRESETS[name].parameters, "max_tokens": 7, "temperature": 0.3} | (
        {} if "top_p" in PRESETS[name].parameters else {"top_p": 0.95}
    )
    assert getattr(presets, name).__doc__
