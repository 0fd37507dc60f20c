"""What commands begin with: a deployment found, loaded and planned."""

from pathlib import Path

import pytest

from tests.unit.conftest import GIB, SMOKE, Clone
from vllmstack.commands.preparation import (
    default_deployment,
    load_deployment,
    prepare,
)
from vllmstack.errors import InvalidInput
from vllmstack.planning.inventory import Inventory, SeenGpu

GPU = SeenGpu(id=0, name="NVIDIA L40S", memory_bytes=48 * GIB, used_bytes=0, compute_capability=(8, 9))


@pytest.mark.parametrize(("gpus", "name"), [((), "cpu-smoke"), ((GPU,), "llama-3.2-1b-fp8")])
def test_the_default_is_by_whether_there_is_a_gpu(gpus: tuple[SeenGpu, ...], name: str) -> None:
    assert default_deployment(Inventory(memory_bytes=GIB, core_ids=(0,), gpus=gpus)) == name


def test_the_environment_names_another_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYMENT", "two-models")

    assert default_deployment(Inventory(memory_bytes=GIB, core_ids=(0,), gpus=(GPU,))) == "two-models"


def test_a_make_variable_that_is_left_empty_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYMENT", "")

    assert default_deployment(Inventory(memory_bytes=GIB, core_ids=(0,))) == "cpu-smoke"


def test_a_file_is_named_as_seen_from_the_working_directory(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_deployment(clone.project, "smoke")[0] == "deployments/smoke.yaml"

    monkeypatch.chdir(clone.project.deployments)
    assert load_deployment(clone.project, "smoke")[0] == "smoke.yaml"


def test_a_file_outside_is_named_by_its_whole_path(clone: Clone, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.yaml"
    file.write_text(SMOKE.replace("../models", "clone/models"))

    shown, deployment = load_deployment(clone.project, str(file))

    assert shown == str(file)
    assert deployment.models[0].source.directory == clone.root / "models" / "smoke"


def test_what_is_prepared_is_planned_for_this_machine(clone: Clone, inventory: Inventory) -> None:
    prepared = prepare("smoke")

    assert (prepared.project, prepared.file) == (clone.project, "deployments/smoke.yaml")
    assert [(replica.service, replica.cpu_ids) for replica in prepared.plan.replicas] == [
        ("engine-smoke-1", (0,)),
        ("engine-smoke-2", (1,)),
    ]
    assert set(prepared.plan.budgets) == {"smoke"}


def test_a_deployment_that_does_not_exist_names_those_that_do(clone: Clone, inventory: Inventory) -> None:
    with pytest.raises(InvalidInput) as caught:
        prepare("smok")

    assert "there is no deployment named 'smok'" in str(caught.value)
    assert "smoke" in caught.value.problems[0].hint
