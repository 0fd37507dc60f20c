"""The client's totals against the engines' own over the same run: warm-up, window and drain."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from loadtest.clock.histogram_data import HistogramData
from loadtest.results import EngineDelta, Flag, RunResult, Series, WholeRun
from loadtest.trust.wording import milliseconds

RELATIVE_DIFFERENCE = 0.20
TIME_DIFFERENCE_SECONDS = 0.020
"""Between client and engines, of mean TTFT and end-to-end time, the larger of the two: network, gateway, HTTP and
tokenizing together take a few milliseconds."""

STEP_DIFFERENCE_SECONDS = 0.002
"""The same between mean inter-token latencies, which nothing in between should change."""

CLOCK_TOLERANCE_RATIO = 0.02
CLOCK_TOLERANCE_SECONDS = 0.002
"""How far below the engines' mean a client's may be: both count some requests that the other does not."""

COUNT_WARNING_RATIO = 0.01
"""A smaller difference between counts is a note: it moves no figure that anyone reads."""

LONGER_IF_UNFINISHED = 2.0
"""How much longer than the longest that succeeded a request may be that did not."""

SAME_REQUESTS_RATIO = 0.05
"""Means are compared where both are of the same requests but for so many."""


@dataclass(frozen=True, kw_only=True)
class _Engines:
    """All engines of the run's model together."""

    requests: float
    prompt_tokens: float
    generation_tokens: float
    prefix_hits: float
    means: dict[str, float | None]


def reconcile(result: RunResult) -> list[Flag]:
    """What does not fit together, with both numbers. Empty if all fits, or if not every engine could be read.

    ``result.whole`` and ``result.engines`` must be of the same span: from before the first request until after the last
    answer. Counts agree exactly but for requests that failed or were abandoned: an engine may have worked on them
    without the client's knowing how much.
    """
    names = {model.name for model in result.environment.models}
    engines = [one for one in result.engines if one.model in names or not names]
    replicas = sum(model.replicas for model in result.environment.models)
    if not engines or len(engines) < replicas or any(one.restarted for one in engines) or not result.whole.sent:
        return []
    both = _together(engines)
    if result.whole.ok and not both.requests:
        return [_other_engines(result.whole, engines)]
    counts = list(_counts(result, both))
    if any(flag.severity == "warning" for flag in counts):
        return counts  # whoever else was served is in the engines' means too
    return [*counts, *_times(result, both)]


def _together(engines: Sequence[EngineDelta]) -> _Engines:
    def mean(name: str, weights: Iterable[float]) -> float | None:
        pairs = [
            (seconds, weight)
            for one, weight in zip(engines, weights, strict=True)
            if (seconds := one.mean_seconds.get(name)) is not None and weight > 0
        ]
        total = sum(weight for _, weight in pairs)
        return sum(seconds * weight for seconds, weight in pairs) / total if total else None

    requests = [one.requests for one in engines]
    # An engine's first token of each request is no step after another.
    steps = [one.generation_tokens - one.requests for one in engines]
    return _Engines(
        requests=sum(requests),
        prompt_tokens=sum(one.prompt_tokens for one in engines),
        generation_tokens=sum(one.generation_tokens for one in engines),
        prefix_hits=sum(one.prefix_hits for one in engines),
        means={"ttft": mean("ttft", requests), "e2e": mean("e2e", requests), "itl": mean("itl", steps)},
    )


def _other_engines(whole: WholeRun, engines: Sequence[EngineDelta]) -> Flag:
    return _flag(
        "warning",
        f"the client had {whole.ok:,} whole answers, and {', '.join(one.replica for one in engines)} finished none",
        "another server was measured than the one whose metrics were read: compare the URL with the deployment",
    )


def _counts(result: RunResult, engines: _Engines) -> Iterator[Flag]:
    whole = result.whole
    unfinished = whole.sent - whole.ok
    prompts = _unknown(unfinished, result.total.lengths_prompt)
    answers = _unknown(unfinished, result.total.lengths_completion)
    rows = (
        ("prompt tokens", whole.prompt_tokens, engines.prompt_tokens, prompts),
        ("output tokens", whole.completion_tokens, engines.generation_tokens, answers),
    )
    surplus = False
    for what, client, engine, unknown in rows:
        surplus = surplus or engine > client + unknown
        yield from _count(what, client, engine, unknown)
    # One request of a client can be several of an engine (a list of prompts, `n`): then the tokens still agree.
    if engines.requests < whole.ok or surplus:
        yield from _count("finished requests", whole.ok, engines.requests, unfinished)
    cached, hits = whole.cached_tokens, engines.prefix_hits
    if cached and abs(cached - hits) > COUNT_WARNING_RATIO * engines.prompt_tokens + prompts:
        fact = f"answers spoke of {cached:,} cached prompt tokens, the engines counted {hits:,.0f}"
        yield _flag("note", fact, "caches outside the engines are in the first figure alone")


