"""The search for the highest load that meets the targets."""

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.verdict.capacity import Capacity, Ending, bounded, find_capacity
from loadtest.verdict.targets import TargetVerdict, Verdict, judge
from tests.unit.loadtest.runs import make_run
from tests.unit.loadtest.verdict.judged import TARGET, judged
from vllmstack.deployment.model import Target


def queue(capacity: float) -> Callable[[float], TargetVerdict]:
    """A server that needs 0.5 s and whose queue grows without end at twice ``capacity``; at ``capacity`` it is 2 s."""

    def measure(load: float) -> TargetVerdict:
        utilization = load / (4 / 3 * capacity)
        return judged(load, ttft=0.5 / (1 - utilization) if utilization < 1 else math.inf)

    return measure


@pytest.mark.parametrize("capacity", [1.01, 3.7, 16, 500])
@pytest.mark.parametrize("precision", [0.2, 0.05, 0.01])
def test_the_highest_load_is_found_as_precisely_as_asked(capacity: float, precision: float) -> None:
    found = find_capacity(queue(capacity), low=1, precision=precision)

    assert found.ending is Ending.FOUND
    assert found.highest_met is not None
    assert found.lowest_beyond is not None
    assert found.highest_met <= capacity < found.lowest_beyond <= found.highest_met * (1 + precision)
    assert found.binding == "ttft p99"
    assert found.summary == f"{found.highest_met:g} is met and {found.lowest_beyond:g} is not: ttft p99 binds"


def test_every_probe_is_kept_doublings_first() -> None:
    found = find_capacity(queue(5.2), low=1, precision=0.2)

    assert [(probe.load, probe.verdict) for probe in found.probes] == [
        (1, Verdict.MET),
        (2, Verdict.MET),
        (4, Verdict.MET),
        (8, Verdict.MISSED),
        (6, Verdict.MISSED),
        (5, Verdict.MET),
    ]
    assert found.best == found.probes[-1].judged


def test_users_are_whole() -> None:
    asked = []

    def measure(load: float) -> TargetVerdict:
        asked.append(load)
        return queue(6.5)(load)

    found = find_capacity(measure, low=1, precision=0.001, whole=True)

    assert (found.highest_met, found.lowest_beyond) == (6, 7)
    assert all(load == int(load) for load in asked)
    assert len(set(asked)) == len(asked)


def test_even_the_lowest_load_may_miss() -> None:
    found = find_capacity(queue(0.5), low=1)

    assert (found.ending, found.highest_met, found.lowest_beyond, found.best) == (Ending.NONE_MET, None, 1, None)
    assert found.summary == "even the lowest load, 1, misses: ttft p99 binds"
    assert len(found.probes) == 1


def test_the_highest_load_that_is_allowed_may_be_met() -> None:
    found = find_capacity(queue(100), low=1, high=10)

    assert (found.ending, found.highest_met, found.lowest_beyond) == (Ending.CEILING, 10, None)
    assert [probe.load for probe in found.probes] == [1, 2, 4, 8, 10]
    assert found.summary == "10, the highest load allowed, is met; ttft p99 is nearest"


def test_a_client_that_cannot_offer_more_says_so() -> None:
    def measure(load: float) -> TargetVerdict:
        return judged(load, invalid="91 % of the asked rate was sent" if load > 11 else "")

    found = find_capacity(measure, low=1, precision=0.1)

    assert found.ending is Ending.CLIENT
    assert found.binding is None
    assert found.highest_met is not None
    assert found.lowest_beyond is not None
    assert found.highest_met <= 11 < found.lowest_beyond <= 1.1 * found.highest_met
    assert found.summary.endswith("there is no valid measurement: 91 % of the asked rate was sent")


def test_a_miss_below_what_the_client_can_offer_is_still_found() -> None:
    def measure(load: float) -> TargetVerdict:
        return judged(load, invalid="too late") if load > 14 else queue(9)(load)

    found = find_capacity(measure, low=1)

    assert found.ending is Ending.FOUND
    assert found.highest_met == pytest.approx(9, rel=0.05)


def test_no_valid_measurement_at_all_is_the_clients() -> None:
    found = find_capacity(lambda load: judged(load, invalid="the server is down"), low=4)

    assert (found.ending, found.highest_met) == (Ending.CLIENT, None)
    assert found.summary == "nothing is met; at 4 there is no valid measurement: the server is down"


