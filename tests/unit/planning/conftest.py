"""A deployment of one model, planned for a machine of one's choice."""

from collections.abc import Callable
from typing import Any

import pytest

from vllmstack.deployment.model import Deployment
from vllmstack.errors import InvalidInput
from vllmstack.planning.dimensions import public_models
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory, assume_gpus
from vllmstack.planning.plan import Plan, make_plan

GIB = 1 << 30

PlanOne = Callable[..., Plan]


def machine(gpu: str | None = None, count: int = 1, *, memory_gib: float = 16, cores: int = 2) -> Inventory:
    """An idle machine."""
    bare = Inventory(memory_bytes=int(memory_gib * GIB), core_ids=tuple(range(cores)))
    return assume_gpus(bare, gpu_type(gpu), range(count)) if gpu else bare


def deployment(hub: str, gpu: str | None = None, images: dict[str, str] | None = None, **model: Any) -> Deployment:
    """One model called ``m``."""
    return Deployment.model_validate(
        {
            "name": "x",
            "models": [{"name": "m", "source": {"hub": hub}, **model}],
            "gpu": {"type": gpu},
            "images": images or {},
        }
    )


@pytest.fixture
def plan_one() -> PlanOne:
    """Plans one public model: ``plan_one(hub, gpu, inventory=…, **model)``."""

    def plan(hub: str, gpu: str | None = None, *, inventory: Inventory | None = None, **model: Any) -> Plan:
        one = deployment(hub, gpu, **model)
        return make_plan(one, inventory or machine(), {"m": public_models().get(hub)}, "deployments/x.yaml")

    return plan


@pytest.fixture
def refusals(plan_one: PlanOne) -> Callable[..., list[tuple[str, str, str]]]:
    """Place, fact and hint of everything that is refused."""

    def collect(*arguments: Any, **options: Any) -> list[tuple[str, str, str]]:
        with pytest.raises(InvalidInput) as caught:
            plan_one(*arguments, **options)
        return [(problem.place, problem.fact, problem.hint) for problem in caught.value.problems]

    return collect
