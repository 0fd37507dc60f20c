"""GPUs as they are seen, and as they are assumed."""

from vllmstack.planning.gpus import MIB, gpu_type
from vllmstack.planning.inventory import Inventory, SeenGpu, assume_gpus

BARE = Inventory(memory_bytes=1, core_ids=(0,))


def test_assumed_gpus_are_idle_and_of_one_type() -> None:
    found = assume_gpus(BARE, gpu_type("A100-80GB"), [3, 1, 1])

    assert (found.assumed, found.gpu_ids) == ("A100-80GB", (1, 3))
    assert found.gpus[0].used_bytes == 0
    assert found.gpus[0].usable_bytes == gpu_type("A100-80GB").usable_bytes
    assert found.gpus[0].short_name == "A100-80GB"


def test_a_gpu_outside_the_table_keeps_its_name() -> None:
    gpu = SeenGpu(id=0, name="NVIDIA RTX A6000", memory_bytes=49140 * MIB, used_bytes=0, compute_capability=(8, 6))

    assert gpu.share.name == "RTX A6000"
    assert gpu.usable_bytes == int(49140 * MIB * 0.98)
