"""How much of a GPU's datasheet vLLM gets, and what its own Python takes: the table ``efficiency.yaml``, typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from vllmstack.simulation.frontend import FrontendProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Shares of the datasheet's figures, and seconds of a host's core."""

    weights_ratio: float
    """Of the memory's bandwidth, while weights are read."""
    cache_ratio: float
    """Of the same, while KV cache is read."""
    flops_ratio: float
    """Of the tensor cores, in matrix products with the weights."""
    attention_ratio: float
    """Of the same, in a prompt's attention."""
    key_row_seconds: float
    """Of a tile of decoding's attention, for a head of one token's keys and each row of queries, used or not."""
    tile_row_seconds: float
    """Of such a tile, for each row beyond the smallest tile's: it is begun and written out."""
    step_seconds: float
    """GPU time of any step beside the rest: embedding, sampling."""
    layer_seconds: float
    """GPU time of each layer beside the rest: a dozen kernels that start and end."""
    reduce_seconds: float
    """Of each all-reduce of tensor parallelism beside its bytes: two a layer."""
    sequence_seconds: float
    """More for each sequence in a step that no overlap hides."""
    host_step_seconds: float
    """Of the engine's Python, each step: it runs beside the GPU, and whoever takes longer decides."""
    host_sequence_seconds: float
    """The same for each sequence in it."""
    host_prefill_layer_seconds: float
    """The same for each layer of a step with a prompt in it: attention is launched by itself."""
    host_eager_layer_seconds: float
    """The same for each layer of a step that is larger than any CUDA graph: every kernel is."""
    frontend: FrontendProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """How far predictions of one figure were off, as a share of what was measured."""

    usual: float
    """In 19 runs of 20."""
    most: float
    """In any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Where the figures come from, and how far predictions were off."""

    efficiency: Efficiency
    made_on: str
    """Machine, release and runs."""
    runs: int
    """That it was not calibrated on."""
    runs_in_view: int
    """Of those, the ones that had been seen when form and priors were chosen."""
    throughput: Error
    tpot: Error
    """Of the median."""
    ttft_p95: Error


@cache
def calibration() -> Calibration:
    """The calibration that ships with this release."""
    text = files("vllmstack").joinpath("prediction/efficiency.yaml").read_text(encoding="utf-8")
    return read_calibration(yaml.safe_load(text))


def read_calibration(document: Mapping[str, Any]) -> Calibration:
    """A table of the same form as ``efficiency.yaml``."""
    figures = dict(document["efficiency"])
    frontend = FrontendProfile(**figures.pop("frontend"))
    errors = document["errors"]
    return Calibration(
        efficiency=Efficiency(**figures, frontend=frontend),
        made_on=document["made_on"],
        runs=errors["runs"],
        runs_in_view=errors["runs_in_view"],
        throughput=Error(**errors["throughput"]),
        tpot=Error(**errors["tpot"]),
        ttft_p95=Error(**errors["ttft_p95"]),
    )
