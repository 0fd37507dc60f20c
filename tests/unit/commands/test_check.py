"""`vllmstack check` and `vllmstack capacity`: in the container, or here, and what their exit statuses say."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from loadtest.options import RunOptions
from loadtest.results import RunResult, save
from loadtest.verdict.limits import limits_of
from tests.unit.conftest import Clone, Outcome
from tests.unit.loadtest.runs import make_run
from vllmstack.deployment.model import Target, TargetLoad

Run = Callable[..., Outcome]
TARGET = {"load": {"concurrency": 4}, "scenario": "chat", "ttft_seconds": {"p95": 1.0}, "error_ratio": 0.0}


@pytest.fixture
def stack_file(clone: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As the container sees it: the stack's file, and results/ below the working directory."""
    file = tmp_path / "stack.json"
    model = {"name": "smoke", "targets": [TARGET]}
    file.write_text(json.dumps({"deployment": "cpu-smoke", "url": "http://gateway:8080", "models": [model]}))
    monkeypatch.setattr("vllmstack.commands.check.surroundings", lambda: {"stack": str(file)})
    monkeypatch.setattr("vllmstack.commands.measurement.has_loadtest_extra", lambda: True)
    return file


class Measured:
    """Runs as a server would answer that takes ``ttft(load)`` seconds to the first token."""

    def __init__(self, ttft: Callable[[RunOptions], float]) -> None:
        self.ttft = ttft
        self.asked: list[RunOptions] = []

    def __call__(self, options: RunOptions, *, echo: Callable[[str], None]) -> RunResult:
        self.asked.append(options)
        limits = limits_of(Target(load=TargetLoad(concurrency=4), ttft_seconds=TARGET["ttft_seconds"]))  # type: ignore[arg-type]
        result = make_run(
            concurrency=options.concurrency, rate=options.rate, ttft=self.ttft(options), seed=len(self.asked),
            limits=limits,
        )  # fmt: skip
        assert options.result
        save(result, Path(options.result))
        return result


def measured(monkeypatch: pytest.MonkeyPatch, ttft: Callable[[RunOptions], float]) -> Measured:
    made = Measured(ttft)
    monkeypatch.setattr("loadtest.check.measure", made)
    return made


def test_targets_are_measured_three_times_each_with_prompts_of_its_own(
    vllmstack: Run, stack_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = measured(monkeypatch, lambda _: 0.1)

    done = vllmstack("check", "--here", "--result", str(tmp_path / "out"))

    assert done.status == 0
    assert "smoke · chat · concurrency 4, 3 runs: met" in done.out
    assert [(one.concurrency, one.duration_seconds, one.warmup_seconds) for one in runs.asked] == [(4, 30, 5)] * 3
    assert len({one.seed for one in runs.asked}) == 3
    assert json.loads((tmp_path / "out" / "check.json").read_text())["verdict"] == "met"
    assert (tmp_path / "out" / "junit.xml").is_file()
    assert max(map(len, done.out.splitlines())) <= 80 + len(str(tmp_path))


def test_a_missed_target_exits_1(
    vllmstack: Run, stack_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, lambda _: 3.0)

    done = vllmstack("check", "--here", "--repeats", "1", "--result", str(tmp_path / "out"))

    assert done.status == 1
    assert "missed" in done.out


def test_a_scenario_without_a_target_is_one_clear_line(vllmstack: Run, stack_file: Path) -> None:
    done = vllmstack("check", "--here", "--scenario", "rag")

    assert done.status == 2
    assert done.err.startswith("vllmstack: deployment cpu-smoke sets no target of the scenario 'rag'\n  hint: ")


def test_outside_the_container_the_same_words_go_in(
    vllmstack: Run, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str | Path]] = []

    def run_in_container(arguments: Sequence[str | Path], *, workers: int) -> int:
        asked.append(arguments)
        return 1

    monkeypatch.delenv("VLLMSTACK_IN_CONTAINER", raising=False)
    monkeypatch.setattr("vllmstack.commands.measurement.run_in_container", run_in_container)

    assert vllmstack("check", "--repeats", "2", "--model", "smoke", "--result", "results/x").status == 1
    assert vllmstack("capacity", "--from", "2", "--to", "8").status == 1

    check, capacity = asked
    assert list(check[:2]) == ["check", "--here"]
    assert check[list(check).index("--repeats") + 1] == "2"
    assert check[list(check).index("--result") + 1] == Path("results/x")
    assert list(capacity[:2]) == ["capacity", "--here"]
    assert capacity[list(capacity).index("--from") + 1] == "2.0"


def test_capacity_finds_the_highest_rate_and_what_binds(
    vllmstack: Run, stack_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, lambda options: 0.1 if (options.rate or 0) <= 5 else 4.0)

    done = vllmstack("capacity", "--here", "--result", str(tmp_path / "out"))

    found = json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert done.status == 0
    assert 4.7 <= found["highest_met"] <= 5
    assert found["binding"] == "ttft p95"
    assert "ttft p95 binds" in done.out


def test_capacity_exits_1_if_even_the_lowest_rate_misses(
    vllmstack: Run, stack_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, lambda _: 4.0)

    assert vllmstack("capacity", "--here", "--result", str(tmp_path / "out")).status == 1
