"""What ``serve:`` says, and what vLLM takes where it says nothing."""

import pytest

from vllmstack.errors import InvalidInput
from vllmstack.planning.engine_options import batch_defaults, cuda_graphs, read_options, release_of, whole_number
from vllmstack.planning.gpus import gpu_types

OLD = release_of("vllm/vllm-openai:v0.26.0")
NEW = release_of(None)


@pytest.mark.parametrize(
    ("gpu", "release", "expected"),
    [
        ("T4", NEW, (2048, 256)),
        ("L40S", NEW, (2048, 256)),
        ("A100-80GB", NEW, (2048, 256)),
        ("H100-80GB", NEW, (8192, 1024)),
        ("H200", OLD, (8192, 1024)),
        ("B200", NEW, (16384, 1024)),
        ("B200", OLD, (8192, 1024)),
    ],
)
def test_batches_depend_on_the_gpu(gpu: str, release: object, expected: tuple[int, int]) -> None:
    row = gpu_types()[gpu]

    assert batch_defaults(row.memory_bytes, row.name, release) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("vllm/vllm-openai:v0.26.0", (0, 26)),
        ("registry.example:5000/vllm:0.33.1-cu130", (0, 33)),
        ("vllm/vllm-openai:nightly", (0, 32)),
        ("vllm/vllm-openai", (0, 32)),
        (None, (0, 32)),
    ],
)
def test_the_release_is_read_from_the_images_tag(image: str | None, version: tuple[int, int]) -> None:
    assert release_of(image).version == version


@pytest.mark.parametrize(
    ("written", "number"),
    [(8192, 8192), ("8k", 8000), ("8K", 8192), ("1.5k", 1500), ("auto", -1), ("many", None), (True, None)],
)
def test_numbers_are_read_as_vllm_reads_them(written: object, number: int | None) -> None:
    assert whole_number(written) == number


def test_dashes_and_underscores_are_the_same() -> None:
    assert read_options({"max-model-len": "4K"}) == read_options({"max_model_len": 4096})


def test_every_wrong_number_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_options({"max_num_seqs": 0, "block_size": "big", "gpu_memory_utilization": 90}, place="models/0/serve")

    assert [(problem.place, problem.fact) for problem in caught.value.problems] == [
        ("models/0/serve/block_size", "'big' is not a whole number above 0"),
        ("models/0/serve/max_num_seqs", "0 is not a whole number above 0"),
        ("models/0/serve/gpu_memory_utilization", "90 is not a share between 0 and 1"),
    ]


@pytest.mark.parametrize(("sequences", "graphs"), [(1024, 102), (256, 86), (1, 3)])
def test_graphs_are_captured_in_pieces_and_as_a_whole(sequences: int, graphs: int) -> None:
    # 51 batch sizes up to 512: 1, 2, 4, then every 8 to 248, then every 16
    assert cuda_graphs(sequences, 8192, (9, 0)) == graphs
