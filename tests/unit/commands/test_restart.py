"""`vllmstack restart`: one replica at a time, and what is left when one does not come back."""

import re
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.unit.conftest import SMOKE, Clone, Outcome
from tests.unit.fake_docker import FakeDocker
from tests.unit.rolling_machine import RollingMachine
from vllmstack.host import replica_roll

Run = Callable[..., Outcome]

ONE = ["drain engine-smoke-{0}", "stop engine-smoke-{0}", "make engine-smoke-{0}", "resume engine-smoke-{0}"]


def rolled(*numbers: int) -> list[str]:
    return [event.format(number) for number in numbers for event in ONE]


def test_one_replica_after_the_other_is_drained_made_anew_and_put_back(vllmstack: Run, rolling: RollingMachine) -> None:
    done = vllmstack("restart")

    assert done.status == 0, done.err
    assert rolling.events == rolled(1, 2)
    assert rolling.drained == set()
    assert [one.asked for one in rolling.stack if one.model and not one.removed] == [[["warm", "smoke"]]] * 2


def test_each_part_is_a_line_with_its_seconds(vllmstack: Run, rolling: RollingMachine) -> None:
    said = re.sub(r" *\d+(\.\d)? s", " N s", vllmstack("restart", "engine-smoke-2").err).splitlines()

    assert said == [
        "• N s engine-smoke-2: drained",
        "• N s engine-smoke-2: stopped",
        "• N s engine-smoke-2: serving",
        "• N s engine-smoke-2: one token made",
        "• N s engine-smoke-2: serving",
        "• restarted 1 replica in N s",
    ]


def test_it_waits_for_what_is_in_flight(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.in_flight["engine-smoke-1"] = [7, 7, 4, 1]

    done = vllmstack("restart", "engine-smoke-1")

    assert done.status == 0
    assert rolling.in_flight["engine-smoke-1"] == []
    assert "engine-smoke-1: drained" in done.err


def test_what_outlasts_the_drain_time_is_left_to_the_engines_own(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_roll, "GRACE_SECONDS", 45)  # all of what it has
    rolling.in_flight["engine-smoke-1"] = [3] * 10

    done = vllmstack("restart", "engine-smoke-1")

    assert done.status == 0
    assert "engine-smoke-1: draining: 3 requests are still in flight, and the engine goes on with them" in done.err


def test_one_model_alone(vllmstack: Run, rolling: RollingMachine, clone: Clone) -> None:
    done = vllmstack("restart", "smok")

    assert done.status == 1
    assert "no model that runs is called smok\n  hint: known: smoke" in done.err
    assert rolling.events == []


def test_a_replica_that_does_not_serve_is_restarted_first(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.named("engine-smoke-2").health = "unhealthy"

    vllmstack("restart")

    assert [event for event in rolling.events if event.startswith("make")] == [
        "make engine-smoke-2",
        "make engine-smoke-1",
    ]


def test_one_that_does_not_come_back_ends_it_and_the_others_serve(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.broken["engine-smoke-1"] = ("ValueError: no memory left",)

    done = vllmstack("restart")

    assert done.status == 1
    assert "vllmstack: engine-smoke-1: the container stopped (exit 1) while starting" in done.err
    assert "    ValueError: no memory left\n" in done.err
    # Docker tries again, and the gateway lets it in when it answers.
    assert rolling.events == rolled(1)
    assert "! what serves goes on serving; not done:\n" in done.err
    assert "!   replace engine-smoke-1: as it is\n!   replace engine-smoke-2: as it is\n" in done.err
    assert "ValueError" in (rolling.clone.root / ".vllmstack" / ".logs" / "engine-smoke-1.log").read_text()


def test_an_interruption_while_one_starts_leaves_it_starting(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replica_roll, "await_service", interrupted)

    done = vllmstack("restart")

    assert done.status == 130
    # Made again: a Compose that was interrupted may have left it stopped.
    assert rolling.events == [*rolled(1)[:3], "make engine-smoke-1", "resume engine-smoke-1"]
    assert "!   replace engine-smoke-2: as it is\n" in done.err


def test_an_interruption_while_one_drains_puts_it_back(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    rolling.in_flight["engine-smoke-1"] = [9] * 1000
    monkeypatch.setattr(replica_roll, "time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupted))

    done = vllmstack("restart")

    assert done.status == 130
    assert rolling.events == ["drain engine-smoke-1", "resume engine-smoke-1"]


def test_a_model_with_one_replica_is_said_to_wait(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.clone.deployment(SMOKE.replace("replicas: 2", "replicas: 1") + f"gateway: {{port: {rolling.port}}}\n")
    assert vllmstack("apply").status == 0

    said = vllmstack("restart").err

    # 38 s by the engine's log; the gateway holds requests for 60 s if nobody says otherwise.
    assert (
        "• smoke is without a replica for a while: requests wait, for 60 s at most; its last start took 38 s\n" in said
    )


def test_a_model_with_another_replica_has_nothing_to_wait_for(vllmstack: Run, rolling: RollingMachine) -> None:
    assert "without a replica" not in vllmstack("restart").err


@pytest.mark.parametrize(
    ("log", "took"), [(None, "its last start took 38 s"), ((), "a start may take a minute and more")]
)
def test_requests_that_would_not_wait_long_enough_are_warned_of(
    vllmstack: Run, rolling: RollingMachine, log: tuple[str, ...] | None, took: str
) -> None:
    held = "admission: {hold_seconds: 20}"
    rolling.clone.deployment(
        SMOKE.replace("replicas: 2", f"replicas: 1\n    {held}") + f"gateway: {{port: {rolling.port}}}\n"
    )
    assert vllmstack("apply").status == 0
    if log is not None:
        rolling.named("engine-smoke-1").log = log

    said = vllmstack("restart").err

    assert f"! smoke is without a replica for a while: requests wait for 20 s and fail then, and {took}; " in said


def test_before_the_first_up_there_is_nothing_to_restart(vllmstack: Run, clone: Clone) -> None:
    done = vllmstack("restart")

    assert done.status == 1
    assert done.err == "vllmstack: nothing was started from this clone yet\n  hint: run `vllmstack up`\n"


def test_a_stack_that_is_down_is_said_to_be(vllmstack: Run, clone: Clone, programs: object, daemon: FakeDocker) -> None:
    clone.is_up()

    done = vllmstack("restart")

    assert done.status == 1
    assert done.err == "vllmstack: smoke is down\n  hint: `vllmstack up` starts it\n"
