"""A request's lines: where they are looked for, and in what order they come."""

import json

import pytest

from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.host.containers import containers
from vllmstack.host.request_logs import lines_of_request, moment


def access(request_id: str, seconds: float) -> str:
    return json.dumps({"request_id": request_id, "status": 200, "request_seconds": seconds})


@pytest.fixture
def stack(daemon: FakeDocker) -> FakeDocker:
    daemon.stack = [
        FakeContainer(service="engine-smoke-1", model="smoke", replica=1),
        FakeContainer(service="gateway"),
        FakeContainer(service="prometheus"),
    ]
    return daemon


def found(daemon: FakeDocker, since: float | None = None) -> list[tuple[str, str]]:
    """Service, and minutes and seconds, of each line about the request a1."""
    lines = lines_of_request(daemon.client, containers(daemon.client), "a1", since)
    return [(line.service, line.time[14:19]) for line in lines]


def test_others_are_read_from_the_requests_begin_to_its_end(stack: FakeDocker) -> None:
    engine, gateway, _ = stack.stack
    engine.log = tuple(f"2026-11-21T08:{at}.5Z Added request cmpl-a1." for at in ("00:20", "00:31", "01:00", "01:20"))
    gateway.log = (f"2026-11-21T08:01:01.0Z {access('a1', 30.0)}",)

    assert found(stack) == [("engine-smoke-1", "00:31"), ("engine-smoke-1", "01:00"), ("gateway", "01:01")]


def test_an_id_that_a_client_used_twice_has_the_lines_of_both(stack: FakeDocker) -> None:
    engine, gateway, _ = stack.stack
    engine.log = ("2026-11-21T08:00:01.5Z Added request cmpl-a1.", "2026-11-21T08:10:01.5Z Added request cmpl-a1.")
    gateway.log = tuple(f"2026-11-21T08:{at}:02.0Z {access('a1', 1.0)}" for at in ("00", "10"))

    assert found(stack) == [
        ("engine-smoke-1", "00:01"), ("gateway", "00:02"), ("engine-smoke-1", "10:01"), ("gateway", "10:02"),
    ]  # fmt: skip


def test_nothing_is_shown_from_before_the_time_that_is_asked_for(stack: FakeDocker) -> None:
    engine, gateway, _ = stack.stack
    engine.log = ("2026-11-21T08:00:01.5Z Added request cmpl-a1.", "2026-11-21T08:10:01.5Z Added request cmpl-a1.")
    gateway.log = tuple(f"2026-11-21T08:{at}:02.0Z {access('a1', 1.0)}" for at in ("00", "10"))

    assert found(stack, moment("2026-11-21T08:05:00Z")) == [("engine-smoke-1", "10:01"), ("gateway", "10:02")]


def test_dockers_times_have_nanoseconds() -> None:
    assert moment("1970-01-01T00:01:00.250000000Z") == 60.25
    with pytest.raises(ValueError, match="isoformat"):
        moment("soon")
