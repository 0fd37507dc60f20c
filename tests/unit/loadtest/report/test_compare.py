"""What changed, how sure it is, and whether it is a regression."""

import math

import pytest

from loadtest.errors import LoadTestError
from loadtest.report.comparable import Variant
from loadtest.report.compare import Change, Comparison, Verdict, compare, judge, single_runs
from loadtest.report.measures import BY_KEY, ERRORS, OUTPUT_TOKENS
from loadtest.results import RunResult
from loadtest.verdict.statistics import Interval
from tests.unit.loadtest.runs import make_run

TTFT = BY_KEY["ttft_seconds.p50"]


def repeats(name: str, *, ttft: float = 0.05, requests: int = 200, failed: int = 0, count: int = 3) -> Variant:
    """Runs that differ by their seeds, those of one name from those of another too."""
    runs = [
        make_run(ttft=ttft * (1 + 0.01 * at), requests=requests, failed=failed, seed=at + 10 * ord(name[0]))
        for at in range(count)
    ]
    return Variant(name=name, runs=tuple(runs))


def changes(before: Variant, after: Variant, **options: float) -> dict[str, Change]:
    [comparison] = compare(before, [after], **options)  # type: ignore[arg-type]
    [load] = comparison.loads
    return {change.measure.key: change for change in load.changes}


def test_repeats_of_the_same_thing_show_no_regression() -> None:
    [comparison] = compare(repeats("a"), [repeats("b")])

    assert comparison.regressions == []


def test_a_ttft_that_is_half_as_long_again_is_a_regression() -> None:
    found = changes(repeats("a"), repeats("b", ttft=0.075))["ttft_seconds.p50"]

    assert found.verdict is Verdict.WORSE
    assert found.regression
    assert found.interval is not None
    assert found.interval.holds(0.5)


def test_the_same_change_the_other_way_is_better_and_no_regression() -> None:
    found = changes(repeats("a", ttft=0.075), repeats("b"))["ttft_seconds.p50"]

    assert found.verdict is Verdict.BETTER
    assert not found.regression


def test_fewer_tokens_are_worse_and_more_are_better() -> None:
    assert changes(repeats("a"), repeats("b", requests=150))["output_tokens_per_second"].regression
    assert changes(repeats("a", requests=150), repeats("b"))["output_tokens_per_second"].verdict is Verdict.BETTER


def test_a_wider_threshold_forgives() -> None:
    before, after = repeats("a"), repeats("b", ttft=0.075)

    assert not changes(before, after, threshold=0.9)["ttft_seconds.p50"].regression


def test_single_runs_are_compared_by_what_varies_inside_them() -> None:
    before, after = repeats("a", count=1), repeats("b", count=1, ttft=0.1)

    found = changes(before, after)

    assert found["ttft_seconds.p50"].regression
    assert found["ttft_seconds.p50"].interval is not None
    assert found["ttft_seconds.p50"].interval.estimate == pytest.approx(1.0, abs=0.15)
    assert found["e2e_seconds.p50"].interval is not None
    assert found["output_tokens_per_second"].verdict is not Verdict.WORSE


def test_one_run_against_many_is_compared_as_repeats() -> None:
    assert changes(repeats("a", count=3), repeats("b", count=1, ttft=0.1))["ttft_seconds.p50"].regression


def test_more_errors_than_chance_explains_are_a_regression_however_few() -> None:
    found = changes(repeats("a"), repeats("b", failed=5))["error_ratio"]

    assert found.regression
    assert found.text == "+2.5 pp"


def test_a_lone_failure_is_none() -> None:
    assert not changes(repeats("a"), repeats("b", count=1, failed=1))["error_ratio"].regression


def test_a_percentile_among_failures_has_no_ratio() -> None:
    found = changes(repeats("a"), repeats("b", failed=10))["ttft_seconds.p99"]

    assert found.after == math.inf
    assert found.interval is None
    assert (found.verdict, found.text) == (Verdict.UNCLEAR, "–")


@pytest.mark.parametrize(
    ("interval", "verdict", "regression"),
    [
        ((0.06, 0.08, 0.10), Verdict.WORSE, True),
        ((0.04, 0.08, 0.12), Verdict.WORSE, False),
        ((-0.01, 0.01, 0.03), Verdict.SAME, False),
        ((-0.20, 0.10, 0.40), Verdict.UNCLEAR, False),
        ((-0.10, -0.08, -0.06), Verdict.BETTER, False),
    ],
)
def test_the_whole_interval_must_be_worse_by_more_than_the_threshold(
    interval: tuple[float, float, float], verdict: Verdict, regression: bool
) -> None:
    assert judge(TTFT, Interval(*interval), 0.05) == (verdict, regression)


def test_for_throughput_less_is_worse() -> None:
    assert judge(OUTPUT_TOKENS, Interval(-0.10, -0.08, -0.06), 0.05) == (Verdict.WORSE, True)
    assert judge(ERRORS, Interval(0.001, 0.002, 0.003), 0.0) == (Verdict.WORSE, True)


def test_each_load_of_a_sweep_is_compared_with_its_like() -> None:
    def sweep(name: str, slow: int) -> Variant:
        runs = [make_run(concurrency=count, ttft=0.1 if count == slow else 0.05, seed=ord(name)) for count in (1, 2, 4)]
        return Variant(name=name, runs=tuple(runs))

    [comparison] = compare(sweep("a", 0), [sweep("b", 4)])

    assert [load.before.short_name for load in comparison.loads] == ["1", "2", "4"]
    assert {load.before.short_name for load, _ in comparison.regressions} == {"4"}
    assert single_runs([comparison])


def test_three_variants_are_compared_with_the_first() -> None:
    found: list[Comparison] = compare(repeats("a"), [repeats("b"), repeats("c", ttft=0.1)])

    assert [(one.baseline.name, one.candidate.name) for one in found] == [("a", "b"), ("a", "c")]
    assert [bool(one.regressions) for one in found] == [False, True]
    assert not single_runs(found)


def test_different_loads_are_refused_with_every_field_and_force_compares_them() -> None:
    before, after = repeats("a"), Variant(name="b", runs=(make_run(rate=3, limits={"ttft": 1.0}),))

    with pytest.raises(LoadTestError) as caught:
        compare(before, [after])

    assert [problem.place for problem in caught.value.problems] == ["load", "limits"]
    assert caught.value.exit_code == 2
    assert len(compare(before, [after], force=True)[0].loads) == 1


def test_force_cannot_compare_what_has_nothing_in_common() -> None:
    def sweep(*counts: int) -> tuple[RunResult, ...]:
        return tuple(make_run(concurrency=count, requests=20) for count in counts)

    with pytest.raises(LoadTestError, match="has no load in common with a"):
        compare(Variant(name="a", runs=sweep(1, 2)), [Variant(name="b", runs=sweep(4, 8))], force=True)
