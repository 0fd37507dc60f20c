"""Real faults, and what Alertmanager then tells: just the right alert, within two minutes, and nothing once it is over.

First on the shared stack: the alerts of what other tests do to it would be among them.
"""

import concurrent.futures
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from scripts import chaos_faults
from tests.stack.conftest import PROJECT, Stack, await_condition
from tests.stack.monitoring import Monitoring

FIRES_SECONDS = 120
RESOLVES_SECONDS = 420
"""Windows of 2 and 3 minutes have to pass, and Docker has to start an engine again."""


@pytest.fixture
def monitoring(stack: Stack) -> Monitoring:
    return Monitoring(stack=stack)


@pytest.fixture
def broken(stack: Stack, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch) -> Iterator[chaos_faults.Stack]:
    """For faults: a stack that is whole and of which nothing is told, and which is whole again afterwards."""
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", PROJECT)
    await_condition(
        lambda: not any(unrest(stack, monitoring).values()),
        seconds=RESOLVES_SECONDS,
        what=lambda: f"nothing that goes on before the fault: {unrest(stack, monitoring)}",
    )
    yield chaos_faults.Stack(client=stack.engine)
    # Faults mend themselves, which a test that failed has not awaited.
    for service in out(stack, monitoring):
        stack.container(service).restart()
    await_condition(
        lambda: not out(stack, monitoring),
        seconds=RESOLVES_SECONDS,
        what=lambda: f"{out(stack, monitoring)} serving again",
    )


def out(stack: Stack, monitoring: Monitoring) -> set[str]:
    """Engines that get no requests."""
    return {service for service in stack.services() if service.startswith("engine-")} - monitoring.serving()


def unrest(stack: Stack, monitoring: Monitoring) -> dict[str, Collection[object]]:
    """What has to be over before a fault, so that what is told then is told of it."""
    return {"told": monitoring.alerts(), "pending": monitoring.pending(), "out": out(stack, monitoring)}


@contextmanager
def load(stack: Stack, *, model: str, users: int, tokens: int, prompt: int = 2) -> Iterator[list[int]]:
    """Users that ask one question after the other until the block ends; HTTP statuses as they come.

    Each has a question of its own, ``prompt`` tokens long: the same would be in the KV cache once, for all.
    """
    statuses: list[int] = []
    enough = threading.Event()

    def keep_asking(user: int) -> None:
        body = {"model": model, "prompt": [300 + user] * prompt, "max_tokens": tokens, "ignore_eos": True}
        with stack.http() as http:
            while not enough.is_set():
                try:
                    status = http.post("/v1/completions", json=body, timeout=120).status_code
                except httpx2.TransportError:
                    status = 0
                statuses.append(status)
                if status == httpx2.codes.TOO_MANY_REQUESTS:
                    enough.wait(0.2)

    with concurrent.futures.ThreadPoolExecutor(max_workers=users) as pool:
        asking = [pool.submit(keep_asking, user) for user in range(users)]
        try:
            yield statuses
        finally:
            enough.set()
            for one in asking:
                one.result()


def raised(monitoring: Monitoring, statuses: list[int], *expected: tuple[str, str]) -> dict[tuple[str, str], float]:
    """Seconds until Alertmanager has told of each; whatever else it tells meanwhile fails the test.

    ``statuses`` are those of the load that is to raise one of them.
    """
    began = time.monotonic()
    seen: dict[tuple[str, str], float] = {}

    def all_seen() -> bool:
        now = monitoring.alerts()
        assert now <= set(expected), f"not expected: {now - set(expected)}"
        for alert in now:
            seen.setdefault(alert, time.monotonic() - began)
        return len(seen) == len(expected)

    def missing() -> str:
        names = [alert for alert, _ in expected if alert not in {name for name, _ in seen}]
        told = f"{names} at Alertmanager; told: {seen}; requests by status: {Counter(statuses)}"
        return f"{told}\n{monitoring.explained(*names)}"

    await_condition(all_seen, seconds=FIRES_SECONDS, what=missing)
    return seen


def resolved(monitoring: Monitoring, since: float) -> float:
    """Seconds until it holds none."""
    await_condition(
        lambda: not monitoring.alerts(),
        seconds=RESOLVES_SECONDS,
        what=lambda: f"no alert any more: {monitoring.alerts()}",
    )
    return time.monotonic() - since


def test_a_stack_that_serves_raises_nothing_but_the_watchdog(stack: Stack, monitoring: Monitoring) -> None:
    await_condition(
        lambda: bool(monitoring.queries({"it": 'ALERTS{alertname="Watchdog", alertstate="firing"}'})["it"]),
        seconds=60,
        what="the watchdog",
    )
    with load(stack, model="smoke", users=2, tokens=40) as statuses:
        time.sleep(20)

    assert set(statuses) == {200}
    assert monitoring.alerts() == set()


def test_a_killed_engine_is_down_and_a_full_kv_cache_is_told_beside_it(
    stack: Stack, monitoring: Monitoring, broken: chaos_faults.Stack, figures: list[str]
) -> None:
    down, full = ("ReplicaDown", "engine-smoke-1"), ("KvCacheFull", "engine-other-smoke-1")

    # 2,304 tokens of cache, and four requests that come to 900 each. Their prompts nearly fill it, so that it is full
    # after a few steps, however long these take on a machine that starts an engine meanwhile.
    with load(stack, model="other/smoke", users=4, tokens=400, prompt=500) as statuses:
        chaos_faults.kill_server(broken, "engine-smoke-1")
        seconds = raised(monitoring, statuses, down, full)
    over = resolved(monitoring, time.monotonic())

    assert set(statuses) == {200}
    figures.append(
        f"a killed engine was told after {seconds[down]:.0f} s, a full KV cache after {seconds[full]:.0f} s; "
        f"nothing any more {over:.0f} s after both were"
    )


def test_a_paused_engine_is_hung_and_overload_is_shed_requests(
    stack: Stack, monitoring: Monitoring, broken: chaos_faults.Stack, figures: list[str]
) -> None:
    hung, shed = ("ReplicaHung", "engine-smoke-2"), ("RequestsShed", "other/smoke")

    with load(stack, model="other/smoke", users=64, tokens=20) as statuses:
        chaos_faults.pause(broken, "engine-smoke-2")
        seconds = raised(monitoring, statuses, hung, shed)
    over = resolved(monitoring, time.monotonic())

    assert httpx2.codes.TOO_MANY_REQUESTS in statuses
    figures.append(
        f"a paused engine was told after {seconds[hung]:.0f} s, overload after {seconds[shed]:.0f} s; nothing any more "
        f"{over:.0f} s after both were"
    )
