"""The token clock against a server whose times are known, in a process that does nothing else: prints JSON.

``python -m loadtest.trust.rehearsal http://127.0.0.1:PORT --streams 32 --tokens 100``. Importing Locust patches the
process for gevent, so that whoever wants a rehearsal's result runs it as a child.
"""

import itertools
import json
import random
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from typing import Any

import gevent
from locust.event import EventHook

from loadtest.clock.histogram import Histogram
from loadtest.clock.observation import Observation
from loadtest.clock.stream import TokenClient, session, settle
from loadtest.trust.health import ClientMonitor, ClientReading
from loadtest.trust.mock_metrics import percentiles
from loadtest.trust.mock_process import MockProcess
from loadtest.workload.steps import CHAT, Request

PROMPT_WORDS = 8


def chat_request(*, tokens: int, model: str = "mock", **mock: Any) -> Request:
    """A chat request for exactly ``tokens`` tokens; ``mock``: fields of the mock's Behaviour."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": " ".join(["word"] * PROMPT_WORDS)}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    if mock:
        body["mock"] = mock
    return Request(
        scenario="rehearsal",
        model=model,
        path=CHAT,
        body=json.dumps(body).encode(),
        streamed=True,
        expected_prompt_tokens=PROMPT_WORDS,
    )


def start_times(streams: int, over_seconds: float, kind: str, seed: int = 0) -> list[float]:
    """When each stream starts, seconds: all at once, evenly spaced, or as a Poisson process would have them."""
    if kind == "once" or not over_seconds:
        return [0.0] * streams
    if kind == "constant":
        return [over_seconds * number / streams for number in range(streams)]
    draw = random.Random(seed)  # arrivals, not secrets
    return sorted(draw.uniform(0.0, over_seconds) for _ in range(streams))


class Rehearsal:
    """Sends the same request over and over and remembers what was seen."""

    def __init__(self, urls: Sequence[str], *, streams: int) -> None:
        start = time.perf_counter()
        self._events = EventHook()  # type: ignore[no-untyped-call]
        self._fired = 0
        self._events.add_listener(self._count)  # type: ignore[no-untyped-call]
        self._clients = [
            TokenClient(
                session(url, request_event=self._events, concurrency=streams), now=lambda: time.perf_counter() - start
            )
            for url in urls
        ]

    def _count(self, **_: Any) -> None:
        self._fired += 1

    def run(self, request: Request, starts: Sequence[float], *, requests: int, tokens: int) -> dict[str, Any]:
        """One greenlet a start time, the servers by turns; each sends again at once, until ``requests`` were sent."""
        observations: list[Observation] = []
        left = itertools.repeat(None, requests)

        def stream(client: TokenClient, delay_seconds: float) -> None:
            gevent.sleep(delay_seconds)
            for _ in left:
                observations.append(client.send(request, scheduled_at=0.0)[0])

        self._fired = 0
        monitor = ClientMonitor()
        monitor.start()
        clients = itertools.cycle(self._clients)
        gevent.joinall([gevent.spawn(stream, next(clients), delay) for delay in starts], raise_error=True)
        reading = ClientReading.model_validate(monitor.stop())
        return self._summary(observations, reading, tokens)

    def _summary(self, observations: list[Observation], reading: ClientReading, tokens: int) -> dict[str, Any]:
        gaps = itertools.chain.from_iterable(
            map(float.__sub__, one.chunk_times[1:], one.chunk_times) for one in observations
        )
        chunks = sum(len(one.chunk_times) for one in observations)
        exact = all(
            not one.failed
            and one.completion_tokens == sum(one.chunk_tokens) == len(one.chunk_times) == tokens
            and one.prompt_tokens == one.expected_prompt_tokens
            for one in observations
        )
        return {
            "requests": len(observations),
            "outcomes": dict(Counter(one.outcome.value for one in observations)),
            "errors": dict(Counter(one.error for one in observations if one.error)),
            "chunks": chunks,
            "counts_exact": exact and self._fired == len(observations),
            "ttft_seconds": percentiles(one.ttft_seconds for one in observations if one.ttft_seconds is not None),
            "itl_seconds": percentiles(gaps),
            "cpu_seconds": reading.cpu_seconds,
            "wall_seconds": reading.wall_seconds,
            "microseconds_a_chunk": reading.cpu_seconds / chunks * 1e6 if chunks else None,
            "loop_lag_p99_seconds": Histogram.of(reading.lag).quantile(0.99) or 0.0,
        }


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m loadtest.trust.rehearsal", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("urls", nargs="+", metavar="url", help="of a mock server that nobody else uses")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--requests", type=int, help="in all; default: one a stream")
    parser.add_argument("--over-seconds", type=float, default=0.0, help="the streams start over this long")
    parser.add_argument("--starts", choices=("once", "constant", "poisson"), default="constant")
    parser.add_argument("--itl-seconds", type=float, action="append", help="may be given again: a run for each")
    return parser.parse_args()


def main() -> None:
    """Connects, rehearses, prints what was measured beside what the mock did, one line a run."""
    options = _options()
    rehearsal = Rehearsal(options.urls, streams=options.streams)
    mocks = [MockProcess(url=url, pid=0) for url in options.urls]
    starts = start_times(options.streams, options.over_seconds, options.starts)
    settle()
    # The first requests also connect and fill the caches of the interpreter.
    rehearsal.run(
        chat_request(tokens=2, ttft_seconds=0.01), [0.0] * options.streams, requests=options.streams, tokens=2
    )
    for itl_seconds in options.itl_seconds or [None]:
        for mock in mocks:
            mock.post("/mock/reset")
        times = {} if itl_seconds is None else {"itl_seconds": itl_seconds}
        request = chat_request(tokens=options.tokens, **times)
        measured = rehearsal.run(request, starts, requests=options.requests or options.streams, tokens=options.tokens)
        print(json.dumps({**measured, "truths": [mock.get("/mock/truth") for mock in mocks]}), flush=True)


if __name__ == "__main__":
    main()
