"""What cannot be, whatever the server: results that contradict themselves, the hardware or the load that was asked."""

from collections.abc import Iterator, Mapping

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import LATENCY_NAMES, Flag, ModelFacts, RunResult, Series
from loadtest.trust.flow import check_flow, check_offered
from loadtest.trust.wording import impossible, milliseconds, physics_flag

FASTER_THAN_MEMORY_RATIO = 0.9
"""Share of the least time a token that a measured median may be: the weights' size is known to a few percent."""

LEAST_TOKENS_FOR_TPOT = 16
"""Median output length from which on the first chunk's delay on the way cannot make a TPOT look short."""

LEAST_TOKENS_FOR_SHORTEST = 64
"""The same for the lowest TPOT of all: the first chunk would have to be late by half of the answer's time."""

CHANCE_HITS_RATIO = 0.05
"""Of the prompt tokens: chat templates begin alike, and a block is 16 to 128 tokens."""

FEW_HITS_RATIO = 0.01

CLOCK_SECONDS = 1e-6
"""Two readings of one clock that are added up in another order."""


def check_physics(result: RunResult, *, expects_prefix_hits: bool) -> list[Flag]:
    """Everything that is wrong with the result in itself, or with the load as it was offered.

    ``expects_prefix_hits``: whether the scenario shares prefixes between requests.
    """
    flags = [*check_offered(result), *check_flow(result)]
    parts = [flag for series in result.series for flag in (*_histograms(series), *_orders(series))]
    # What is wrong with a part is wrong with the whole, and said once.
    flags += parts or [*_histograms(result.total), *_orders(result.total)]
    flags += _lengths(result)
    flags += _chunks(result)
    flags += _memory_bandwidth(result)
    flags += _prefix_hits(result, expects=expects_prefix_hits)
    return flags


def _histograms(series: Series) -> Iterator[Flag]:
    """No latency is negative, and no mean or quantile lies outside what was seen."""
    for name in LATENCY_NAMES:
        data: HistogramData = getattr(series.latencies, name)
        if not data.count or data.minimum is None or data.maximum is None:
            continue
        where = f"{_of(series)}{_title(name)}"
        mean = data.sum / data.count
        slack = 1e-9 + RELATIVE_ERROR * data.maximum
        median, high = (Histogram.of(data).quantile(share) or 0.0 for share in (0.50, 0.99))
        if data.minimum < 0:
            yield impossible(f"{where}: a request took {milliseconds(data.minimum)}", "the clock went backwards")
        elif not data.minimum - slack <= mean <= data.maximum + slack:
            yield impossible(
                f"{where}: the mean, {milliseconds(mean)}, is not between the lowest, {milliseconds(data.minimum)}, "
                f"and the highest, {milliseconds(data.maximum)}",
                "results were merged or edited wrongly",
            )
        elif median > high + slack or sum(data.buckets.values()) != data.count:
            yield impossible(f"{where}: the histogram contradicts itself", "results were merged or edited wrongly")


def _orders(series: Series) -> Iterator[Flag]:
    """Of the same requests: first token before the end, scheduled before sent. So is each quantile of them."""
    pairs = [("ttft", "ttft_scheduled"), ("e2e", "e2e_scheduled")]
    if not series.counts.abandoned:  # those have a first token, and no end of their own
        pairs += [("ttft", "e2e"), ("ttft_scheduled", "e2e_scheduled")]
    for earlier, later in pairs:
        first = Histogram.of(getattr(series.latencies, earlier))
        second = Histogram.of(getattr(series.latencies, later))
        if first.count != second.count:
            continue  # some were not streamed
        for label, share in (("p50", 0.50), ("p99", 0.99), ("maximum", 1.0)):
            low, high = first.quantile(share) or 0.0, second.quantile(share) or 0.0
            if low > high * (1 + 2 * RELATIVE_ERROR) + CLOCK_SECONDS:
                yield impossible(
                    f"{_of(series)}{_title(earlier)} {label}, {milliseconds(low)}, is above {_title(later)}, "
                    f"{milliseconds(high)}",
                    "a time was taken at the wrong place: please report it",
                )
                break


def _lengths(result: RunResult) -> Iterator[Flag]:
    longest = result.total.lengths_completion.maximum or 0.0
    limits = [(asked, f"{asked:,.0f} were asked for at most")] if (asked := _asked_tokens(result)) is not None else []
    if len(result.environment.models) == 1:
        length = result.environment.models[0].options.get("max_model_len")
        if isinstance(length, int) and length > 0:
            limits.append((length, f"the context holds {length:,}"))
    for limit, words in limits:
        if longest > limit:
            fact = f"an answer had {longest:,.0f} tokens, and {words}"
            hint = "`usage` of the server is wrong, or the client added up the figures of several chunks"
            yield impossible(fact, hint)
            return


