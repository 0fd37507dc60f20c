"""Locust patches the standard library when it is imported: its parser is asked in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.arguments import FORM_FIELDS

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, sys
import locust
from locust.argument_parser import get_parser, ui_extra_args_dict
from loadtest.arguments import add_arguments
from loadtest.options import from_namespace
locust.events.init_command_line_parser.add_listener(lambda parser: add_arguments(parser, scenarios=["chat", "rag"]))
arguments = json.loads(sys.argv[1])
sys.argv = ["locust"]
options = get_parser().parse_args(arguments)
print(json.dumps({
    "form": ui_extra_args_dict(),
    "parsed": {name: value for name, value in vars(options).items() if value is None or isinstance(value, str)},
    "run": from_namespace(options).model_dump(mode="json"),
}))
"""


def parse(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def parsed(*arguments: str) -> dict[str, Any]:
    done = parse(*arguments)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return parsed()


def test_the_form_has_every_field_of_a_run_and_none_of_the_machine(plain: dict[str, Any]) -> None:
    assert set(plain["form"]) == set(FORM_FIELDS)
    assert all(field["help_text"] for field in plain["form"].values())


def test_scenario_and_arrivals_are_chosen_from_lists(plain: dict[str, Any]) -> None:
    form = plain["form"]
    assert (form["scenario"]["choices"], form["scenario"]["default_value"]) == (["chat", "rag"], "chat")
    assert form["arrivals"]["choices"] == ["poisson", "gamma", "constant", "ramp", "steps", "trace"]


def test_every_field_is_a_text_so_that_an_emptied_one_can_be_posted(plain: dict[str, Any]) -> None:
    assert {type(field["default_value"]) for field in plain["form"].values()} == {str}


def test_without_arguments_a_run_is_one_user_of_the_first_scenario(plain: dict[str, Any]) -> None:
    run = plain["run"]
    assert (run["scenario"], run["rate"], run["seed"], run["calibrate"]) == ("chat", None, 0, True)


def test_all_arguments_reach_the_run() -> None:
    given = {
        "--scenario": "rag", "--model": "smoke", "--rate": "2.5", "--arrivals": "gamma", "--burstiness": "0.5",
        "--duration": "60", "--warmup": "5", "--seed": "7", "--parameters": "prompt_tokens=512 completion_tokens=64",
        "--timeout": "30", "--stack": "stack.json", "--result": "results", "--api-key-file": "keys",
        "--tokenizer": "models/smoke", "--limits": '{"ttft": 0.5}', "--git": "0123abc",
    }  # fmt: skip
    run = parsed(*[word for pair in given.items() for word in pair], "--no-calibration")["run"]
    assert run | {
        "scenario": "rag", "model": "smoke", "rate": 2.5, "arrivals": "gamma", "burstiness": 0.5,
        "duration_seconds": 60, "warmup_seconds": 5, "seed": 7,
        "parameters": {"prompt_tokens": "512", "completion_tokens": "64"}, "timeout_seconds": 30,
        "stack": "stack.json", "result": "results", "api_key_file": "keys", "tokenizer": "models/smoke",
        "limits": {"ttft": 0.5}, "git": "0123abc", "calibrate": False,
    } == run  # fmt: skip


def test_an_unknown_scenario_is_one_clear_line_and_exit_2() -> None:
    done = parse("--scenario", "chatt")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert "--scenario" in line
    assert "chatt" in line
    assert "rag" in line
