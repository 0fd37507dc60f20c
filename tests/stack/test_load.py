"""The load test against the running stack: its web UI, one run without it, and what both leave."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx2
import pytest

from loadtest.errors import EXIT_INVALID, EXIT_MET
from loadtest.results import RunResult, load
from tests.stack.conftest import PROJECT, Stack, await_condition, environment
from tests.stack.test_monitoring import query

WEB_UI = "http://127.0.0.1:18089"
IMAGE_SECONDS = 600
"""The first start on a bare machine builds the load test's image."""
SHORT_RUN = ("--requests", "8", "--no-calibration", "--parameters", "prompt_tokens=40", "--parameters",
             "completion_tokens=8")  # fmt: skip


@pytest.fixture(scope="module")
def web_ui(stack: Stack) -> Iterator[dict[str, Any]]:
    """What Docker says of the web UI's container while it runs."""
    stack.clone.vllmstack("load", "--publish", "127.0.0.1:18089", seconds=IMAGE_SECONDS)
    yield stack.container("loadtest").attrs
    stack.clone.vllmstack("load", "--stop")


def measured(stack: Stack, *arguments: str) -> RunResult:
    """One run of 8 short requests by two users; a busy machine may call it invalid, and the exit status says so."""
    folder = stack.clone.folder / "results" / "test"
    command = ["load", "--concurrency", "2", *SHORT_RUN, *arguments, "--result", str(folder)]
    done = stack.clone.vllmstack(*command, seconds=IMAGE_SECONDS, check=False)
    assert done.returncode in (EXIT_MET, EXIT_INVALID), done.stdout + done.stderr
    run = load(folder)
    assert run.valid is (done.returncode == EXIT_MET)
    return run


def one_offs(stack: Stack) -> list[str]:
    """Containers of measurements, ended ones too."""
    return [str(one.name) for one in stack.containers() if one.labels["com.docker.compose.oneoff"] == "True"]


def test_the_web_ui_answers_on_the_loopback_address_alone(web_ui: dict[str, Any]) -> None:
    assert httpx2.get(f"{WEB_UI}/", timeout=10).status_code == 200
    bindings = {port: one for port, one in web_ui["HostConfig"]["PortBindings"].items() if one}
    assert bindings == {"8089/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18089"}]}


def test_the_web_ui_has_least_privilege_and_limits(web_ui: dict[str, Any]) -> None:
    host = web_ui["HostConfig"]

    assert web_ui["State"]["Health"]["Status"] == "healthy"
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["ReadonlyRootfs"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["PidsLimit"] > 0
    assert host["Memory"] > 0
    assert host["LogConfig"]["Config"]["max-size"]
    writable = {mount["Destination"] for mount in web_ui["Mounts"] if mount["RW"]}
    assert writable == {"/opt/vllmstack/results"}


def test_the_web_ui_reaches_gateway_and_engines_by_name(stack: Stack, web_ui: dict[str, Any]) -> None:
    script = (
        "import json, pathlib, urllib.request; "
        "stack = json.loads(pathlib.Path('/etc/vllmstack/loadtest/stack.json').read_text()); "
        "urls = [engine['metrics'] for model in stack['models'] for engine in model['engines']]; "
        "print([urllib.request.urlopen(url, timeout=10).status for url in (stack['url'] + '/health', *urls)])"
    )

    done = stack.container("loadtest").exec_run(["python", "-c", script])

    assert done.output == b"[200, 200, 200, 200]\n"


def test_prometheus_scrapes_the_load_test_while_it_runs_and_misses_nothing_afterwards(stack: Stack) -> None:
    def targets() -> list[str]:
        return [row["value"][1] for row in query(stack, 'up{job="loadtest"}')]

    stack.clone.vllmstack("load", "--publish", "127.0.0.1:18089", seconds=IMAGE_SECONDS)
    await_condition(lambda: targets() == ["1"], seconds=30, what="the load test as a target that is up")
    stack.clone.vllmstack("load", "--stop")

    await_condition(lambda: targets() == [], seconds=60, what="no target of the load test, up or down")


def test_a_second_start_leaves_what_runs_alone_until_a_scenario_changes(stack: Stack, web_ui: dict[str, Any]) -> None:
    def started() -> str:
        stack.clone.vllmstack("load", "--publish", "127.0.0.1:18089")
        return str(stack.container("loadtest").id)

    first = started()
    again = started()
    scenario = stack.clone.folder / "loadtest" / "scenarios" / "chat.yaml"
    scenario.write_text(scenario.read_text() + "# changed\n")

    assert again == first
    assert started() != first


def test_a_run_in_the_container_leaves_its_results_here_and_nothing_else(stack: Stack) -> None:
    run = measured(stack)

    assert (run.total.counts.sent, run.total.counts.ok) == (8, 8)
    assert {engine.replica for engine in run.engines} >= {"engine-smoke-1", "engine-smoke-2"}
    owner = (stack.clone.folder / "results" / "test" / "run.json").stat()
    assert (owner.st_uid, owner.st_gid) == (os.geteuid(), os.getegid())
    assert one_offs(stack) == []


def test_workers_send_for_a_run_and_none_is_left(stack: Stack) -> None:
    run = measured(stack, "--workers", "2")

    assert run.client.processes == 2
    assert run.total.counts.ok == 8
    assert "loadtest-worker" not in stack.services()
    assert one_offs(stack) == []


def test_the_same_run_is_measured_from_outside_the_container(stack: Stack) -> None:
    run = measured(stack, "--here", "--model", "gpt-smoke")

    assert run.total.counts.ok == 8
    assert run.environment.url == stack.url


def test_a_mistake_is_one_clear_line_and_exit_two(stack: Stack) -> None:
    done = stack.clone.vllmstack("load", "--scenario", "chatt", "--concurrency", "1", check=False)

    assert done.returncode == 2
    assert "there is no scenario named 'chatt'" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_keeps_what_it_measured_and_leaves_no_container(stack: Stack) -> None:
    folder = stack.clone.folder / "results" / "interrupted"
    command = ["load", "--concurrency", "2", "--duration", "300", "--no-calibration", "--result", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vllmstack", *command],
        cwd=stack.clone.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(),
        start_new_session=True,
    )  # fmt: skip

    def under_load() -> bool:
        rows = query(stack, 'sum(vllm:num_requests_running{model="smoke"})')
        return bool(one_offs(stack)) and bool(rows) and float(rows[0]["value"][1]) > 0

    await_condition(under_load, seconds=60, what="an engine at work for the measurement's container")
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 130, said
    run = load(folder)
    assert run.interrupted
    assert run.total.counts.ok > 0
    assert f"results in {Path('results/interrupted')}/" in said
    assert one_offs(stack) == []


def test_down_takes_the_web_ui_along(stack: Stack, docker_client: docker.DockerClient) -> None:
    """Compose's own word for it: what `down` would remove."""
    stack.clone.vllmstack("load", "--publish", "127.0.0.1:18089")
    command = ["docker", "compose", "--profile", "*", "--progress", "json", "--dry-run", "down", "--remove-orphans"]

    said = stack.clone.run(*command).stderr

    removed = {json.loads(line)["id"] for line in said.splitlines() if '"Removed"' in line}
    assert any(f"{PROJECT}-loadtest-1" in one for one in removed)
    stack.clone.vllmstack("load", "--stop")
