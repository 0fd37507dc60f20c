"""vLLM in this process, without a server: all prompts at once, as fast as the machine gives them."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from vllmstack.deployment.options import option_list
from vllmstack.errors import HostError, InvalidInput, Problem, StackError
from vllmstack.serving.client import Answer
from vllmstack.serving.engine import import_vllm, planned

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

BATCHED_TOKENS = 8192
"""Tokens a step, unless ``max_num_batched_tokens`` says otherwise: vLLM's own on most GPUs, in this use."""

Prompt = str | Sequence[dict[str, Any]]
"""A text that the model goes on with, or a chat's messages, which go through the model's own chat template."""


def create_llm(model: str, **kwargs: Any) -> "LLM":
    """A model in this process, with what :mod:`vllmstack.planning.engine_defaults` says for this machine.

    Left out, ``tensor_parallel_size`` is the fewest GPUs that the model fits on, ``max_model_len`` the model's own or
    the longest that fits, ``gpu_memory_utilization`` what others leave of the GPU, and on CPU cores
    ``kv_cache_memory_bytes`` enough for 16 sequences. Each answer's times are kept (``disable_log_stats=False``).

    Args:
        model: A model's folder, or its id on the hub.
        **kwargs: Any of vLLM's own for ``LLM``: ``dtype``, ``quantization``, ``enforce_eager``, ``max_num_seqs``, …

    Raises:
        InvalidInput: the model is none or does not fit, or an option is none or cannot have that value.
        HostError: vLLM is not installed, or it did not start; in vLLM's words.
    """
    import_vllm()
    from vllm import LLM  # noqa: PLC0415 # seconds, and only offline generation needs it

    given = dict(kwargs)
    if given.get("enable_chunked_prefill") is not False:
        # On large GPUs vLLM's own for LLM is 16,384, twice a server's: the plan must know what it counts with.
        given.setdefault("max_num_batched_tokens", BATCHED_TOKENS)
    options = {"disable_log_stats": False, **planned(model, given)}
    try:
        return LLM(model, **options)
    except TypeError as error:
        hint = f"these are the options of `vllm serve` {option_list().release}, written with `_`"
        raise InvalidInput(Problem(fact=f"vLLM takes no such option: {error}", hint=hint)) from error
    except ValueError as error:  # pydantic's and vLLM's own checks
        hint = "mend what it names; `vllmstack.serving.calculate_memory_usage` tells what fits"
        raise InvalidInput(Problem(fact=f"vLLM refuses {model}: {error}", hint=hint)) from error
    except (RuntimeError, OSError) as error:
        hint = "what it printed above names the cause"
        raise HostError(Problem(fact=f"vLLM did not start with {model}: {error}", hint=hint)) from error


def generate_offline(
    llm: "LLM",
    prompts: Prompt | Sequence[Prompt],
    params: "SamplingParams | None" = None,
    *,
    progress: bool = False,
) -> list[Answer]:
    """One answer for each prompt, in their order; vLLM batches them as memory allows.

    Args:
        llm: From :func:`create_llm`.
        prompts: Texts to go on with, or chats (lists of messages); a single one of either is a list of one.
        params: From :func:`create_sampling_params`; the model's own defaults if left out. Of ``n`` above 1 there would
            be several answers: ask ``llm.generate`` itself.
        progress: Shows vLLM's progress bar.

    Returns:
        Answers, whose ``ttft_seconds`` and ``seconds`` count from when all of them were handed over, waiting included;
        ``ttft_seconds`` is None for an engine that keeps no times.

    Raises:
        InvalidInput: a prompt is too long, texts and chats are mixed, or ``n`` is above 1.
        StackError: the engine died.
    """
    from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415 # whoever has an LLM has paid for vLLM

    wanted = _listed(prompts)
    if params is not None and params.n > 1:
        fact = f"n={params.n} asks for several answers a prompt"
        raise InvalidInput(Problem(fact=fact, hint="ask `llm.generate` itself"))
    if not wanted:
        return []
    texts = [isinstance(prompt, str) for prompt in wanted]
    if any(texts) and not all(texts):
        raise InvalidInput(Problem(fact="texts and chats are mixed", hint="give each kind a call of its own"))
    run: Callable[..., list[RequestOutput]] = llm.generate if texts[0] else llm.chat
    began = time.perf_counter()
    try:
        outputs = run(wanted, params, use_tqdm=progress)
    except ValueError as error:
        hint = "shorten the prompt, or raise `max_model_len` of create_llm"
        raise InvalidInput(Problem(fact=f"vLLM refuses a prompt: {error}", hint=hint)) from None
    except EngineDeadError as error:
        hint = "what it printed above names the cause; then call create_llm again"
        raise StackError(Problem(fact=f"the engine died: {error}", hint=hint)) from error
    seconds = time.perf_counter() - began
    return [_answer(output, seconds) for output in outputs]


def llm_counter(llm: "LLM") -> Callable[[Sequence[dict[str, Any]]], int]:
    """For a ``Conversation`` without a server: counts by the model's own tokenizer and its own chat template."""
    tokenizer = llm.get_tokenizer()

    def count(messages: Sequence[dict[str, Any]]) -> int:
        tokens = tokenizer.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=True, return_dict=False
        )
        return len(tokens)

    return count


def _listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    if prompts and isinstance(prompts[0], dict):  # one chat
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _answer(output: "RequestOutput", seconds: float) -> Answer:
    (first,) = output.outputs
    times = output.metrics
    ttft = times.first_token_latency if times and times.first_token_latency else None
    if times and ttft is not None:
        # Both are the engine's own clock; the first token's latency is this process's.
        seconds = ttft + max(0.0, times.last_token_ts - times.first_token_ts)
    return Answer(
        text=first.text,
        finish_reason=first.finish_reason or "",
        prompt_tokens=len(output.prompt_token_ids or ()),
        output_tokens=len(first.token_ids),
        ttft_seconds=ttft,
        seconds=seconds,
    )
