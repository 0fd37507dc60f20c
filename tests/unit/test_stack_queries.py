"""What `vllmstack top` asks: every figure has a place, and one question holds them all."""

from dataclasses import fields

import pytest

from vllmstack.stack_queries import expressions, question, window_seconds
from vllmstack.stack_view import GpuFigures, ModelFigures, ReplicaFigures

NAMES = {"model": {"model"}, "replica": {"model", "replica"}, "gpu": {"gpu"}}


@pytest.mark.parametrize(("scrape", "window"), [(1, 60), (5, 60), (15, 60), (16, 64), (60, 240)])
def test_a_rate_is_over_a_minute_or_four_scrapes(scrape: int, window: int) -> None:
    assert window_seconds(scrape) == window


@pytest.mark.parametrize(("level", "kind"), [("model", ModelFigures), ("replica", ReplicaFigures), ("gpu", GpuFigures)])
def test_every_figure_is_asked_for_and_every_answer_is_shown(level: str, kind: type) -> None:
    asked = {name.partition(".")[2] for name in expressions(60) if name.startswith(f"{level}.")}

    assert asked == {one.name for one in fields(kind)} - NAMES[level]


def test_one_question_tells_its_parts_apart() -> None:
    assert question({"a.b": "up", "c.d": "sum(x)"}) == (
        'label_replace(up, "figure", "a.b", "", "")\nor label_replace(sum(x), "figure", "c.d", "", "")'
    )