def _unknown(unfinished: int, lengths: HistogramData) -> float:
    """What the engines may have worked on without a whole answer, at most, in tokens; those that fail may be long."""
    if not unfinished:
        return 0.0
    return math.inf if lengths.maximum is None else unfinished * LONGER_IF_UNFINISHED * lengths.maximum


def _count(what: str, client: float, engines: float, unknown: float) -> Iterator[Flag]:
    """``unknown``: what unfinished requests may have cost at most."""
    if client <= engines <= client + unknown:
        return
    difference = engines - client
    ratio = abs(difference) / max(client, 1)
    severity: Literal["warning", "note"] = "warning" if ratio > COUNT_WARNING_RATIO else "note"
    fact = f"{what}: the client counted {client:,.0f}, the engines {engines:,.0f} ({difference:+,.0f})"
    if difference > 0:
        hint = "someone else used the engines during the run: measure when nobody does"
    else:
        hint = "answers came from elsewhere, or are counted wrongly: are all replicas behind the gateway in stack.json?"
    yield _flag(severity, fact, hint)


def _times(result: RunResult, engines: _Engines) -> Iterator[Flag]:
    whole = result.whole
    if whole.ttft_count and _same(whole.ttft_count, engines.requests):
        client = whole.ttft_sum_seconds / whole.ttft_count
        yield from _outside("TTFT", client, engines.means["ttft"])
    if whole.ok and _same(whole.ok, engines.requests):
        yield from _outside("end-to-end time", whole.e2e_sum_seconds / whole.ok, engines.means["e2e"])
    if whole.ttft_count and _same(whole.ttft_count, engines.requests):
        yield from _steps(result, engines.means["itl"])


def _same(client: float, engines: float) -> bool:
    return abs(client - engines) <= SAME_REQUESTS_RATIO * engines


def _outside(what: str, client: float, engine: float | None) -> Iterator[Flag]:
    """Of a time that holds the engine's own and all that lies between."""
    if engine is None:
        return
    between = client - engine
    numbers = f"mean {what}: {milliseconds(client)} at the client, {milliseconds(engine)} in the engines"
    if between < -max(CLOCK_TOLERANCE_RATIO * engine, CLOCK_TOLERANCE_SECONDS):
        yield _flag(
            "warning",
            f"{numbers}: the client saw less than the engines took",
            "a clock starts too late, or the engines' mean holds slower requests of someone else",
        )
    elif between > max(RELATIVE_DIFFERENCE * engine, TIME_DIFFERENCE_SECONDS):
        yield _flag(
            "warning",
            f"{numbers}: {milliseconds(between)} lie between them",
            "the network, the gateway, tokenizing in the API server, or the client: see its event loop's lag",
        )


def _steps(result: RunResult, engine: float | None) -> Iterator[Flag]:
    """An engine's inter-token latency is one of its steps; with speculation that is a chunk of several tokens."""
    speculative = any("speculative_config" in model.options for model in result.environment.models)
    name, client = _step_mean(result.total, speculative=speculative)
    if engine is None or client is None:
        return
    if abs(client - engine) > max(RELATIVE_DIFFERENCE * engine, STEP_DIFFERENCE_SECONDS):
        yield _flag(
            "warning",
            f"mean {name}: {milliseconds(client)} at the client, {milliseconds(engine)} in the engines",
            "tokens were held back on the way (is a proxy buffering?), or the load during warm-up was another",
        )


def _step_mean(total: Series, *, speculative: bool) -> tuple[str, float | None]:
    seen = total.latencies.inter_chunk if speculative else total.latencies.itl
    return "time between chunks" if speculative else "ITL", seen.sum / seen.count if seen.count else None


def _flag(severity: Literal["warning", "note"], fact: str, hint: str) -> Flag:
    return Flag(kind="reconciliation", severity=severity, fact=fact, hint=hint)
