"""What Prometheus is told to scrape."""

import json
from typing import Any

import pytest

from vllmstack.deployment.model import Deployment
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.prometheus import render_prometheus


def plan(scrape_seconds: int = 5) -> Plan:
    deployment = Deployment.model_validate(
        {
            "name": "two-models",
            "models": [
                {"name": "RedHatAI/Llama-3.2-1B", "source": {"hub": "RedHatAI/Llama-3.2-1B"}, "replicas": 2},
                {"name": "smoke", "source": {"directory": "models/smoke"}, "engine": "vllm-cpu"},
            ],
            "monitoring": {"scrape_seconds": scrape_seconds},
        }
    )
    return Plan(deployment=deployment, replicas=place(deployment.models, core_ids=[0, 1]))


def targets(name: str, of: Plan) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = json.loads(render_prometheus(of)[f"prometheus/{name}.json"])
    return groups


def test_every_replica_is_a_target_of_its_own_with_its_model_and_service() -> None:
    found = [
        (group["targets"], group["labels"]["model"], group["labels"]["replica"]) for group in targets("engines", plan())
    ]

    assert found == [
        (["engine-redhatai-llama-3-2-1b-1:8000"], "RedHatAI/Llama-3.2-1B", "engine-redhatai-llama-3-2-1b-1"),
        (["engine-redhatai-llama-3-2-1b-2:8000"], "RedHatAI/Llama-3.2-1B", "engine-redhatai-llama-3-2-1b-2"),
        (["engine-smoke-1:8000"], "smoke", "engine-smoke-1"),
    ]


def test_the_gateway_is_scraped_on_its_internal_port() -> None:
    assert [group["targets"] for group in targets("gateway", plan())] == [["gateway:9113"]]


def test_the_gateway_gets_no_model_or_replica_since_its_own_metrics_carry_them() -> None:
    (group,) = targets("gateway", plan())

    assert {name for name in group["labels"] if not name.startswith("__")} == set()


@pytest.mark.parametrize(("seconds", "timeout"), [(1, "1s"), (5, "5s"), (60, "10s")])
def test_each_target_carries_the_deployments_interval_and_a_timeout_within_it(seconds: int, timeout: str) -> None:
    slow = plan(scrape_seconds=seconds)

    for group in targets("engines", slow) + targets("gateway", slow):
        assert group["labels"]["__scrape_interval__"] == f"{seconds}s"
        assert group["labels"]["__scrape_timeout__"] == timeout


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert render_prometheus(plan()) == render_prometheus(plan())


def test_the_text_ends_with_a_newline() -> None:
    assert all(text.endswith("]\n") for text in render_prometheus(plan()).values())
