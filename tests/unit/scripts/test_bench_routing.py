"""What the routing measurements conclude, and the texts of the real one."""

from dataclasses import replace
from typing import Any

import pytest

from scripts.bench_routing import Speaker, judge
from scripts.bench_routing_simulated import cases, faults
from vllmstack.simulation.figures import Figures
from vllmstack.simulation.requests import Piece

GOOD = Figures(
    requests=100,
    hit_ratio=0.5,
    ttft_p50_seconds=0.1,
    ttft_p99_seconds=1.0,
    busiest_ratio=1.1,
    output_tokens_per_second=10.0,
)


def test_equal_pieces_are_equal_texts_of_their_length() -> None:
    speaker = Speaker()

    text = speaker.text("1", Piece(5, 140), 100)

    assert len(text.split()) == 40
    assert text == speaker.text("1", Piece(5, 140), 100)
    assert text != speaker.text("1", Piece(6, 140), 100)
    assert text != speaker.text("2", Piece(5, 140), 100)


@pytest.mark.parametrize(
    ("name", "change", "missed"),
    [
        ("lmetric", {}, set()),
        ("lmetric", {"hit_ratio": 0.59}, {"hit rate ÷ round robin's"}),
        ("lmetric", {"busiest_ratio": 1.31}, {"busiest ÷ mean"}),
        ("lmetric, hot prefix", {"busiest_ratio": 1.21}, {"the same, hot prefix"}),
        ("round-robin", {"failed": 1}, {"failed requests"}),
    ],
)
def test_each_limit_is_judged(name: str, change: dict[str, Any], missed: set[str]) -> None:
    good = {"hit_ratio": 0.61, "busiest_ratio": 1.1, "failed": 0}
    rounds = {
        "round-robin": [{**good, "hit_ratio": 0.4}],
        "lmetric": [good],
        "lmetric, hot prefix": [good],
    }

    verdict = judge({**rounds, name: [{**rounds[name][0], **change}]})

    assert {name for name, row in verdict.items() if not row["met"]} == missed


def test_a_policy_that_is_faster_is_a_fault() -> None:
    chat = cases([4])[0]

    assert faults(chat, {"lmetric": [GOOD], "other": [replace(GOOD, ttft_p99_seconds=0.99)]}) == []
    assert faults(chat, {"lmetric": [GOOD], "other": [replace(GOOD, ttft_p99_seconds=0.9)]}) == [
        "chat, low rate, 4 replicas: TTFT p99 of other is 0.900 s, of lmetric 1.000 s"
    ]


def test_a_hot_prefix_on_one_replica_is_a_fault() -> None:
    hot = cases([4])[-1]

    assert faults(hot, {"lmetric": [replace(GOOD, busiest_ratio=1.3)]}) == [
        "one hot prefix, 4 replicas: busiest ÷ mean is 1.30"
    ]
