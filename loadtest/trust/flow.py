"""What was sent against what was asked, and against itself: the load, and Little's law."""

from collections.abc import Iterator

from loadtest.clock.histogram import RELATIVE_ERROR, Histogram
from loadtest.clock.histogram_data import HistogramData
from loadtest.results import Flag, LoadKind, RunResult, Series
from loadtest.trust.health import HIGHEST_CPU_RATIO, HIGHEST_LAG_SECONDS
from loadtest.trust.wording import impossible, milliseconds, physics_flag

LEAST_OFFERED_RATIO = 0.98
"""Of the requests due in the window."""

FLOW_TOLERANCE_RATIO = 0.10

LEAST_SAMPLES = 10
"""Seconds of an open loop's window."""


def check_offered(result: RunResult) -> Iterator[Flag]:
    """Whether the load that was asked for was sent, and when it was due.

    One request may be due in the window's last moment and sent after it.
    """
    offered = result.offered
    hint = "spread the load over more processes (`--processes`) on cores of their own, or ask for a lower rate"
    late = Histogram.of(offered.lateness).quantile(0.99) or 0.0
    if offered.ratio < LEAST_OFFERED_RATIO and offered.asked - offered.sent > 1:
        rates = f"{offered.sent_per_second:.2f} of {offered.asked_per_second:.2f} a second"
        fact = f"only {offered.ratio:.1%} of the load was offered ({rates}): {_why_late(result)}"
        yield Flag(kind="offered", severity="invalid", fact=fact, hint=hint)
    elif late > HIGHEST_LAG_SECONDS:
        fact = f"1 % of the requests were sent more than {late * 1000:.0f} ms after they were due"
        yield Flag(
            kind="offered", severity="warning", fact=f"{fact}: scheduled times hold the client's delay", hint=hint
        )


def _why_late(result: RunResult) -> str:
    client, lateness = result.client, Histogram.of(result.offered.lateness)
    if client.cpu_ratio > HIGHEST_CPU_RATIO:
        return f"the client used {client.cpu_ratio:.0%} of a core"
    if client.loop_lag_p99_seconds > HIGHEST_LAG_SECONDS:
        return f"the client's event loop was late, by {client.loop_lag_p99_seconds * 1000:.0f} ms in 1 % of cases"
    earliest = lateness.minimum if lateness.count else None
    if earliest is not None and earliest > HIGHEST_LAG_SECONDS:
        return f"the client started late, even the first request by {earliest:.2f} s"
    return "the client had time, but was kept from sending (too few connections or open files?)"


def check_flow(result: RunResult) -> Iterator[Flag]:
    """Little's law: what is in flight is the rate times how long each stays (Little, Operations Research, 1961)."""
    total = result.total
    e2e = total.latencies.e2e
    if not total.window_seconds or not e2e.count:
        return
    in_flight = total.requests_per_second * e2e.sum / e2e.count
    # What is under way at either end of the window is counted by one side alone, at most for the longest time.
    edge = (e2e.maximum or 0.0) / total.window_seconds
    if result.load.kind is LoadKind.CLOSED:
        yield from _users_flow(result, in_flight, edge)
    elif not result.interrupted:
        yield from _open_flow(result, in_flight, edge)


def _users_flow(result: RunResult, in_flight: float, edge: float) -> Iterator[Flag]:
    """A user has one request at a time, the last of which may outlast the window."""
    total, tpot = result.total, result.total.latencies.tpot
    # The number of users can be changed while a run goes on.
    users = max([result.load.concurrency or 0, *(second.in_flight for second in result.timeline)])
    if not users:
        return
    if in_flight > users * (1 + edge) * (1 + RELATIVE_ERROR):
        yield impossible(
            f"{total.requests_per_second:.2f} requests a second of {_mean(total.latencies.e2e):.2f} s each are "
            f"{in_flight:.1f} at a time, and there were {users} users",
            "requests are counted twice, or the window's length is wrong",
        )
    if tpot.count and tpot.minimum:
        limit = users / tpot.minimum * (1 + edge) + total.requests_per_second * _first_chunk_tokens(total)
        if total.output_tokens_per_second > limit * (1 + FLOW_TOLERANCE_RATIO):
            yield impossible(
                f"{total.output_tokens_per_second:,.0f} tokens a second: {users} users, each token taking "
                f"{milliseconds(tpot.minimum)} at least, get {limit:,.0f}",
                "tokens are counted twice, or the window's length is wrong",
            )


def _open_flow(result: RunResult, by_rate: float, edge: float) -> Iterator[Flag]:
    """Against what was seen in flight at the end of every second of the window."""
    start, window = result.warmup_seconds, result.total.window_seconds
    inside = [second.in_flight for second in result.timeline if start <= second.at <= start + window - 1]
    judged = result.total.counts
    if len(inside) < LEAST_SAMPLES or judged.ok < judged.sent:
        return  # too few samples, or requests whose time is not in the mean
    seen = sum(inside) / len(inside)
    # Samples of a Poisson count scatter by its root; those of an even one may always hit the same moment.
    tolerance = 2 * max(inside) * edge + 4 * (seen / len(inside)) ** 0.5 + FLOW_TOLERANCE_RATIO * seen + 1
    if abs(seen - by_rate) > tolerance:
        yield physics_flag(
            "warning",
            f"{seen:.1f} requests were in flight on average, and rate times end-to-end time makes {by_rate:.1f}",
            "a time or a count is wrong: please report it",
        )


def _mean(data: HistogramData) -> float:
    return data.sum / data.count if data.count else 0.0


def _first_chunk_tokens(total: Series) -> float:
    """Of one answer, on average: what its later chunks do not hold."""
    answers = total.lengths_completion.count
    return max(total.lengths_completion.sum - total.latencies.itl.count, answers) / answers if answers else 1.0
