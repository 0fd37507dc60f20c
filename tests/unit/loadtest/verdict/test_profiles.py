"""Named limits, shipped and broken."""

from pathlib import Path

import pytest

from loadtest.errors import EXIT_INVALID, LoadTestError
from loadtest.verdict.profiles import profile, profiles
from vllmstack.deployment.model import Target, TargetLoad


@pytest.mark.parametrize(
    ("name", "ttft", "tpot"),
    [
        ("mlperf-llama-2-70b-server", 2, 0.2),
        ("mlperf-llama-2-70b-interactive", 0.45, 0.04),
        ("mlperf-llama-3.1-8b-server", 2, 0.1),
        ("mlperf-llama-3.1-8b-interactive", 0.5, 0.03),
        ("mlperf-llama-3.1-405b-server", 6, 0.175),
        ("mlperf-llama-3.1-405b-interactive", 4.5, 0.08),
        ("mlperf-mixtral-8x7b-server", 2, 0.2),
        ("mlperf-deepseek-r1-server", 2, 0.08),
        ("mlperf-deepseek-r1-interactive", 1.5, 0.015),
    ],
)
def test_mlperfs_limits_are_those_of_its_load_generator(name: str, ttft: float, tpot: float) -> None:
    load = TargetLoad(requests_per_second=4)

    assert profile(name).at(load) == Target.model_validate(
        {"load": load, "ttft_seconds": {"p99": ttft}, "tpot_seconds": {"p99": tpot}}
    )


def test_all_shipped_profiles_load_and_say_what_they_are() -> None:
    shipped = profiles()

    assert len(shipped) == 9
    assert all(one.description for one in shipped.values())


def test_another_scenario_can_be_asked_for() -> None:
    assert profile("mlperf-llama-3.1-8b-server").at(TargetLoad(concurrency=2), scenario="rag").scenario == "rag"


def test_an_unknown_profile_names_those_there_are_and_the_nearest() -> None:
    with pytest.raises(LoadTestError) as caught:
        profile("mlperf-lama-2-70b-server")

    (problem,) = caught.value.problems
    assert problem.fact == "there is no profile 'mlperf-lama-2-70b-server'"
    assert problem.hint.startswith("Perhaps you meant `mlperf-llama-2-70b-server`? The profiles are mlperf-deepseek")
    assert problem.hint.endswith(" and mlperf-mixtral-8x7b-server")
    assert caught.value.exit_code == EXIT_INVALID


def test_a_name_like_no_other_gets_the_list_alone(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("fast: {description: d, ttft_seconds: {p95: 1}}\n")

    with pytest.raises(LoadTestError) as caught:
        profile("xyz", tmp_path)
    with pytest.raises(LoadTestError) as empty:
        profile("xyz", tmp_path / "none")

    assert caught.value.problems[0].hint == "the profiles are fast"
    assert empty.value.problems[0].hint == f"{tmp_path / 'none'} holds no profile"


@pytest.mark.parametrize(
    ("text", "place", "fact", "hint"),
    [
        ("a: 3", "a", "3 is a whole number, where a mapping belongs", "write its keys below it, indented: description"),
        ("a: {error_ratio: 0}", "a/description", "is missing", "add it"),
        (
            "a: {description: d, eror_ratio: 0}",
            "a/eror_ratio",
            "there is no such key",
            "Perhaps you meant `error_ratio`?",
        ),
        ("a: {description: d, error_ratio: 2}", "a/error_ratio", "2 is more than 1", "write a number from 0 to 1"),
        ("a: {description: d, output_tokens_per_second: 0}", "a/output_tokens_per_second", "0 is not more than 0", ""),
        (
            "a: {description: d, ttft_seconds: {p95: fast}}",
            "a/ttft_seconds/p95",
            '"fast" is text, where a number belongs',
            "write a number above 0",
        ),
        ("a: {description: d}", "a", "sets no limit", "add at least one"),
        (
            "a: {description: d, e2e_seconds: {p50: 2, p99: 1}}",
            "a/e2e_seconds/p50",
            "2 is more than p99's 1",
            "write at most 1",
        ),
        (
            "a: {description: d, error_ratio: 0}\na: {description: e, error_ratio: 0}",
            "a",
            "is written twice, on lines 1 and 2",
            "keep one of the two",
        ),
        ("[a]", "", "is a list, where a mapping belongs", "begin with a profile's name"),
    ],
)
def test_a_wrong_profile_is_told_by_its_place(tmp_path: Path, text: str, place: str, fact: str, hint: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text + "\n")

    with pytest.raises(LoadTestError) as caught:
        profiles(tmp_path)

    (problem,) = caught.value.problems
    assert (problem.file, problem.place, problem.fact) == (str(file), place, fact)
    assert problem.hint.startswith(hint)


def test_all_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    good = "{description: d, error_ratio: 0}"
    (tmp_path / "a.yaml").write_text(f"one: {good}\ntwo: {{description: d, error_ratio: 7}}\n")
    (tmp_path / "b.yaml").write_text(f"one: {good}\nthree: 3\n")

    with pytest.raises(LoadTestError) as caught:
        profiles(tmp_path)

    assert [(problem.place, problem.fact) for problem in caught.value.problems] == [
        ("two/error_ratio", "7 is more than 1"),
        ("one", "another file has a profile of this name"),
        ("three", "3 is a whole number, where a mapping belongs"),
    ]