def test_a_miss_that_is_too_close_to_call_is_measured_once_more_and_the_second_decides() -> None:
    answers = {4: [judged(4, ttft=2.01, close=True), judged(4, ttft=1.9)], 8: [judged(8, ttft=9)]}

    def measure(load: float) -> TargetVerdict:
        return answers[int(load)].pop(0) if load in answers else queue(5)(load)

    found = find_capacity(measure, low=4, precision=0.5)

    assert [(probe.load, probe.repeated, probe.verdict) for probe in found.probes[:3]] == [
        (4, False, Verdict.MISSED),
        (4, True, Verdict.MET),
        (8, False, Verdict.MISSED),
    ]
    assert found.highest_met == 4


def test_a_second_measurement_that_misses_too_ends_it() -> None:
    found = find_capacity(lambda load: judged(load, ttft=2.01, close=True), low=4)

    assert [probe.repeated for probe in found.probes] == [False, True]
    assert found.ending is Ending.NONE_MET


def test_an_invalid_second_measurement_leaves_the_first_one_standing() -> None:
    answers = [judged(4, ttft=2.01, close=True), judged(4, invalid="interrupted")]

    found = find_capacity(lambda _: answers.pop(0), low=4)

    assert found.ending is Ending.NONE_MET
    assert found.binding == "ttft p99"


def test_what_is_missed_beyond_doubt_is_not_repeated() -> None:
    def measure(load: float) -> TargetVerdict:
        return judged(load, ttft=2.01, close=True, errors=0.5)

    assert len(find_capacity(measure, low=4).probes) == 1


def test_of_several_limits_the_one_that_is_missed_by_most_binds() -> None:
    found = find_capacity(lambda load: judged(load, ttft=3, errors=0.5), low=1)

    assert found.binding == "error ratio"


def test_throughput_that_a_low_load_cannot_bring_is_no_miss() -> None:
    found = find_capacity(queue(10), low=1)

    assert found.best is not None
    assert found.best.verdict is Verdict.MISSED
    assert found.highest_met == pytest.approx(10, rel=0.05)


def test_the_runs_may_be_used_up() -> None:
    short = find_capacity(queue(100), low=1, max_runs=3)
    bisecting = find_capacity(queue(5), low=1, max_runs=4)

    assert (short.ending, short.highest_met, len(short.probes)) == (Ending.RUNS, 4, 3)
    assert short.summary == "the runs are used up: 4 is met; nothing higher was tried"
    assert (bisecting.ending, bisecting.highest_met, bisecting.lowest_beyond) == (Ending.RUNS, 4, 8)
    assert bisecting.summary == "the runs are used up: 4 is met; 8 is not, ttft p99 binds"


def test_noise_moves_the_result_by_little() -> None:
    chance, found = random.Random(1), []
    for _ in range(40):

        def measure(load: float) -> TargetVerdict:
            ttft = 2 * (load / 10) ** 2 * math.exp(chance.gauss(0, 0.1))
            return judged(load, ttft=ttft, close=0.8 < ttft / 2 < 1.25)

        found.append(find_capacity(measure, low=1).highest_met or 0)

    assert all(7 < load < 13 for load in found)


@pytest.mark.parametrize(
    "wrong", [{"low": 0}, {"low": 2, "high": 1}, {"low": 1, "precision": 0}, {"low": 1, "max_runs": 0}]
)
def test_bounds_that_make_no_search_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a search needs"):
        find_capacity(queue(5), **wrong)


def test_a_target_of_throughput_alone_has_no_capacity() -> None:
    bounded(TARGET)
    with pytest.raises(LoadTestError) as caught:
        bounded(Target.model_validate({"load": {"concurrency": 1}, "output_tokens_per_second": 1000}))

    assert caught.value.problems[0].fact == "the target limits throughput only, so that no load is too high for it"


def test_a_capacity_survives_its_file() -> None:
    found = find_capacity(queue(5), low=1)

    assert Capacity.model_validate_json(found.model_dump_json()) == found


def test_runs_are_judged_by_the_target_at_each_load() -> None:
    def measure(load: float) -> TargetVerdict:
        target = Target.model_validate({"load": {"concurrency": int(load)}, "ttft_seconds": {"p95": 0.2}})
        return judge(target, [make_run(concurrency=int(load), ttft=0.02 * load, requests=100)], "smoke")

    found = find_capacity(measure, low=1, whole=True)

    # The 95th percentile is about e^(1.645 · 0.25) = 1.5 medians.
    assert (found.highest_met, found.binding) == (6, "ttft p95")
