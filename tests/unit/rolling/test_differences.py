"""What has changed of an engine, in the words of its files."""

from typing import Any

import pytest

from vllmstack.deployment.model import Deployment
from vllmstack.images import Image
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.stack import render_stack
from vllmstack.rolling.differences import differences

ALERTMANAGER = "receivers: []"
IMAGES = {name: Image(reference=f"{name}:1") for name in ("engine", "gateway", "models", "prometheus")}


def rendered(image: str = "engine:1", **changes: Any) -> dict[str, str]:
    model = {"name": "m", "source": {"hub": "a/b"}, "replicas": 2, "serve": {"max_model_len": 1024}} | changes
    deployment = Deployment.model_validate({"name": "test", "models": [model]})
    plan = Plan(deployment=deployment, replicas=place(deployment.models, core_ids=(0,)))
    return render_stack(plan, IMAGES | {"engine": Image(reference=image)}, ALERTMANAGER)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"serve": {"max_model_len": 2048}}, "max-model-len"),
        ({"serve": {"max_model_len": 1024, "max_num_seqs": 8}}, "max-num-seqs"),
        ({"serve": {}}, "max-model-len"),
        ({"aliases": ["n"]}, "served-model-name"),
        ({"environment": {"VLLM_X": "1"}}, "VLLM_X"),
        ({"memory_gib": 9.0}, "memory"),
        ({"drain_seconds": 7}, "shutdown-timeout, drain time"),
        ({"startup_seconds": 77}, "startup time"),
        ({"image": "engine:2"}, "image"),
        ({"serve": {"a": 1, "b": 1, "c": 1, "d": 1, "max_model_len": 9}}, "a, b, c, d and 1 more"),
    ],
)
def test_each_change_is_named(change: dict[str, Any], said: str) -> None:
    found = differences(rendered(), rendered(**change))

    assert found == {"engine-m-1": said, "engine-m-2": said}


def test_the_same_has_no_difference() -> None:
    assert differences(rendered(), rendered()) == {}


def test_a_replica_that_only_one_of_them_has_is_left_out() -> None:
    found = differences(rendered(), rendered(replicas=3, memory_gib=9.0))

    assert found.keys() == {"engine-m-1", "engine-m-2"}


def test_files_that_are_gone_say_nothing() -> None:
    assert differences({}, rendered()) == {}
