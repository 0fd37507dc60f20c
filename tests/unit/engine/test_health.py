"""docker/engine/health.py: what it says of an engine, and when it ends one. The clock and the engine are the test's."""

import http.client
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CAPTURE = (ROOT / "tests/captures/vllm-0.32.0-metrics.txt").read_text()
HUNG = 20.0
INTERVAL = 5.0
RUNNING, WAITING, TOKENS, PROMPT = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
)


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    """health.py and evidence.py, imported as inside the container: flat, from their own folder."""
    sys.path.insert(0, str(ROOT / "docker/engine"))
    try:
        yield importlib.import_module("health"), importlib.import_module("evidence")
    finally:
        sys.path.remove(str(ROOT / "docker/engine"))
        for name in ("health", "evidence"):
            sys.modules.pop(name, None)


@dataclass
class Engine:
    """An engine in a container, and the checks that Docker runs there."""

    health: ModuleType
    limits: Any
    memory: Any
    now: float = 1000.0
    answer: int | Exception = 200
    """Of /health."""
    body: bytes = b""
    metrics: dict[str, float] | None = field(default_factory=dict)
    """None: it does not answer."""
    gives_tokens: bool = True
    asked_for_tokens: int = 0
    peers: set[str] = field(default_factory=set)
    compiler: bool = False
    cores: float = 0.0
    """What its processes compute."""
    killed: str | None = None

    def ask(self, method: str, path: str, body: object = None, seconds: float = 4.0) -> tuple[int, bytes]:
        if isinstance(self.answer, Exception):
            raise self.answer
        if path == "/health":
            return self.answer, self.body
        if path == "/metrics":
            if self.metrics is None:
                raise TimeoutError("timed out")
            values = {TOKENS: 5.0, PROMPT: 9.0, RUNNING: 0.0, WAITING: 0.0} | self.metrics
            lines = (f'{name}{{engine="0",model_name="smoke"}} {value}\n' for name, value in values.items())
            return 200, "".join(lines).encode()
        assert path == "/v1/completions"
        assert body == {"model": "smoke", "prompt": "Hello", "max_tokens": 1}
        self.asked_for_tokens += 1
        if not self.gives_tokens:
            raise TimeoutError("timed out")
        return 200, b"{}"

    def check(self) -> str:
        """One check; what it says."""
        word, reason, self.killed = self.health.check(self.memory, self.limits)
        return f"{word}: {reason}"

    def last(self, seconds: float) -> None:
        """Checks for so long, or until the engine is ended."""
        until = self.now + seconds
        while self.now < until and not self.killed:
            self.now += INTERVAL
            self.check()


