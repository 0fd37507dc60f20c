"""A replica's design: a model, its options and its GPUs, as something that can be simulated, and its alternatives."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vllmstack.planning.budget import GpuShare, MemoryBudget
from vllmstack.planning.dimensions import ModelDimensions
from vllmstack.planning.engine_options import EngineOptions, EngineRelease, batch_defaults
from vllmstack.planning.gpus import GpuType
from vllmstack.planning.memory import gpu_budget, resolve_dtype, resolve_quantization, tensor_parallel_size
from vllmstack.prediction.efficiency import Efficiency
from vllmstack.prediction.roofline import Roofline, Served
from vllmstack.simulation.engine import EngineProfile

DRAFT_RATIO = 0.08
"""What proposing a token takes of a step, with a draft model or head: about a layer's share of a model of 8 billion
parameters and its output layer (EAGLE, arXiv 2401.15077); proposing by n-grams takes nothing."""
MOST_CAPTURED = 512
"""Tokens of vLLM's largest CUDA graph (VllmConfig._set_cudagraph_sizes)."""


@dataclass(frozen=True, kw_only=True)
class Speculation:
    """Speculative decoding."""

    tokens: int
    """Proposed in a step."""
    acceptance: float
    """Chance that a proposed token is accepted, if those before it were; below 1."""
    draft_ratio: float = DRAFT_RATIO

    @property
    def tokens_per_step(self) -> float:
        """Expected tokens of a step: Leviathan, Kalman and Matias, arXiv 2211.17192, equation 1."""
        return (1 - self.acceptance ** (self.tokens + 1)) / (1 - self.acceptance)


@dataclass(frozen=True, kw_only=True)
class Design:
    """One way to serve a model on GPUs of one type."""

    model: ModelDimensions
    options: EngineOptions
    gpu: GpuType
    release: EngineRelease
    gpus_per_replica: int = 1
    speculation: Speculation | None = None
    change: str = ""
    """What differs from the deployment, as it would be written there."""

    @property
    def budget(self) -> MemoryBudget:
        """Memory of each GPU."""
        share = GpuShare(
            name=self.gpu.name,
            memory_bytes=self.gpu.memory_bytes,
            usable_bytes=self.gpu.usable_bytes,
            compute_capability=self.gpu.compute_capability,
        )
        return gpu_budget(self.model, self.options, share, devices=self.gpus_per_replica, release=self.release)

    def profile(self, efficiency: Efficiency) -> EngineProfile:
        """As the simulator takes it.

        Raises:
            ValueError: not even one sequence of full length fits.
        """
        budget = self.budget
        if not budget.fits:
            raise ValueError(f"one sequence of {budget.max_model_len} tokens does not fit")
        options, gpu = self.options, self.gpu
        tokens, sequences = batch_defaults(gpu.memory_bytes, gpu.name, self.release)
        sequences = options.max_num_seqs or sequences
        tokens = options.max_num_batched_tokens or tokens
        quantization = resolve_quantization(self.model, options)
        speculation = self.speculation
        served = Served(
            model=self.model,
            gpu=gpu,
            dtype=resolve_dtype(self.model, options, gpu.compute_capability),
            quantization=quantization,
            kv_bytes_per_token=budget.kv_bytes_per_token,
            tensor_parallel=tensor_parallel_size(options, self.gpus_per_replica),
            captured_tokens=0 if options.enforce_eager else min(2 * sequences, MOST_CAPTURED, tokens),
            speculated_tokens=speculation.tokens if speculation else 0,
            draft_ratio=speculation.draft_ratio if speculation else 0.0,
        )
        return EngineProfile(
            times=Roofline(served, efficiency),
            blocks=budget.blocks,
            block_tokens=budget.block_size,
            max_sequences=sequences,
            max_batched_tokens=tokens,
            tokens_per_step=speculation.tokens_per_step if speculation else 1.0,
            scheduled_ahead=True,
            frontend=efficiency.frontend,
        )

    def alternatives(self) -> Iterator["Design"]:
        """Other options for the same GPUs, those that fit: what one would try first."""
        tokens = (
            self.options.max_num_batched_tokens or batch_defaults(self.gpu.memory_bytes, self.gpu.name, self.release)[0]
        )
        tried: list[tuple[str, dict[str, Any]]] = [
            (f"max_num_batched_tokens: {other}", {"max_num_batched_tokens": other})
            for other in (2048, 8192, 16384)
            if other != tokens
        ]
        if self.model.quantization is None and not self.options.quantization:
            if self.gpu.compute_capability >= (8, 9):
                tried.append(("quantization: fp8", {"quantization": "fp8"}))
                both = {"quantization": "fp8", "kv_cache_dtype": "fp8"}
                tried.append(("quantization: fp8, kv_cache_dtype: fp8", both))
        elif self.options.kv_cache_dtype == "auto" and self.gpu.compute_capability >= (8, 9):
            tried.append(("kv_cache_dtype: fp8", {"kv_cache_dtype": "fp8"}))
        if self.options.enforce_eager:
            tried.append(("enforce_eager: false", {"enforce_eager": False}))
        for change, values in tried:
            design = replace(self, options=replace(self.options, **values), change=change)
            if design.budget.fits:
                yield design

    def widths(self, most: int = 8) -> Iterator["Design"]:
        """The same over 1, 2, 4 … GPUs a replica, those that can share the heads and fit."""
        ranks = 1
        while ranks <= most:
            options = replace(self.options, tensor_parallel=None, parallelism_given=False, pipeline_parallel=1)
            change = "" if ranks == self.gpus_per_replica else f"gpus: {ranks}"
            design = replace(self, options=options, gpus_per_replica=ranks, change=change)
            shared = self.model.kv_heads % ranks == 0 or ranks % self.model.kv_heads == 0
            if self.model.heads % ranks == 0 and shared and design.budget.fits:
                yield design
            ranks *= 2
