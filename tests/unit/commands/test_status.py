"""`vllmstack status`: one table of what runs."""

import io
import json
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from tests.unit.conftest import Clone, Outcome
from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.commands import status

Run = Callable[..., Outcome]


def metrics(*, tokens: float, running: int = 2, waiting: int = 1, kv_cache: float = 0.25) -> str:
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}.0\n'
        f'vllm:num_requests_waiting{{engine="0"}} {waiting}.0\n'
        f'vllm:kv_cache_usage_perc{{engine="0"}} {kv_cache}\n'
        f'vllm:generation_tokens_total{{engine="0"}} {tokens}\n'
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "SAMPLE_SECONDS", 0.05)


@pytest.fixture
def stack(clone: Clone, daemon: FakeDocker) -> FakeDocker:
    """One engine that serves, one that loads, one that died; the gateway, and Prometheus on its way."""
    clone.is_up()
    daemon.stack = [
        FakeContainer(
            service="engine-llama-1", model="llama", replica=1, gpus="0,1", health_line="serving: /health says 200",
            metrics=[metrics(tokens=100), metrics(tokens=110, running=3)],
        ),
        FakeContainer(
            service="engine-llama-2", model="llama", replica=2, gpus="2,3", health="starting",
            health_line="loading: not listening yet", metrics=["never asked"],
        ),
        FakeContainer(service="engine-smoke-1", model="smoke", replica=1, status="exited", restarts=4),
        FakeContainer(service="gateway"),
        FakeContainer(service="prometheus", health="starting"),
    ]  # fmt: skip
    return daemon


def test_the_table_shows_each_replica_and_each_other_service(vllmstack: Run, stack: FakeDocker) -> None:
    done = vllmstack("status")

    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    assert done.status == 0
    assert rows[0] == ["smoke"]
    assert rows[1] == ["model", "replica", "GPU", "state", "running", "waiting", "KV", "tok/s"]
    assert rows[2][:7] == ["llama", "1", "0,1", "serving", "3", "1", "25%"]
    assert rows[3] == ["llama", "2", "2,3", "loading", "–", "–", "–", "–"]
    assert rows[4] == ["smoke", "1", "–", "stopped", "–", "–", "–", "–"]
    assert rows[5:] == [["gateway", "healthy"], ["prometheus", "starting"]]


def test_json_has_the_same_for_scripts(vllmstack: Run, stack: FakeDocker) -> None:
    document = json.loads(vllmstack("status", "--json").out)

    first, second, third, gateway, _ = document["services"]
    assert document["deployment"] == "smoke"
    # Ten tokens in the time between the two readings.
    assert 0 < first.pop("output_tokens_per_second") <= 10 / status.SAMPLE_SECONDS
    assert first == {
        "service": "engine-llama-1",
        "model": "llama",
        "replica": 1,
        "gpus": "0,1",
        "state": "serving",
        "detail": "serving: /health says 200",
        "restarts": 0,
        "running": 3,
        "waiting": 1,
        "kv_cache_ratio": 0.25,
    }
    assert (second["state"], second["detail"], second["running"]) == ("loading", "loading: not listening yet", None)
    assert (third["state"], third["restarts"], third["gpus"]) == ("stopped", 4, None)
    assert (gateway["service"], gateway["model"], gateway["state"]) == ("gateway", None, "healthy")


def test_an_engine_that_stops_answering_in_between_has_no_numbers(
    vllmstack: Run, clone: Clone, daemon: FakeDocker
) -> None:
    clone.is_up()
    daemon.stack = [
        FakeContainer(
            service="engine-smoke-1", model="smoke", replica=1, health_line="serving: /health says 200",
            metrics=[metrics(tokens=1)],
        )
    ]  # fmt: skip

    (row,) = json.loads(vllmstack("status", "--json").out)["services"]

    assert row["state"] == "serving"
    assert (row["running"], row["output_tokens_per_second"]) == (None, None)


def test_a_stack_that_is_down_says_how_to_start_it(vllmstack: Run, clone: Clone, daemon: FakeDocker) -> None:
    clone.is_up()

    assert vllmstack("status").out == "smoke is down; `vllmstack up` starts a deployment\n"
    assert json.loads(vllmstack("status", "--json").out) == {"deployment": "smoke", "services": []}


def test_before_the_first_up_there_is_nothing_to_show(vllmstack: Run, clone: Clone, daemon: FakeDocker) -> None:
    done = vllmstack("status")

    assert done.status == 1
    assert done.err == "vllmstack: nothing was started from this clone yet\n  hint: run `vllmstack up`\n"


def test_watching_repeats_the_table_until_it_is_interrupted(
    vllmstack: Run, stack: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, height=40, highlight=False)
    stack.stack[0].metrics.append(metrics(tokens=500, running=7))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            stack.stack[1].health_line = "serving: /health says 200"
            stack.stack[1].metrics = [metrics(tokens=1, running=9)]
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(status, "out", terminal)
    monkeypatch.setattr("vllmstack.commands.status.time.sleep", pause)

    done = vllmstack("status", "--watch")

    assert (done.status, done.err.strip()) == (130, "vllmstack: interrupted")
    assert pauses == [status.SAMPLE_SECONDS, status.WATCH_SECONDS, status.WATCH_SECONDS]
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.file.getvalue())  # type: ignore[attr-defined]
    rows = [re.split(r"\s{2,}", line.strip()) for line in shown.splitlines() if line.strip().startswith("llama")]
    assert [row[1:5] for row in rows[:4]] == [
        ["1", "0,1", "serving", "3"],
        ["2", "2,3", "loading", "–"],
        ["1", "0,1", "serving", "7"],
        ["2", "2,3", "serving", "9"],
    ]
    assert rows[3][-1] == "–", "no reading before, no rate"


def test_without_a_terminal_watching_is_one_table(vllmstack: Run, stack: FakeDocker) -> None:
    assert vllmstack("status", "--watch").out.count("llama") == 2


def test_an_engine_that_was_started_anew_between_two_readings_has_no_rate(
    vllmstack: Run, clone: Clone, daemon: FakeDocker
) -> None:
    clone.is_up()
    daemon.stack = [
        FakeContainer(
            service="engine-smoke-1", model="smoke", replica=1, health_line="serving: /health says 200",
            metrics=[metrics(tokens=900), metrics(tokens=5, running=1)],
        )
    ]  # fmt: skip

    (row,) = json.loads(vllmstack("status", "--json").out)["services"]

    assert (row["running"], row["output_tokens_per_second"]) == (1, None)
