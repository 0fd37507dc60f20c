"""Waiting for the stack: phases read off the engines' logs, and why one failed."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.errors import StackError
from vllmstack.host import startup
from vllmstack.host.containers import Container, containers, last_lines
from vllmstack.host.startup import await_service, await_stack, last_start_seconds, phase, warm_stack

# One start of vLLM 0.32.0 on a CPU, in the order of the lines; the phase that each begins.
CPU_START = [
    ("(APIServer pid=6) INFO 11-21 07:55:30 [model.py:2152] Using max model len 2048", "starting"),
    ("Triton is installed, but doesn't include CPU backend. Disabling Triton.", "starting"),
    (
        "(EngineCore pid=79) INFO 11-21 07:55:54 [multiproc_executor.py:153] DP group leader: node_rank=0, "
        "node_rank_within_dp=0, master_addr=127.0.0.1, world_size=1, local_world_size=1",
        "starting",
    ),
    (
        "(Worker pid=113) INFO 11-21 07:56:16 [cpu_model_runner.py:68] Starting to load model /models/smoke...",
        "loading weights",
    ),
    ("Loading safetensors checkpoint shards:   0% Completed | 0/1 [00:00<?, ?it/s]", "loading weights"),
    (
        "(Worker pid=113) INFO 11-21 07:56:17 [default_loader.py:501] Loading weights took 0.02 seconds",
        "profiling memory",
    ),
    (
        "(EngineCore pid=79) INFO 11-21 07:56:18 [kv_cache_utils.py:2327] CPU KV cache size: 1,048,576 tokens, "
        "Maximum concurrency for 2,048 tokens per request: 512.00x",
        "making the KV cache",
    ),
    (
        "(EngineCore pid=79) INFO 11-21 07:56:23 [core.py:402] init engine (profile, create kv cache, warmup model) "
        "took 5.56 s",
        "making the KV cache",
    ),
    ("(APIServer pid=6) INFO 11-21 07:56:25 [entry.py:136] Supported tasks: ['generate']", "warming"),
    (
        "(APIServer pid=6) INFO 11-21 07:56:25 [entry.py:140] Starting vLLM server on http://0.0.0.0:8000",
        "warming",
    ),
    ("INFO:     Waiting for application startup.", "warming"),
    ("INFO:     Application startup complete.", "serving"),
]

# What a GPU adds, in the form of vLLM's own lines.
GPU_LINES = [
    ("(EngineCore pid=7) INFO 06-02 00:51:40 [model_runner.py:295] Model loading took 7.64 GiB", "profiling memory"),
    ("(EngineCore pid=7) INFO 06-02 00:51:49 [backends.py:1148] Dynamo bytecode transform time: 8.5 s", "compiling"),
    ("(EngineCore pid=7) INFO [backends.py:390] Compiling a graph for compile range (1, 8192) takes 6 s", "compiling"),
    ("(EngineCore pid=7) INFO [gpu_worker.py:376] Available KV cache memory: 31.2 GiB", "making the KV cache"),
    ("(EngineCore pid=7) INFO [kv_cache_utils.py:1087] GPU KV cache size: 255,600 tokens", "making the KV cache"),
    ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  49%|████ | 25/51", "capturing CUDA graphs"),
    ("(EngineCore pid=7) INFO [gpu_model_runner.py:4879] Graph capturing finished in 5 secs", "capturing CUDA graphs"),
]

BAD_OPTION = [
    "(APIServer pid=6) INFO 11-21 07:55:24 [api_server.py:1100] vLLM API server version 0.32.0",
    "Traceback (most recent call last):",
    '  File "/opt/vllm/lib/python3.11/site-packages/vllm/engine/arg_utils.py", line 1200, in create_engine_config',
    "    return VllmConfig(",
    "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
    "  Value error, User-specified max_model_len (9000) is greater than the derived max_model_len (2048)",
]


def engine(number: int = 1, **changes: Any) -> FakeContainer:
    """One that still loads."""
    loading = {"health": "starting", "health_line": "loading: not listening yet"}
    return FakeContainer(service=f"engine-smoke-{number}", model="smoke", replica=number, **(loading | changes))


def serving(number: int = 1) -> FakeContainer:
    return engine(number, health="healthy", health_line="serving: /health says 200")


class Passing(FakeDocker):
    """A daemon that shows another stack at each look; the last one stays."""

    def __init__(self, root: Path, *stacks: list[FakeContainer]) -> None:
        super().__init__(root)
        self._stacks = list(stacks)

    def look(self) -> list[FakeContainer]:
        self.stack = self._stacks.pop(0) if len(self._stacks) > 1 else self._stacks[0]
        return self.stack


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "POLL_SECONDS", 0.01)


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[bytes]"]]:
    """Starts what stands in for `docker compose up`: a shell script."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(["/bin/sh", "-c", script]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


WAITING = "exec /bin/sleep 60"


