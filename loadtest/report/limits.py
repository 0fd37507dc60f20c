"""What limited runs, by which numbers, and what to change: client, errors, server, and the load itself."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from loadtest.clock.histogram import Histogram
from loadtest.clock.observation import Outcome
from loadtest.report import wording
from loadtest.report.finding import Finding
from loadtest.report.grouping import Point, Sweep, sweeps
from loadtest.report.measures import judged
from loadtest.report.server_limits import WAITING, served, server_findings
from loadtest.results import LoadKind, RunResult, Second

BUSY_CPU_RATIO = 0.9
THROTTLED_RATIO = 0.05
OFFERED_RATIO = 0.98
"""Less is not the load that was asked for."""
OUTSIDE_SECONDS = 0.02
OUTSIDE_RATIO = 0.3
STEADY_TOKENS_PER_SECOND = 20
"""From so many on, a second without a token is no accident."""
STALLED_RATIO = 0.02
"""Of the mean: a second in which only a few milliseconds gave tokens."""
STALL = "A stall"
FLAT_RATIO = 0.05
"""A doubled load that gives less than this much more throughput gives none."""

_ADVICE = {
    Outcome.REFUSED: "refused: the text says why; 429 is a limit of the gateway or the engine's queue, 503 that no "
    "replica was ready, 400 that the request does not fit max_model_len",
    Outcome.TIMED_OUT: "timed out: ask for less load or add replicas; a longer --timeout only if users wait as long",
    Outcome.TRUNCATED: "truncated: an engine or the gateway ended the stream; see `vllmstack logs` at that time",
    Outcome.STREAM_ERROR: "stream error: the engine's own words are in the text; see `vllmstack logs`",
    Outcome.UNREACHABLE: "unreachable: `vllmstack status` shows what runs; a full limit of connections looks alike",
    Outcome.INVALID_ANSWER: "invalid answer: what answers is not an OpenAI endpoint, or does not stream usage",
}


def findings(runs: Sequence[RunResult]) -> list[Finding]:
    """What limited these runs; loads that show the same limit share one finding, with the highest load's numbers."""
    return [finding for sweep in sweeps(runs) for finding in sweep_findings(sweep)]


def sweep_findings(sweep: Sweep) -> list[Finding]:
    """Of one sweep, or of one load."""
    several = len(sweep.points) > 1
    found: dict[str, Finding] = {}
    # The highest load first: what stopped it matters most, and its numbers are the evidence.
    for point in reversed(sweep.points):
        for finding in point_findings(point):
            before = found.get(finding.limit, finding)
            found[finding.limit] = replace(before, loads=(point.short_name, *before.loads) if several else ())
    last = sweep.points[-1]
    return [*found.values(), *knee(sweep), *(load_itself(last) if last.valid else ())]


def point_findings(point: Point) -> list[Finding]:
    """Of one load: each limit once, from the repeat that shows it first."""
    found: dict[str, Finding] = {}
    for run in point.runs:
        for rule in RULES:
            for finding in rule(run):
                found.setdefault(finding.limit, finding)
    if STALL in found:
        found.pop(WAITING, None)  # they waited for the stall to end
    return list(found.values())


def client(run: RunResult) -> Iterator[Finding]:
    """The load generator could not do more: the numbers may be its own."""
    flags = [flag for flag in run.flags if flag.kind in ("client", "offered") and flag.severity != "note"]
    evidence = [flag.fact for flag in flags]
    advice = [flag.hint for flag in flags]
    if not flags and run.client.cpu_ratio >= BUSY_CPU_RATIO:
        evidence.append(f"its busiest process used {wording.share(run.client.cpu_ratio)} of a core")
        advice.append("more processes (--processes), or workers on other machines")
    if not flags and run.client.throttled_ratio >= THROTTLED_RATIO:
        evidence.append(f"its CPU limit stopped it in {wording.share(run.client.throttled_ratio)} of all periods")
        advice.append("a higher CPU limit for the load generator's container")
    if evidence:
        yield Finding(limit="The load generator", evidence=tuple(evidence), advice=tuple(dict.fromkeys(advice)))


def errors(run: RunResult) -> Iterator[Finding]:
    """Requests failed."""
    counts = run.total.counts
    if not counts.failed:
        return
    outcomes = {outcome: counts.by_outcome.get(outcome, 0) for outcome in _ADVICE}
    seen = {outcome: times for outcome, times in outcomes.items() if times}
    kinds = ", ".join(f"{times:,} {outcome.replace('_', ' ')}" for outcome, times in seen.items())
    texts = sorted(counts.errors.items(), key=lambda error: -error[1])[:3]
    yield Finding(
        limit="Errors",
        evidence=(
            f"{counts.failed:,} of {wording.plural(judged(run.total), 'request')} failed "
            f"({wording.share(run.total.error_ratio)})" + (f": {kinds}" if kinds else ""),
            *(f"{times:,} × {text}" for text, times in texts),
        ),
        advice=tuple(_ADVICE[outcome] for outcome in seen) or ("see the errors' texts below and `vllmstack logs`",),
    )


