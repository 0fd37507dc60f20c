"""The stack in figures, from samples."""

from vllmstack.stack_view import Alert, ModelFigures, Sample, view_of


def sample(figure: str, value: float, **labels: str) -> Sample:
    return Sample(labels={"figure": figure, **labels}, value=value)


def test_a_model_whose_engines_are_only_known_is_there_without_figures() -> None:
    view = view_of([sample("replica.up", 0, model="smoke", replica="engine-smoke-1")])

    assert view.models == (ModelFigures(model="smoke"),)
    assert view.replicas_that_take_requests == 0


def test_what_never_occurred_is_none_a_second_where_the_gateway_tells_of_the_model() -> None:
    (seen,) = view_of([sample("model.in_flight", 2, model="smoke")]).models

    assert (seen.requests_per_second, seen.errors_per_second, seen.refused_per_second) == (0, 0, 0)
    assert seen.queued is None


def test_no_number_and_infinity_are_no_figures() -> None:
    (seen,) = view_of(
        [
            sample("model.ttft_p95_seconds", float("inf"), model="smoke"),
            sample("model.prefix_hit_ratio", float("nan"), model="smoke"),
        ]
    ).models

    assert (seen.ttft_p95_seconds, seen.prefix_hit_ratio) == (None, None)


def test_the_tenth_replica_comes_after_the_second() -> None:
    numbers = (10, 2, 1)
    view = view_of(sample("replica.up", 1, model="smoke", replica=f"engine-smoke-{number}") for number in numbers)

    assert [one.replica for one in view.replicas] == ["engine-smoke-1", "engine-smoke-2", "engine-smoke-10"]


def test_an_alert_has_its_name_its_severity_and_what_it_is_of() -> None:
    view = view_of(
        [sample("alert.firing", 1, __name__="ALERTS", alertname="A", alertstate="firing", severity="warn", gpu="3")]
    )

    assert view.alerts == (Alert(name="A", severity="warn", labels={"gpu": "3"}),)


def test_figures_that_nobody_knows_are_left_out() -> None:
    view = view_of([sample("model.colour", 1, model="smoke"), sample("weather.sun", 1), Sample(labels={}, value=1)])

    assert view.models == (ModelFigures(model="smoke"),)
