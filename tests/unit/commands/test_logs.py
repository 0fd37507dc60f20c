"""`vllmstack logs`: Compose's own, for names that a person knows, and one request over all services."""

import json
import shlex
from collections.abc import Callable

import pytest

from tests.unit.conftest import Clone, Outcome, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def stack(clone: Clone, daemon: FakeDocker, programs: Programs) -> None:
    clone.is_up()
    daemon.stack = [
        FakeContainer(service="engine-org-llama-1", model="org/llama", replica=1),
        FakeContainer(service="engine-org-llama-2", model="org/llama", replica=2),
        FakeContainer(service="gateway"),
    ]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], "logs --tail 200"),
        (["gateway"], "logs --tail 200 gateway"),
        (["org/llama"], "logs --tail 200 engine-org-llama-1 engine-org-llama-2"),
        (["engine-org-llama-2", "gateway"], "logs --tail 200 engine-org-llama-2 gateway"),
        (["-f", "-n", "all"], "logs --tail all --follow"),
        (["--since", "10m", "gateway"], "logs --tail 200 --since 10m gateway"),
    ],
)
def test_models_and_services_are_names_of_the_same_kind(
    vllmstack: Run, programs: Programs, arguments: list[str], asked: str
) -> None:
    assert vllmstack("logs", *arguments).status == 0
    assert programs.calls("docker")[-1].partition("compose.env ")[2] == asked


def test_an_unknown_name_lists_those_that_run(vllmstack: Run, programs: Programs) -> None:
    done = vllmstack("logs", "gateway", "grafana", "qwen")

    assert done.status == 1
    assert done.err == (
        "vllmstack: nothing that runs is called grafana, qwen\n"
        "  hint: known: engine-org-llama-1, engine-org-llama-2, gateway, org/llama\n"
    )
    assert not any("logs" in call for call in programs.calls("docker"))


def test_composes_own_status_is_passed_on(vllmstack: Run, programs: Programs) -> None:
    programs.install("docker", "exit 5\n")

    assert vllmstack("logs").status == 5


ENGINE_LINE = json.dumps(
    {
        "time": "2026-11-21T08:00:00.1+00:00", "level": "INFO", "process": "APIServer", "pid": 7,
        "file": "async_llm.py", "line": 414, "logger": "vllm.v1.engine.async_llm",
        "message": "Added request chatcmpl-abc-0123abcd.",
    }
)  # fmt: skip
ACCESS_LINE = json.dumps(
    {
        "time": "2026-11-21T08:00:01+00:00", "request_id": "abc", "key": "", "method": "POST",
        "path": "/v1/chat/completions", "status": 200, "request_seconds": 0.9, "replica": "engine-org-llama-1",
    }
)  # fmt: skip


def composes_output(*lines: str) -> str:
    """A docker that prints these lines."""
    return f"printf '%s\\n' {' '.join(map(shlex.quote, lines))}\n"


def test_lines_of_json_are_text_for_people(vllmstack: Run, programs: Programs) -> None:
    programs.install(
        "docker",
        composes_output(
            f"engine-org-llama-1-1  | {ENGINE_LINE}", f"gateway-1  | {ACCESS_LINE}", "gateway-1  | [warn] a"
        ),
    )

    assert vllmstack("logs").out == (
        "engine-org-llama-1-1  | (APIServer pid=7) INFO 2026-11-21T08:00:00.1+00:00 [async_llm.py:414] "
        "Added request chatcmpl-abc-0123abcd.\n"
        "gateway-1  | 2026-11-21T08:00:01+00:00 POST /v1/chat/completions 200 request_id=abc request_seconds=0.9 "
        "replica=engine-org-llama-1\n"
        "gateway-1  | [warn] a\n"
    )


def test_each_line_of_a_traceback_says_whose_it_is(vllmstack: Run, programs: Programs) -> None:
    line = json.dumps({"level": "ERROR", "time": "T", "message": "it failed", "exc_info": "Traceback:\nValueError: 3"})
    programs.install("docker", composes_output(f"engine-org-llama-1-1  | {line}"))

    assert vllmstack("logs").out == (
        "engine-org-llama-1-1  | ERROR T it failed\n"
        "engine-org-llama-1-1  | ERROR T Traceback:\n"
        "engine-org-llama-1-1  | ERROR T ValueError: 3\n"
    )


