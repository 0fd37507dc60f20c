"""Numbers for a purpose, and how popularity is spread."""

from collections import Counter

import pytest

from loadtest.workload.randomness import pick, source, zipf


def test_a_purpose_has_its_own_numbers_whoever_asks_first() -> None:
    first = [source(7, "plan", number).random() for number in range(100)]
    backwards = [source(7, "plan", number).random() for number in reversed(range(100))]
    assert first == backwards[::-1]
    assert len(set(first)) == 100


def test_purposes_that_only_look_alike_have_other_numbers() -> None:
    assert source("a", "bc").random() != source("ab", "c").random()
    assert source(1, 23).random() != source(12, 3).random()


def test_popularity_follows_zipfs_law() -> None:
    numbers, weights = source("zipf"), zipf(50, 1.0)
    counts = Counter(pick(weights, numbers) for _ in range(50_000))
    # The harmonic number of 50 is 4.499: the first has 22.2 %, the second half of that, the tenth a tenth.
    for rank, share in ((1, 0.2223), (2, 0.1111), (10, 0.0222)):
        assert counts[rank - 1] / 50_000 == pytest.approx(share, rel=0.1)


def test_an_exponent_of_zero_makes_all_alike() -> None:
    assert zipf(4, 0) == [1, 2, 3, 4]
