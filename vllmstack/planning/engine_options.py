"""The options under ``serve:`` that decide memory, typed, and what vLLM takes where they are left out.

Read from vLLM's own source at 0.26.0 and 0.32.0: engine/arg_utils.py (get_batch_defaults,
_set_default_max_num_seqs_and_batched_tokens_args), config/cache.py, config/vllm.py (_set_cudagraph_sizes).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllmstack.errors import InvalidInput, Problem
from vllmstack.planning.gpus import GIB

DEFAULT_UTILIZATION = 0.92
"""config/cache.py, gpu_memory_utilization; the same in both releases."""
DEFAULT_BLOCK_SIZE = 16
"""Tokens a KV-cache block on a GPU (config/cache.py, DEFAULT_BLOCK_SIZE)."""
DEFAULT_CPU_BLOCK_SIZE = 128
"""platforms/cpu.py."""

AUTOMATIC_LENGTH = -1
"""``max_model_len: auto`` or -1: vLLM takes the longest that fits."""


@dataclass(frozen=True, kw_only=True)
class EngineRelease:
    """What differs between the releases in how a GPU's memory is shared out."""

    version: tuple[int, int]

    @property
    def counts_everything(self) -> bool:
        """Whether what is left for the KV cache is net of sampler state and CUDA graphs.

        0.26.0 measures weights, the profile run's peak and growth outside PyTorch; the sampler's buffers and the graphs
        of its V2 runner (profile_cudagraph_memory returns 0) come out of what gpu_memory_utilization leaves free.
        0.32.0 measures everything consumed since the start and captures sample graphs (worker/gpu/cudagraph_utils.py).
        Releases in between were not read and are taken to be like 0.26.0.
        """
        return self.version >= (0, 32)

    @property
    def knows_blackwell(self) -> bool:
        """Whether GPUs of 160 GiB and more get batches of their own."""
        return self.version >= (0, 32)


def release_of(image: str | None, pinned: str = "0.32.0") -> EngineRelease:
    """The vLLM release in an image's tag, ``vllm/vllm-openai:v0.26.0``, or the pinned one where the tag says none."""
    tag = image.rsplit(":", 1)[-1] if image and ":" in image else ""
    match = re.match(r"v?(\d+)\.(\d+)", tag) or re.match(r"(\d+)\.(\d+)", pinned)
    if match is None:
        raise ValueError(f"{pinned} is not a release")
    return EngineRelease(version=(int(match[1]), int(match[2])))


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """``serve:`` as the arithmetic needs it; None where vLLM's default depends on the GPU or the model."""

    tensor_parallel: int | None = None
    pipeline_parallel: int = 1
    other_parallel: int = 1
    """data_parallel_size times prefill_context_parallel_size: GPUs that hold the same weights again."""
    parallelism_given: bool = False
    """Whether any of these is written; if not, tensor parallelism spans a replica's GPUs."""
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    block_size: int | None = None
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    gpu_memory_utilization: float = DEFAULT_UTILIZATION
    kv_cache_memory_bytes: int | None = None
    enforce_eager: bool = False
    draft_model: bool = False
    """Whether speculative decoding loads a second model, whose memory is not counted."""
    overrides_model: bool = False
    """Whether hf_overrides may change the model's own dimensions."""


_WHOLE = {
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "prefill_context_parallel_size",
    "block_size",
    "max_model_len",
    "max_num_batched_tokens",
    "max_num_seqs",
    "kv_cache_memory_bytes",
}


def read_options(serve: Mapping[str, Any], *, place: str = "", file: str = "") -> EngineOptions:
    """The memory options in ``serve:``, written with ``_`` or ``-``.

    Raises InvalidInput with every value that is no number where vLLM wants one.
    """
    given = {key.replace("-", "_"): value for key, value in serve.items() if value is not None}
    problems: list[Problem] = []
    whole: dict[str, int] = {}
    for key in sorted(_WHOLE & given.keys()):
        number = whole_number(given[key])
        if number is None or (number < 1 and not (key == "max_model_len" and number == AUTOMATIC_LENGTH)):
            problems.append(
                Problem(
                    fact=f"{given[key]!r} is not a whole number above 0",
                    hint=f"write {key}: 8192 or the like; 8k is 8000 and 8K is 8192",
                    place=f"{place}/{key}",
                    file=file,
                )
            )
        else:
            whole[key] = number
    share = given.get("gpu_memory_utilization", DEFAULT_UTILIZATION)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        problems.append(
            Problem(
                fact=f"{share!r} is not a share between 0 and 1",
                hint="write gpu_memory_utilization: 0.9, which is 90 % of the GPU's memory",
                place=f"{place}/gpu_memory_utilization",
                file=file,
            )
        )
    if problems:
        raise InvalidInput(problems)
    quantization = given.get("quantization")
    return EngineOptions(
        tensor_parallel=whole.get("tensor_parallel_size"),
        pipeline_parallel=whole.get("pipeline_parallel_size", 1),
        other_parallel=whole.get("data_parallel_size", 1) * whole.get("prefill_context_parallel_size", 1),
        parallelism_given=any(key.endswith("parallel_size") for key in whole),
        dtype=str(given.get("dtype", "auto")),
        quantization=str(quantization) if quantization else None,
        kv_cache_dtype=str(given.get("kv_cache_dtype", "auto")),
        block_size=whole.get("block_size"),
        max_model_len=whole.get("max_model_len"),
        max_num_batched_tokens=whole.get("max_num_batched_tokens"),
        max_num_seqs=whole.get("max_num_seqs"),
        gpu_memory_utilization=float(share),
        kv_cache_memory_bytes=whole.get("kv_cache_memory_bytes"),
        enforce_eager=bool(given.get("enforce_eager", False)),
        draft_model="model" in (given.get("speculative_config") or {}),
        overrides_model=bool(given.get("hf_overrides") or given.get("rope_scaling")),
    )


_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "": 1}


def whole_number(value: object) -> int | None:
    """A number as vLLM's human_readable_int reads it: ``8192``, ``8k`` (8000), ``8K`` (8192), ``auto`` (-1)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", str(value).strip())
    if match:
        return int(float(match[1]) * _SUFFIXES[match[2]])
    return AUTOMATIC_LENGTH if str(value).strip() in {"auto", "-1"} else None


def batch_defaults(memory_bytes: int, gpu_name: str, release: EngineRelease) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs of the OpenAI server on a GPU (EngineArgs.get_batch_defaults).

    ``memory_bytes`` is nvidia-smi's total.
    """
    if release.knows_blackwell and memory_bytes >= 160 * GIB:
        return 16384, 1024
    if memory_bytes >= 70 * GIB and "a100" not in gpu_name.lower():
        return 8192, 1024
    return 2048, 256


def cuda_graphs(max_num_seqs: int, max_num_batched_tokens: int, compute_capability: tuple[int, int]) -> int:
    """How many CUDA graphs are captured, without speculation (VllmConfig._set_cudagraph_sizes).

    Each batch size is captured once in pieces, and once more as a whole if it can be one token for each of at most
    ``max_num_seqs`` sequences (cudagraph_mode FULL_AND_PIECEWISE, the default).
    """
    ceiling = 1024 if compute_capability[0] == 10 else 512  # data-centre Blackwell
    largest = min(max_num_seqs * 2, ceiling, max_num_batched_tokens)
    sizes = [size for size in (1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16)) if size <= largest]
    return len(sizes) + len([size for size in sizes if size <= max_num_seqs])
