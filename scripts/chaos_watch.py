"""The gateway's own view, several times a second: which replicas get requests, and how many are in flight at each."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import httpx2

from scripts.chaos_faults import Stack
from scripts.chaos_load import Load
from vllmstack.host.gateway_control import SERVICE as GATEWAY

INTERVAL_SECONDS = 0.2
METRICS_PORT = 9113
SERIES = re.compile(r'^vllmstack_gateway_(\w+)\{model="[^"]*",replica="([^"]+)"} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look."""

    at: float
    takes: dict[str, bool]
    """Whether a replica gets requests."""
    in_flight: dict[str, int]
    """Requests at each replica, as the gateway counts them."""
    sent: float
    """Requests that the clients wait for: the mean of just before and just after."""

    def serving(self, replicas: Iterable[str]) -> bool:
        """Whether all of them get requests."""
        return all(self.takes.get(replica, False) for replica in replicas)


class Watch:
    """A context manager: within the block it looks all the time."""

    def __init__(self, stack: Stack, *loads: Load) -> None:
        self.loads = list(loads)
        self._stack = stack
        self._samples: list[Sample] = []
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def since(self, moment: float) -> list[Sample]:
        """What was seen from then on; nothing while the gateway was not there."""
        return [sample for sample in self._samples if sample.at >= moment]

    def until(
        self, condition: Callable[[Sample], bool], *, seconds: float, lasting: float = 0.0, since: float | None = None
    ) -> bool:
        """Whether it held for so long, or at any look ``since``, before the time was up."""
        started = time.monotonic()
        begun: float | None = None
        while time.monotonic() < started + seconds:
            seen = self.since(since) if since else self._samples[-1:]
            if not any(condition(sample) for sample in seen):
                begun = None
            else:
                begun = begun or time.monotonic()
                if time.monotonic() - begun >= lasting:
                    return True
            time.sleep(INTERVAL_SECONDS / 2)
        return False

    def _look_on(self) -> None:
        client = httpx2.Client(timeout=1.0, trust_env=False)
        url = ""
        while not self._enough.wait(INTERVAL_SECONDS):
            try:
                url = url or self._url()
                before = self._sent()
                text = client.get(url).text
                self._note(text, sent=(before + self._sent()) / 2)
            except (httpx2.HTTPError, httpx2.InvalidURL):
                url = ""  # it has another address after a restart

    def _sent(self) -> int:
        return sum(load.in_flight for load in self.loads)

    def _url(self) -> str:
        networks = self._stack.container(GATEWAY).attrs["NetworkSettings"]["Networks"]
        return f"http://{next(iter(networks.values()))['IPAddress']}:{METRICS_PORT}/metrics"

    def _note(self, text: str, *, sent: float) -> None:
        values = {(name, replica): float(value) for name, replica, value in SERIES.findall(text)}
        by_name = {
            wanted: {replica: value for (name, replica), value in values.items() if name == wanted}
            for wanted in ("replica_takes_requests", "requests_in_flight")
        }
        self._samples.append(
            Sample(
                at=time.monotonic(),
                takes={replica: value > 0 for replica, value in by_name["replica_takes_requests"].items()},
                in_flight={replica: int(value) for replica, value in by_name["requests_in_flight"].items()},
                sent=sent,
            )
        )
