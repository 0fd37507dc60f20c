"""A model's weights, tensor by tensor: how many parameters, and how many bytes land on one GPU.

Tensors are those of transformers' Llama, Mistral, Mixtral, Qwen2 and Qwen3 modelling files; how vLLM cuts them over
tensor-parallel ranks is in vllm/model_executor/layers/linear.py and vocab_parallel_embedding.py.
"""

from vllmstack.planning.dimensions import DTYPE_BYTES, ModelDimensions, Quantization

VOCABULARY_PADDING = 64
"""vLLM pads the embedding's rows to a multiple of this (DEFAULT_VOCAB_PADDING_SIZE)."""


def parameter_count(model: ModelDimensions) -> int:
    """Parameters of the published checkpoint; tied embeddings count once."""
    matrices = sum(outputs * inputs for outputs, inputs in layer_matrices(model))
    vectors = _layer_vector_elements(model)
    embedding = model.vocabulary * model.hidden_size
    head = 0 if model.tied_embeddings else embedding
    return model.layers * (matrices + vectors) + embedding + head + model.hidden_size


def layer_matrices(model: ModelDimensions, tensor_parallel: int = 1) -> list[tuple[int, int]]:
    """(outputs, inputs) of every linear layer of one transformer layer, on one of ``tensor_parallel`` GPUs.

    Key and value heads are repeated where there are fewer of them than GPUs.
    """
    query = model.heads * model.head_dim // tensor_parallel
    key_value = local_kv_heads(model, tensor_parallel) * model.head_dim
    width = model.intermediate_size // tensor_parallel
    hidden = model.hidden_size
    mlp = [(width, hidden), (width, hidden), (hidden, width)]
    attention = [(query, hidden), (key_value, hidden), (key_value, hidden), (hidden, query)]
    return attention + mlp * max(1, model.experts)


def local_kv_heads(model: ModelDimensions, tensor_parallel: int) -> int:
    """Key/value heads on one GPU."""
    return max(1, model.kv_heads // tensor_parallel)


def _layer_vector_elements(model: ModelDimensions, tensor_parallel: int = 1) -> int:
    """Norms, biases and the experts' router of one layer: what is never quantised."""
    elements = 2 * model.hidden_size
    query = model.heads * model.head_dim // tensor_parallel
    key_value = local_kv_heads(model, tensor_parallel) * model.head_dim
    if model.qk_norm:
        elements += 2 * model.head_dim
    if model.attention_bias:
        elements += query + 2 * key_value
    if model.output_bias:
        elements += model.hidden_size
    if model.mlp_bias:
        elements += 2 * model.intermediate_size // tensor_parallel + model.hidden_size
    return elements + model.experts * model.hidden_size


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
    layers = -(-model.layers // pipeline_parallel)
    layer = _layer_vector_elements(model, tensor_parallel) * size + sum(
        _matrix_bytes(outputs, inputs, size, quantization) for outputs, inputs in layer_matrices(model, tensor_parallel)
    )
    rows = _vocabulary_rows(model) // tensor_parallel
    embedding = rows * model.hidden_size * size
    head_quantization = quantization if quantization and quantization.lm_head else None
    head = _matrix_bytes(rows, model.hidden_size, size, head_quantization)
    norm = model.hidden_size * size
    if pipeline_parallel > 1:
        return layers * layer + max(embedding, head) + norm
    return layers * layer + embedding + (0 if model.tied_embeddings else head) + norm


def decode_weights_bytes(model: ModelDimensions, *, dtype: str, quantization: Quantization | None) -> int:
    """Bytes of weights that a step which makes one token reads at least, on all GPUs of a replica together.

    All of them but the embedding's table, of which one row is looked up (where the output layer shares it, that reads
    it), and the experts that the token is not sent to. Over the GPUs' memory bandwidth it bounds the time of a token
    from below: Pope et al., "Efficiently Scaling Transformer Inference", MLSys 2023, section 2.
    """
    whole = weights_bytes(model, dtype=dtype, quantization=quantization)
    size = DTYPE_BYTES[dtype]
    looked_up = 0 if model.tied_embeddings else _vocabulary_rows(model) * model.hidden_size * size
    idle_experts = max(0, model.experts - model.experts_per_token) if model.experts_per_token else 0
    mlp = layer_matrices(model)[-3:]
    expert = sum(_matrix_bytes(outputs, inputs, size, quantization) for outputs, inputs in mlp)
    return whole - looked_up - model.layers * idle_experts * expert


def _vocabulary_rows(model: ModelDimensions) -> int:
    return -(-model.vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING


def _matrix_bytes(outputs: int, inputs: int, dtype_bytes: int, quantization: Quantization | None) -> int:
    if quantization is None:
        return outputs * inputs * dtype_bytes
    return quantization.matrix_bytes(outputs, inputs)


def rotary_table_bytes(model: ModelDimensions, dtype: str) -> int:
    """The cosines and sines that vLLM keeps for every position (RotaryEmbedding.cos_sin_cache), once a GPU."""
    return model.rope_positions * model.head_dim * DTYPE_BYTES[dtype]
