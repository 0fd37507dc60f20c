"""Bodies of requests, as vLLM's OpenAI endpoints take them."""

from collections.abc import Sequence
from typing import Any

import orjson

from loadtest.workload.chat_template import Message
from loadtest.workload.plan import Turn
from loadtest.workload.scenario import Scenario

STREAM: dict[str, Any] = {
    "stream": True,
    # Counts in each chunk: several tokens may come in one.
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
_TOOL_CHOICES = ("auto", "required", "none")


def chat(scenario: Scenario, model: str, messages: Sequence[Message], turn: Turn, user: str | None) -> bytes:
    """For ``/v1/chat/completions``. vLLM calls ``max_tokens`` deprecated there and takes the newer name first."""
    body: dict[str, Any] = {"model": model, "messages": messages, "max_completion_tokens": turn.completion_tokens}
    if scenario.tools:
        body["tools"] = scenario.tools
        body["tool_choice"] = _tool_choice(scenario.tool_choice)
    return _dumped(body, scenario, turn, user)


def completion(scenario: Scenario, model: str, prompt: str, turn: Turn, user: str | None) -> bytes:
    """For ``/v1/completions``."""
    body = {"model": model, "prompt": prompt, "max_tokens": turn.completion_tokens}
    return _dumped(body, scenario, turn, user)


def embeddings(model: str, inputs: Sequence[str], user: str | None) -> bytes:
    """For ``/v1/embeddings``."""
    body: dict[str, Any] = {"model": model, "input": inputs if len(inputs) > 1 else inputs[0]}
    return orjson.dumps(body | ({"user": user} if user else {}))


def _dumped(body: dict[str, Any], scenario: Scenario, turn: Turn, user: str | None) -> bytes:
    body["temperature"] = scenario.temperature
    if scenario.top_p is not None:
        body["top_p"] = scenario.top_p
    if scenario.seeded:
        body["seed"] = turn.sampling_seed
    if scenario.ignore_eos:
        # Enough for the exact length: vLLM then also ignores the end tokens of the model's generation_config.json.
        body["ignore_eos"] = True
    if scenario.response_format:
        body["response_format"] = scenario.response_format
    if user:
        body["user"] = user
    return orjson.dumps(body | STREAM)


def _tool_choice(choice: str | None) -> str | dict[str, Any]:
    if choice is None or choice in _TOOL_CHOICES:
        return choice or "auto"
    return {"type": "function", "function": {"name": choice}}
