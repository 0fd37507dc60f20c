"""The gateway from this host: is it ready, and does it take the key?"""

import socket

import pytest

from tests.unit.conftest import KEY, FakeGateway
from vllmstack.errors import InvalidInput, StackError
from vllmstack.host.gateway_client import await_ready, check_address, check_key, trusts_environment

MODELS = "/v1/models"


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
        "see .vllmstack/.logs/gateway.log",
    )


def test_a_gateway_that_nobody_listens_for_is_told_so(nobody: str) -> None:
    with pytest.raises(StackError) as caught:
        await_ready(nobody, seconds=0.1)

    assert "refused" in problem(caught)[0]


def test_the_gateway_lists_its_models_without_a_key(gateway: FakeGateway) -> None:
    gateway.answer(MODELS, "{}")

    check_key(gateway.url, key=None)

    ((path, headers, _),) = gateway.requests
    assert path == MODELS
    assert "authorization" not in headers


def test_with_keys_one_is_tried(gateway: FakeGateway) -> None:
    gateway.answer(MODELS, "{}")

    check_key(gateway.url, key=KEY)

    assert gateway.requests[0][1]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_an_answer_that_is_none_is_quoted_without_the_key(gateway: FakeGateway, status: int) -> None:
    gateway.answer(MODELS, '{"error": "wrong key"}', status=status)

    with pytest.raises(StackError) as caught:
        check_key(gateway.url, key=KEY)

    assert problem(caught) == (
        f'the gateway answers {status}: {{"error": "wrong key"}}',
        "see .vllmstack/.logs/gateway.log",
    )
    assert KEY not in str(caught.value)


def test_no_answer_at_all_is_one_clear_line(nobody: str) -> None:
    with pytest.raises(StackError) as caught:
        check_key(nobody, key=None)

    assert problem(caught)[0].startswith("the gateway does not answer: ")


def test_a_proxy_of_the_environment_is_not_asked(
    gateway: FakeGateway, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", nobody)
    monkeypatch.setenv("http_proxy", nobody)
    gateway.answer("/ready", "{}")
    gateway.answer(MODELS, "{}")

    await_ready(gateway.url, seconds=0.1)
    check_key(gateway.url, key=None)

    assert [path for path, _, _ in gateway.requests] == ["/ready", MODELS]


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("http://127.0.0.1:8000/v1", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("https://a.b", True),
    ],
)
def test_a_proxy_is_for_other_hosts(url: str, trusted: bool) -> None:
    assert trusts_environment(url) is trusted


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "http://", "http://localhost:port", "http://[::1", "http://a:80000", "http://a:0", "ftp://a",
     "http://a..b", f"http://{'a' * 64}.b", "http://\0"],
)  # fmt: skip
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"is no address: .*\n  hint: write http://HOST:PORT"):
        trusts_environment(url)


@pytest.mark.parametrize(
    "url", ["http://a", "https://a.b.:65535/v1", "http://[::1]:1", "http://müller.example", "HTTP://A"]
)
def test_what_is_an_address_is_not(url: str) -> None:
    check_address(url)
