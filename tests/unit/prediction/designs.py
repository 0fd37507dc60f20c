"""Designs to predict with, in few words."""

from typing import Any

from vllmstack.planning.dimensions import public_models
from vllmstack.planning.engine_options import read_options, release_of
from vllmstack.planning.gpus import gpu_types
from vllmstack.prediction.design import Design, Speculation


def design(
    hub: str = "meta-llama/Llama-3.1-8B",
    gpu: str = "H200",
    *,
    gpus: int = 1,
    speculation: Speculation | None = None,
    **serve: Any,
) -> Design:
    """A model of the built-in table on GPUs of one type."""
    return Design(
        model=public_models()[hub], options=read_options({"max_model_len": 8192} | serve), gpu=gpu_types()[gpu],
        release=release_of("x:v0.26.0"), gpus_per_replica=gpus, speculation=speculation,
    )  # fmt: skip