def stalls(run: RunResult) -> Iterator[Finding]:
    """Hardly a token came in a whole second, though requests were in flight."""
    if run.total.output_tokens_per_second < STEADY_TOKENS_PER_SECOND:
        return
    start, end = run.warmup_seconds, run.warmup_seconds + run.duration_seconds
    nothing = STALLED_RATIO * run.total.output_tokens_per_second
    found: list[list[Second]] = []
    before = None
    for second in run.timeline:
        inside = start <= second.at and second.at + 1 <= end
        if inside and before and before.in_flight and second.in_flight and second.tokens <= nothing:
            if found and found[-1][-1].at == second.at - 1:
                found[-1].append(second)
            else:
                found.append([second])
        before = second
    if not found:
        return
    longest = max(found, key=len)
    several = f" ({len(found)} stalls in all)" if len(found) > 1 else ""
    yield Finding(
        limit=STALL,
        evidence=(
            f"hardly a token came for {wording.span(len(longest))} from second {longest[0].at} of the run on, with "
            f"{longest[0].in_flight} requests in flight{several}",
        ),
        advice=(
            "see `vllmstack logs` at that time: a graph or kernel that was compiled late, a long prompt that filled a "
            "step, a restart, another process on the GPU",
            "a longer warm-up, if it is at the start of every run",
        ),
    )


def outside(run: RunResult) -> Iterator[Finding]:
    """First tokens took much longer to the client than the engines say."""
    means = [(model.mean("ttft"), sum(engine.requests for engine in model.engines)) for model in served(run)]
    weighed = [(seconds, requests) for seconds, requests in means if seconds is not None and requests]
    seen = Histogram.of(run.total.latencies.ttft).mean
    if not weighed or seen is None:
        return
    inside = sum(seconds * requests for seconds, requests in weighed) / sum(requests for _, requests in weighed)
    between = seen - inside
    # A client that was late itself is told of already, and is where the time went.
    if between < max(OUTSIDE_SECONDS, OUTSIDE_RATIO * seen) or any(True for _ in client(run)):
        return
    lag = run.client.loop_lag_p99_seconds
    yield Finding(
        limit="Between client and engine",
        evidence=(
            f"TTFT was {wording.seconds(seen)} at the client and {wording.seconds(inside)} in the engines (means): "
            f"{wording.seconds(between)} were spent between them",
            f"the client's own event loop was late by {wording.seconds(lag)} (p99)",
        ),
        advice=(
            "the engine's API server tokenises and streams on one core: see its CPU, and give it more "
            "(--api-server-count)",
            "look for a proxy that buffers, and for what the network adds: measure once from beside the gateway",
        ),
    )


def knee(sweep: Sweep) -> Iterator[Finding]:
    """Where more load stopped being worth it, or that it was not reached."""
    believed = [point for point in sweep.points if point.valid and point.level]
    if not sweep.has_curve or len(believed) < 3:
        return
    before, last = believed[-2], believed[-1]
    rates = [point.total.output_tokens_per_second for point in (before, last)]
    growth = rates[1] / rates[0] - 1 if rates[0] else 0.0
    if sweep.knee is None:
        if growth > FLAT_RATIO:
            yield Finding(
                limit="Not at its limit",
                evidence=(f"throughput still grew by {wording.change(growth)} from {before.name} to {last.name}",),
                advice=("measure higher loads: the knee is beyond this sweep",),
            )
        return
    bend = sweep.knee
    top = max(point.total.output_tokens_per_second for point in believed)
    reached = bend.total.output_tokens_per_second
    waits = [Histogram.of(point.total.latencies.e2e).quantile(0.5) for point in (bend, last)]
    evidence = [
        f"the knee is at {bend.name}: {wording.number(reached)} tok/s, {wording.share(reached / top)} of the highest"
    ]
    if bend is not last and waits[0] and waits[1]:
        more = last.total.output_tokens_per_second / reached - 1 if reached else 0.0
        evidence.append(
            f"from there to {last.name} throughput changed by {wording.change(more)} and the median request's time by "
            f"{wording.change(waits[1] / waits[0] - 1)}"
        )
    yield Finding(
        limit="The knee",
        evidence=tuple(evidence),
        advice=(f"run at {bend.name} or below; for more throughput add replicas, or lift the limits named above",),
    )


def load_itself(point: Point) -> Iterator[Finding]:
    """Nothing in the server was full: more could have been asked for."""
    models = [model for run in point.runs for model in served(run)]
    idle = all(not model.queued and not model.kv_bound for model in models)
    failed = point.total.counts.failed
    offered = all(run.offered.ratio >= OFFERED_RATIO for run in point.runs)
    if not models or not idle or failed or not offered or any(True for run in point.runs for _ in client(run)):
        return
    kv_cache = max(model.kv_cache_ratio for model in models)
    closed = point.first.load.kind is LoadKind.CLOSED
    yield Finding(
        limit="The load itself",
        evidence=(
            "requests hardly waited in the engines, and none failed; the KV cache was "
            f"{wording.share(kv_cache)} full at its peak",
            "with a fixed concurrency, throughput is concurrency ÷ time a request"
            if closed
            else f"what was asked ({point.name}) was served",
        ),
        advice=(
            "raise the concurrency until throughput stops growing: that is the server's limit"
            if closed
            else "raise the rate, or let `vllmstack capacity` find the highest that meets the targets",
        ),
    )


RULES: tuple[Callable[[RunResult], Iterable[Finding]], ...] = (client, errors, stalls, server_findings, outside)
