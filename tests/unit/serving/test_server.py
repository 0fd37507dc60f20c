"""A server of one's own: it starts, it says why it does not, and nothing of it is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.unit.conftest import GIB, ROOT
from vllmstack.errors import HostError, InvalidInput, StackError
from vllmstack.planning.dimensions import public_models
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory, assume_gpus
from vllmstack.serving import Server, engine, start_server
from vllmstack.serving.server import arguments

MACHINE = Inventory(memory_bytes=64 * GIB, core_ids=(0, 1))

pytestmark = [pytest.mark.usefixtures("fake_vllm"), pytest.mark.slow]


def processes(log: Path) -> list[int]:
    """Of the fake vLLM: itself and what it started, once both are there."""
    await_(lambda: "processes" in log.read_text())
    line = next(line for line in log.read_text().splitlines() if line.startswith("processes"))
    return [int(number) for number in line.split()[1:]]


def await_(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_starts_at_once_and_is_ready_when_it_answers(model: str) -> None:
    with start_server(model, 0, max_model_len=128) as server:
        assert server.is_running
        assert server.wait(20) is server
        assert httpx2.get(server.base_url, trust_env=False).status_code == 200

    assert not server.is_running
    assert "ended (" in repr(server)


def test_vllm_gets_its_options_and_no_secret_on_its_command_line(model: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with start_server(
        model, 0, wait=20, log=log, api_key="sk-secret", enforce_eager=True, enable_prefix_caching=False, seed=None
    ) as server:
        said = log.read_text().splitlines()[0]

    written = json.loads(said[said.index("[") : said.rindex("]") + 1])
    assert written[:4] == ["--model", model, "--port", str(server.port)]
    assert written[4:6] == ["--host", "127.0.0.1"]
    assert set(written[6:]) >= {"--enforce-eager", "--no-enable-prefix-caching", "--kv-cache-memory-bytes"}
    assert "sk-secret" not in " ".join(written)
    assert said.endswith("key sk-secret")


def test_the_plan_looks_at_the_servers_own_environment(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(**variables: str) -> str:
        with start_server(model, 0, wait=20, environment=variables) as server:
            return server.log.read_text().splitlines()[0]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "--kv-cache-memory-bytes" in started()
    assert "--kv-cache-memory-bytes" not in started(VLLM_CPU_KVCACHE_SPACE="1")
    monkeypatch.setattr(engine, "installed_vllm", lambda: "0.32.0")
    monkeypatch.setattr(engine, "see_inventory", lambda: assume_gpus(MACHINE, gpu_type("L4"), range(4)))
    monkeypatch.setattr(engine, "dimensions_named", lambda _: public_models()["meta-llama/Llama-3.1-8B-Instruct"])
    assert "--tensor-parallel-size" in started()
    assert "--tensor-parallel-size" not in started(CUDA_VISIBLE_DEVICES="1")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"max_model_len": 4096, "seed": None}, ["--max-model-len", "4096"]),
        ({"served_model_name": ["a", "b"]}, ["--served-model-name", "a", "b"]),
        ({"hf_overrides": {"rope": 1}}, ["--hf-overrides", '{"rope": 1}']),
        ({"enable_chunked_prefill": False}, ["--no-enable-chunked-prefill"]),
    ],
)
def test_options_are_written_as_vllm_reads_them(options: dict[str, object], line: list[str]) -> None:
    assert arguments(options) == line


@pytest.mark.parametrize("how", ["serve", "hang"])
def test_its_end_leaves_no_process(model: str, how: str) -> None:
    server = start_server(model, 0, wait=20, grace_seconds=0.5, environment={"FAKE_VLLM": how})
    started = processes(server.log)
    assert all(map(is_there, started))

    server.stop()
    server.stop()

    assert not any(map(is_there, started))


def test_nothing_is_left_of_it_when_its_owner_is_killed(model: str) -> None:
    script = (
        "import sys, time; from vllmstack.serving import start_server; "
        "print(start_server(sys.argv[1], 0, wait=20, grace_seconds=0.5).log, flush=True); time.sleep(600)"
    )
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", script, model], stdout=subprocess.PIPE, text=True, env=variables
    ) as owner:
        assert owner.stdout
        started = processes(Path(owner.stdout.readline().strip()))
        assert all(map(is_there, started))
        owner.send_signal(signal.SIGKILL)

    await_(lambda: not any(map(is_there, started)))


def test_it_outlives_the_thread_and_the_variable_that_it_was_started_with(model: str) -> None:
    log: list[Path] = []
    script = (
        "import gc, sys, threading, time; from vllmstack.serving import start_server\n"
        "def start(): print(start_server(sys.argv[1], 0, wait=20).log, flush=True)\n"
        "thread = threading.Thread(target=start); thread.start(); thread.join(); gc.collect()\n"
        "sys.stdin.readline()"
    )
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", script, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as owner:
        assert owner.stdout
        log.append(Path(owner.stdout.readline().strip()))
        started = processes(log[0])
        time.sleep(0.6)  # three looks of the guard's
        assert all(map(is_there, started))
        owner.communicate("\n")

    await_(lambda: not any(map(is_there, started)))


def test_a_guard_that_is_killed_takes_vllm_with_it(model: str) -> None:
    server = start_server(model, 0, wait=20)
    vllm, child = processes(server.log)

    os.kill(server._process.pid, signal.SIGKILL)

    await_(lambda: not is_there(vllm))
    os.kill(child, signal.SIGKILL)
    server.stop()


def test_one_that_dies_says_why_in_its_own_words(model: str) -> None:
    with pytest.raises(StackError) as failed:
        start_server(model, 0, wait=20, environment={"FAKE_VLLM": "die"})

    said = str(failed.value)
    assert said.startswith("vLLM ended (exit 3) before it answered:\n    ValueError: max_model_len is too large\n")
    log = Path(said.rpartition("the whole output: ")[2].rstrip(")"))
    assert "INFO something" in log.read_text()


def test_one_that_ends_later_says_so_when_asked(model: str) -> None:
    with start_server(model, 0, wait=20) as server:
        assert server.ended() is None
        os.kill(processes(server.log)[0], signal.SIGKILL)
        await_(lambda: not server.is_running)

        error = server.ended()

    assert str(error).startswith("vLLM ended (exit 137):\n    ")
    assert f"(the whole output: {server.log})" in str(error)


def test_one_that_does_not_answer_in_time_is_stopped(model: str) -> None:
    server = start_server(model, 0, environment={"FAKE_VLLM": "deaf"})
    started = processes(server.log)

    with pytest.raises(StackError, match=r"did not answer within 0\.5 s, and was stopped"):
        server.wait(0.5)

    assert not any(map(is_there, started))


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"max_modle_len": 1, "gpu_memory_utilisation": 0.9}, ["max_modle_len: vLLM", "gpu_memory_utilisation: vLLM"]),
        ({"hf_token": "hf_x"}, ["`hf_token` is no option here\n  hint: set HF_TOKEN in the environment"]),
        ({"config": "x.yaml"}, ["`config` is no option here"]),
        ({"max_num_seqs": 0}, ["max_num_seqs"]),
        ({"log": Path("/none/server.log")}, ["cannot start a server: /none/server.log: No such file or directory"]),
    ],
)
def test_a_mistake_costs_no_start(model: str, options: dict[str, object], facts: list[str]) -> None:
    with pytest.raises((InvalidInput, HostError)) as failed:
        start_server(model, 0, **options)  # type: ignore[arg-type]

    assert [fact for fact in facts if fact not in str(failed.value)] == []


def test_a_port_that_is_taken_is_told(model: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port} cannot be used: Address already in use"):
            start_server(model, port)
    with pytest.raises(HostError, match="port 70000 cannot be used"):
        start_server(model, 70000)


def test_an_interrupt_while_it_starts_ends_it(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Server] = []

    def interrupted(server: Server) -> bool:
        made.append(server)
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "_answers", interrupted)

    with pytest.raises(KeyboardInterrupt):
        start_server(model, 0, wait=True)

    assert not made[0].is_running
