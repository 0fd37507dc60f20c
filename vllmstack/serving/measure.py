"""Throughput and latency of an engine in this process or of a server: a first look, in one call.

What must hold under load is for the load test (`vllmstack load`), which sends in an open loop and says when its figures
must not be believed.
"""

import asyncio
import math
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from vllmstack.errors import InvalidInput, Problem, StackError
from vllmstack.quantiles import quantile
from vllmstack.serving.client import Answer, AsyncClient
from vllmstack.serving.offline import Prompt, generate_offline
from vllmstack.serving.presets import create_sampling_params
from vllmstack.serving.server import Server

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Of seconds. A percentile is the least value that this share of all are at or below."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self | None:
        """None for no values."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        p50, p95, p99 = (quantile(ordered, share) for share in (0.5, 0.95, 0.99))
        return cls(count=len(ordered), mean=math.fsum(ordered) / len(ordered), p50=p50, p95=p95, p99=p99)


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Many requests at a time."""

    requests: int
    """Those that were answered."""
    failed: int
    seconds: float
    """From the first request to the last answer."""
    prompt_tokens: int
    output_tokens: int
    latency: Distribution
    """Of whole answers, waiting included: in a queue, and between tries of what a server refuses for now."""

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def prompt_tokens_per_second(self) -> float:
        """Tokens in."""
        return self.prompt_tokens / self.seconds

    @property
    def output_tokens_per_second(self) -> float:
        """Tokens out."""
        return self.output_tokens / self.seconds


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One request at a time."""

    latency: Distribution
    """Of whole answers."""
    ttft: Distribution | None
    """To the first token; None where nothing came, or an engine keeps no times."""
    tpot: Distribution | None
    """A token after the first; None where no answer has two."""


def measure_throughput(
    engine: "LLM | Server | str",
    prompts: Sequence[Prompt],
    params: "SamplingParams | None" = None,
    *,
    concurrency: int = 64,
    **options: Any,
) -> Throughput:
    """All prompts, once: tokens/s in and out, requests/s, and how long answers took.

    Args:
        engine: From ``create_llm``, from ``start_server``, or any server's base URL with its ``/v1``.
        prompts: As of ``generate_offline``; a server takes a text for a chat's only message.
        params: For an engine in this process.
        concurrency: Requests at a time to a server; an engine in this process gets all of them at once.
        **options: Of each request (``max_tokens``, ``temperature``), instead of ``params``; ``model`` and ``api_key``
            for a server.

    Raises:
        InvalidInput: there is no prompt, or ``params`` and ``options`` do not go with the engine.
        StackError: every request failed; with the first one's reason.
    """
    asked = _prompts(prompts)
    began = time.perf_counter()
    if isinstance(engine, (Server, str)):
        found = _run(_asked(engine, asked, params, concurrency, options))
    else:
        params = _params(params, options)
        began = time.perf_counter()
        found = list(generate_offline(engine, asked, params))
    seconds = time.perf_counter() - began
    answers = _answers(found)
    latency = Distribution.of([answer.seconds for answer in answers])
    assert latency is not None  # noqa: S101 # there is an answer
    return Throughput(
        requests=len(answers),
        failed=len(found) - len(answers),
        seconds=seconds,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        output_tokens=sum(answer.output_tokens for answer in answers),
        latency=latency,
    )


def measure_latency(
    engine: "LLM | Server | str",
    prompts: Prompt | Sequence[Prompt],
    params: "SamplingParams | None" = None,
    *,
    runs: int = 20,
    warmup: int = 2,
    **options: Any,
) -> Latency:
    """One request at a time: mean, p50, p95 and p99 of whole answers, of TTFT and of TPOT, seconds.

    Args:
        engine: As of :func:`measure_throughput`.
        prompts: One, or several that are taken in turns. The same prompt again finds its prefix in the engine's cache,
            if that is on: give different ones to measure prefill.
        params: For an engine in this process.
        runs: Requests that count. A p99 of fewer than 100 is their slowest.
        warmup: Requests before them that do not.
        **options: As of :func:`measure_throughput`.

    Raises:
        InvalidInput: as :func:`measure_throughput`, or ``runs`` is less than 1.
        StackError: a request failed.
    """
    several = [prompts] if isinstance(prompts, str) or (prompts and isinstance(prompts[0], dict)) else prompts
    asked = _prompts(several)  # type: ignore[arg-type]
    if runs < 1 or warmup < 0:
        raise InvalidInput(Problem(fact=f"runs={runs}, warmup={warmup} measures nothing", hint="write runs=20"))
    turns = [asked[number % len(asked)] for number in range(warmup + runs)]
    if isinstance(engine, (Server, str)):
        found = _run(_asked(engine, turns, params, 1, options))
    else:
        params = _params(params, options)
        found = [answer for prompt in turns for answer in generate_offline(engine, [prompt], params)]
    for one in found:
        if isinstance(one, StackError):
            raise one
    answers = _answers(found)[warmup:]
    latency = Distribution.of([answer.seconds for answer in answers])
    assert latency is not None  # noqa: S101 # runs is 1 at least
    return Latency(
        latency=latency,
        ttft=Distribution.of([one.ttft_seconds for one in answers if one.ttft_seconds is not None]),
        tpot=Distribution.of([one.tpot_seconds for one in answers if one.tpot_seconds is not None]),
    )


def _prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str) or not prompts:
        fact = "one text is no list of prompts" if prompts else "there is no prompt to measure with"
        raise InvalidInput(Problem(fact=fact, hint='give a list of them: ["What is …?", "Why …?"]'))
    return list(prompts)


def _params(params: "SamplingParams | None", options: dict[str, Any]) -> "SamplingParams":
    if params is not None and options:
        fact = f"params and {', '.join(options)} are both given"
        raise InvalidInput(Problem(fact=fact, hint="put it into create_sampling_params"))
    return params if params is not None else create_sampling_params(**options)


async def _asked(
    engine: Server | str,
    prompts: Sequence[Prompt],
    params: "SamplingParams | None",
    concurrency: int,
    options: dict[str, Any],
) -> list[Answer | StackError]:
    if params is not None:
        hint = "write what they hold as options of the request: max_tokens=100, temperature=0"
        raise InvalidInput(Problem(fact="a server takes no SamplingParams", hint=hint))
    url, key = (engine, None) if isinstance(engine, str) else (engine.base_url, engine.api_key)
    key = options.pop("api_key", key)
    async with AsyncClient(url, api_key=key, connections=concurrency) as client:
        return await client.chat_all(prompts, at_a_time=concurrency, **options)


def _answers(found: Sequence[Answer | StackError]) -> list[Answer]:
    answers = [one for one in found if isinstance(one, Answer)]
    if not answers:
        raise next(one for one in found if isinstance(one, StackError))
    return answers


def _run(asking: Coroutine[Any, Any, Result]) -> Result:
    """Also where a loop runs already, as in a notebook: that one must not wait for this."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, asking).result()
