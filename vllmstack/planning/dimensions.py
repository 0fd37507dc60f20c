"""What a model is, in numbers: the part of a ``config.json`` that decides its memory, and a table of public models."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

DTYPE_BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
"""Bytes an element, by the names that config.json and vLLM's ``--dtype`` use."""

# What each architecture's layers hold besides Llama's tensors (transformers' modelling files of these names).
_QKV_BIAS = frozenset({"Qwen2ForCausalLM", "Qwen2MoeForCausalLM"})
_QK_NORM = frozenset({"Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Gemma3ForCausalLM"})
_FOUR_NORMS = frozenset({"Gemma2ForCausalLM", "Gemma3ForCausalLM"})
_TIED = _FOUR_NORMS | {"GemmaForCausalLM"}  # where config.json does not say
_LATENT = frozenset({"DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"})
_OTHERS = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Phi3ForCausalLM"})
_KNOWN = _OTHERS | _QKV_BIAS | _QK_NORM | _TIED | _LATENT


class UnknownDimensions(ValueError):
    """A config.json from which the memory cannot be computed; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a model's linear layers are stored. Embeddings, norms and (mostly) lm_head keep the model's dtype."""

    method: str
    """vLLM's name: fp8, awq, gptq, compressed-tensors, bitsandbytes, …"""
    bits: float
    """Bits a weight."""
    group_size: int | None = None
    """Weights along the input that share a scale; None: a scale for each output channel."""
    scale_bytes: int = 4
    zero_points: bool = False
    """Whether each group also stores a zero point of ``bits`` bits (AWQ, GPTQ)."""
    rows: int = 1
    """Outputs that share a scale with a group: 128 in DeepSeek's blocks of 128 × 128."""
    lm_head: bool = False
    """Whether lm_head is quantised too."""
    kv_cache_dtype: str | None = None
    """What ``kv_cache_dtype: auto`` becomes, if the checkpoint names one."""

    @property
    def is_fp4(self) -> bool:
        """Whether the weights are 4-bit floats (NVFP4), which data-centre Blackwell multiplies natively."""
        return self.bits == 4 and self.scale_bytes == 1

    @property
    def is_fp8(self) -> bool:
        """Whether the weights are 8-bit floats, which only compute capability 8.9 and up multiplies natively."""
        return self.bits == 8 and "int8" not in self.method

    def matrix_bytes(self, outputs: int, inputs: int) -> int:
        """Bytes of one weight matrix with its scales and zero points."""
        groups = 1 if self.group_size is None else -(-inputs // self.group_size)
        weights = outputs * inputs * self.bits / 8
        zeros = outputs * groups * self.bits / 8 if self.zero_points else 0
        return int(weights + -(-outputs // self.rows) * groups * self.scale_bytes + zeros)


@dataclass(frozen=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention: keys and values of all heads come from one short vector (DeepSeek-V2)."""

    query_rank: int
    """0: queries are projected at once."""
    key_value_rank: int
    nope_head_dim: int
    rope_head_dim: int
    value_head_dim: int


@dataclass(frozen=True, kw_only=True)
class ModelDimensions:
    """A decoder-only transformer as its config.json describes it; counts, not bytes."""

    architecture: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied_embeddings: bool
    max_positions: int
    """Longest sequence the model was made for, rope scaling included, in tokens."""
    rope_positions: int
    """Rows of the rotary table, in tokens."""
    sliding_window: int | None = None
    """Tokens that a layer looks back on, if layers are limited."""
    full_attention_layers: int = 0
    """Of ``layers``, those that look back on everything although others are limited."""
    latent_attention: LatentAttention | None = None
    norms: int = 2
    """Norms of the hidden size in a layer."""
    attention_bias: bool = False
    """Biases on q, k and v."""
    output_bias: bool = False
    """A bias on the attention's output projection."""
    mlp_bias: bool = False
    qk_norm: bool = False
    experts: int = 0
    """Experts a layer; 0: a dense MLP."""
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    shared_intermediate_size: int = 0
    """Of the experts that every token is sent to, together."""
    shared_gate: bool = False
    """Whether a gate of one output weighs them (Qwen2-MoE)."""
    router_bias: bool = False
    """Whether the router corrects each expert's score by a number (DeepSeek-V3)."""
    dense_layers: int = 0
    """Of a mixture's layers, those with a dense MLP instead."""
    dtype: str = "bfloat16"
    quantization: Quantization | None = None


def from_config(config: Mapping[str, Any]) -> ModelDimensions:
    """The dimensions in a Hugging Face ``config.json``.

    Raises UnknownDimensions for an architecture whose tensors are not known here, or a missing number.
    """
    architecture = next(iter(config.get("architectures") or ()), "")
    if architecture not in _KNOWN:
        raise UnknownDimensions(f"the architecture {architecture or '(none)'} is not one that the planner knows")
    try:
        return _dimensions(architecture, config)
    except KeyError as missing:
        raise UnknownDimensions(f"config.json has no {missing.args[0]}") from None
    except (TypeError, ValueError) as wrong:
        raise UnknownDimensions(f"config.json: {wrong}") from None


def _dimensions(architecture: str, config: Mapping[str, Any]) -> ModelDimensions:
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    layers = int(config["num_hidden_layers"])
    llama_bias = bool(config.get("attention_bias"))
    positions = int(config["max_position_embeddings"])
    longest, rows = _rope_lengths(config, positions)
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    latent = _latent_attention(config) if architecture in _LATENT else None
    return ModelDimensions(
        architecture=architecture,
        layers=layers,
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(
            config.get("head_dim") or (latent.nope_head_dim + latent.rope_head_dim if latent else hidden // heads)
        ),
        vocabulary=int(config["vocab_size"]),
        tied_embeddings=bool(config.get("tie_word_embeddings", architecture in _TIED)),
        max_positions=longest,
        rope_positions=rows,
        sliding_window=int(window) if window else None,
        full_attention_layers=_full_attention_layers(architecture, config, layers) if window else 0,
        latent_attention=latent,
        norms=4 if architecture in _FOUR_NORMS else 2,
        attention_bias=architecture in _QKV_BIAS or llama_bias,
        output_bias=llama_bias,
        mlp_bias=bool(config.get("mlp_bias")),
        qk_norm=architecture in _QK_NORM,
        dtype=str(config.get("torch_dtype") or config.get("dtype") or "float16").removeprefix("torch."),
        quantization=_quantization(config.get("quantization_config") or config.get("compression_config")),
        **_mixture(architecture, config, layers),
    )


def _latent_attention(config: Mapping[str, Any]) -> LatentAttention:
    return LatentAttention(
        query_rank=int(config.get("q_lora_rank") or 0),
        key_value_rank=int(config["kv_lora_rank"]),
        nope_head_dim=int(config["qk_nope_head_dim"]),
        rope_head_dim=int(config["qk_rope_head_dim"]),
        value_head_dim=int(config["v_head_dim"]),
    )


def _full_attention_layers(architecture: str, config: Mapping[str, Any], layers: int) -> int:
    """Layers without a window: those that config.json names, Gemma's own pattern, else none."""
    if kinds := config.get("layer_types"):
        return sum(kind == "full_attention" for kind in kinds)
    every = {"Gemma2ForCausalLM": 2, "Gemma3ForCausalLM": int(config.get("sliding_window_pattern") or 6)}
    return layers // every[architecture] if architecture in every else 0


def _mixture(architecture: str, config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The fields of a mixture of experts; none for a dense model."""
    experts = int(config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts") or 0)
    if not experts:
        return {}
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = int(config.get("shared_expert_intermediate_size") or 0) or width * int(config.get("n_shared_experts") or 0)
    every = int(config.get("decoder_sparse_step") or config.get("moe_layer_freq") or 1)
    first = int(config.get("first_k_dense_replace") or 0)
    named = {int(layer) for layer in config.get("mlp_only_layers") or ()}
    # Qwen counts its sparse layers from 1 (Qwen2MoeDecoderLayer), DeepSeek from 0 (DeepseekV2DecoderLayer).
    offset = 0 if architecture in _LATENT else 1
    dense = sum(layer < first or layer in named or (layer + offset) % every != 0 for layer in range(layers))
    return {
        "experts": experts,
        "experts_per_token": int(config.get("num_experts_per_tok") or 0),
        "expert_intermediate_size": width,
        "shared_intermediate_size": shared,
        "shared_gate": architecture == "Qwen2MoeForCausalLM" and shared > 0,
        "router_bias": config.get("topk_method") == "noaux_tc",
        "dense_layers": dense,
    }


def _rope_lengths(config: Mapping[str, Any], positions: int) -> tuple[int, int]:
    """Longest sequence and rows of the rotary table, in tokens (vLLM's _get_and_verify_max_len and get_rope)."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    factor = float(rope.get("factor") or 1.0)
    if kind in {"default", "llama3", "su", "longrope"}:
        return positions, positions
    if kind == "yarn":
        positions = int(rope.get("original_max_position_embeddings") or positions)
    return int(positions * factor), int(positions * factor)


def _quantization(section: Mapping[str, Any] | None) -> Quantization | None:
    """The ``quantization_config`` of AWQ, GPTQ, FP8 and compressed-tensors checkpoints."""
    if not section:
        return None
    method = str(section.get("quant_method", "")).lower()
    if method == "compressed-tensors":
        return _compressed_tensors(section)
    if method in {"awq", "gptq"}:
        return Quantization(
            method=method,
            bits=float(section.get("bits", section.get("w_bit", 4))),
            group_size=_group(section.get("group_size", section.get("q_group_size", 128))),
            scale_bytes=2,
            zero_points=True,
            lm_head=bool(section.get("lm_head", False)),
        )
    if method in {"fp8", "fbgemm_fp8"}:
        block = section.get("weight_block_size") or (None, None)
        return Quantization(
            method=method,
            bits=8,
            group_size=block[1],
            rows=block[0] or 1,
            kv_cache_dtype=section.get("kv_cache_scheme") and "fp8",
        )
    if method.startswith("modelopt") and "FP4" in str(section.get("quant_algo", "")).upper():
        kv = "fp8" if section.get("kv_cache_quant_algo") or section.get("kv_cache_scheme") else None
        return Quantization(method="modelopt_fp4", bits=4, group_size=16, scale_bytes=1, kv_cache_dtype=kv)
    if method == "bitsandbytes" and section.get("load_in_4bit"):
        return Quantization(method=method, bits=4, group_size=64)
    raise UnknownDimensions(f"the quantisation {method or '(none)'} is not one that the planner knows")


def _compressed_tensors(section: Mapping[str, Any]) -> Quantization:
    groups: Mapping[str, Mapping[str, Any]] = section.get("config_groups") or {}
    weights: Mapping[str, Any] = next((group["weights"] for group in groups.values() if group.get("weights")), {})
    bits = float(weights["num_bits"])
    floats = weights.get("type") == "float"
    size = _group(weights.get("group_size")) if weights.get("strategy") in {"group", "tensor_group"} else None
    return Quantization(
        method="compressed-tensors" if floats or bits != 8 else "compressed-tensors-int8",
        bits=bits,
        group_size=size,
        # FP8 scales are loaded as float32; those of groups are two bytes, one for NVFP4.
        scale_bytes=4 if size is None else (1 if floats else 2),
        zero_points=size is not None and not weights.get("symmetric", True),
        lm_head="lm_head" not in (section.get("ignore") or ()),
        kv_cache_dtype="fp8" if section.get("kv_cache_scheme") else None,
    )


def _group(size: object) -> int | None:
    """A group size as checkpoints write it: -1 and null mean one scale a channel."""
    number = int(str(size)) if size is not None else -1
    return number if number > 0 else None


@cache
def public_models() -> Mapping[str, ModelDimensions]:
    """The built-in table ``public_dimensions.yaml``: hub id → dimensions."""
    text = files("vllmstack").joinpath("planning/public_dimensions.yaml").read_text(encoding="utf-8")
    return {name: from_config(config) for name, config in yaml.safe_load(text)["models"].items()}
