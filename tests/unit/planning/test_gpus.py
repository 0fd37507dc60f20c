"""The table of GPUs."""

import pytest

from vllmstack.errors import InvalidInput
from vllmstack.planning.gpus import MIB, gpu_type, gpu_types, usable_bytes


def test_every_gpu_has_less_to_use_than_nvidia_smi_reports() -> None:
    for row in gpu_types().values():
        assert 0.96 < row.usable_bytes / row.memory_bytes < 1, row.name
        assert row.seen_as
        assert row.bandwidth_bytes_per_second > 1e11
        assert row.flops_per_second > 1e13


def test_the_h200_is_what_was_measured() -> None:
    row = gpu_types()["H200"]

    assert (row.memory_bytes, row.usable_bytes) == (143771 * MIB, 150_109_880_320)
    assert row.compute_capability == (9, 0)


@pytest.mark.parametrize(("written", "name"), [("l40s", "L40S"), ("H100", "H100-80GB"), ("rtx-4090", "RTX-4090")])
def test_a_type_is_found_in_any_case_and_by_its_beginning(written: str, name: str) -> None:
    assert gpu_type(written).name == name


def test_a_type_that_is_not_there_is_refused_with_a_near_one() -> None:
    with pytest.raises(InvalidInput) as caught:
        gpu_type("L40", file="deployments/x.yaml")

    assert str(caught.value) == (
        "deployments/x.yaml: gpu/type: L40 is not in the table of GPUs\n"
        "  hint: Perhaps you meant L40S; the table has T4, L4, A10G, L40S, A100-40GB, A100-80GB, H100-80GB, H200, "
        "B200, RTX-3090, RTX-4090, RTX-5090"
    )


def test_a_beginning_of_two_types_is_refused() -> None:
    with pytest.raises(InvalidInput, match="A100 is not in the table"):
        gpu_type("A100")


def test_memory_that_the_driver_reserves_is_subtracted_where_it_is_known() -> None:
    assert usable_bytes("anything", 1000, 16) == 984
    assert usable_bytes("NVIDIA L4", 23034 * MIB) == gpu_types()["L4"].usable_bytes
    assert usable_bytes("NVIDIA Z9", 1000) == 980
