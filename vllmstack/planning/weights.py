"""A model's weights, tensor by tensor: how many parameters, and how many bytes land on one GPU.

Tensors are those of transformers' modelling files of the architectures that ``dimensions`` knows; how vLLM cuts them
over tensor-parallel ranks is in vllm/model_executor/layers/linear.py, vocab_parallel_embedding.py and the models'
own files.
"""

from dataclasses import dataclass

from vllmstack.planning.dimensions import DTYPE_BYTES, ModelDimensions, Quantization

VOCABULARY_PADDING = 64
"""vLLM pads the embedding's rows to a multiple of this (DEFAULT_VOCAB_PADDING_SIZE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind:
    """Layers that are alike, on one GPU. Matrices are (outputs, inputs)."""

    count: int
    matrices: tuple[tuple[int, int], ...]
    """Of attention, the dense MLP and shared experts."""
    expert: tuple[tuple[int, int], ...] = ()
    """Of one expert."""
    experts: int = 0
    vectors: int = 0
    """Elements of norms, biases and the experts' router: what is never quantised."""


def layer_kinds(model: ModelDimensions, tensor_parallel: int = 1) -> list[LayerKind]:
    """Every layer of the model, as one of ``tensor_parallel`` GPUs holds it."""
    attention = _attention(model, tensor_parallel)
    vectors = _vectors(model, tensor_parallel)
    dense = model.layers if not model.experts else model.dense_layers
    kinds = []
    if dense:
        mlp = _mlp(model.intermediate_size, model.hidden_size, tensor_parallel)
        kinds.append(LayerKind(count=dense, matrices=attention + mlp, vectors=vectors))
    if model.experts:
        shared: tuple[tuple[int, int], ...] = ()
        if model.shared_intermediate_size:
            shared = _mlp(model.shared_intermediate_size, model.hidden_size, tensor_parallel)
        router = model.experts * (model.hidden_size + model.router_bias)
        router += model.hidden_size if model.shared_gate else 0
        kinds.append(
            LayerKind(
                count=model.layers - dense,
                matrices=attention + shared,
                expert=_mlp(model.expert_intermediate_size, model.hidden_size, tensor_parallel),
                experts=model.experts,
                vectors=vectors + router,
            )
        )
    return kinds


def _attention(model: ModelDimensions, tensor_parallel: int) -> tuple[tuple[int, int], ...]:
    """Projections of one layer. Heads of keys and values are repeated where there are fewer of them than GPUs."""
    hidden, heads = model.hidden_size, model.heads // tensor_parallel
    if (latent := model.latent_attention) is not None:
        query_dim = latent.nope_head_dim + latent.rope_head_dim
        # What makes the latents is not cut: every rank holds all of it.
        query = (
            ((latent.query_rank, hidden), (heads * query_dim, latent.query_rank))
            if latent.query_rank
            else ((heads * query_dim, hidden),)
        )
        return (
            *query,
            (latent.key_value_rank + latent.rope_head_dim, hidden),
            (heads * (latent.nope_head_dim + latent.value_head_dim), latent.key_value_rank),
            (hidden, heads * latent.value_head_dim),
        )
    query_rows = heads * model.head_dim
    key_value = local_kv_heads(model, tensor_parallel) * model.head_dim
    return (query_rows, hidden), (key_value, hidden), (key_value, hidden), (hidden, query_rows)


def _mlp(width: int, hidden: int, tensor_parallel: int) -> tuple[tuple[int, int], ...]:
    """Gate, up and down."""
    local = width // tensor_parallel
    return (local, hidden), (local, hidden), (hidden, local)