def _asked_tokens(result: RunResult) -> float | None:
    """The longest answer that the scenario allows; None if it does not say, or a trace does instead."""
    amount = result.scenario_text.get("completion_tokens")
    if result.load.arrivals == "trace" or amount is None:
        return None
    if isinstance(amount, int | float):
        return float(amount)
    if not isinstance(amount, Mapping):
        return None
    values = [amount.get("value"), amount.get("max"), *(one.get("value") for one in amount.get("choices", ()))]
    return max((float(value) for value in values if value is not None), default=None)


def _chunks(result: RunResult) -> Iterator[Flag]:
    """The first chunk of each stream holds a token at least; what later ones hold is what ITL has values of."""
    total = result.total
    later = total.latencies.itl.count
    tokens, answers = total.lengths_completion.sum, total.lengths_completion.count
    streams = total.latencies.ttft.count - total.counts.abandoned
    if streams <= 0 or not answers:
        return
    if later > tokens - streams:
        yield impossible(
            f"the chunks after the first of each answer held {later:,} tokens, and the answers {tokens:,.0f} in all",
            "tokens were counted twice",
        )
    elif not later and tokens > 2 * answers:
        yield physics_flag(
            "warning",
            f"every answer came in a single chunk, {tokens / answers:.0f} tokens on average",
            "something holds streams back, a buffering proxy or a parser of tool calls: TTFT is no first token's time",
        )


def _memory_bandwidth(result: RunResult) -> Iterator[Flag]:
    """A token needs all weights to be read once: TPOT cannot be below their size over the memory's bandwidth."""
    for model in result.environment.models:
        least = least_tpot_seconds(model)
        for series in result.series:
            if least is not None and series.model == model.name:
                yield from _faster_than_memory(series, model, least)


def _faster_than_memory(series: Series, model: ModelFacts, least: float) -> Iterator[Flag]:
    tpot, lengths = Histogram.of(series.latencies.tpot), Histogram.of(series.lengths_completion)
    median, shortest = tpot.quantile(0.50), tpot.minimum
    if median is None or (lengths.quantile(0.50) or 0.0) < LEAST_TOKENS_FOR_TPOT:
        return
    needs = (
        f"{model.gpu or 'the hardware'} needs {milliseconds(least)} to read the weights "
        f"({(model.weights_bytes or 0.0) / 1e9:.1f} GB) once"
    )
    if median < FASTER_THAN_MEMORY_RATIO * least:
        yield impossible(
            f"{_of(series)}TPOT p50 is {milliseconds(median)}, and {needs}",
            "another model or GPU answers than the deployment says, or tokens are counted wrongly, or come in bursts",
        )
    elif shortest < least / 2 and lengths.minimum >= LEAST_TOKENS_FOR_SHORTEST:
        yield physics_flag(
            "warning",
            f"{_of(series)}the lowest TPOT is {milliseconds(shortest)}, and {needs}",
            "tokens of that answer were held back and came in a burst: in the gateway, or in the client (its stalls)",
        )


def least_tpot_seconds(model: ModelFacts) -> float | None:
    """Weights over memory bandwidth; None where it is not known, or where a step makes several tokens."""
    if not model.weights_bytes or not model.memory_bytes_per_second:
        return None
    if model.options.get("speculative_config"):
        return None
    return model.weights_bytes / model.memory_bytes_per_second


def _prefix_hits(result: RunResult, *, expects: bool) -> Iterator[Flag]:
    """By the engines' counters; where they are out of reach, by what the answers say."""
    names = {model.name for model in result.environment.models}
    engines = [one for one in result.engines if one.model in names or not names]
    queries, hits = sum(one.prefix_queries for one in engines), sum(one.prefix_hits for one in engines)
    if not queries:
        tokens = result.total.tokens
        if tokens.cached is None or not tokens.prompt:
            return
        queries, hits = tokens.prompt, tokens.cached
    share = hits / queries
    numbers = f"the prefix cache held {share:.1%} of the prompt tokens ({hits:,.0f} of {queries:,.0f})"
    if not expects and share > CHANCE_HITS_RATIO:
        yield physics_flag(
            "warning",
            f"{numbers}, and scenario {result.scenario} shares no prefixes",
            "TTFT and throughput look too good: see how the chat template begins, and who else uses the engines",
        )
    elif expects and share < FEW_HITS_RATIO:
        yield physics_flag(
            "note",
            f"{numbers}, though scenario {result.scenario} shares prefixes",
            "enable_prefix_caching is off, the KV cache is too small, or replicas take turns with one conversation",
        )


def _of(series: Series) -> str:
    names = [name for name in (series.scenario, series.model) if name]
    return f"{', '.join(names)}: " if names else ""


def _title(name: str) -> str:
    short, _, scheduled = name.partition("_scheduled")
    words = {
        "ttft": "TTFT",
        "tpot": "TPOT",
        "itl": "ITL",
        "e2e": "end-to-end time",
        "inter_chunk": "time between chunks",
    }
    return words[short] + (" from the scheduled time" if name != short else "") + scheduled
