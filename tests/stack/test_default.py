"""The README's first commands, as a newcomer runs them: `make up`, the printed curl, `make down`, `make up` again.

Runs before the other modules, whose stack takes this one's place.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from tests.stack.conftest import PROJECT, UP_SECONDS, Clone, Stack, environment
from tests.stack.test_monitoring import query

SECOND_UP_SECONDS = 120
"""What a second `make up` may take: everything is built, only engines start."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """The default stack, and what `make up` said."""

    stack: Stack
    output: str


@pytest.fixture(scope="module")
def started(clone: Clone, docker_client: docker.DockerClient) -> Iterator[Started]:
    done = clone.run("make", "up", seconds=UP_SECONDS)
    stack = Stack(clone=clone, engine=docker_client, url="http://127.0.0.1:8000", key=None)
    yield Started(stack=stack, output=done.stdout)
    clone.vllmstack("down", "--delete-data")


def answer_of_the_printed_curl(started: Started) -> str:
    """What a person gets who pastes it."""
    lines = started.output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("curl "))
    command = "\n".join(lines[start : start + 3])
    done = subprocess.run(
        ["bash", "-c", f"{command} --silent --show-error"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["choices"][0]["message"]["content"])


def test_the_curl_line_that_up_prints_answers_paris(started: Started) -> None:
    assert "Paris" in answer_of_the_printed_curl(started)


def test_two_replicas_serve(started: Started) -> None:
    status = json.loads(started.stack.clone.vllmstack("status", "--json").stdout)

    states = {row["service"]: row["state"] for row in status["services"]}
    assert states == {
        "engine-smoke-1": "serving",
        "engine-smoke-2": "serving",
        "gateway": "healthy",
        "prometheus": "healthy",
        "alertmanager": "healthy",
        "node-exporter": "healthy",
        "container-exporter": "healthy",
    } | ({"grafana": "healthy"} if "grafana" in states else {})


def test_chat_prints_an_answer_and_its_timing(started: Started) -> None:
    done = started.stack.clone.vllmstack("chat", "What is the capital of France?")

    assert "Paris" in done.stdout
    assert "TTFT" in done.stderr
    assert "tok/s" in done.stderr


def test_commands_fit_a_terminal_of_80_columns(started: Started) -> None:
    for arguments in (["status"], ["doctor"], ["plan"], ["--help"], ["up", "--help"]):
        done = started.stack.clone.vllmstack(*arguments)
        assert max(map(len, done.stdout.splitlines())) <= 80, arguments


def test_logs_show_one_model_alone(started: Started) -> None:
    done = started.stack.clone.vllmstack("logs", "smoke", "--tail", "3")

    assert "engine-smoke-1" in done.stdout
    assert "gateway" not in done.stdout


def test_the_default_deployment_meets_its_targets(started: Started, figures: list[str]) -> None:
    check = measured_check(started)

    assert check["exit_code"] == 0, check
    assert {target["verdict"] for target in check["targets"]} == {"met"}
    for row in check["targets"][0]["rows"]:
        figures.append(
            f"`vllmstack check`: {row['limit']} {row['measured']['estimate']:.3g} {row['unit']}, {row['verdict']}"
        )


def test_targets_are_missed_when_the_engines_are_slowed(started: Started) -> None:
    engines = [started.stack.container(f"engine-smoke-{number}") for number in (1, 2)]
    for engine in engines:
        engine.update(cpu_period=100_000, cpu_quota=4_000)
    try:
        # An answer takes many seconds: in a short window none may begin.
        check = measured_check(started, duration=40)
    finally:
        for engine in engines:
            engine.update(cpu_period=100_000, cpu_quota=-1)

    (target,) = check["targets"]
    assert check["exit_code"] == 1, (target["reasons"], target["rows"])
    assert {row["limit"]: row["verdict"] for row in target["rows"]} == {
        "output tokens": "missed",
        "ttft p95": "missed",
        "error ratio": "met",
    }


def measured_check(started: Started, duration: int = 15) -> dict[str, Any]:
    """check.json of a short `vllmstack check`; once more if the machine was too busy for a clock."""
    folder = started.stack.clone.folder / "results" / "check"
    for _ in range(2):
        done = started.stack.clone.vllmstack(
            "check", "--repeats", "1", "--duration", str(duration), "--result", str(folder), seconds=600, check=False
        )
        check: dict[str, Any] = json.loads((folder / "check.json").read_text())
        assert done.returncode == check["exit_code"], done.stderr
        if done.returncode != 2:
            break
    return check


def test_an_engine_that_cannot_start_is_one_clear_message_and_nothing_of_it_stays(started: Started) -> None:
    clone = started.stack.clone
    file = clone.folder / "deployments" / "broken.yaml"
    text = (clone.folder / "deployments" / "cpu-smoke.yaml").read_text()
    # A value that only vLLM knows to be wrong, at its start.
    good, bad = 'VLLM_CPU_KVCACHE_SPACE: "1"', 'VLLM_CPU_KVCACHE_SPACE: "1"\n      VLLM_LOGGING_LEVEL: NONSENSE'
    file.write_text(
        text.replace(good, bad)
        .replace("name: cpu-smoke", "name: broken")
        .replace("- name: smoke", "- name: broken-model")
    )

    done = clone.vllmstack("up", "broken", seconds=300, check=False)
    left = [one.labels["com.docker.compose.service"] for one in started.stack.containers()]
    file.unlink()
    clone.vllmstack("up", "cpu-smoke", seconds=300)

    assert done.returncode == 1
    assert "engine-broken-model-1" in done.stderr
    assert "NONSENSE" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert [service for service in left if "broken" in service] == []


def test_data_survives_down_and_up_and_the_second_up_is_quick(started: Started, figures: list[str]) -> None:
    stack = started.stack
    before = time.time()
    password = (stack.clone.folder / "secrets" / "grafana_admin_password").read_text()

    stack.clone.run("make", "down")
    assert stack.containers() == []
    started_again = time.monotonic()
    stack.clone.run("make", "up", seconds=UP_SECONDS)
    seconds = time.monotonic() - started_again
    figures.append(f"second `make up`: {seconds:.0f} s")

    assert seconds < SECOND_UP_SECONDS
    kept = {volume.name for volume in stack.engine.volumes.list(filters={"name": PROJECT})}
    assert kept >= {f"{PROJECT}_prometheus-data", f"{PROJECT}_hub-cache", f"{PROJECT}_compile-cache"}
    assert (stack.clone.folder / "secrets" / "grafana_admin_password").read_text() == password
    assert query(stack, f'up{{replica="engine-smoke-1"}} @ {before:.0f}'), "Prometheus lost what it had recorded"
    assert "Paris" in answer_of_the_printed_curl(started)
