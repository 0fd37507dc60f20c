"""Targets as they are written."""

import pytest

from vllmstack.errors import InvalidInput
from vllmstack.prediction.goal import Goal, parse_goals


def test_limits_are_read() -> None:
    assert parse_goals("ttft_p95<300ms, TPOT_p50 <= 0.02 s, tokens > 5k") == (
        Goal(figure="ttft", percentile="p95", limit=0.3),
        Goal(figure="tpot", percentile="p50", limit=0.02),
        Goal(figure="tokens", limit=5000),
    )


@pytest.mark.parametrize("text", ["ttft<3s", "ttft_p95>300ms", "ttft_p95<300", "itl_p50<3ms", "tokens<5"])
def test_what_is_not_understood_is_told(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not understood"):
        parse_goals(text)


def test_nothing_is_no_target() -> None:
    with pytest.raises(InvalidInput, match="it is empty"):
        parse_goals(" , ")


def test_latencies_are_limited_from_above_and_tokens_from_below() -> None:
    assert Goal(figure="ttft", percentile="p95", limit=0.3).met_by(0.3)
    assert not Goal(figure="ttft", percentile="p95", limit=0.3).met_by(0.31)
    assert not Goal(figure="tokens", limit=5000).met_by(4999)
