"""What a run is asked to do, from texts as a form sends them, and back into a command line."""

from argparse import Namespace
from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.options import RunOptions, checked, from_namespace, parse_parameters
from loadtest.results import LoadKind


def form(**fields: Any) -> Namespace:
    """As Locust's parser gives it: every field of the form is a text, empty if left out."""
    empty = dict.fromkeys(
        ("scenario", "model", "rate", "burstiness", "until_rate", "steps", "trace", "duration", "warmup", "requests"),
        "",
    )
    return Namespace(**{**empty, "arrivals": "poisson", "num_users": 4, "seed": "0", **fields})


def test_without_a_rate_users_decide() -> None:
    load = from_namespace(form()).load()

    assert (load.kind, load.concurrency) == (LoadKind.CLOSED, 4)


@pytest.mark.parametrize("rate", ["", "0", "0.0"])
def test_an_empty_rate_and_zero_are_no_rate(rate: str) -> None:
    assert not from_namespace(form(rate=rate)).open_loop


def test_a_rate_makes_an_open_loop() -> None:
    load = from_namespace(form(rate="2.5", arrivals="gamma", burstiness="0.5")).load()

    assert (load.kind, load.rate, load.burstiness) == (LoadKind.OPEN, 2.5, 0.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": "fast"}, "--rate: 'fast' is not a number\n  hint: write digits, as in 10"),
        ({"rate": "-1"}, "--rate: -1 is too small\n  hint: write a number above 0"),
        ({"duration": "x"}, "--duration: 'x' is not a number\n  hint: write digits, as in 10"),
        ({"requests": "1.5"}, "--requests: '1.5' is not a whole number\n  hint: write digits, as in 10"),
        ({"warmup": "-2"}, "--warmup: -2 is too small\n  hint: write 0 or more"),
        (
            {"parameters": "prompt_tokens"},
            "--parameters: 'prompt_tokens' has no value\n  hint: write NAME=VALUE NAME=VALUE",
        ),
        (
            {"limits": "{"},
            '--limits: \'{\' cannot be read\n  hint: write JSON of seconds, as in {"ttft": 0.5, "tpot": 0.05}',
        ),
        ({"arrivals": "ramp"}, "--arrivals: ramp arrivals need a rate\n  hint: add --rate, or leave --arrivals out"),
        ({"arrivals": "steps"}, "--arrivals: steps needs --steps\n  hint: add --steps, or choose poisson"),
        (
            {"arrivals": "gamma", "rate": "1"},
            "--arrivals: gamma needs --burstiness\n  hint: 1 is Poisson, 0.5 burstier, 2 evener",
        ),
    ],
)
def test_a_wrong_field_is_told_with_what_to_write(fields: dict[str, str], message: str) -> None:
    with pytest.raises(LoadTestError) as caught:
        from_namespace(form(**fields))

    assert message in str(caught.value)


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(LoadTestError) as caught:
        checked({"rate": "x", "duration_seconds": "y", "requests": 0})

    assert [problem.place for problem in caught.value.problems] == ["--rate", "--duration", "--requests"]


def test_the_command_line_asks_for_the_same_run_again() -> None:
    options = RunOptions(
        scenario="rag", model="m", rate=3, arrivals="ramp", until_rate=9, duration_seconds=20, warmup_seconds=2, seed=7,
        parameters={"prompt_tokens": "512"}, limits={"ttft": 0.5}, stack="s.json", url="http://h", result="r",
    )  # fmt: skip
    words = options.arguments()

    given = dict(zip(words[::2], words[1::2], strict=True))
    again = from_namespace(
        Namespace(
            **{name.removeprefix("--").replace("-", "_"): value for name, value in given.items()},
            num_users=int(given["--users"]),
        )
    )
    assert again.model_copy(update={"concurrency": None}) == options


def test_parameters_are_separated_by_spaces_or_commas() -> None:
    assert parse_parameters("a=1 b=2,c=x:y") == {"a": "1", "b": "2", "c": "x:y"}
