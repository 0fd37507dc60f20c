"""Real faults, and what Alertmanager then tells: just the right alert, within two minutes, and nothing once it is over.

First in the session: the alerts of what other tests do to the stack would be among them.
"""

import concurrent.futures
import threading
import time
from collections.abc import Iterator
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
def broken(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> chaos_faults.Stack:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", PROJECT)
    return chaos_faults.Stack(client=stack.engine)


@contextmanager
def load(stack: Stack, *, model: str, users: int, tokens: int, prompt: str = "Hello") -> Iterator[list[int]]:
    """Users that ask one question after the other until the block ends; HTTP statuses as they come."""
    statuses: list[int] = []
    enough = threading.Event()
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}

    def keep_asking() -> None:
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
        asking = [pool.submit(keep_asking) for _ in range(users)]
        try:
            yield statuses
        finally:
            enough.set()
    for one in asking:
        one.result()


def raised(monitoring: Monitoring, expected: set[tuple[str, str]], since: float) -> float:
    """Seconds until Alertmanager holds just these; whatever else it holds meanwhile fails the test."""
    seen: set[tuple[str, str]] = set()

    def fires() -> bool:
        nonlocal seen
        seen = monitoring.alerts()
        assert seen <= expected, f"not expected: {seen - expected}"
        return seen == expected

    await_condition(fires, seconds=FIRES_SECONDS - (time.monotonic() - since), what=f"{expected}, of which {seen}")
    return time.monotonic() - since


def resolved(monitoring: Monitoring, since: float) -> float:
    """Seconds until it holds none."""
    await_condition(lambda: not monitoring.alerts(), seconds=RESOLVES_SECONDS, what="no alert any more")
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
    # 2,304 tokens of cache, and four requests that come to 900 each.
    with load(stack, model="other/smoke", users=4, tokens=900) as statuses:
        began = time.monotonic()
        full = raised(monitoring, {("KvCacheFull", "engine-other-smoke-1")}, began)
    assert set(statuses) == {200}
    over = time.monotonic()
    emptied = resolved(monitoring, over)

    killed = chaos_faults.kill_server(broken, "engine-smoke-1").at
    down = raised(monitoring, {("ReplicaDown", "engine-smoke-1")}, killed)
    back = resolved(monitoring, killed)

    figures.append(f"a full KV cache was told after {full:.0f} s, and over {emptied:.0f} s after the load")
    figures.append(f"a killed engine was told after {down:.0f} s, and over after {back:.0f} s")


def test_a_paused_engine_is_hung_and_overload_is_shed_requests(
    stack: Stack, monitoring: Monitoring, broken: chaos_faults.Stack, figures: list[str]
) -> None:
    paused = chaos_faults.pause(broken, "engine-smoke-2").at
    hung = raised(monitoring, {("ReplicaHung", "engine-smoke-2")}, paused)
    back = resolved(monitoring, paused)

    began = time.monotonic()
    with load(stack, model="other/smoke", users=24, tokens=20) as statuses:
        shed = raised(monitoring, {("RequestsShed", "other/smoke")}, began)
    assert httpx2.codes.TOO_MANY_REQUESTS in statuses
    over = time.monotonic()
    calm = resolved(monitoring, over)

    figures.append(f"a paused engine was told after {hung:.0f} s, and over after {back:.0f} s")
    figures.append(f"overload was told after {shed:.0f} s, and over {calm:.0f} s after the load")
