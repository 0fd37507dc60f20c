"""What an engine without a deployment is started with."""

from dataclasses import replace

import pytest

from tests.unit.conftest import CONFIG, GIB
from vllmstack.errors import InvalidInput
from vllmstack.planning.dimensions import from_config, public_models
from vllmstack.planning.engine_defaults import cpu_defaults, gpu_defaults
from vllmstack.planning.engine_options import release_of
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory, SeenGpu, assume_gpus

RELEASE = release_of(None)
LLAMA = public_models()["meta-llama/Llama-3.1-8B-Instruct"]
LARGE = public_models()["meta-llama/Llama-3.1-70B-Instruct"]
SMALL = from_config(CONFIG)


def gpus(kind: str, count: int, used_bytes: int = 0) -> tuple[SeenGpu, ...]:
    machine = assume_gpus(Inventory(memory_bytes=64 * GIB, core_ids=(0,)), gpu_type(kind), range(count))
    return tuple(replace(gpu, used_bytes=used_bytes) for gpu in machine.gpus)


def test_a_model_that_fits_needs_nothing() -> None:
    assert gpu_defaults(LLAMA, {}, gpus("H200", 8), release=RELEASE) == {}


def test_the_fewest_gpus_that_the_whole_length_fits_on_are_taken() -> None:
    assert gpu_defaults(LLAMA, {}, gpus("L4", 4), release=RELEASE) == {"tensor_parallel_size": 2}
    assert gpu_defaults(LLAMA, {"max_model_len": 8192}, gpus("L4", 4), release=RELEASE) == {}
    assert gpu_defaults(LARGE, {}, gpus("H200", 8), release=RELEASE) == {"tensor_parallel_size": 2}


def test_where_the_whole_length_fits_nowhere_the_longest_is_taken() -> None:
    chosen = gpu_defaults(LLAMA, {}, gpus("L4", 1), release=RELEASE)

    assert chosen.keys() == {"max_model_len"}
    assert 20_000 < chosen["max_model_len"] < 27_000
    assert gpu_defaults(LLAMA, chosen, gpus("L4", 1), release=RELEASE) == {}


def test_what_others_use_of_a_gpu_is_left_to_them() -> None:
    chosen = gpu_defaults(LLAMA, {"max_model_len": 8192}, gpus("H200", 1, 40 * GIB), release=RELEASE)
    given = gpu_defaults(LLAMA, {"gpu_memory_utilization": 0.9}, gpus("H200", 1, 40 * GIB), release=RELEASE)

    assert chosen.keys() == {"gpu_memory_utilization"}
    assert 0.6 < chosen["gpu_memory_utilization"] < 1 - 40 / 140
    assert given == {}


@pytest.mark.parametrize(
    ("given", "count", "fact"),
    [
        ({"tensor_parallel_size": 4}, 2, "the parallel sizes multiply to 4 GPUs, and 2 can be seen"),
        ({"tensor_parallel_size": 3}, 4, "^serve/tensor_parallel_size: 3 GPUs cannot share"),
        ({"max_model_len": 200_000}, 4, "200000 is more than the 131,072 positions"),
        ({"max_model_len": 0}, 4, "0 is not a whole number above 0"),
    ],
)
def test_what_cannot_be_is_told(given: dict[str, int], count: int, fact: str) -> None:
    with pytest.raises(InvalidInput, match=fact):
        gpu_defaults(LLAMA, given, gpus("L4", count), release=RELEASE)


def test_a_model_that_is_too_large_is_told() -> None:
    with pytest.raises(InvalidInput, match="the weights take"):
        gpu_defaults(LARGE, {}, gpus("L4", 2), release=RELEASE)


def test_on_cores_the_cache_is_for_sixteen_sequences() -> None:
    token = 2 * SMALL.layers * SMALL.kv_heads * SMALL.head_dim * 4
    long = replace(SMALL, max_positions=131_072)

    assert cpu_defaults(SMALL, {"dtype": "float32"}, memory_bytes=64 * GIB) == {"kv_cache_memory_bytes": 256 << 20}
    assert cpu_defaults(long, {"dtype": "float32"}, memory_bytes=64 * GIB) == {
        "kv_cache_memory_bytes": 16 * 131_072 * token
    }


def test_on_few_gigabytes_the_cache_and_then_the_length_are_smaller() -> None:
    chosen = cpu_defaults(LLAMA, {}, memory_bytes=48 * GIB)
    short = cpu_defaults(LLAMA, {}, memory_bytes=24 * GIB)

    assert chosen.keys() == {"kv_cache_memory_bytes"}
    assert 16 * GIB < chosen["kv_cache_memory_bytes"] < 24 * GIB
    assert short["max_model_len"] % 128 == 0
    assert short["max_model_len"] * 131_072 <= short["kv_cache_memory_bytes"] < 3 * GIB


def test_on_too_few_it_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"the model with one sequence of 131,072 tokens takes .*80% of"):
        cpu_defaults(LLAMA, {}, memory_bytes=8 * GIB)
    with pytest.raises(InvalidInput, match="write max_model_len="):
        cpu_defaults(LLAMA, {"max_model_len": 100_000}, memory_bytes=24 * GIB)
