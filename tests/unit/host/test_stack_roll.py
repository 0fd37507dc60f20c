"""Steps that wait for each other's GPUs, and what a failure puts back. The commands' tests have the usual cases."""

import pytest
import yaml

from tests.unit.rolling_machine import RollingMachine
from vllmstack.errors import StackError
from vllmstack.host import replica_roll
from vllmstack.host.compose import Compose
from vllmstack.host.files import read_rendered
from vllmstack.host.rendered_change import RenderedChange
from vllmstack.host.stack_roll import StackRoll
from vllmstack.rolling.steps import Action, Step


def roll(rolling: RollingMachine, *steps: Step, **services: str) -> None:
    """Carries the steps out, to files in which each of these services is a copy of another one."""
    project = rolling.clone.project
    files = read_rendered(project, "smoke", "")
    document = yaml.safe_load(files["engines.compose.yaml"])
    engines = document["services"]
    for new, old in services.items():
        engines[new.replace("_", "-")] = engines[old]
    for step in steps:
        if step.action is Action.REMOVE:
            del engines[step.service]
    files["engines.compose.yaml"] = yaml.safe_dump(document)
    StackRoll(project, Compose(project, "smoke"), rolling.client, change=RenderedChange(project, "smoke", files)).run(
        steps
    )


def step(action: Action, service: str, *gpu_ids: int) -> Step:
    return Step(action=action, service=service, reason="test", model="smoke", gpu_ids=gpu_ids)


FIRST, SECOND, NEW = "engine-smoke-1", "engine-smoke-2", "engine-new-1"


def test_two_that_change_places(rolling: RollingMachine) -> None:
    roll(
        rolling,
        step(Action.STOP, FIRST, 0),
        step(Action.REPLACE, SECOND, 0),
        step(Action.REPLACE, FIRST, 1),
    )

    assert rolling.events == [
        *(f"drain {FIRST}", f"stop {FIRST}"),
        *(f"drain {SECOND}", f"stop {SECOND}", f"make {SECOND}", f"resume {SECOND}"),
        *(f"make {FIRST}", f"resume {FIRST}"),
    ]


@pytest.mark.parametrize(("in_flight", "seconds"), [([2, 1, 0], 10), ([1] * 1000, 20)])
def test_an_engine_gets_its_drain_time_only_where_something_is_in_flight(
    rolling: RollingMachine, in_flight: list[int], seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_roll, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(replica_roll, "GRACE_SECONDS", 20)  # no time to drain: it is looked at once more
    first = rolling.named(FIRST)
    first.stop_seconds = 20 if seconds == 20 else 45
    rolling.in_flight[FIRST] = in_flight

    roll(rolling, step(Action.STOP, FIRST, 0))

    assert first.stopped_within == seconds


def test_what_was_removed_for_one_that_fails_comes_back(rolling: RollingMachine) -> None:
    rolling.broken[NEW] = ("ValueError: no",)

    with pytest.raises(StackError, match="ValueError: no"):
        roll(rolling, step(Action.REMOVE, SECOND, 1), step(Action.START, NEW, 1), engine_new_1=FIRST)

    assert rolling.events == [
        *(f"drain {SECOND}", f"stop {SECOND}", f"remove {SECOND}", f"make {NEW}"),
        *(f"stop {NEW}", f"remove {NEW}", f"make {SECOND}", f"resume {SECOND}"),
    ]
    assert rolling.drained == set()
    assert SECOND in rolling.rendered("engines.compose.yaml")


def test_one_that_let_go_stays_down_where_its_gpu_is_anothers_by_now(
    rolling: RollingMachine, capsys: pytest.CaptureFixture[str]
) -> None:
    rolling.broken[NEW] = ("ValueError: no",)

    with pytest.raises(StackError):
        roll(
            rolling,
            step(Action.STOP, FIRST, 0),
            step(Action.REPLACE, SECOND, 0),
            step(Action.START, NEW, 5),
            step(Action.REPLACE, FIRST, 1),
            engine_new_1=FIRST,
        )

    assert f"! {FIRST} stays down: its GPUs are another one's by now\n" in capsys.readouterr().err
    assert rolling.events[-1] != f"make {FIRST}"


def test_what_the_gateway_has_taken_over_is_not_taken_back(rolling: RollingMachine) -> None:
    rolling.silent[SECOND] = "500"

    with pytest.raises(StackError, match="answers no request: 500"):
        roll(rolling, step(Action.RELOAD, "gateway"), step(Action.REPLACE, SECOND))

    assert rolling.events[0] == "reload"
    assert rolling.events.count("reload") == 1