def waits(
    daemon: FakeDocker,
    compose: "subprocess.Popen[bytes]",
    log: Path | None = None,
    before: Mapping[str, int] | None = None,
) -> list[list[tuple[str, str]]]:
    """What was shown, look by look."""
    shown: list[list[tuple[str, str]]] = []

    def show(seen: list[tuple[Container, str]]) -> None:
        shown.append([(one.service, phase) for one, phase in seen])

    await_stack(daemon.client, compose, log or Path("/nowhere"), before or {}, show)
    return shown


@pytest.mark.parametrize("count", range(len(CPU_START) + 1))
def test_an_engine_on_a_cpu_goes_through_its_phases(count: int) -> None:
    lines = CPU_START[:count]

    assert phase([line for line, _ in lines]) == (lines[-1][1] if lines else "starting")


@pytest.mark.parametrize(("line", "expected"), GPU_LINES)
def test_a_gpus_own_lines_are_known(line: str, expected: str) -> None:
    assert phase(["(Worker pid=1) INFO [gpu_model_runner.py:1] Starting to load model a/b...", line]) == expected


@pytest.mark.parametrize("count", range(1, len(CPU_START) + 1))
def test_phases_are_known_in_lines_of_json_too(tmp_path: Path, count: int) -> None:
    daemon = FakeDocker(tmp_path)
    lines = CPU_START[:count]
    log = tuple(json.dumps({"level": "INFO", "time": "T", "message": line}) for line, _ in lines)
    daemon.stack = [FakeContainer(service="engine-smoke-1", model="smoke", replica=1, log=log)]

    assert phase(last_lines(daemon.client, containers(daemon.client)[0], 60)) == lines[-1][1]


def test_lines_that_say_nothing_do_not_change_the_phase() -> None:
    noise = ["", "WARNING: something", '  File "a.py", line 1']

    assert phase(["Starting to load model a/b...", *noise]) == "loading weights"


