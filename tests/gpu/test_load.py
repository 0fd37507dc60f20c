"""The load test on a real GPU: reference figures of an H200 again through the gateway, and the targets set out with.

The references were taken on one H200 without Docker (vLLM 0.26.0, dummy weights, `gpu_memory_utilization: 0.6`), by
`vllm bench serve`. With VLLMSTACK_RESULTS set, every run is kept there.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.results import RunResult, load
from tests.gpu.dummy_model import LLAMA_2_7B, LLAMA_3_2_1B, write_model
from tests.gpu.test_serving import ROOT, Served, gpu_count, vllmstack

REFERENCE_7B = {1: 212.0, 10: 1660.0, 64: 4958.0}
"""Output tokens/s by concurrency: Llama-2-7B, bf16, 512 in, 256 out."""
REFERENCE_1B = 34_700.0
"""Llama-3.2-1B, FP8: 100 prompts of 200 tokens at once, answered with 200."""
TOLERANCE = 0.10


def is_h200() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return "H200" in subprocess.run(command, capture_output=True, text=True, check=False).stdout


pytestmark = [
    pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU on this machine"),
    pytest.mark.skipif(gpu_count() > 0 and not is_h200(), reason="the reference figures are an H200's"),
]


@pytest.fixture(scope="module")
def seven_b() -> Iterator[Served]:
    write_model(ROOT / "tests/gpu/models/llama-2-7b", LLAMA_2_7B, 32000)
    yield from served("llama-2-7b-load")


@pytest.fixture(scope="module")
def one_b() -> Iterator[Served]:
    write_model(ROOT / "tests/gpu/models/llama-3.2-1b", LLAMA_3_2_1B, 128256)
    yield from served("llama-3.2-1b-load")


def served(name: str) -> Iterator[Served]:
    try:
        yield Served(name)
    finally:
        vllmstack("down", "--delete-data")


def results(name: str) -> Path:
    folder = Path(os.environ.get("VLLMSTACK_RESULTS", ROOT / "results" / "gpu")) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def measured(name: str, *arguments: str) -> RunResult:
    vllmstack("load", "--here", "--result", str(results(name)), *arguments)
    return load(results(name))


@pytest.mark.parametrize("concurrency", REFERENCE_7B)
def test_7b_through_the_gateway_reproduces_the_reference(seven_b: Served, concurrency: int) -> None:
    requests = {1: 8, 10: 60, 64: 320}[concurrency]

    run = measured(
        f"llama-2-7b-c{concurrency}", "--scenario", "random-512-256", "--concurrency", str(concurrency),
        "--requests", str(requests), "--seed", str(concurrency),
    )  # fmt: skip

    assert run.valid, run.invalid_reasons
    assert run.total.counts.ok == requests
    assert run.total.output_tokens_per_second == pytest.approx(REFERENCE_7B[concurrency], rel=TOLERANCE)


def test_7b_meets_its_targets_at_concurrency_10(seven_b: Served) -> None:
    vllmstack("check", "--here", "--duration", "10", "--warmup", "2", "--result", str(results("llama-2-7b-check")))

    verdict = json.loads((results("llama-2-7b-check") / "check.json").read_text())
    assert verdict["verdict"] == "met"


def test_7b_agrees_with_vllm_bench_serve(seven_b: Served) -> None:
    engine = seven_b.engines[0]
    command = [
        sys.executable, "scripts/bench_agreement.py", "--vllm-container", str(engine.name), "--here",
        "--model", "llama-2-7b",
        "--tokenizer", "/models/llama-2-7b", "--scenario", "random-512-256", "--concurrency", "10",
        "--requests", "60", "--rounds", "4", "--json", str(results("agreement.json")),
    ]  # fmt: skip

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)

    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr


def test_1b_meets_the_lab_target_and_reproduces_the_reference(one_b: Served) -> None:
    vllmstack("check", "--here", "--processes", "4", "--result", str(results("llama-3.2-1b-check")))

    (verdict,) = json.loads((results("llama-3.2-1b-check") / "check.json").read_text())["targets"]
    tokens = next(row for row in verdict["rows"] if row["key"] == "output_tokens_per_second")
    assert verdict["verdict"] == "met"
    assert tokens["measured"]["estimate"] == pytest.approx(REFERENCE_1B, rel=TOLERANCE)
