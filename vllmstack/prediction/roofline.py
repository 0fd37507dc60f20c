"""How long a step of a model takes on a GPU: bytes to read and products to compute, against what the GPU can do.

Williams, Waterman and Patterson, "Roofline", CACM 52 (2009), applied to a transformer's decoder as in Pope et al.,
"Efficiently Scaling Transformer Inference", MLSys 2023. A step's time is the largest of what the GPU and the engine's
Python take, which run side by side:

    GPU  = fixed + layers * (start and end of kernels) + max(weights read, products)
           + max(KV cache read, rows of queries computed with it) + sequences * larger tiles + prompts' attention
    host = fixed + sequences * (their bookkeeping) [+ layers * (launching what is not in a CUDA graph)]

Steps that only decode are one CUDA graph. With a prompt in them attention is launched by itself between the graphs of
its surroundings; steps larger than any captured graph are launched kernel by kernel, which takes the host longer than a
short prompt takes the GPU.
"""

from dataclasses import dataclass

from vllmstack.planning.dimensions import ModelDimensions, Quantization
from vllmstack.planning.gpus import GpuType
from vllmstack.planning.weights import experts_bytes, local_kv_heads, step_weights_bytes, token_parameters
from vllmstack.prediction.efficiency import Efficiency

ACTIVATION_BYTES = 2
"""Of an element between layers, whatever the weights are stored in."""
HIDDEN_ROWS = 12
"""Rows of the hidden size that a layer's norms, residuals and rotations read or write for each token."""
WIDE_ROWS = 4
"""Rows of the MLP's width that it reads or writes for each token."""
HOPPER = 9
"""Major compute capability of the H100 and the H200."""
LEAST_ROWS = 64
"""Of the smallest tile of its attention."""
LAYER_KERNELS = 12
"""Of a layer with two norms; each further norm is one more (Gemma's four, Qwen3's of queries and keys)."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model as one replica serves it."""

    model: ModelDimensions
    gpu: GpuType
    dtype: str
    quantization: Quantization | None = None
    kv_bytes_per_token: int
    """On one GPU, all layers: MemoryBudget's."""
    tensor_parallel: int = 1
    captured_tokens: int = 512
    """Of the largest step that a CUDA graph was captured for; 0 with ``enforce_eager``."""
    speculated_tokens: int = 0
    """Proposed for each sequence in a step, which the model then checks."""
    draft_ratio: float = 0.0
    """What proposing one token takes, of a step of the model's own for as many sequences."""


