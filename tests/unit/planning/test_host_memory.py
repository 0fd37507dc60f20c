"""vllm-cpu: memory and cores of the host."""

from collections.abc import Callable

import pytest

from tests.unit.planning.conftest import PlanOne, machine

Refusals = Callable[..., list[tuple[str, str, str]]]

QWEN = "Qwen/Qwen3-0.6B"
SPACE = "VLLM_CPU_KVCACHE_SPACE"


def test_replicas_that_fit_have_a_budget(plan_one: PlanOne) -> None:
    plan = plan_one(QWEN, engine="vllm-cpu", replicas=2, environment={SPACE: "2"}, serve={"max_model_len": 4096})

    assert plan.budgets["m"].kv_cache_tokens == 18_688
    assert plan.warnings == ()


def test_more_replicas_than_the_host_has_memory_for(refusals: Refusals) -> None:
    found = refusals(
        QWEN,
        engine="vllm-cpu",
        replicas=4,
        cpus=1,
        environment={SPACE: "2"},
        serve={"max_model_len": 4096},
        inventory=machine(memory_gib=12, cores=4),
    )

    assert found == [
        (
            "models/0/replicas",
            "4 vllm-cpu replicas take 21.7 GiB together and this machine has 12.0 GiB",
            f"write replicas: 2, or a smaller {SPACE}",
        )
    ]


def test_one_replica_that_is_too_large_for_the_host(refusals: Refusals) -> None:
    found = refusals(
        QWEN,
        engine="vllm-cpu",
        environment={SPACE: "1"},
        serve={"max_model_len": 4096},
        inventory=machine(memory_gib=4),
    )

    assert found == [
        (
            "models/0/replicas",
            "1 vllm-cpu replica takes 4.4 GiB and this machine has 4.0 GiB",
            "write a smaller model, or use a larger machine",
        )
    ]


def test_a_container_smaller_than_its_replica(refusals: Refusals) -> None:
    found = refusals(QWEN, engine="vllm-cpu", memory_gib=4, environment={SPACE: "2"}, serve={"max_model_len": 4096})

    assert found == [
        (
            "models/0/memory_gib",
            "4 GiB is less than the 5.4 GiB that a replica takes: weights 1.1 GiB, KV cache 2.0 GiB, process 2.3 GiB",
            "write memory_gib: 6",
        )
    ]


def test_the_containers_default_limit_is_named(refusals: Refusals) -> None:
    ((place, fact, hint),) = refusals(QWEN, engine="vllm-cpu", environment={SPACE: "9"})

    assert place == "models/0/memory_gib"
    assert fact.startswith("left out, so it is 10 GiB: less than the 12.4 GiB that a replica takes")
    assert hint == "write memory_gib: 13"


def test_a_sequence_that_the_kv_space_does_not_hold(refusals: Refusals, plan_one: PlanOne) -> None:
    found = refusals(QWEN, engine="vllm-cpu", environment={SPACE: "2"})

    assert found == [
        (
            "models/0/serve/max_model_len",
            "left out, so it is the model's own 40960: more than the 18,688 tokens that 2.0 GiB of KV cache hold",
            f'write max_model_len: 18688, or {SPACE}: "5" under environment',
        )
    ]
    assert plan_one(QWEN, engine="vllm-cpu", environment={SPACE: "2"}, serve={"max_model_len": 18688}).budgets["m"].fits
    assert plan_one(QWEN, engine="vllm-cpu", environment={SPACE: "5"}).budgets["m"].fits


def test_max_model_len_auto_takes_what_fits(plan_one: PlanOne) -> None:
    plan = plan_one(QWEN, engine="vllm-cpu", environment={SPACE: "2"}, serve={"max_model_len": "auto"})

    assert plan.budgets["m"].max_model_len == 18_688


@pytest.mark.parametrize("space", ["two", "0", "1.5", "-1"])
def test_a_kv_space_that_vllm_cannot_read(refusals: Refusals, space: str) -> None:
    assert refusals(QWEN, engine="vllm-cpu", environment={SPACE: space}) == [
        (
            f"models/0/environment/{SPACE}",
            f"'{space}' is not a whole number of GiB above 0",
            f'write {SPACE}: "1"',
        )
    ]


def test_a_length_above_the_models_own(refusals: Refusals) -> None:
    assert refusals(QWEN, engine="vllm-cpu", serve={"max_model_len": 65536}) == [
        (
            "models/0/serve/max_model_len",
            "65536 is more than the 40,960 positions that the model was made for",
            "write max_model_len: 40960",
        )
    ]


def test_what_vllm_takes_without_a_kv_space_is_said(plan_one: PlanOne) -> None:
    assert plan_one(QWEN, engine="vllm-cpu", inventory=machine(memory_gib=32)).warnings == (
        f"m: {SPACE} is left out, so each replica takes 9.2 GiB (92% of 10.0 GiB), most of it for its KV cache",
    )


def test_cores_that_replicas_share_are_said(plan_one: PlanOne) -> None:
    plan = plan_one(
        QWEN,
        engine="vllm-cpu",
        replicas=2,
        cpus=2,
        environment={SPACE: "1"},
        serve={"max_model_len": 4096},
        inventory=machine(cores=2),
    )

    assert plan.warnings == (
        "vllm-cpu replicas ask for 4 cores and this machine has 2: they share them and are slower",
    )
