"""Sampling parameters for offline generation: one's own, or those that deployments name (`sampling:`).

The values of the presets, and why they are these, are in :mod:`vllmstack.deployment.presets`.
"""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vllmstack.deployment.presets import PRESETS
from vllmstack.errors import InvalidInput, Problem
from vllmstack.serving.engine import import_vllm

if TYPE_CHECKING:
    from vllm import SamplingParams


def create_sampling_params(
    temperature: float = 0.8, top_p: float = 0.95, max_tokens: int = 100, **kwargs: Any
) -> "SamplingParams":
    """How to choose tokens, and how many.

    Args:
        temperature: 0 takes the likeliest token every time; above 1 the unlikely ones come more often than the model
            would have it.
        top_p: Only the likeliest tokens whose probabilities make up this share are drawn from: above 0, at most 1.
        max_tokens: The longest answer, in tokens.
        **kwargs: Any other parameter of vLLM's SamplingParams: ``top_k``, ``min_p``, ``stop``, ``seed``, ``n``,
            ``logprobs``, ``repetition_penalty``, …

    Raises:
        InvalidInput: there is no such parameter, or it cannot have that value; in vLLM's words.
        HostError: vLLM is not installed.
    """
    import_vllm()
    from vllm import SamplingParams  # noqa: PLC0415 # seconds, and only offline generation needs it

    unknown = [name for name in kwargs if name not in SamplingParams.__struct_fields__ or name.startswith("_")]
    if unknown:
        raise InvalidInput([_unknown(name, SamplingParams.__struct_fields__) for name in unknown])
    try:
        return SamplingParams(temperature=temperature, top_p=top_p, max_tokens=max_tokens, **kwargs)
    except (ValueError, TypeError) as error:
        hint = "https://docs.vllm.ai/en/latest/api/vllm/sampling_params lists the parameters"
        raise InvalidInput(Problem(fact=str(error), hint=hint)) from None


def deterministic(max_tokens: int = 100, **kwargs: Any) -> "SamplingParams":
    """Greedy, one answer every time: extraction, classification, evaluation. See :func:`create_sampling_params`."""
    return _preset("deterministic", max_tokens, kwargs)


def balanced(max_tokens: int = 100, **kwargs: Any) -> "SamplingParams":
    """Precise, with words that vary: questions, summaries, assistants. See :func:`create_sampling_params`."""
    return _preset("balanced", max_tokens, kwargs)


def creative(max_tokens: int = 100, **kwargs: Any) -> "SamplingParams":
    """The model's full width without its tail: stories, many drafts. See :func:`create_sampling_params`."""
    return _preset("creative", max_tokens, kwargs)


def code(max_tokens: int = 100, **kwargs: Any) -> "SamplingParams":
    """Near greedy and free to repeat names: writing and completing code. See :func:`create_sampling_params`."""
    return _preset("code", max_tokens, kwargs)


def chat(max_tokens: int = 100, **kwargs: Any) -> "SamplingParams":
    """What Llama's chat models ship with, against loops: conversations. See :func:`create_sampling_params`."""
    return _preset("chat", max_tokens, kwargs)


def _preset(name: str, max_tokens: int, more: dict[str, Any]) -> "SamplingParams":
    return create_sampling_params(**{**PRESETS[name].parameters, "max_tokens": max_tokens, **more})


def _unknown(name: str, known: tuple[str, ...]) -> Problem:
    near = get_close_matches(name, [one for one in known if not one.startswith("_")], n=1)
    hint = f"Perhaps you meant `{near[0]}`?" if near else "leave it out"
    return Problem(fact=f"vLLM's SamplingParams have no `{name}`", hint=hint)
