"""The gateway's control, asked inside its container."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.errors import StackError
from vllmstack.host import gateway_control
from vllmstack.host.gateway_control import GatewayControl, ReplicaState

ANSWER = {"replica": "engine-m-1", "model": "m", "state": "serving", "detail": "HTTP 200", "in_flight": 3, "since": 9}
SEEN = ReplicaState(replica="engine-m-1", model="m", state="serving", detail="HTTP 200", in_flight=3)


class Gateway(FakeDocker):
    """One gateway; ``said`` is what its program gives, ``asked`` what it was called with."""

    def __init__(self, root: Path, status: int, said: str) -> None:
        super().__init__(root)
        self.asked: list[list[str]] = []

        def answer(words: list[str]) -> tuple[int, str]:
            self.asked.append(words)
            return status, said

        self.stack = [FakeContainer(service="gateway", programs={"gateway-control": answer})]


def test_the_replicas_are_found_by_their_service(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 0, json.dumps({"replicas": [ANSWER]}))

    assert GatewayControl(gateway.client).replicas() == {"engine-m-1": SEEN}
    assert gateway.asked == [["replicas"]]


def test_a_replica_is_drained_and_resumed(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 0, json.dumps(ANSWER))
    control = GatewayControl(gateway.client)

    assert control.drain("engine-m-1") == control.resume("engine-m-1") == SEEN
    assert gateway.asked == [["drain", "engine-m-1"], ["resume", "engine-m-1"]]


def test_what_it_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, 1, '{"error":"there is no replica x"}\n')

    with pytest.raises(StackError) as caught:
        GatewayControl(gateway.client).drain("x")

    assert str(caught.value) == (
        "gateway: gateway-control drain x: there is no replica x\n  hint: see `vllmstack logs gateway`"
    )


def test_an_answer_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="said 'bash: connect: refused', which is no JSON"):
        GatewayControl(Gateway(tmp_path, 1, "bash: connect: refused").client, patience_seconds=0).replicas()


@pytest.mark.parametrize("status", ["exited", "restarting"])
def test_a_gateway_that_does_not_run_is_told(tmp_path: Path, status: str) -> None:
    gateway = Gateway(tmp_path, 0, "{}")
    gateway.stack[0].status = status

    with pytest.raises(StackError) as caught:
        GatewayControl(gateway.client, patience_seconds=0).replicas()

    assert str(caught.value) == "gateway: does not run\n  hint: run `vllmstack up`"


def test_a_gateway_that_comes_back_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(tmp_path, 0, json.dumps(ANSWER))
    gateway.stack[0].status = "restarting"

    def started(_: float) -> None:
        gateway.stack[0].status = "running"

    monkeypatch.setattr(gateway_control, "time", SimpleNamespace(monotonic=time.monotonic, sleep=started))

    assert GatewayControl(gateway.client).drain("engine-m-1") == SEEN
