"""Waiting for the gateway, and a first answer through it."""

import json
import socket

import pytest

from tests.unit.conftest import KEY, FakeGateway
from vllmstack.deployment.model import Model
from vllmstack.errors import StackError
from vllmstack.host.gateway_client import await_ready, first_answer

MODEL = Model.model_validate({"name": "smoke", "source": {"directory": "/models/smoke"}})
COMPLETIONS = "/v1/completions"


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def problem(caught: pytest.ExceptionInfo[StackError]) -> tuple[str, str]:
    (one,) = caught.value.problems
    return one.fact, one.hint


def test_a_gateway_that_is_ready_is_asked_once(gateway: FakeGateway) -> None:
    gateway.answer("/ready", "{}")

    await_ready(gateway.url, seconds=5)

    assert [path for path, _, _ in gateway.requests] == ["/ready"]


def test_a_gateway_that_is_not_ready_in_time_is_quoted(gateway: FakeGateway) -> None:
    gateway.answer("/ready", '{"missing": ["smoke"]}', status=503)

    with pytest.raises(StackError) as caught:
        await_ready(gateway.url, seconds=0.1)

    assert problem(caught) == (
        'the gateway is not ready after 0 s: {"missing": ["smoke"]}',
        "see `vllmstack logs gateway`",
    )


def test_a_gateway_that_nobody_listens_for_is_told_so(nobody: str) -> None:
    with pytest.raises(StackError) as caught:
        await_ready(nobody, seconds=0.1)

    assert "refused" in problem(caught)[0]


def test_the_first_answer_is_one_token_of_the_model(gateway: FakeGateway) -> None:
    gateway.answer(COMPLETIONS, "{}")

    first_answer(gateway.url, MODEL, key=None)

    ((path, headers, body),) = gateway.requests
    assert path == COMPLETIONS
    assert json.loads(body) == {"model": "smoke", "prompt": "Hello", "max_tokens": 1}
    assert "authorization" not in headers


def test_a_proxy_of_the_environment_is_not_asked(
    gateway: FakeGateway, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", nobody)
    monkeypatch.setenv("http_proxy", nobody)
    gateway.answer("/ready", "{}")
    gateway.answer(COMPLETIONS, "{}")

    await_ready(gateway.url, seconds=0.1)
    first_answer(gateway.url, MODEL, key=None)

    assert [path for path, _, _ in gateway.requests] == ["/ready", COMPLETIONS]


def test_with_keys_the_first_question_carries_one(gateway: FakeGateway) -> None:
    gateway.answer(COMPLETIONS, "{}")

    first_answer(gateway.url, MODEL, key=KEY)

    assert gateway.requests[0][1]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [200, 400, 404])
def test_a_model_that_has_no_completions_answers_too(gateway: FakeGateway, status: int) -> None:
    gateway.answer(COMPLETIONS, "{}", status=status)

    first_answer(gateway.url, MODEL, key=None)

    assert len(gateway.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503])
def test_an_answer_that_is_none_is_quoted_without_the_key(gateway: FakeGateway, status: int) -> None:
    gateway.answer(COMPLETIONS, '{"error": "no replica"}', status=status)

    with pytest.raises(StackError) as caught:
        first_answer(gateway.url, MODEL, key=KEY)

    assert problem(caught) == (f'smoke answers {status}: {{"error": "no replica"}}', "see `vllmstack logs`")
    assert KEY not in str(caught.value)


def test_no_answer_at_all_names_the_model(nobody: str) -> None:
    with pytest.raises(StackError) as caught:
        first_answer(nobody, MODEL, key=None)

    assert problem(caught)[0].startswith("smoke does not answer: ")
