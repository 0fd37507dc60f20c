"""Following the container that brings models: its lines, its end, and what interrupts it."""

import json
from collections.abc import Iterator
from typing import Any

import docker.errors
import pytest

from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.errors import Problem, StackError
from vllmstack.host.preloading import follow, remove_preloads, told_now_and_then

PROBLEM = {"file": "org/m", "place": "", "fact": "is gated, and there is no token", "hint": "accept its licence"}


def container(*lines: dict[str, Any] | str, **changes: Any) -> FakeContainer:
    log = tuple(line if isinstance(line, str) else json.dumps(line) for line in lines)
    settings = {"service": "preload-m", "preloads": "m", "status": "exited", "health": "", "log": log}
    return FakeContainer(**(settings | changes))


def test_lines_come_whole_however_docker_cuts_them(daemon: FakeDocker) -> None:
    long = {"message": "there", "result": {"hub": "org/m", "files": ["x" * 500]}}
    daemon.stack = [container({"message": "asking"}, long, "no JSON")]
    seen: list[dict[str, Any]] = []

    said = follow(daemon.client, "preload-m", "preload-m", seen.append)

    assert seen == [{"message": "asking"}, long, {"message": "no JSON"}]
    assert (said.status, said.results, said.problems) == (0, [long["result"]], [])


def test_a_problem_of_the_hub_is_the_problem(daemon: FakeDocker) -> None:
    daemon.stack = [container({"message": "x", "problem": PROBLEM}, exit_code=1)]

    assert follow(daemon.client, "preload-m", "preload-m", lambda _: None).problems == [Problem(**PROBLEM)]


def test_an_end_without_a_word_is_told_with_its_last_lines(daemon: FakeDocker) -> None:
    daemon.stack = [container("Traceback (most recent call last):", "MemoryError", exit_code=137)]

    (problem,) = follow(daemon.client, "preload-m", "preload-m", lambda _: None).problems

    assert problem.fact == (
        "the container stopped (exit 137); its last words:\n    Traceback (most recent call last):\n    MemoryError"
    )


def test_an_interruption_stops_the_container(daemon: FakeDocker) -> None:
    daemon.stack = [container({"message": "asking"}, status="running")]

    def interrupt(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(daemon.client, "preload-m", "preload-m", interrupt)

    assert daemon.stack[0].stopped_within == 5


def test_a_container_that_somebody_removes_is_one_clear_error(
    daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.stack = [container({"message": "asking"})]

    def gone(self: FakeContainer, **_: Any) -> Iterator[bytes]:
        raise docker.errors.NotFound("No such container")

    monkeypatch.setattr(FakeContainer, "logs", gone)

    with pytest.raises(StackError, match="Docker lost its container"):
        follow(daemon.client, "preload-m", "preload-m", lambda _: None)


def test_only_preloads_that_are_done_are_removed(daemon: FakeDocker) -> None:
    daemon.stack = [
        container(),
        container(service="preload-n", exit_code=1),
        container(service="preload-o", status="running"),
        FakeContainer(service="gateway"),
    ]

    remove_preloads(daemon.client)

    assert [one.service for one in daemon.stack if one.removed] == ["preload-m"]


def test_bytes_are_told_now_and_then_and_the_rest_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("vllmstack.host.preloading.time.monotonic", lambda: now)
    show = told_now_and_then()
    show({"message": "org/m: asking"})
    for second in range(1, 26):
        now = float(second)
        show({"message": f"org/m: {second} GB", "progress": {}})
    show({"message": "it fails", "problem": PROBLEM})

    assert capsys.readouterr().err.splitlines() == ["• org/m: asking", "• org/m: 10 GB", "• org/m: 20 GB"]
