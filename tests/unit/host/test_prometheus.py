"""Prometheus, asked in its container: samples, or one clear line."""

import docker.errors
import pytest

from tests.unit.fake_docker import FakeContainer, FakeDocker
from tests.unit.prometheus_answers import promtool, sample
from vllmstack.errors import StackError
from vllmstack.host.prometheus import ask
from vllmstack.stack_view import Sample

HINT = "see `vllmstack logs prometheus`; `vllmstack status` needs none"


@pytest.fixture
def container(daemon: FakeDocker) -> FakeContainer:
    made = FakeContainer(service="prometheus")
    daemon.stack = [made]
    return made


def complaint(daemon: FakeDocker) -> str:
    with pytest.raises(StackError) as caught:
        ask(daemon.client, "up")
    return str(caught.value)


def test_samples_have_their_labels_and_values(daemon: FakeDocker, container: FakeContainer) -> None:
    container.programs["/bin/promtool"] = promtool([sample("a", 1.5, model="smoke"), sample("b", "+Inf")])

    assert ask(daemon.client, "up") == [
        Sample(labels={"figure": "a", "model": "smoke"}, value=1.5),
        Sample(labels={"figure": "b"}, value=float("inf")),
    ]


def test_an_answer_that_docker_lost_is_asked_for_again(daemon: FakeDocker, container: FakeContainer) -> None:
    outputs = ["", "", "[]"]
    container.programs["/bin/promtool"] = lambda _: (0, outputs.pop(0))

    assert ask(daemon.client, "up") == []


def test_what_is_wrong_is_one_line(daemon: FakeDocker, container: FakeContainer) -> None:
    container.programs["/bin/promtool"] = lambda _: (1, "query error: Post:\n connection refused\n")
    assert complaint(daemon) == f"prometheus: does not answer: query error: Post: connection refused\n  hint: {HINT}"

    container.programs["/bin/promtool"] = lambda _: (0, "")
    assert complaint(daemon) == f"prometheus: does not answer: it says nothing\n  hint: {HINT}"

    container.programs["/bin/promtool"] = lambda _: (0, '{"a": 1}')
    assert complaint(daemon) == f"prometheus: answers something else than samples: '{{\"a\": 1}}'\n  hint: {HINT}"


def test_a_container_that_goes_meanwhile_is_said(
    daemon: FakeDocker, container: FakeContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise docker.errors.APIError("gone")

    monkeypatch.setattr(FakeContainer, "exec_run", gone)
    assert complaint(daemon) == f"prometheus: cannot be asked: gone\n  hint: {HINT}"


def test_one_that_does_not_run_is_said(daemon: FakeDocker) -> None:
    assert complaint(daemon) == ("prometheus: does not run\n  hint: run `vllmstack up`; `vllmstack status` needs none")
