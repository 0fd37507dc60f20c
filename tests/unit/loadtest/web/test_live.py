from collections.abc import Callable
from typing import Any

import pytest

from loadtest.results import ClientHealth, Flag, Offered, RunResult
from loadtest.web.live import AFFORDED_SHARE, REFRESH_SECONDS, LiveView, elapsed_seconds, phase, with_live_flags
from tests.unit.loadtest.runs import WARMUP_SECONDS, make_run


class Bench:
    """A live view whose clock stands still, and whose source takes ``cost`` seconds."""

    def __init__(self, run: RunResult | None) -> None:
        self.run = run
        self.asked = 0
        self.now = 0.0
        self.cost = 0.0
        self.meanwhile: Callable[[], object] = lambda: None
        self.view = LiveView(source=self.source, stack=None, settle_seconds=1, clock=lambda: self.now)

    def source(self) -> RunResult | None:
        self.asked += 1
        self.meanwhile()
        self.now += self.cost
        return self.run


def test_before_the_first_run_there_is_none() -> None:
    state = Bench(None).view.state("ready")
    assert state == {"state": "ready", "live": False, "run": None, "targets": []}


def test_many_browsers_cost_as_much_as_one() -> None:
    bench = Bench(make_run())
    for _ in range(10):
        bench.view.state("running")
    assert bench.asked == 1
    bench.now += REFRESH_SECONDS + 0.01
    bench.view.state("running")
    assert bench.asked == 2


def test_a_new_state_of_the_runner_is_shown_at_once() -> None:
    bench = Bench(make_run())
    assert bench.view.state("running")["phase"] == "draining"
    assert bench.view.state("stopped")["phase"] == "ended"


def test_a_view_that_is_dear_is_made_less_often() -> None:
    bench = Bench(make_run())
    bench.cost = 0.1
    bench.view.state("running")
    bench.now += 0.1 / AFFORDED_SHARE - 0.2
    bench.view.state("running")
    assert bench.asked == 1
    bench.now += 0.3
    bench.view.state("running")
    assert bench.asked == 2


def test_while_one_request_computes_another_gets_what_is_there() -> None:
    bench = Bench(make_run())
    first = bench.view.state("running")
    bench.now += REFRESH_SECONDS + 0.01
    meanwhile: list[dict[str, Any]] = []
    bench.meanwhile = lambda: meanwhile.append(bench.view.state("running"))
    bench.view.state("running")
    assert meanwhile == [first]
    assert bench.asked == 2


def test_elapsed_time_goes_on_while_a_server_stalls() -> None:
    run = make_run(duration=30)
    stalled = run.model_copy(update={"timeline": run.timeline[:10], "duration_seconds": 20.0, "drain_seconds": 0.0})
    assert elapsed_seconds(stalled) == WARMUP_SECONDS + 20
    warming = run.model_copy(update={"timeline": run.timeline[:3], "duration_seconds": 0.0})
    assert elapsed_seconds(warming) == 3


@pytest.mark.parametrize(
    ("live", "changes", "elapsed", "expected"),
    [
        (True, {"timeline": []}, 0.0, "starting"),
        (True, {"drain_seconds": 0.0}, 2.0, "warming up"),
        (True, {"drain_seconds": 0.0}, 9.0, "measuring"),
        (True, {"drain_seconds": 1.0}, 40.0, "draining"),
        (False, {}, 40.0, "ended"),
        (False, {"interrupted": True}, 40.0, "ended early"),
    ],
)
def test_the_phase_is_named(live: bool, changes: dict[str, object], elapsed: float, expected: str) -> None:
    assert phase(make_run().model_copy(update=changes), live=live, elapsed=elapsed) == expected


def facts(run: RunResult) -> list[tuple[str, str]]:
    return [(flag.kind, flag.severity) for flag in run.flags]


def test_load_that_is_not_offered_is_flagged_while_the_run_goes_on() -> None:
    run = make_run(rate=10, offered=Offered(asked=100, sent=97))
    assert facts(with_live_flags(run, changes="", live=True)) == [("offered", "invalid")]
    assert facts(with_live_flags(run, changes="", live=False)) == []
    assert facts(with_live_flags(make_run(rate=10), changes="", live=True)) == []


def test_two_percent_of_few_requests_are_not_flagged() -> None:
    run = make_run(rate=10, offered=Offered(asked=20, sent=19))
    assert facts(with_live_flags(run, changes="", live=True)) == []


def test_a_client_without_cpu_is_flagged_while_the_run_goes_on_and_once() -> None:
    run = make_run(client=ClientHealth(cpu_ratio=0.97, loop_lag_p99_seconds=0.2, loop_lag_max_seconds=0.3))
    assert facts(with_live_flags(run, changes="", live=True)) == [("client", "invalid"), ("client", "invalid")]
    flag = Flag(kind="client", severity="invalid", fact="too little CPU", hint="more")
    flagged = run.model_copy(update={"flags": [flag]})
    assert facts(with_live_flags(flagged, changes="", live=True)) == [("client", "invalid")]


def test_a_load_that_was_changed_under_way_is_flagged_after_the_end_too() -> None:
    flagged = with_live_flags(make_run(), changes="users from 4 to 8", live=False)
    assert facts(flagged) == [("offered", "warning")]
    assert "users from 4 to 8" in flagged.flags[0].fact
