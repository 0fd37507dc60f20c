"""What decoding's attention takes on a GPU, by head size and window.

    python scripts/measure_attention.py FILE [--seconds 30]

vLLM's FlashAttention by itself, as vLLM calls it: blocks of 16 tokens in no order, one query a sequence, in a CUDA
graph. On a GPU with vLLM installed; ends by itself. `bench_attention.py` makes of it what the roofline takes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func, get_scheduler_metadata
from vllm.version import __version__

BLOCK = 16
LAYERS = 4
"""With a cache each: together they are more than the GPU's own cache holds."""
LONGEST = 4096
"""Tokens of a sequence that the graph is captured for."""
SPLITS = 32
"""vLLM's flash_attn_max_num_splits_for_cuda_graph."""
REPLAYS = 10
SHAPES = (
    (96, 32, 32, 2047), (96, 32, 32, 0), (128, 32, 32, 0), (128, 32, 8, 0), (128, 32, 8, 2047), (128, 32, 32, 2047),
    (256, 16, 8, 0), (256, 16, 8, 4096), (64, 32, 8, 0), (64, 32, 8, 2047), (80, 32, 8, 0), (120, 32, 8, 0),
    (96, 32, 8, 0), (256, 12, 4, 0), (128, 40, 10, 0), (112, 32, 8, 0), (192, 16, 8, 0),
)  # fmt: skip
"""Head size, heads, heads of keys, and window in tokens (0: none)."""
LOADS = ((96, 500), (96, 1800), (256, 500), (32, 1800), (32, 500))
"""Sequences, and tokens that each attends to."""


def measure(seconds: float) -> list[dict[str, Any]]:
    """All shapes under one load after the other, until the time is over."""
    until = time.monotonic() + seconds
    rows: list[dict[str, Any]] = []
    for sequences, context in LOADS:
        for head_size, heads, kv_heads, window in SHAPES:
            if time.monotonic() > until:
                return rows
            load = {
                "head_size": head_size, "heads": heads, "kv_heads": kv_heads, "window": window,
                "sequences": sequences, "context": context,
            }  # fmt: skip
            rows.append({**load, "seconds": decode(**load)})
    return rows


def decode(*, head_size: int, heads: int, kv_heads: int, window: int, sequences: int, context: int) -> float:
    """Seconds of one layer."""
    blocks = (context + BLOCK) // BLOCK
    packed = (LAYERS, sequences * blocks + 1, BLOCK, kv_heads, 2 * head_size)
    caches = torch.empty(packed, device="cuda", dtype=torch.bfloat16).normal_()
    table = torch.zeros(sequences, LONGEST // BLOCK, dtype=torch.int32, device="cuda")
    order = torch.randperm(sequences * blocks, device="cuda", dtype=torch.int32)
    table[:, :blocks] = order.view(sequences, blocks)
    queries = torch.randn(sequences, heads, head_size, device="cuda", dtype=torch.bfloat16)
    answers = torch.empty_like(queries)
    starts = torch.arange(sequences + 1, dtype=torch.int32, device="cuda")
    used = torch.full((sequences,), context, dtype=torch.int32, device="cuda")
    looks_back = [window - 1, 0] if window else [-1, -1]
    schedule = get_scheduler_metadata(
        batch_size=sequences, max_seqlen_q=1, max_seqlen_k=LONGEST, num_heads_q=heads, num_heads_kv=kv_heads,
        headdim=head_size, cache_seqlens=used, qkv_dtype=torch.bfloat16, cu_seqlens_q=starts, page_size=BLOCK,
        causal=True, window_size=tuple(looks_back), num_splits=SPLITS,
    )  # fmt: skip

    def step() -> None:
        for cache in caches:
            keys, values = cache.split(head_size, dim=-1)
            flash_attn_varlen_func(
                q=queries, k=keys, v=values, out=answers, cu_seqlens_q=starts, max_seqlen_q=1, seqused_k=used,
                max_seqlen_k=LONGEST, softmax_scale=head_size**-0.5, causal=True, window_size=looks_back,
                block_table=table, scheduler_metadata=schedule, fa_version=3, num_splits=SPLITS,
            )  # fmt: skip

    return replayed(step) / LAYERS


def replayed(step: Callable[[], None]) -> float:
    """Seconds of a step as a CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    graph.replay()
    begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begun.record()
    for _ in range(REPLAYS):
        graph.replay()
    ended.record()
    torch.cuda.synchronize()
    return float(begun.elapsed_time(ended)) / 1000 / REPLAYS


def main() -> int:
    """Measures, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    rows = measure(options.seconds)
    about = {"date": time.strftime("%Y-%m-%d"), "gpu": torch.cuda.get_device_name(), "vllm": __version__}
    options.file.write_text(json.dumps({**about, "decode": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
