"""What a run comes to."""

import pytest

from vllmstack.simulation.figures import figures
from vllmstack.simulation.fleet import Served


def served(replica: int, asked_at: float, ttft: float, *, cached: int = 0) -> Served:
    return Served(
        replica=replica,
        asked_at=asked_at,
        ttft_seconds=ttft,
        seconds=ttft + 1,
        prompt_tokens=100,
        cached_tokens=cached,
        completion_tokens=20,
    )


def test_figures_are_of_what_was_asked_within_the_window() -> None:
    ones = [served(0, 9.9, 99.0), *(served(index % 4 // 3, 10.0 + index, index + 1.0, cached=50) for index in range(8))]

    found = figures(ones, replicas=2, since=10, until=18)

    assert found.requests == 8
    assert found.hit_ratio == 0.5
    assert (found.ttft_p50_seconds, found.ttft_p99_seconds) == (4.0, 8.0)
    assert found.busiest_ratio == 1.5  # six of eight on one of two
    assert found.output_tokens_per_second == 20.0


def test_replicas_that_got_nothing_count() -> None:
    assert figures([served(0, 1, 1)], replicas=4, since=0, until=2).busiest_ratio == 4.0


def test_an_empty_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="no request between 5 and 6 s"):
        figures([served(0, 1, 1)], replicas=1, since=5, until=6)
