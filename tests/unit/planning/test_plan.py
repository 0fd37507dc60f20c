"""From a deployment and a machine to a plan."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.planning.conftest import deployment, machine
from vllmstack.deployment.model import Deployment
from vllmstack.errors import InvalidInput
from vllmstack.planning.dimensions import public_models
from vllmstack.planning.plan import Plan, make_plan

SMALL = "Qwen/Qwen3-0.6B"
GIB = 1 << 30


def plan(one: Deployment, inventory_gpu: str | None = None, count: int = 1) -> Plan:
    known = {model.name: public_models().get(model.source.hub or "") for model in one.models}
    return make_plan(one, machine(inventory_gpu, count), known, "x.yaml")


def problems(one: Deployment, inventory_gpu: str | None = None, count: int = 1) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidInput) as caught:
        plan(one, inventory_gpu, count)
    return [(problem.place, problem.fact, problem.hint) for problem in caught.value.problems]


def test_where_no_gpu_is_seen_the_deployments_type_is_assumed() -> None:
    found = plan(deployment(SMALL, "L40S", replicas=2))

    assert found.inventory is not None
    assert found.inventory.assumed == "L40S"
    assert found.inventory.gpu_ids == (0, 1)
    assert found.budgets["m"].device == "L40S"
    assert found.warnings == ("planned for 2 × L40S, which are assumed and not seen here",)


def test_gpus_that_are_seen_are_planned_for_whatever_the_file_says() -> None:
    found = plan(deployment(SMALL, "T4"), "L4")

    assert found.budgets["m"].device == "L4"
    assert found.warnings == ()


def test_without_gpu_and_type_memory_is_not_judged() -> None:
    found = plan(deployment(SMALL))

    assert found.budgets == {}
    assert [replica.gpu_ids for replica in found.replicas] == [(0,)]
    assert found.warnings == ("no GPU is seen here and gpu/type is left out: GPU memory is not judged",)


def test_a_model_of_unknown_dimensions_is_placed_but_not_judged() -> None:
    found = plan(deployment("someone/something", "L4"))

    assert found.budgets == {}
    assert found.warnings[-1] == "m: its dimensions are not known here, so its memory is not judged"


def test_what_has_nothing_to_do_with_memory_is_refused_without_a_gpu_too() -> None:
    assert [place for place, _, _ in problems(deployment(SMALL, gpus=3))] == ["models/0/gpus"]


@pytest.mark.parametrize(
    ("model", "place", "fact", "hint"),
    [
        (
            {"replicas": 3},
            "models/0/replicas",
            "m needs GPU 0, 1, 2, and this machine has only GPU 0, 1",
            "write replicas: 2",
        ),
        (
            {"gpus": 4},
            "models/0/gpus",
            "m needs GPU 0, 1, 2, 3, and this machine has only GPU 0, 1",
            "write gpus: 2",
        ),
        ({"gpus": [[5]]}, "models/0/gpus", "m needs GPU 5, and this machine has only GPU 0, 1", "use the ids 0, 1"),
    ],
)
def test_gpus_that_are_not_there_are_refused(model: dict[str, Any], place: str, fact: str, hint: str) -> None:
    assert problems(deployment(SMALL, **model), "L4", 2) == [(place, fact, hint)]


def test_a_gpu_given_to_two_replicas_is_refused() -> None:
    two = Deployment.model_validate(
        {
            "name": "x",
            "models": [
                {"name": name, "source": {"hub": SMALL}, "gpus": [[0]], "serve": {"max_model_len": 64}} for name in "ab"
            ],
        }
    )

    assert problems(two, "L4") == [
        ("models", "GPU 0 is given to engine-a-1 and to engine-b-1", "give each replica GPUs of its own")
    ]


def test_memory_in_use_on_a_gpu_is_said_with_a_share_that_fits() -> None:
    seen = machine("L4")
    busy = replace(seen, gpus=(replace(seen.gpus[0], used_bytes=10 * GIB),))

    found = make_plan(deployment(SMALL), busy, {"m": public_models()[SMALL]})

    assert found.warnings == (
        "m: GPU 0 already has 10.0 GiB in use, and vLLM asks for 20.3 GiB of its 22.0 GiB: end what runs there, or "
        "write gpu_memory_utilization: 0.52",
    )


def test_the_smallest_gpu_decides() -> None:
    large, small = machine("L40S", 1), machine("L4", 2)
    mixed = replace(small, gpus=(*large.gpus, small.gpus[1]))

    found = make_plan(deployment(SMALL, replicas=2), mixed, {"m": public_models()[SMALL]})

    assert found.budgets["m"].device == "L4"


def test_the_engine_images_release_decides_what_is_counted() -> None:
    old = plan(deployment(SMALL, "L4", images={"engine": "vllm/vllm-openai:v0.26.0"}))

    assert old.budgets["m"].kv_cache_bytes > plan(deployment(SMALL, "L4")).budgets["m"].kv_cache_bytes


def test_all_problems_of_all_models_are_told_at_once() -> None:
    two = Deployment.model_validate(
        {
            "name": "x",
            "models": [
                {"name": "a", "source": {"hub": SMALL}, "serve": {"max_model_len": 99999}},
                {"name": "b", "source": {"hub": SMALL}, "serve": {"max_num_seqs": -1, "block_size": 0}},
            ],
        }
    )

    assert [place for place, _, _ in problems(two, "L4")] == [
        "models/1/gpus",
        "models/0/serve/max_model_len",
        "models/1/serve/block_size",
        "models/1/serve/max_num_seqs",
    ]


def test_models_that_are_too_many_for_the_machine_are_told_how_many_gpus_they_need() -> None:
    two = Deployment.model_validate({"name": "x", "models": [{"name": n, "source": {"hub": SMALL}} for n in "ab"]})

    assert problems(two, "L4") == [
        (
            "models/1/gpus",
            "b needs GPU 1, and this machine has only GPU 0",
            "leave a model out: all of them need 2 GPUs",
        )
    ]


def test_an_unknown_type_is_refused() -> None:
    assert [place for place, _, _ in problems(deployment(SMALL, "Z9"))] == ["gpu/type"]