def test_it_returns_when_compose_says_that_all_is_healthy(
    tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [serving(), FakeContainer(service="gateway")]

    assert waits(daemon, compose("exit 0"))[-1] == [("engine-smoke-1", "serving"), ("gateway", "healthy")]


def test_each_engines_phase_is_shown_while_it_loads(
    tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    log = tuple(line for line, _ in CPU_START[:4])
    done = tmp_path / "done"
    up = compose(f"while [ ! -e {done} ]; do /bin/sleep 0.01; done")

    class Daemon(Passing):
        def look(self) -> list[FakeContainer]:
            stack = super().look()
            if stack[0].health == "healthy":
                done.touch()
            return stack

    daemon = Daemon(
        tmp_path,
        [engine(1, status="created", health=""), engine(2, status="created", health="")],
        [engine(1), engine(2, status="created", health="")],
        [engine(1, log=log), engine(2, log=())],
        [serving(1), serving(2)],
    )

    shown = waits(daemon, up)

    assert shown[:4] == [
        [("engine-smoke-1", "waiting"), ("engine-smoke-2", "waiting")],
        [("engine-smoke-1", "starting"), ("engine-smoke-2", "waiting")],
        [("engine-smoke-1", "loading weights"), ("engine-smoke-2", "starting")],
        [("engine-smoke-1", "serving"), ("engine-smoke-2", "serving")],
    ]


def test_an_engine_that_dies_ends_the_wait_with_its_last_words(
    tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    daemon = Passing(
        tmp_path, [engine()], [engine(restarts=1, status="restarting", exit_code=1, log=tuple(BAD_OPTION))]
    )
    up = compose(WAITING)

    with pytest.raises(StackError) as caught:
        waits(daemon, up)

    (problem,) = caught.value.problems
    assert problem.file == "engine-smoke-1"
    assert problem.fact.startswith("the container stopped (exit 1) while starting; its last words:\n")
    assert "ValidationError: 1 validation error for ModelConfig" in problem.fact
    assert problem.hint.startswith("mend the option that the lines name, under `serve:` in the deployment")
    # Compose would wait on for its own time limit.
    assert up.poll() is not None


def test_every_engine_that_died_is_named(tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [engine(number, status="exited", exit_code=2, log=("one", "two")) for number in (1, 2)]

    with pytest.raises(StackError) as caught:
        waits(daemon, compose(WAITING))

    assert [(problem.file, problem.fact) for problem in caught.value.problems] == [
        (f"engine-smoke-{number}", "the container stopped (exit 2) while starting; its last words:\n    one\n    two")
        for number in (1, 2)
    ]


def test_an_engine_that_was_killed_for_its_memory_is_told_so(
    tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [engine(status="exited", exit_code=137, out_of_memory=True, log=("Loading weights took 3 s",))]

    with pytest.raises(StackError) as caught:
        waits(daemon, compose(WAITING))

    assert str(caught.value) == (
        "engine-smoke-1: the container was killed: out of memory while starting; its last words:\n"
        "    Loading weights took 3 s\n"
        "  hint: raise `memory_gib` in the deployment"
    )


def test_a_dead_gateway_ends_the_wait_too(tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [serving(), FakeContainer(service="gateway", status="exited", exit_code=1, log=("[emerg] no file",))]

    with pytest.raises(StackError) as caught:
        waits(daemon, compose(WAITING))

    assert caught.value.problems[0].file == "gateway"
    assert "    [emerg] no file" in caught.value.problems[0].fact


def test_restarts_of_before_are_no_failure(tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [engine(restarts=3, health="healthy", health_line="serving: /health says 200")]

    shown = waits(daemon, compose("exit 0"), before={"engine-smoke-1": 3})

    assert shown[-1] == [("engine-smoke-1", "serving")]


def test_a_container_that_compose_replaces_is_no_failure(
    tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    daemon = FakeDocker(tmp_path)
    replaced = FakeContainer(service="gateway", status="exited", id="old")
    daemon.stack = [serving(), replaced, FakeContainer(service="gateway", id="new")]

    shown = waits(daemon, compose("exit 0"), before={"old": 0})

    assert ("engine-smoke-1", "serving") in shown[-1]


def test_a_compose_that_gives_up_is_quoted(tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]) -> None:
    daemon = FakeDocker(tmp_path)
    log = tmp_path / "compose-up.log"
    log.write_text("".join(f"line {number}\n" for number in range(20)) + "Error: network not found\n")

    with pytest.raises(StackError) as caught:
        waits(daemon, compose("exit 1"), log)

    said = str(caught.value)
    assert said.startswith("docker compose up failed:\n    line 13\n")
    assert "    Error: network not found\n" in said


def test_a_line_as_long_as_a_configuration_is_cut(
    tmp_path: Path, compose: Callable[[str], "subprocess.Popen[bytes]"]
) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [engine(status="exited", exit_code=1, log=("ValueError: " + "x" * 5000,))]

    with pytest.raises(StackError) as caught:
        waits(daemon, compose(WAITING))

    assert max(map(len, str(caught.value).splitlines())) <= 304


def test_every_engine_is_warmed_and_nothing_else(tmp_path: Path) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [serving(1), serving(2), FakeContainer(service="gateway")]

    warm_stack(daemon.client)

    assert [one.asked for one in daemon.stack] == [[["warm", "smoke"]], [["warm", "smoke"]], []]


def test_each_engine_that_gives_no_token_is_named_with_what_it_said(tmp_path: Path) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [serving(1), serving(2)]
    daemon.stack[1].warm = (1, "500 CUDA error: out of memory")

    with pytest.raises(StackError) as caught:
        warm_stack(daemon.client)

    assert str(caught.value) == (
        "engine-smoke-2: answers no request: 500 CUDA error: out of memory\n"
        "  hint: see .vllmstack/.logs/engine-smoke-2.log"
    )


def test_one_service_is_waited_for_until_it_is_healthy(tmp_path: Path) -> None:
    loading = engine(1, log=("Starting to load model a/b...",))
    daemon = Passing(tmp_path, [engine(1), serving(2)], [loading], [serving(1)])
    shown: list[list[tuple[str, str]]] = []

    one = await_service(
        daemon.client, "engine-smoke-1", lambda seen: shown.append([(one.service, phase) for one, phase in seen])
    )

    assert one.health == "healthy"
    assert shown == [[("engine-smoke-1", phase)] for phase in ("starting", "loading weights", "serving")]


def test_one_service_that_dies_is_explained(tmp_path: Path) -> None:
    daemon = Passing(tmp_path, [engine()], [engine(restarts=1, exit_code=1, log=tuple(BAD_OPTION))])

    with pytest.raises(StackError, match="engine-smoke-1: the container stopped"):
        await_service(daemon.client, "engine-smoke-1", lambda _: None)


def test_one_service_that_does_not_become_healthy_in_its_time_is_told(tmp_path: Path) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [engine(health="unhealthy", log=("INFO still loading",))]

    with pytest.raises(StackError) as caught:
        await_service(daemon.client, "engine-smoke-1", lambda _: None)

    assert str(caught.value) == (
        "engine-smoke-1: the container does not become healthy (loading: not listening yet); its last words:\n"
        "    INFO still loading\n"
        "  hint: raise `startup_seconds` in the deployment if it only needs more time"
    )


def test_one_service_whose_container_is_removed_is_told(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="engine-smoke-1: its container is gone"):
        await_service(FakeDocker(tmp_path).client, "engine-smoke-1", lambda _: None)


@pytest.mark.parametrize(
    ("log", "seconds"),
    [
        (("2026-11-21T07:55:12.1Z INFO load", "2026-11-21T07:56:02.250000000Z Application startup complete."), 61.75),
        (("2026-11-21T07:55:12.1Z INFO load",), None),
        ((), None),
    ],
)
def test_how_long_an_engine_took_to_start_is_read_off_its_log(
    tmp_path: Path, log: tuple[str, ...], seconds: float | None
) -> None:
    daemon = FakeDocker(tmp_path)
    daemon.stack = [engine(log=log, started_at="2026-11-21T07:55:00.500000000Z")]
    (one,) = containers(daemon.client)

    found = last_start_seconds(daemon.client, one)

    assert found == (None if seconds is None else pytest.approx(seconds))