def local_kv_heads(model: ModelDimensions, tensor_parallel: int) -> int:
    """Key/value heads on one GPU."""
    return max(1, model.kv_heads // tensor_parallel)


def _vectors(model: ModelDimensions, tensor_parallel: int) -> int:
    """Norms and biases of one layer."""
    elements = model.norms * model.hidden_size
    query = model.heads * model.head_dim // tensor_parallel
    key_value = local_kv_heads(model, tensor_parallel) * model.head_dim
    if (latent := model.latent_attention) is not None:
        elements += latent.query_rank + latent.key_value_rank
    if model.qk_norm:
        elements += 2 * model.head_dim
    if model.attention_bias:
        elements += query + 2 * key_value
    if model.output_bias:
        elements += model.hidden_size
    if model.mlp_bias:
        elements += 2 * model.intermediate_size // tensor_parallel + model.hidden_size
    return elements


def parameter_count(model: ModelDimensions) -> int:
    """Parameters of the published checkpoint; tied embeddings count once."""
    layers = sum(
        kind.count * (_elements(kind.matrices) + kind.experts * _elements(kind.expert) + kind.vectors)
        for kind in layer_kinds(model)
    )
    embedding = model.vocabulary * model.hidden_size
    return layers + embedding * (1 if model.tied_embeddings else 2) + model.hidden_size


def token_parameters(model: ModelDimensions) -> int:
    """Parameters that each token is multiplied with in the layers: of experts, those that it is sent to."""
    return sum(
        kind.count * (_elements(kind.matrices) + min(kind.experts, model.experts_per_token) * _elements(kind.expert))
        for kind in layer_kinds(model)
    )


def _elements(matrices: tuple[tuple[int, int], ...]) -> int:
    return sum(outputs * inputs for outputs, inputs in matrices)


def weights_bytes(
    model: ModelDimensions,
    *,
    dtype: str,
    quantization: Quantization | None,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
) -> int:
    """Bytes of weights on the fullest GPU of a replica.

    ``dtype`` is that of what is not quantised. With pipeline stages the fullest is the first or the last, each with its
    share of the layers and one vocabulary matrix; with one stage it holds both.
    """
    size = DTYPE_BYTES[dtype]
    kinds = layer_kinds(model, tensor_parallel)
    layers = sum(kind.count * _layer_bytes(kind, size, quantization) for kind in kinds)
    rows = _vocabulary_rows(model) // tensor_parallel
    embedding = rows * model.hidden_size * size
    head_quantization = quantization if quantization and quantization.lm_head else None
    head = _matrix_bytes(rows, model.hidden_size, size, head_quantization)
    norm = model.hidden_size * size
    if pipeline_parallel > 1:
        stage = layers * -(-model.layers // pipeline_parallel) // model.layers
        return stage + max(embedding, head) + norm
    return layers + embedding + (0 if model.tied_embeddings else head) + norm


def _layer_bytes(kind: LayerKind, size: int, quantization: Quantization | None) -> int:
    dense = sum(_matrix_bytes(outputs, inputs, size, quantization) for outputs, inputs in kind.matrices)
    return dense + kind.experts * _expert_bytes(kind, size, quantization) + kind.vectors * size


def _expert_bytes(kind: LayerKind, size: int, quantization: Quantization | None) -> int:
    return sum(_matrix_bytes(outputs, inputs, size, quantization) for outputs, inputs in kind.expert)


def experts_bytes(model: ModelDimensions, *, dtype: str, quantization: Quantization | None) -> int:
    """Bytes of all experts of all layers, shared ones not among them; 0 for a dense model."""
    size = DTYPE_BYTES[dtype]
    return sum(kind.count * kind.experts * _expert_bytes(kind, size, quantization) for kind in layer_kinds(model))


def step_weights_bytes(model: ModelDimensions, *, dtype: str, quantization: Quantization | None) -> int:
    """Bytes of weights that a step can read, on all GPUs of a replica together: all but the embedding's table.

    Of that one row a token is looked up; where the output layer shares it, that reads it.
    """
    looked_up = 0 if model.tied_embeddings else _vocabulary_rows(model) * model.hidden_size * DTYPE_BYTES[dtype]
    return weights_bytes(model, dtype=dtype, quantization=quantization) - looked_up


def decode_weights_bytes(model: ModelDimensions, *, dtype: str, quantization: Quantization | None) -> int:
    """Bytes of weights that a step which makes one token reads at least, on all GPUs of a replica together.

    What a step can read, less the experts that the token is not sent to. Over the GPUs' memory bandwidth it bounds the
    time of a token from below: Pope et al., "Efficiently Scaling Transformer Inference", MLSys 2023, section 2.
    """
    read = step_weights_bytes(model, dtype=dtype, quantization=quantization)
    if not model.experts_per_token:
        return read
    experts = experts_bytes(model, dtype=dtype, quantization=quantization)
    return read - experts * max(0, model.experts - model.experts_per_token) // model.experts


def _vocabulary_rows(model: ModelDimensions) -> int:
    return -(-model.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING


def _matrix_bytes(outputs: int, inputs: int, dtype_bytes: int, quantization: Quantization | None) -> int:
    if quantization is None:
        return outputs * inputs * dtype_bytes
    return quantization.matrix_bytes(outputs, inputs)


def rotary_table_bytes(model: ModelDimensions, dtype: str) -> int:
    """The cosines and sines that vLLM keeps for every position (RotaryEmbedding.cos_sin_cache), once a GPU."""
    rotated = model.latent_attention.rope_head_dim if model.latent_attention else model.head_dim
    return model.rope_positions * rotated * DTYPE_BYTES[dtype]


def kv_elements_per_token(model: ModelDimensions, tensor_parallel: int = 1, layers: int | None = None) -> int:
    """Numbers that a token leaves in the KV cache of one GPU, over all its ``layers``.

    Keys and values of each head, or with latent attention one vector that all heads and all ranks share (DeepSeek-V2,
    arXiv 2405.04434, section 2.1).
    """
    count = model.layers if layers is None else layers
    if model.latent_attention is not None:
        return count * (model.latent_attention.key_value_rank + model.latent_attention.rope_head_dim)
    return 2 * count * local_kv_heads(model, tensor_parallel) * model.head_dim
