"""Loads as they are written."""

import itertools
import statistics

import pytest

from vllmstack.errors import InvalidInput
from vllmstack.prediction.load import EXAMPLE, Load, parse_load


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("30 rps, 1000 in, 300 out", Load(requests_per_second=30, prompt_tokens=1000, completion_tokens=300)),
        ("90rpm,4k in,0.5k out", Load(requests_per_second=1.5, prompt_tokens=4000, completion_tokens=500)),
        (
            "300 out, 64 users, 1000 in, 200 shared, fixed",
            Load(users=64, prompt_tokens=1000, completion_tokens=300, shared_tokens=200, fixed=True),
        ),
    ],
)
def test_a_load_is_read(text: str, load: Load) -> None:
    assert parse_load(text) == load


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ["it says neither how many requests a second (rps) nor how many users", "it has no tokens 'in'",
              "it has no tokens 'out'"]),
        ("30 rps, 4 users, 10 in, 10 out", ["it has a rate and users: users decide themselves when they ask"]),
        ("30 rps, 10 in, 20 in, 10 out", ["'in' stands there twice"]),
        ("0 rps, 10 in, 10 out", ["'0 rps' is nothing"]),
        ("-3 rps, 10 in, 10 out", ["'-3 rps' is not understood",
                                   "it says neither how many requests a second (rps) nor how many users"]),
        ("1 rps, 10 in, 10 out, 10 shared", ["more tokens are shared than are in"]),
        ("2.5 users, 10 in, 10 out", ["'2.5 users' is no whole number of users"]),
        ("fast, 1 rps, 10 in, 10 out", ["'fast' is not understood"]),
    ],
)  # fmt: skip
def test_every_mistake_is_told_at_once(text: str, facts: list[str]) -> None:
    with pytest.raises(InvalidInput) as wrong:
        parse_load(text)

    assert [problem.fact for problem in wrong.value.problems] == facts
    assert {problem.hint for problem in wrong.value.problems} == {f"write it like {EXAMPLE}"}


def test_lengths_vary_around_the_mean_and_are_bounded() -> None:
    load = parse_load("1 rps, 1000 in, 300 out")

    drawn = list(itertools.islice(load.lengths(), 20_000))

    assert statistics.mean(one.prompt_tokens for one in drawn) == pytest.approx(1000, rel=0.03)
    assert statistics.stdev(one.prompt_tokens for one in drawn) == pytest.approx(700, rel=0.08)
    assert max(one.prompt_tokens + one.completion_tokens for one in drawn) <= load.longest_tokens


def test_what_prompts_share_is_as_long_in_each() -> None:
    load = parse_load("1 rps, 1000 in, 300 out, 900 shared")

    drawn = list(itertools.islice(load.lengths(), 20_000))

    assert statistics.mean(one.prompt_tokens for one in drawn) == pytest.approx(1000, rel=0.01)
    assert min(one.prompt_tokens for one in drawn) > 900
    assert max(one.prompt_tokens + one.completion_tokens for one in drawn) <= load.longest_tokens == 2500


def test_arrivals_come_at_the_rate() -> None:
    arrivals = [at for at, _ in parse_load("20 rps, 10 in, 10 out").arrivals(20_000)]

    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == pytest.approx(1000, rel=0.03)


def test_a_load_can_be_scaled() -> None:
    assert str(parse_load("30 rps, 10 in, 10 out, fixed").times(0.5)) == "15 rps, 10 in, 10 out, fixed"
    assert parse_load("3 users, 10 in, 10 out").times(0.1).users == 1
