"""Every scenario in loadtest/scenarios does on the smoke model what its file says."""

import json
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.stack import ServedModel
from loadtest.workload.scenario import Scenario, load_scenario, scenario_names
from loadtest.workload.sections import Endpoint
from loadtest.workload.steps import Request, Think
from loadtest.workload.tokenizer import Tokenizer
from loadtest.workload.workload import Workload
from vllmstack.deployment.loader import load, names

ROOT = Path(__file__).parents[4]
SCENARIOS = ROOT / "loadtest" / "scenarios"
ALL = scenario_names(SCENARIOS)
TOO_LONG = {"long-context": 120_512, "rag": 3_756}
"""Tokens of prompt and answer, where the smoke model's deployment takes 2,048."""
SESSIONS = 25
WITH_TOOLS = {"tool_call_parser": "hermes"}


def scenario(name: str) -> Scenario:
    return load_scenario(name, folder=SCENARIOS)


def workload(name: str, tokenizer: Tokenizer, max_model_len: int) -> Workload:
    model = ServedModel(name="smoke", max_model_len=max_model_len, options=WITH_TOOLS)
    return Workload(scenario(name), model=model, tokenizer=tokenizer, seed=1)


def steps(made: Workload, index: int) -> list[Request]:
    """All requests of a session whose answers are always the same."""
    session, requests = made.session(index), []
    try:
        step = next(session)
        while True:
            if isinstance(step, Request):
                requests.append(step)
            step = session.send("It is so." if isinstance(step, Request) and step.keep_text else None)
    except StopIteration:
        return requests


def counted(request: Request, tokenizer: Tokenizer) -> int:
    body = json.loads(request.body)
    if "messages" in body:
        return tokenizer.count_chat(body["messages"], body.get("tools"))
    inputs = body.get("prompt", body.get("input"))
    return sum(tokenizer.count(text) for text in ([inputs] if isinstance(inputs, str) else inputs))


def test_the_scenarios_that_the_project_names_are_there() -> None:
    assert set(ALL) >= {
        "chat", "completion", "lab-200-200", "random-512-256", "shared-system-prompt", "rag", "long-context",
        "conversation", "code-completion", "tool-calls", "structured-output", "embeddings", "mix", "abandonment",
        "tenants",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(ALL) - set(TOO_LONG)))
def test_every_prompt_has_the_tokens_that_were_planned(name: str, smoke: Tokenizer) -> None:
    made = workload(name, smoke, 2048)
    made.prepare(SESSIONS)
    by_name = {one.name: one for one in [scenario(name), *(part.definition for part in scenario(name).mix)] if one}
    for index in range(SESSIONS):
        requests = steps(made, index)
        opening, lengths = requests[0], by_name[requests[0].scenario].prompt_tokens
        assert lengths is not None
        assert counted(opening, smoke) == opening.expected_prompt_tokens
        inputs = by_name[opening.scenario].inputs_per_request
        assert lengths.fewest * inputs <= (opening.expected_prompt_tokens or 0) <= lengths.most * inputs
        assert all(counted(request, smoke) <= 2048 * inputs for request in requests)


@pytest.mark.parametrize("name", sorted(TOO_LONG))
def test_a_scenario_too_long_for_the_smoke_model_is_refused(name: str, smoke: Tokenizer) -> None:
    with pytest.raises(LoadTestError) as caught:
        workload(name, smoke, 2048)
    (problem,) = caught.value.problems
    assert problem.fact == (
        f"prompt and answer take up to {TOO_LONG[name]:,} tokens, more than the 2,048 that smoke takes (max_model_len)"
    )
    opening = steps(workload(name, smoke, TOO_LONG[name]), 0)[0]
    assert counted(opening, smoke) == opening.expected_prompt_tokens


@pytest.mark.parametrize("name", ALL)
def test_each_says_what_it_is_and_under_which_load(name: str) -> None:
    one = scenario(name)
    assert one.description.endswith(".")
    assert len(one.description) < 90
    assert (one.load.concurrency or 0) > 0
    text = (SCENARIOS / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# ")


def test_the_default_fits_a_model_served_with_512_tokens(smoke: Tokenizer) -> None:
    assert workload("chat", smoke, 512)


def test_the_lab_is_a_hundred_requests_of_exactly_200_and_200(smoke: Tokenizer) -> None:
    one = scenario("lab-200-200")
    assert (one.requests, one.endpoint, one.ignore_eos) == (100, Endpoint.COMPLETIONS, True)
    made = workload("lab-200-200", smoke, 512)
    bodies = [json.loads(steps(made, index)[0].body) for index in range(10)]
    assert {smoke.count(body["prompt"]) for body in bodies} == {200}
    assert {(body["max_tokens"], body["ignore_eos"]) for body in bodies} == {(200, True)}


@pytest.mark.parametrize("name", ALL)
def test_prefix_hits_are_expected_just_of_these(name: str) -> None:
    shared = {"shared-system-prompt", "rag", "conversation", "tool-calls", "mix", "tenants"}
    assert scenario(name).expects_prefix_hits is (name in shared)


def test_conversations_pause_between_their_turns(smoke: Tokenizer) -> None:
    session = workload("conversation", smoke, 2048).session(0)
    next(session)
    assert isinstance(session.send("It is so."), Think)


def test_every_scenario_that_a_deployment_names_is_there_and_fits_it(smoke: Tokenizer) -> None:
    fitting: dict[tuple[str, int], str] = {}
    for deployment in names(ROOT / "deployments"):
        for model in load(ROOT / "deployments" / f"{deployment}.yaml").models:
            for target in model.targets:
                length = model.serve.get("max_model_len")
                fitting.setdefault((target.scenario, length or 512), deployment)
    for (name, length), deployment in fitting.items():
        assert workload(name, smoke, length), deployment