class Roofline:
    """Step times of one replica (``vllmstack.simulation.step_times.StepTimes``)."""

    def __init__(self, served: Served, efficiency: Efficiency) -> None:
        model, gpu, ranks = served.model, served.gpu, served.tensor_parallel
        bandwidth = gpu.bandwidth_bytes_per_second
        experts = experts_bytes(model, dtype=served.dtype, quantization=served.quantization)
        read = step_weights_bytes(model, dtype=served.dtype, quantization=served.quantization)
        weights_bandwidth = bandwidth * efficiency.weights_ratio * ranks
        self._dense_seconds = (read - experts) / weights_bandwidth
        self._experts_seconds = experts / weights_bandwidth
        self._idle_ratio = 1 - model.experts_per_token / model.experts if model.experts else 0.0
        flops = flops_per_second(gpu, served.quantization) * efficiency.flops_ratio * ranks
        sent = model.expert_intermediate_size * model.experts_per_token + model.shared_intermediate_size
        wide = sent or model.intermediate_size
        moved = model.layers * (HIDDEN_ROWS * model.hidden_size + WIDE_ROWS * wide / ranks) * ACTIVATION_BYTES
        self._token_seconds = 2 * token_parameters(model) / flops
        self._moved_seconds = moved / (bandwidth * efficiency.weights_ratio)
        if ranks > 1:
            # A ring passes 2 (n - 1) / n of the bytes over each GPU's links, half of whose rate is in one direction.
            reduced = 2 * model.layers * model.hidden_size * ACTIVATION_BYTES * 2 * (ranks - 1) / ranks
            self._moved_seconds += reduced / (gpu.link_bytes_per_second / 2 * efficiency.weights_ratio)
        rows = attention_rows(model, gpu, speculated_tokens=served.speculated_tokens)
        own_heads = local_kv_heads(model, ranks)
        computed = own_heads * sum(rows) * efficiency.key_row_seconds
        self.context_seconds = max(served.kv_bytes_per_token / (bandwidth * efficiency.cache_ratio), computed)
        beyond = sum(max(0, of_layer - LEAST_ROWS) for of_layer in rows)
        self._tiles_seconds = own_heads * beyond * efficiency.tile_row_seconds
        attended = 4 * model.layers * model.heads * model.head_dim / ranks
        self._attention_seconds = attended / (gpu.flops_per_second * efficiency.attention_ratio)
        reduces = 2 * model.layers * efficiency.reduce_seconds if ranks > 1 else 0.0
        layers = model.layers * layer_kernels(model) / LAYER_KERNELS  # of twelve kernels
        self._fixed_seconds = efficiency.step_seconds + layers * efficiency.layer_seconds + reduces
        self._window = model.sliding_window
        self._full_ratio = model.full_attention_layers / model.layers
        self._width = 1 + served.speculated_tokens
        self._draft_factor = 1 + served.speculated_tokens * served.draft_ratio
        self._sequence_seconds = efficiency.sequence_seconds
        self._host_seconds = efficiency.host_step_seconds
        self._host_sequence_seconds = efficiency.host_sequence_seconds
        self._host_prefill_seconds = model.layers * efficiency.host_prefill_layer_seconds
        self._host_eager_seconds = layers * efficiency.host_eager_layer_seconds
        self._captured = served.captured_tokens

    def __eq__(self, other: object) -> bool:
        """Whether every step takes as long: what was simulated with one need not be with the other."""
        return isinstance(other, Roofline) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def seconds(self, *, decoding: int, context: int, prefill: int, prefill_context: float) -> float:
        """One step; the arguments are those of StepTimes."""
        tokens = decoding * self._width + prefill
        weights = self._dense_seconds
        if self._experts_seconds:
            # Of experts that each token chooses alike, the share that some token of the step is sent to.
            weights += self._experts_seconds * (1 - self._idle_ratio**tokens)
        products = tokens * self._token_seconds
        if self._window and context > decoding * self._window:
            context = round(context * self._full_ratio + decoding * self._window * (1 - self._full_ratio))
        gpu = self._fixed_seconds + (weights if weights > products else products) + tokens * self._moved_seconds
        gpu += context * self.context_seconds + decoding * self._tiles_seconds
        gpu += prefill_context * self._attention_seconds
        gpu *= self._draft_factor
        host = self._host_seconds + decoding * self._host_sequence_seconds
        if tokens > self._captured:
            host += self._host_eager_seconds
        elif prefill:
            host += self._host_prefill_seconds
        return (gpu if gpu > host else host) + decoding * self._sequence_seconds


def attention_rows(model: ModelDimensions, gpu: GpuType, *, speculated_tokens: int = 0) -> list[int]:
    """Of each layer: the rows of queries that decoding's attention computes for a head of keys, however few there are.

    Where keys are not stored by heads, and on GPUs other than Hopper, none is known to compute longer than it reads: 0.
    """
    if gpu.compute_capability[0] != HOPPER or model.latent_attention:
        return [0] * model.layers
    queries = (1 + speculated_tokens) * model.heads // model.kv_heads
    full = tile_rows(model.head_dim, queries=queries, windowed=False)
    windowed = tile_rows(model.head_dim, queries=queries, windowed=True)
    unlimited = model.full_attention_layers if model.sliding_window else model.layers
    return [full] * unlimited + [windowed] * (model.layers - unlimited)


def tile_rows(head_size: int, *, queries: int, windowed: bool) -> int:
    """Of FlashAttention 3's tile for a head of keys that so many queries ask, on Hopper.

    Its tiles are as large as a prompt needs. Those for head sizes of 64 and 128 come in 64 rows too, for steps that
    decode, but not where a layer has a window (vllm-project/flash-attention, hopper/tile_size.h and heuristics.h).
    """
    if head_size in (64, 128) and not windowed and queries <= LEAST_ROWS:
        return LEAST_ROWS
    return 192 if head_size <= 96 else 128


def layer_kernels(model: ModelDimensions) -> int:
    """Kernels that each layer takes one after the other."""
    return LAYER_KERNELS + (model.norms - 2) + (2 if model.qk_norm else 0)


def flops_per_second(gpu: GpuType, quantization: Quantization | None) -> float:
    """What the tensor cores do a second with these weights, without sparsity.

    8-bit floats run at twice the rate of BF16 from compute capability 8.9 on (NVIDIA's datasheets of Ada, Hopper and
    Blackwell), 4-bit floats at four times on data-centre Blackwell; 4-bit integers are multiplied as 16-bit floats.
    """
    if quantization is None:
        return gpu.flops_per_second
    if quantization.is_fp4 and gpu.compute_capability[0] == 10:
        return 4 * gpu.flops_per_second
    if quantization.is_fp8 and gpu.compute_capability >= (8, 9):
        return 2 * gpu.flops_per_second
    return gpu.flops_per_second
