"""Predictions against figures of an H200 that other clients than the load test of the calibration measured.

    python scripts/bench_prediction_references.py

The runs of docs/reference/results/2026-11-21-h200-load, and reference figures that came with the machine (tokens/s
alone, another client, no gateway). Always exits with 0: it shows, and judges nothing.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.results import RunResult
from tests.unit.prediction.designs import design
from vllmstack.prediction.design import Design
from vllmstack.prediction.efficiency import calibration
from vllmstack.simulation.service import Lengths, serve_users

RECORDS = Path(__file__).resolve().parents[1] / "docs/reference/results/2026-11-21-h200-load"
LLAMA_8B: dict[str, Any] = {"gpu_memory_utilization": 0.9}
FP8: dict[str, Any] = {**LLAMA_8B, "quantization": "fp8", "kv_cache_dtype": "fp8"}


def llama_7b() -> Design:
    """As the records were taken."""
    hub = "meta-llama/Llama-2-7b-hf"
    return design(hub, gpu_memory_utilization=0.6, max_model_len=4096, dtype="bfloat16")


def predicted(one: Design, users: int, requests: int, prompt: int, answer: int) -> float:
    """Output tokens a second."""
    profile = one.profile(calibration().efficiency)
    outcome = serve_users([Lengths(prompt, answer)] * requests, users, profile)
    return sum(outcome.completion_tokens) / outcome.seconds


def shown(name: str, users: int, measured: float, told: float) -> None:
    """A line."""
    print(f"{name:22} {users:4} users  {measured:9,.0f}  {told:9,.0f}  {100 * (told / measured - 1):+6.1f} %")


def main() -> int:
    """Prints measured and predicted tokens a second."""
    for users, requests in ((1, 8), (10, 60), (64, 320)):
        run = RunResult.model_validate(json.loads((RECORDS / f"llama-2-7b-c{users}.json").read_text()))
        measured = run.total.tokens.completion / run.duration_seconds
        shown("7B 512/256", users, measured, predicted(llama_7b(), users, requests, 512, 256))
    shown("7B 512/256 (reference)", 256, 5503, predicted(llama_7b(), 256, 1024, 512, 256))
    for name, one, figures in (
        ("8B bf16 200/200", design(**LLAMA_8B), ((1, 202), (50, 7013), (250, 15461))),
        ("8B fp8 200/200", design(**FP8), ((1, 280), (50, 9365), (250, 19917))),
        ("8B bf16 TP 2 200/200", design(gpus=2, **LLAMA_8B), ((1, 284), (250, 21222))),
    ):
        for users, measured in figures:
            shown(name, users, measured, predicted(one, users, max(8, 4 * users), 200, 200))
    shown("8B bf16 1000/1000", 256, 9919, predicted(design(**LLAMA_8B), 256, 512, 1000, 1000))
    shown("8B fp8 1000/1000", 256, 13589, predicted(design(**FP8), 256, 512, 1000, 1000))
    tiny = design("meta-llama/Llama-3.2-1B", quantization="fp8")
    shown("1B fp8 200/200", 100, 34700, predicted(tiny, 100, 100, 200, 200))
    return 0


if __name__ == "__main__":
    sys.exit(main())