@pytest.fixture
def engine(modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One that has served for a while."""
    health, evidence = modules
    made = Engine(
        health=health, limits=health.Limits(hung=HUNG, closing=HUNG + 45, on_cpu=False), memory=health.Memory()
    )
    monkeypatch.setattr(health, "ask", made.ask)
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(evidence, "compiles", lambda: made.compiler)
    monkeypatch.setattr(evidence, "computed_seconds", lambda: made.cores * made.now)
    monkeypatch.setattr(
        evidence, "connections", lambda _, known, now: {peer: known.get(peer, now) for peer in made.peers}
    )
    assert made.check() == "serving: /health says 200"
    made.last(30)
    return made


def loading(engine: Engine) -> Engine:
    engine.memory = engine.health.Memory()
    engine.answer = ConnectionRefusedError(111, "Connection refused")
    return engine


def test_an_engine_that_loads_is_left_alone(engine: Engine) -> None:
    loading(engine)
    engine.last(3600)
    assert engine.check() == "loading: not listening yet"
    assert engine.killed is None


def test_an_engine_that_serves_and_is_idle_is_asked_for_nothing(engine: Engine) -> None:
    engine.last(3600)
    assert (engine.killed, engine.asked_for_tokens) == (None, 0)


def test_an_engine_that_leaves_health_unanswered_is_ended_after_the_limit(engine: Engine) -> None:
    engine.answer = TimeoutError("timed out")
    engine.last(HUNG)
    assert engine.check().startswith("broken: answered before, and now: timed out")
    engine.last(INTERVAL)
    assert engine.killed
    assert "timed out for" in engine.killed


def test_an_engine_whose_health_says_503_is_ended_after_the_limit(engine: Engine) -> None:
    engine.answer = 503
    engine.last(3600)
    assert engine.killed == "/health says 503 for 20 s"


def test_one_answer_in_time_begins_the_count_again(engine: Engine) -> None:
    for _ in range(10):
        engine.answer = TimeoutError("timed out")
        engine.last(HUNG - INTERVAL)
        engine.answer = 200
        engine.last(INTERVAL)
    assert engine.killed is None


def test_an_engine_that_ends_what_it_has_begun_has_its_drains_time(engine: Engine) -> None:
    engine.answer, engine.body = 503, b"ending"
    engine.last(HUNG + 40)
    assert engine.check().startswith("broken: it ends what it has begun, and takes nothing new")
    assert engine.killed is None
    engine.last(2 * INTERVAL)
    assert engine.killed


def test_an_engine_that_closed_its_port_has_its_drains_time(engine: Engine) -> None:
    engine.answer = ConnectionRefusedError(111, "Connection refused")
    engine.last(HUNG + 40)
    assert engine.killed is None
    engine.last(20)
    assert engine.killed


def test_requests_that_make_no_step_end_the_engine(engine: Engine) -> None:
    engine.metrics, engine.gives_tokens = {RUNNING: 3.0}, False
    engine.last(HUNG)
    assert engine.killed is None
    engine.last(2 * INTERVAL)
    assert engine.killed
    assert "3 running" in engine.killed


@pytest.mark.parametrize("metric", [TOKENS, PROMPT, "vllm:kv_cache_usage_perc", "vllm:prefix_cache_queries_total"])
def test_any_step_is_a_sign_of_life(engine: Engine, metric: str) -> None:
    engine.gives_tokens = False
    for step in range(100):
        engine.metrics = {RUNNING: 1.0, metric: 10 + step / 1000}
        engine.last(HUNG - INTERVAL)
    assert (engine.killed, engine.asked_for_tokens) == (None, 100)


def test_a_gauge_that_stands_is_no_proof_and_is_asked_about_once_in_a_while(engine: Engine) -> None:
    engine.metrics = {RUNNING: 1.0}
    engine.last(1800)
    assert engine.killed is None
    assert 2 <= engine.asked_for_tokens <= 5


def test_a_hang_in_the_first_step_shows_by_the_connection_that_waits(engine: Engine) -> None:
    engine.gives_tokens = False
    engine.peers = {"0A0012AC:1F40"}
    engine.last(HUNG + 3 * INTERVAL)
    assert engine.killed
    assert "1 connections" in engine.killed


def test_connections_that_come_and_go_are_nothing(engine: Engine) -> None:
    for number in range(1000):
        engine.peers = {f"0A0012AC:{number:04X}"}
        engine.last(INTERVAL)
    assert engine.asked_for_tokens == 0


def test_a_hang_behind_a_connection_that_was_cleared_is_still_found(engine: Engine) -> None:
    engine.peers = {"scraper"}
    engine.last(60)
    assert engine.asked_for_tokens == 1
    engine.peers, engine.gives_tokens = {"scraper", "request"}, False
    engine.last(HUNG + 3 * INTERVAL)
    assert engine.killed


def test_metrics_that_cannot_be_read_are_neither_idle_nor_hung(engine: Engine) -> None:
    engine.metrics, engine.gives_tokens = {RUNNING: 1.0}, False
    engine.last(INTERVAL)
    engine.metrics = None
    engine.last(3600)
    assert engine.killed is None


def test_the_very_first_request_may_take_longer(engine: Engine) -> None:
    engine.metrics, engine.gives_tokens = {RUNNING: 1.0, TOKENS: 0.0, PROMPT: 0.0}, False
    engine.last(295)
    assert engine.killed is None
    engine.last(20)
    assert engine.killed


def test_a_compiler_that_runs_is_work(engine: Engine) -> None:
    engine.metrics, engine.gives_tokens, engine.compiler = {RUNNING: 1.0}, False, True
    engine.last(3600)
    assert engine.killed is None


@pytest.mark.parametrize(("on_cpu", "ended_after"), [(True, 10 * HUNG), (False, HUNG)])
def test_time_that_processes_compute_counts_where_they_do_the_work(
    engine: Engine, on_cpu: bool, ended_after: float
) -> None:
    engine.limits = engine.health.Limits(hung=HUNG, closing=65, on_cpu=on_cpu)
    engine.metrics, engine.gives_tokens, engine.cores = {RUNNING: 1.0}, False, 0.9
    started = engine.now
    engine.last(3600)
    assert engine.killed
    assert ended_after <= engine.now - started <= ended_after + 3 * INTERVAL


def test_after_a_pause_of_the_checks_nothing_is_concluded_from_before(engine: Engine) -> None:
    engine.answer = TimeoutError("timed out")
    engine.last(HUNG - INTERVAL)
    engine.now += 3600
    engine.last(INTERVAL)
    assert engine.killed is None


def test_ending_an_engine_tells_why_and_spares_init(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    health, _ = modules
    signals: list[tuple[int, int]] = []
    written: list[str] = []
    monkeypatch.setattr(health.os, "kill", lambda process, number: signals.append((process, int(number))))

    class Stream:
        def __enter__(self) -> "Stream":
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, text: str) -> None:
            written.append(text)

    monkeypatch.setattr(health.Path, "open", lambda *_: Stream())
    health.end("it hangs")
    assert signals == [(1, 18), (-1, 9), (1, 15)]
    assert written == ["health.py: ending this engine, Docker starts it again: it hangs\n"] * 2


def test_memory_survives_a_full_disk_and_a_broken_file(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    health, _ = modules
    monkeypatch.setattr(health, "MEMORY", tmp_path / "memory")
    assert health.remember() == health.Memory()
    kept = health.Memory(checked=1.5, served=True, peers={"0A:1": 2.0}, seen="1 2")
    health.keep(kept)
    assert health.remember() == kept
    assert (tmp_path / "memory").stat().st_size == health.MEMORY_BYTES

    # Nothing more can be taken from the disk: the file is written in place.
    monkeypatch.setattr(health.os, "posix_fallocate", lambda *_: pytest.fail("the file has its size"))
    health.keep(health.Memory(checked=2.5))
    assert health.remember() == health.Memory(checked=2.5)
    (tmp_path / "memory").write_bytes(b'{"checked": ')
    assert health.remember() == health.Memory()


def test_the_limits_are_the_deployments(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    health, _ = modules
    monkeypatch.setattr(health, "CONFIG", tmp_path / "engine.yaml")
    monkeypatch.setenv("VLLMSTACK_HUNG_SECONDS", "45")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0,1")
    (tmp_path / "engine.yaml").write_text("model: /models/smoke\nshutdown-timeout: 30\n")
    assert health.limits() == health.Limits(hung=45, closing=90, on_cpu=True)
    monkeypatch.delenv("VLLMSTACK_HUNG_SECONDS")
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND")
    (tmp_path / "engine.yaml").unlink()
    assert health.limits() == health.Limits(hung=20, closing=35, on_cpu=False)


@pytest.mark.parametrize(
    ("answers", "gives"),
    [
        ({"/v1/completions": 200}, True),
        ({"/v1/completions": 404, "/v1/embeddings": 200}, True),
        ({"/v1/completions": 400, "/v1/embeddings": 400}, True),
        ({"/v1/completions": 500}, False),
        ({"/v1/completions": 404, "/v1/embeddings": 500}, False),
        ({}, False),
    ],
)
def test_what_counts_as_a_token(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch, answers: dict[str, int], gives: bool
) -> None:
    health, _ = modules

    def ask(method: str, path: str, body: object, seconds: float) -> tuple[int, bytes]:
        if path not in answers:
            raise http.client.RemoteDisconnected("closed")
        return answers[path], b""

    monkeypatch.setattr(health, "ask", ask)
    assert health.gives_a_token("smoke") is gives


def test_metrics_of_the_pinned_vllm_are_understood(modules: tuple[ModuleType, ModuleType]) -> None:
    _, evidence = modules
    values, model = evidence.read_metrics(CAPTURE)
    assert model == "smoke"
    found = dict(zip(evidence.MOVING, values, strict=True))
    assert found[TOKENS] == 569
    assert found[PROMPT] == 5304
    for name in evidence.MOVING:
        assert f"\n{name}{{" in CAPTURE


def test_the_gateway_reads_the_same_metrics(modules: tuple[ModuleType, ModuleType]) -> None:
    _, evidence = modules
    text = (ROOT / "docker/gateway/lua/progress.lua").read_text()
    assert [name for name in evidence.MOVING if f'"{name}"' not in text] == []


def test_several_engines_of_one_server_are_added_up_and_a_quoted_name_is_read(
    modules: tuple[ModuleType, ModuleType],
) -> None:
    _, evidence = modules
    name = json.dumps('a"b\\c')
    text = f'{RUNNING}{{engine="0",model_name={name}}} 2.0\n{RUNNING}{{engine="1",model_name={name}}} 3.0\n'
    values, model = evidence.read_metrics(text)
    assert (values[0], model) == (5.0, 'a"b\\c')


def test_connections_of_others_to_the_port_are_seen(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, evidence = modules
    (tmp_path / "net").mkdir()
    heading = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    lines = (
        ("0200A8C0:1F40", "0300A8C0:A001", "01"),  # a client
        ("0200A8C0:1F40", "0300A8C0:A002", "06"),  # one that has gone
        ("0100007F:1F40", "0100007F:A003", "01"),  # this check
        ("0200A8C0:A004", "0400A8C0:1F40", "01"),  # the engine's own to somebody's port 8000
    )
    rows = (f"   {number}: {' '.join(line)} 0:0\n" for number, line in enumerate(lines))
    (tmp_path / "net/tcp").write_text(heading + "".join(rows))
    monkeypatch.setattr(evidence, "PROC", tmp_path)
    assert evidence.connections(8000, {}, 7.0) == {"0300A8C0:A001": 7.0}
    assert evidence.connections(8000, {"0300A8C0:A001": 3.0}, 7.0) == {"0300A8C0:A001": 3.0}


def test_compilers_and_cpu_time_are_read_off_the_processes(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, evidence = modules
    for number, (name, user, system) in enumerate([("python3", 100, 50), ("VLLM::(core) 1", 30, 20)], start=1):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "comm").write_text(f"{name}\n")
        (folder / "stat").write_text(f"{number} ({name}) S 1 1 1 0 -1 4194304 1 0 0 0 {user} {system} 0 0 20 0\n")
    (tmp_path / "3").mkdir()  # one that has ended meanwhile
    monkeypatch.setattr(evidence, "PROC", tmp_path)
    monkeypatch.setattr(evidence.os, "sysconf", lambda _: 100)
    assert evidence.computed_seconds() == 2.0
    assert evidence.compiles() is False
    (tmp_path / "2/comm").write_text("ptxas\n")
    assert evidence.compiles() is True