def test_json_is_an_object_a_line_whatever_the_service_wrote(vllmstack: Run, programs: Programs) -> None:
    programs.install(
        "docker", composes_output(f"gateway-1  | 2026-11-21T08:00:01.5Z {ACCESS_LINE}", "gateway-1  | 2026Z [warn] a b")
    )

    done = vllmstack("logs", "--json", "gateway")

    assert programs.calls("docker")[-1].endswith("logs --tail 200 --timestamps gateway")
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {"time": "2026-11-21T08:00:01.5Z", "service": "gateway", "line": json.loads(ACCESS_LINE)},
        {"time": "2026Z", "service": "gateway", "line": "[warn] a b"},
    ]


@pytest.fixture
def request_lines(daemon: FakeDocker) -> FakeDocker:
    """What two engines and the gateway logged around the request abc, which took 0.9 s."""
    first, second, gateway = daemon.stack
    first.log = (
        f"2026-11-21T08:00:00.150000000Z {ENGINE_LINE}",
        "2026-11-21T08:00:00.160000000Z " + ENGINE_LINE.replace("chatcmpl-abc-", "chatcmpl-abcd-"),
        "2026-11-21T08:00:00.170000000Z Aborted request(s) chatcmpl-abc.",
        f"2026-11-21T09:00:00.000000000Z {ENGINE_LINE}",  # an hour later: of another request with the same id
    )
    second.log = ("2026-11-21T08:00:00.000000000Z nothing to do with abc-def",)
    gateway.log = (
        f"2026-11-21T08:00:02.000000000Z {ACCESS_LINE}",
        "2026-11-21T08:00:02.100000000Z " + ACCESS_LINE.replace('"abc"', '"abcd"'),
    )
    return daemon


def test_a_requests_lines_are_joined_over_all_services(vllmstack: Run, request_lines: FakeDocker) -> None:
    done = vllmstack("logs", "--request", "abc")

    assert done.out == (
        "2026-11-21T08:00:00.150Z  engine-org-llama-1  INFO Added request chatcmpl-abc-0123abcd.\n"
        "2026-11-21T08:00:00.170Z  engine-org-llama-1  Aborted request(s) chatcmpl-abc.\n"
        "2026-11-21T08:00:02.000Z  gateway             POST /v1/chat/completions 200 request_id=abc "
        "request_seconds=0.9 replica=engine-org-llama-1\n"
    )


def test_a_requests_lines_are_for_scripts_too(vllmstack: Run, request_lines: FakeDocker) -> None:
    lines = [json.loads(line) for line in vllmstack("logs", "--request", "abc", "--json").out.splitlines()]

    assert [(line["service"], line["time"]) for line in lines] == [
        ("engine-org-llama-1", "2026-11-21T08:00:00.150000000Z"),
        ("engine-org-llama-1", "2026-11-21T08:00:00.170000000Z"),
        ("gateway", "2026-11-21T08:00:02.000000000Z"),
    ]
    assert lines[0]["line"]["message"] == "Added request chatcmpl-abc-0123abcd."
    assert lines[1]["line"] == "Aborted request(s) chatcmpl-abc."


def test_of_a_request_that_has_not_ended_all_that_engines_kept_is_read(
    vllmstack: Run, request_lines: FakeDocker
) -> None:
    request_lines.stack[2].log = ()

    assert len(vllmstack("logs", "--request", "abc").out.splitlines()) == 3
    assert len(vllmstack("logs", "--request", "abc", "--since", "2026-11-21T08:30:00").out.splitlines()) == 1


def test_a_request_that_nobody_speaks_of_is_one_clear_line(vllmstack: Run, request_lines: FakeDocker) -> None:
    done = vllmstack("logs", "--request", "xyz")

    assert done.status == 1
    assert done.err == (
        "vllmstack: no line that is kept speaks of the request xyz\n"
        "  hint: the id is the answer's X-Request-Id header; Docker keeps 60 MB of each container's lines\n"
    )


def test_a_request_cannot_be_followed_and_a_wrong_time_is_named(vllmstack: Run) -> None:
    assert vllmstack("logs", "--request", "abc", "--follow").status == 2
    assert vllmstack("logs", "--request", "abc", "--since", "soon").err == (
        "vllmstack: --since: 'soon' is no time and no span\n  hint: write 10m or 2026-11-21T08:00:00\n"
    )
