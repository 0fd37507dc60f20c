from pathlib import Path
from typing import Any

import pytest

from loadtest.errors import LoadTestError
from loadtest.options import RunOptions
from loadtest.stack import ServedModel, StackFacts
from loadtest.web.form import load_changes, refusal
from vllmstack.errors import Problem

STACK = StackFacts(deployment="smoke", url="http://127.0.0.1:8000", models=(ServedModel(name="smoke"),))
PARSED: dict[str, Any] = {
    "scenario": "chat", "model": "", "rate": "", "arrivals": "poisson", "burstiness": "", "until_rate": "", "steps": "",
    "trace": "", "trace_speed": "1", "duration": "", "warmup": "", "requests": "", "parameters": "", "seed": "0",
    "timeout": "600", "num_users": None, "spawn_rate": 100.0, "limits": None, "stack": None, "host": None,
}  # fmt: skip


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    (tmp_path / "chat.yaml").write_text("description: Short questions.\nprompt_tokens: 64\ncompletion_tokens: 16\n")
    return tmp_path


def refused(
    scenarios: Path, form: dict[str, str], *, running: bool = False, parsed: dict[str, Any] | None = None
) -> str:
    fields = {"user_count": "4", "spawn_rate": "100", "host": "http://127.0.0.1:8000", "profile": "", "run_time": ""}
    return refusal(fields | form, PARSED | (parsed or {}), running=running, stack=STACK, scenarios_folder=scenarios)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"rate": "2.5"},
        {"rate": "0"},
        {"model": "smoke"},
        {"parameters": "prompt_tokens=128 completion_tokens=32"},
        {"arrivals": "steps", "steps": "2x30,4x30"},
        {"duration": "60", "warmup": "5"},
    ],
)
def test_what_can_run_is_not_refused(scenarios: Path, form: dict[str, str]) -> None:
    assert refused(scenarios, form) == ""


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"rate": "fast"}, ["rate", "'fast'"]),
        ({"duration": "-1"}, ["duration", "-1"]),
        ({"requests": "2.5"}, ["requests", "2.5"]),
        ({"model": "gpt"}, ["model", "no model 'gpt'", "it has: smoke"]),
        ({"parameters": "prompt_tokns=128"}, ["prompt_tokns"]),
        ({"parameters": "prompt_tokens"}, ["'prompt_tokens' has no value"]),
        ({"arrivals": "trace"}, ["trace"]),
        ({"arrivals": "trace", "trace": "/no/such/file"}, ["/no/such/file"]),
        ({"arrivals": "steps", "steps": "fast"}, ["steps", "'fast'"]),
        ({"run_time": "60s"}, ["run time", "cut the run off"]),
        ({"rate": "fast", "model": "gpt"}, ["'fast'"]),
    ],
)
def test_what_cannot_run_is_refused_in_one_line_with_the_fields_name(
    scenarios: Path, form: dict[str, str], words: list[str]
) -> None:
    said = refused(scenarios, form)
    assert [word for word in words if word not in said] == []
    assert "\n" not in said
    assert "--" not in said


def test_a_wrong_model_and_a_wrong_parameter_are_said_together(scenarios: Path) -> None:
    said = refused(scenarios, {"model": "gpt", "parameters": "prompt_tokns=128"})
    assert "gpt" in said
    assert "prompt_tokns" in said


def test_what_else_a_run_needs_is_asked_before_it_starts_and_only_if_the_form_is_right(scenarios: Path) -> None:
    asked: list[str] = []

    def check(options: RunOptions) -> None:
        asked.append(options.scenario)
        raise LoadTestError(Problem(fact="http://127.0.0.1:1 cannot be reached", hint="run `vllmstack up`"))

    def answer(**form: str) -> str:
        return refusal(
            {"user_count": "1"} | form, PARSED, running=False, stack=None, scenarios_folder=scenarios, check=check
        )

    assert answer() == "http://127.0.0.1:1 cannot be reached (run `vllmstack up`)"
    assert answer(rate="fast").startswith("rate")
    assert asked == ["chat"]


@pytest.mark.parametrize(
    ("parsed", "form"),
    [
        ({}, {"user_count": "8"}),
        ({"rate": "2"}, {"rate": "4"}),
        ({"rate": "2", "seed": "7"}, {"rate": "2", "seed": "7", "scenario": "chat"}),
    ],
)
def test_users_and_rate_may_change_while_a_run_goes_on(
    scenarios: Path, parsed: dict[str, Any], form: dict[str, str]
) -> None:
    assert refused(scenarios, form, running=True, parsed=parsed) == ""


@pytest.mark.parametrize(
    ("parsed", "form", "field"),
    [
        ({}, {"scenario": "rag"}, "scenario"),
        ({}, {"rate": "2"}, "rate"),
        ({"rate": "2"}, {"rate": ""}, "rate"),
        ({"parameters": "prompt_tokens=8"}, {"parameters": ""}, "parameters"),
    ],
    ids=["scenario", "closed to open", "open to closed", "parameters"],
)
def test_nothing_else_may(scenarios: Path, parsed: dict[str, Any], form: dict[str, str], field: str) -> None:
    said = refused(scenarios, form, running=True, parsed=parsed)
    assert said.startswith(f"{field}: cannot be changed while a run goes on")


def test_changes_of_the_load_are_named() -> None:
    assert load_changes({"user_count": "8", "rate": ""}, {"num_users": 4, "rate": ""}) == "users from 4 to 8"
    assert load_changes({"user_count": "1", "rate": "4"}, {"num_users": 1, "rate": "2"}) == "rate from 2 to 4"
    assert load_changes({"user_count": "1"}, {"num_users": 1, "rate": "2"}) == ""
