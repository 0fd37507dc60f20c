"""`vllmstack render`: the files of `up`, and nothing else."""

from collections.abc import Callable

import pytest

from tests.unit.conftest import SMOKE, Clone, Outcome, Programs
from vllmstack.planning.inventory import Inventory

Run = Callable[..., Outcome]
pytestmark = pytest.mark.usefixtures("inventory")


def test_the_files_are_written_and_listed(vllmstack: Run, clone: Clone) -> None:
    done = vllmstack("render", "smoke")

    assert done.status == 0
    listed = done.out.splitlines()
    assert listed == sorted(
        str(file.relative_to(clone.root)) for file in clone.project.rendered("smoke").rglob("*") if file.is_file()
    )
    assert ".vllmstack/smoke/engines.compose.yaml" in listed


def test_nothing_is_asked_of_docker_and_nothing_becomes_current(
    vllmstack: Run, clone: Clone, programs: Programs
) -> None:
    vllmstack("render", "smoke")

    assert programs.calls("docker") == []
    assert not clone.project.current.exists()
    assert not clone.project.secrets.exists()


def test_a_second_time_gives_the_same_bytes(vllmstack: Run, clone: Clone) -> None:
    def contents() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in clone.project.state.rglob("*") if file.is_file()}

    vllmstack("render", "smoke")
    first = contents()

    vllmstack("render", "smoke")

    assert contents() == first


def test_what_does_not_fit_is_refused_and_nothing_is_written(vllmstack: Run, clone: Clone) -> None:
    clone.deployment(SMOKE.replace("memory_gib: 4", "memory_gib: 0.5"))

    done = vllmstack("render", "smoke")

    assert done.status == 1
    assert "deployments/smoke.yaml: models/0/memory_gib: " in done.err
    assert not clone.project.state.exists()


def test_the_default_is_by_whether_there_is_a_gpu(vllmstack: Run, clone: Clone, inventory: Inventory) -> None:
    clone.deployment(SMOKE.replace("name: smoke\ndesc", "name: cpu-smoke\ndesc"), name="cpu-smoke")

    assert vllmstack("render").out.startswith(".vllmstack/cpu-smoke/alertmanager/alertmanager.yml\n")
