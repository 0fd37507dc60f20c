"""Which targets a check measures."""

import pytest

from loadtest.check import jobs, profile_job
from loadtest.errors import LoadTestError
from loadtest.stack import ServedModel, StackFacts
from vllmstack.deployment.model import Percentiles, Target, TargetLoad

CHAT = Target(load=TargetLoad(concurrency=4), error_ratio=0)
RAG = Target(load=TargetLoad(requests_per_second=2.5), scenario="rag", ttft_seconds=Percentiles(p95=1))
STACK = StackFacts(
    deployment="two",
    url="http://gateway:8080",
    models=(
        ServedModel(name="first", aliases=("one",), targets=(CHAT, RAG)),
        ServedModel(name="second", targets=(RAG,)),
    ),
)


def test_every_target_of_every_model_is_measured() -> None:
    assert [(job.model, job.target) for job in jobs(STACK)] == [("first", CHAT), ("first", RAG), ("second", RAG)]


def test_a_model_is_chosen_by_its_alias_and_a_scenario_by_its_name() -> None:
    assert [(job.model, job.target) for job in jobs(STACK, model="one", scenario="rag")] == [("first", RAG)]


def test_a_job_has_a_folder_of_its_own() -> None:
    assert [job.folder for job in jobs(STACK)] == ["first-chat-c4", "first-rag-r2.5", "second-rag-r2.5"]


def test_no_target_left_is_said_with_what_there_is() -> None:
    with pytest.raises(LoadTestError) as caught:
        jobs(STACK, scenario="embeddings")

    assert str(caught.value) == (
        "deployment two sets no target of the scenario 'embeddings'\n  hint: it has targets of: chat, rag"
    )


def test_an_unknown_scenario_is_told_apart_from_one_without_a_target() -> None:
    with pytest.raises(LoadTestError, match="chatt"):
        jobs(STACK, scenario="chatt")


def test_a_profile_at_a_rate_is_a_target() -> None:
    job = profile_job(STACK, "mlperf-llama-3.1-8b-server", rate=7)

    assert (job.model, job.target.load.requests_per_second) == ("first", 7)
    assert job.target.ttft_seconds == Percentiles(p99=2)
    assert job.target.tpot_seconds == Percentiles(p99=0.1)


@pytest.mark.parametrize(
    ("rate", "concurrency", "fact"), [(None, None, "a profile needs one load"), (1.0, 2, "there are two")]
)
def test_a_profile_is_measured_under_just_one_load(rate: float | None, concurrency: int | None, fact: str) -> None:
    with pytest.raises(LoadTestError, match=fact):
        profile_job(STACK, "mlperf-llama-3.1-8b-server", rate=rate, concurrency=concurrency)
