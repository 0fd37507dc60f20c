from typing import Any

import pytest

from loadtest.results import Counts, Flag, Load, LoadKind
from loadtest.stack import ServedModel, StackFacts
from loadtest.web.targets import live, not_run
from tests.unit.loadtest.runs import make_run
from vllmstack.deployment.model import Target


def stack(*targets: dict[str, Any]) -> StackFacts:
    model = ServedModel(name="smoke", targets=tuple(Target.model_validate(target) for target in targets))
    return StackFacts(deployment="smoke", url="http://127.0.0.1:8000", models=(model,))


CLOSED = {"load": {"concurrency": 4}, "ttft_seconds": {"p50": 0.2, "p99": 0.01}, "error_ratio": 0.01}
OPEN = {"load": {"requests_per_second": 6}, "output_tokens_per_second": 100}
RAG = {"load": {"concurrency": 4}, "scenario": "rag", "e2e_seconds": {"p95": 8}}


def states(cards: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(card["scenario"], card["load"], card["state"]) for card in cards]


def test_before_a_run_every_target_is_listed_as_not_run() -> None:
    assert states(not_run(stack(CLOSED, OPEN))) == [
        ("chat", "concurrency 4", "not run"),
        ("chat", "6/s poisson", "not run"),
    ]
    assert not_run(None) == []


def test_only_the_target_of_this_scenario_and_load_is_judged_and_comes_first() -> None:
    cards = live(make_run(concurrency=4), stack(OPEN, RAG, CLOSED))
    assert states(cards) == [
        ("chat", "concurrency 4", "missed"),
        ("chat", "6/s poisson", "not run"),
        ("rag", "concurrency 4", "not run"),
    ]
    rows = {row["limit"]: row for row in cards[0]["rows"]}
    assert rows["ttft p50"]["state"] == "met"
    assert rows["ttft p50"]["measured"] == pytest.approx(0.05, rel=0.1)
    assert (rows["ttft p99"]["state"], rows["ttft p99"]["asked"]) == ("missed", 0.01)
    assert {row["measured"] for card in cards[1:] for row in card["rows"]} == {None}


@pytest.mark.parametrize(
    "run",
    [
        make_run(rate=5),
        make_run(concurrency=6),
        make_run(scenario="rag", rate=6),
        make_run(model="other", rate=6),
        make_run(load=Load(kind=LoadKind.OPEN, rate=6, arrivals="gamma", burstiness=0.5)),
    ],
    ids=["another rate", "users", "another scenario", "another model", "bursts"],
)
def test_a_target_is_not_judged_by_another_load(run: Any) -> None:
    assert states(live(run, stack(OPEN))) == [("chat", "6/s poisson", "not run")]


def test_a_run_without_an_answer_has_not_measured_its_target_yet() -> None:
    run = make_run(concurrency=4)
    none = run.total.model_copy(update={"counts": Counts()})
    early = run.model_copy(update={"total": none, "series": []})
    cards = live(early, stack(CLOSED))
    assert states(cards) == [("chat", "concurrency 4", "not measured yet")]
    assert {row["state"] for row in cards[0]["rows"]} == {"not measured yet"}


def test_an_invalid_run_shows_values_but_no_verdict() -> None:
    flag = Flag(kind="client", severity="invalid", fact="the client was late itself", hint="")
    card = live(make_run(concurrency=4, flags=[flag]), stack(CLOSED))[0]
    assert card["state"] == "cannot tell"
    assert "the client was late itself" in card["reasons"][0]
    assert card["rows"][0]["measured"] is not None
    assert {row["state"] for row in card["rows"]} == {"cannot tell"}


def test_a_load_that_was_changed_under_way_meets_no_target() -> None:
    card = live(make_run(concurrency=4), stack(CLOSED), changed="users from 4 to 8")[0]
    assert (card["state"], card["reasons"]) == ("cannot tell", ["users from 4 to 8"])


def test_goodput_by_other_limits_is_not_judged_but_the_rest_is() -> None:
    target = {"load": {"concurrency": 4}, "ttft_seconds": {"p99": 1}, "goodput_ratio": 0.99}
    card = live(make_run(concurrency=4, limits={}), stack(target))[0]
    assert [(row["limit"], row["state"]) for row in card["rows"]] == [
        ("ttft p99", "met"),
        ("goodput ratio", "cannot tell"),
    ]
    same = live(make_run(concurrency=4, limits={"ttft": 1}), stack(target))[0]
    assert (same["state"], len(same["rows"])) == ("met", 2)


def test_failures_that_make_a_percentile_infinite_are_said_in_a_way_that_json_can_carry() -> None:
    card = live(make_run(concurrency=4, requests=100, failed=50), stack(CLOSED))[0]
    row = next(row for row in card["rows"] if row["limit"] == "ttft p99")
    assert (row["state"], row["infinite"]) == ("missed", True)
