"""Which runs belong together."""

from loadtest.report.grouping import sweeps
from loadtest.results import Flag, RunResult
from tests.unit.loadtest.runs import make_run


def saturating(concurrency: int, *, seed: int = 0) -> RunResult:
    """A server that serves 16 at a time: more users wait, and get nothing more done."""
    busy = min(concurrency, 16)
    ttft = 0.05 * max(1, concurrency / 16) ** 2
    return make_run(concurrency=concurrency, requests=busy * 10, ttft=ttft, seed=seed)


def test_repeats_of_a_load_are_one_point_and_loads_grow() -> None:
    runs = [make_run(concurrency=count, seed=seed) for count in (8, 1, 2) for seed in (0, 1)]

    [sweep] = sweeps(runs)

    assert [point.short_name for point in sweep.points] == ["1", "2", "8"]
    assert [len(point.runs) for point in sweep.points] == [2, 2, 2]
    assert sweep.points[0].total.counts.sent == 400


def test_other_parameters_of_a_scenario_are_another_sweep() -> None:
    runs = [make_run(), make_run(scenario_text={"name": "chat", "prompt_tokens": 4000})]

    assert len(sweeps(runs)) == 2


def test_rates_and_concurrencies_are_not_one_curve() -> None:
    assert len(sweeps([make_run(rate=4), make_run(concurrency=4)])) == 2


def test_the_knee_is_where_more_users_only_wait() -> None:
    [sweep] = sweeps([saturating(count) for count in (1, 2, 4, 8, 16, 32, 64)])

    assert sweep.knee is not None
    assert sweep.knee.short_name == "16"


def test_noise_on_a_level_line_is_no_knee() -> None:
    for seed in range(5):
        [sweep] = sweeps([make_run(concurrency=count, requests=20 * count, seed=seed) for count in (1, 2, 4, 8)])

        assert sweep.knee is None


def test_an_invalid_run_makes_no_knee() -> None:
    runs = [saturating(count) for count in (1, 2, 4, 8, 16)]
    late = Flag(kind="client", severity="invalid", fact="late", hint="more cores")
    bad = saturating(64).model_copy(update={"flags": [late]})

    [with_bad], [without] = sweeps([*runs, bad]), sweeps(runs)

    assert not with_bad.points[-1].valid
    assert (with_bad.knee and with_bad.knee.short_name) == (without.knee and without.knee.short_name)


def test_two_loads_are_no_curve() -> None:
    [sweep] = sweeps([make_run(concurrency=1), make_run(concurrency=2)])

    assert not sweep.has_curve
