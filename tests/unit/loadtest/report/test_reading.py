"""Runs and verdicts from folders."""

import json
import os
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.report.reading import newest, read_runs
from loadtest.results import save
from loadtest.verdict.capacity import find_capacity
from loadtest.verdict.capacity_outputs import write_capacity
from loadtest.verdict.outputs import write_outputs
from loadtest.verdict.targets import judge
from tests.unit.loadtest.runs import make_run
from tests.unit.loadtest.verdict.judged import judged
from vllmstack.deployment.model import Target

TARGET = Target.model_validate({"load": {"concurrency": 4}, "ttft_seconds": {"p95": 2}})


def write_check(folder: Path) -> None:
    """As `vllmstack check` leaves it: repeats, a warm-up, and the verdict."""
    runs = [make_run(seed=number, id=str(number)) for number in (1, 2)]
    for run in runs:
        save(run, folder / "smoke-chat-c4" / run.id)
    save(make_run(requests=1), folder / "smoke-chat-c4" / "warmup")
    write_outputs([judge(TARGET, runs, "smoke")], folder)


def test_a_run_is_read_from_its_folder_and_from_its_file(tmp_path: Path) -> None:
    run = make_run()
    save(run, tmp_path)

    assert read_runs([tmp_path]).runs == (run,)
    assert read_runs([tmp_path / "run.json"]).runs == (run,)


def test_a_check_gives_its_repeats_and_its_verdict_but_not_its_warm_up(tmp_path: Path) -> None:
    write_check(tmp_path)

    found = read_runs([tmp_path])

    assert [run.id for run in found.runs] == ["smoke-chat-c4/1", "smoke-chat-c4/2"]
    assert [verdict.name for verdict in found.verdicts] == ["smoke · chat · concurrency 4"]


def test_a_run_of_a_check_knows_the_verdict_above_it(tmp_path: Path) -> None:
    write_check(tmp_path)

    assert len(read_runs([tmp_path / "smoke-chat-c4" / "1"]).verdicts) == 1


def test_a_search_for_the_capacity_gives_its_sentence(tmp_path: Path) -> None:
    found = find_capacity(lambda load: judged(load, ttft=load / 4), low=1)
    write_capacity(found, tmp_path)
    save(make_run(rate=4), tmp_path / "01-smoke-chat-r4")

    assert read_runs([tmp_path]).capacities == (found.summary,)


def test_a_verdict_of_another_load_is_not_the_runs(tmp_path: Path) -> None:
    write_check(tmp_path)
    save(make_run(concurrency=8), tmp_path / "smoke-chat-c8" / "1")

    assert read_runs([tmp_path / "smoke-chat-c8" / "1"]).verdicts == ()


def test_runs_of_equal_names_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(make_run(id="1"), tmp_path / folder)

    assert [run.id for run in read_runs([tmp_path / "a", tmp_path / "b"]).runs] == ["1: 1", "2: 1"]


def test_every_folder_that_holds_no_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(LoadTestError) as caught:
        read_runs([tmp_path / "empty", tmp_path / "nowhere"])

    assert [problem.fact for problem in caught.value.problems] == ["holds no run.json", "there is no such folder"]
    assert caught.value.exit_code == 2


def test_a_check_of_another_version_is_told(tmp_path: Path) -> None:
    save(make_run(), tmp_path)
    (tmp_path / "check.json").write_text(json.dumps({"format": 99}))

    with pytest.raises(LoadTestError, match="is no check of this version"):
        read_runs([tmp_path])


def test_the_newest_run_is_the_one_that_ended_last(tmp_path: Path) -> None:
    for folder, seconds in (("20250101-chat", 2000), ("20250102-check/smoke/1", 1000)):
        save(make_run(requests=1), tmp_path / folder)
        os.utime(tmp_path / folder / "run.json", (seconds, seconds))

    assert newest(tmp_path) == tmp_path / "20250101-chat"

    os.utime(tmp_path / "20250102-check/smoke/1/run.json", (3000, 3000))
    assert newest(tmp_path) == tmp_path / "20250102-check"


def test_without_results_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LoadTestError, match="vllmstack load"):
        newest(tmp_path / "results")
