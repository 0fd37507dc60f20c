"""The result of the memory arithmetic: where the bytes of a GPU go. Sizes are bytes unless a name says otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """Where the memory of each GPU of a replica goes (vllm), or the host memory of a replica (vllm-cpu)."""

    device: str
    """``L4``, or ``host memory``."""
    devices: int
    """GPUs a replica; 1 for vllm-cpu."""
    total_bytes: int
    """What a program can see of the GPU; the container's limit or the host's memory for vllm-cpu."""
    requested_bytes: int
    """What vLLM takes of it."""
    weights_bytes: int
    activations_bytes: int
    graphs_bytes: int
    """CUDA graphs, whether the release counts them or not."""
    overhead_bytes: int
    """Rotary table, sampler's buffers, and what grows outside PyTorch."""
    uncounted_bytes: int
    """The part of graphs and overhead that the release takes from outside ``requested_bytes``."""
    kv_cache_bytes: int
    """What is left for the KV cache; negative where the weights alone are too large."""
    block_size: int
    kv_bytes_per_token: int
    """On one GPU, all layers."""
    max_model_len: int
    """Tokens of the longest sequence served."""
    blocks_per_sequence: int
    """Blocks that a sequence of ``max_model_len`` tokens holds."""
    decode_weights_bytes: int | None = None
    """What each step reads of the whole replica's weights, at least; None where an option changes them in a way that is
    not known here."""

    @property
    def kv_cache_tokens(self) -> int:
        """Tokens of KV cache as vLLM logs them: whole blocks, and for sliding windows counted as if all were kept."""
        if self.kv_cache_bytes <= 0:
            return 0
        full = -(-self.max_model_len // self.block_size)
        if self.blocks_per_sequence >= full:
            return self.blocks * self.block_size
        return int(self.blocks / self.blocks_per_sequence * self.max_model_len)

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache."""
        return max(0, self.kv_cache_bytes) // (self.block_size * self.kv_bytes_per_token)

    @property
    def full_length_sequences(self) -> float:
        """How many sequences of ``max_model_len`` fit at a time; below 1 vLLM does not start."""
        return self.blocks / self.blocks_per_sequence

    @property
    def fits(self) -> bool:
        """Whether one sequence of full length fits, which vLLM demands."""
        return self.blocks >= self.blocks_per_sequence

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """What the memory goes to, by name; all of them together are ``total_bytes``."""
        used = (
            ("weights", self.weights_bytes),
            ("activations", self.activations_bytes),
            ("CUDA graphs", self.graphs_bytes),
            ("overhead", self.overhead_bytes),
            ("KV cache", self.kv_cache_bytes),
        )
        return (*used, ("left free", self.total_bytes - sum(size for _, size in used)))

    @property
    def left_bytes(self) -> int:
        """What vLLM does not ask for: the CUDA context, other processes, and what the release does not count."""
        return self.total_bytes - self.requested_bytes


@dataclass(frozen=True, kw_only=True)
class GpuShare:
    """The GPU that a budget is for. Several GPUs of a replica are as large as their smallest."""

    name: str
    memory_bytes: int
    """nvidia-smi's total."""
    usable_bytes: int
    """cudaMemGetInfo's total."""
    compute_capability: tuple[int, int]
