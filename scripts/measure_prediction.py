"""Runs on a GPU that the planner's simulator is held against: models of public dimensions under many loads.

    python scripts/measure_prediction.py --out DIR [--models NAME,…] [--together] [--starts NAME,…] [--seconds 560]

Each model is served by `vllm serve` with dummy weights, one after the other, and asked by the load test: two mixes of
lengths, concurrency 1 to 256. DIR/NAME.json gets what was measured, every request's lengths included, and the tokens of
KV cache that vLLM logged. `--together` starts all models before the first load, on one GPU, each with the same memory:
one is asked at a time, with fewer requests. `--starts` are only started, for that log line. Ends by itself after
`--seconds`: what was measured until then is kept. `bench_prediction.py` compares.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.options import RunOptions
from loadtest.results import ROWS_FILE, RunResult
from loadtest.run import measure
from tests.gpu.dummy_model import write_model
from vllmstack.errors import Problem, VllmstackError
from vllmstack.serving import Server, start_server
from vllmstack.serving.engine import installed_vllm

ROOT = Path(__file__).resolve().parents[1]
FIRST_PORT = 18200
REQUESTS = {
    "chat": {1: 40, 8: 240, 32: 192, 96: 384, 256: 768},
    "documents": {1: 40, 8: 240, 32: 160, 96: 288, 256: 512},
}
"""By mix and concurrency: each user asks at least twice; the p95 is not at the edge of what all send at the start."""
FEW_REQUESTS = {
    "chat": {256: 512, 32: 128, 8: 96, 96: 288, 1: 20},
    "documents": {256: 384, 32: 96, 8: 96, 96: 192, 1: 20},
}
"""The same where time is short, as where models share the GPU's."""
MANY_CHUNKS = 64
"""Concurrency from which two processes send: one takes 60,000 chunks a second."""
FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Phi3ForCausalLM": "phi3",
    "Gemma2ForCausalLM": "gemma2",
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """One way to serve a model."""

    hub: str
    options: dict[str, Any] = field(default_factory=dict)
    shared_cache_gb: int = 28
    """Of KV cache, where several share a GPU: given, vLLM does not measure what is free while others fill it."""


MODELS = {
    "llama-3.1-8b": Served(hub="meta-llama/Llama-3.1-8B", options={"max_model_len": 8192}),
    "llama-3.2-1b": Served(hub="meta-llama/Llama-3.2-1B", options={"max_model_len": 8192}),
    "llama-2-13b": Served(hub="meta-llama/Llama-2-13b-hf"),
    "qwen3-4b": Served(hub="Qwen/Qwen3-4B", options={"max_model_len": 8192}),
    "llama-3.2-3b": Served(hub="meta-llama/Llama-3.2-3B-Instruct", options={"max_model_len": 8192}),
    "mistral-7b": Served(hub="mistralai/Mistral-7B-Instruct-v0.3", options={"max_model_len": 8192}),
    "qwen3-8b": Served(hub="Qwen/Qwen3-8B", options={"max_model_len": 8192}),
    "phi-3-mini": Served(hub="microsoft/Phi-3-mini-4k-instruct"),
    "gemma-2-9b": Served(hub="google/gemma-2-9b-it", options={"max_model_len": 8192}),
    "qwen3-14b": Served(hub="Qwen/Qwen3-14B", options={"max_model_len": 8192}),
    "falcon3-7b": Served(hub="tiiuae/Falcon3-7B-Base", options={"max_model_len": 8192}, shared_cache_gb=90),
    "llama-2-7b": Served(hub="meta-llama/Llama-2-7b-hf", shared_cache_gb=38),
    "qwen2.5-7b-fp8-kv": Served(
        hub="Qwen/Qwen2.5-7B-Instruct",
        options={"kv_cache_dtype": "fp8", "gpu_memory_utilization": 0.8, "max_model_len": 16384},
    ),
    "qwen3-8b-fp8": Served(
        hub="Qwen/Qwen3-8B", options={"quantization": "fp8", "gpu_memory_utilization": 0.7, "max_num_seqs": 128}
    ),
    "mistral-7b-fp16": Served(
        hub="mistralai/Mistral-7B-Instruct-v0.3", options={"dtype": "float16", "gpu_memory_utilization": 0.5}
    ),
    "qwen2.5-1.5b-eager": Served(
        hub="Qwen/Qwen2.5-1.5B-Instruct", options={"enforce_eager": True, "gpu_memory_utilization": 0.3}
    ),
}


def config_of(hub: str) -> dict[str, Any]:
    """config.json with public dimensions, and what vLLM asks for besides."""
    text = files("vllmstack").joinpath("planning/public_dimensions.yaml").read_text(encoding="utf-8")
    config: dict[str, Any] = yaml.safe_load(text)["models"][hub]
    if "rope_scaling" in config:
        config["rope_scaling"] |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    common = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2}
    return {**common, "model_type": FAMILIES[config["architectures"][0]], **config}


def stack_file(folder: Path, server: Server, length: int) -> Path:
    """What the load test must know, as `vllmstack up` would render it."""
    model = folder.name
    path = folder.parent / f"{model}-stack.json"
    facts = {"name": model, "max_model_len": length, "tokenizer": {"directory": str(folder)}}
    stack = {"deployment": model, "url": server.base_url.removesuffix("/v1"), "vllm": "", "models": [facts]}
    path.write_text(json.dumps(stack))
    return path


def run_once(stack: Path, mix: str, concurrency: int, requests: int, results: Path) -> dict[str, Any]:
    """One load; what is kept of it."""
    options = RunOptions(
        scenario=str(ROOT / f"scripts/prediction-{mix}.yaml"), concurrency=concurrency,
        requests=requests, seed=concurrency, stack=str(stack), result=str(results), calibrate=False,
        processes=2 if concurrency > MANY_CHUNKS else 1,
    )  # fmt: skip
    return summary(measure(options), mix, concurrency, results)


def summary(run: RunResult, mix: str, concurrency: int, results: Path) -> dict[str, Any]:
    """The figures, and every request's lengths and times in the order of sending."""
    with (results / ROWS_FILE).open() as rows:
        read = sorted(csv.DictReader(rows), key=lambda row: float(row["sent_at"]))
    ttft = sorted(float(row["ttft_seconds"]) for row in read if row["ttft_seconds"])
    tpot = sorted(float(row["tpot_seconds"]) for row in read if row["tpot_seconds"])
    if not tpot:
        hint = "a special token is left out of an answer's text: look at what the model says to `prompt: w5`"
        raise VllmstackError(Problem(fact=f"none of {len(read)} answers had two tokens of text: {read[0]}", hint=hint))
    return {
        "mix": mix,
        "concurrency": concurrency,
        "requests": run.total.counts.ok,
        "failed": run.total.counts.failed,
        "seconds": run.duration_seconds,
        "output_tokens_per_second": run.total.tokens.completion / run.duration_seconds,
        "tpot_p50_seconds": tpot[len(tpot) // 2],
        "tpot_p95_seconds": tpot[int(len(tpot) * 0.95)],
        "ttft_p50_seconds": ttft[len(ttft) // 2],
        "ttft_p95_seconds": ttft[min(len(ttft) - 1, int(len(ttft) * 0.95))],
        "client_cpu_ratio": run.client.cpu_ratio,
        "flags": [flag.fact for flag in run.flags],
        "lengths": [[int(row["prompt_tokens"]), int(row["completion_tokens"])] for row in read],
        "times": [
            [round(float(row[name] or 0), 4) for name in ("sent_at", "ttft_seconds", "tpot_seconds")] for row in read
        ],
    }


class Subject:
    """A model that is measured, and its file."""

    def __init__(self, name: str, out: Path, work: Path, *, number: int = 0, shared: bool = False) -> None:
        self.name = name
        self._file = out / f"{name}.json"
        self._work = work
        self._folder = work / name
        self._served = MODELS[name]
        config = config_of(self._served.hub)
        write_model(self._folder, config, int(config["vocab_size"]))
        options = dict(self._served.options)
        if shared:
            options |= {"gpu_memory_utilization": 0.2, "kv_cache_memory_bytes": self._served.shared_cache_gb * 10**9}
        self._begun = time.monotonic()
        options = {"load_format": "dummy", "gpu_memory_utilization": 0.9, **options}
        self._server = start_server(
            str(self._folder), FIRST_PORT + number, log=work / f"{name}.log", served_model_name=name, **options
        )
        self._document: dict[str, Any] = {
            "model": name, "hub": self._served.hub, "options": options, "date": time.strftime("%Y-%m-%d"),
            "gpu": gpu_name(), "vllm": installed_vllm(), "runs": [],
        }  # fmt: skip

    def wait(self, seconds: float) -> None:
        """Until it answers.

        Raises:
            StackError: it ended, or takes too long.
        """
        self._server.wait(seconds)
        document = self._document
        document["start_seconds"] = round(time.monotonic() - self._begun, 1)
        logged = re.search(r"GPU KV cache size: ([\d,]+) tokens", self._server.log.read_text(errors="replace"))
        document["kv_cache_tokens"] = int(logged[1].replace(",", "")) if logged else None
        print(f"{self.name}: {document['kv_cache_tokens']} tokens, {document['start_seconds']} s", flush=True)

    def warm_up(self) -> None:
        """The first requests find kernels that were never launched; they are not counted."""
        for mix in REQUESTS:
            self._ask(mix, 8, 16, self._work / f"{self.name}-{mix}-warm")

    def load(self, mix: str, concurrency: int, requests: int) -> None:
        """One run, into the file."""
        run = self._ask(mix, concurrency, requests, self._work / f"{self.name}-{mix}-{concurrency}")
        self._document["runs"].append(run)
        shown = {key: value for key, value in run.items() if key not in ("lengths", "times")}
        print(json.dumps({"model": self.name, **shown}), flush=True)
        self.write()

    def _ask(self, mix: str, concurrency: int, requests: int, results: Path) -> dict[str, Any]:
        length = int(self._served.options.get("max_model_len", 4096))
        stack = stack_file(self._folder, self._server, length)
        return run_once(stack, mix, concurrency, requests, results)

    def fail(self, error: Exception) -> None:
        """Keeps the reason."""
        self._document["error"] = f"{error}"[-3000:]
        print(f"{self.name}: {error}", flush=True)

    def write(self) -> None:
        self._file.write_text(json.dumps(self._document))

    def end(self) -> None:
        self._server.stop()
        self.write()


def measure_alone(name: str, out: Path, work: Path, until: float, *, loads: bool) -> None:
    """Serves it, runs its loads."""
    subject = Subject(name, out, work)
    try:
        subject.wait(min(240.0, until - time.monotonic()))
        if not loads:
            return
        subject.warm_up()
        for mix, concurrencies in REQUESTS.items():
            for concurrency, requests in concurrencies.items():
                if time.monotonic() > until:
                    return
                subject.load(mix, concurrency, requests)
    except Exception as error:
        subject.fail(error)
    finally:
        subject.end()


def measure_together(names: list[str], out: Path, work: Path, until: float) -> None:
    """Serves all, then runs each load on one after the other."""
    subjects = [Subject(name, out, work, number=number, shared=True) for number, name in enumerate(names)]
    asked: list[Subject] = []
    try:
        for subject in subjects:
            try:
                subject.wait(until - time.monotonic())
                subject.warm_up()
                asked.append(subject)
            except VllmstackError as error:
                subject.fail(error)  # the others are measured all the same
        for concurrency in FEW_REQUESTS["chat"]:
            for mix, requests in FEW_REQUESTS.items():
                for subject in asked:
                    if time.monotonic() > until:
                        return
                    subject.load(mix, concurrency, requests[concurrency])
    finally:
        for subject in subjects:
            subject.end()


def gpu_name() -> str:
    """As nvidia-smi names it."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    """Measures; 1 if a model could not be served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="llama-3.1-8b,llama-3.2-1b,llama-2-13b")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--starts", default="")
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    models = [name for name in options.models.split(",") if name]
    starts = [name for name in options.starts.split(",") if name]
    with tempfile.TemporaryDirectory() as work:
        if options.together:
            measure_together(models, options.out, Path(work), until)
            models = []
        for name in models + starts:
            if time.monotonic() < until:
                measure_alone(name, options.out, Path(work), until, loads=name not in starts)
    done = [json.loads(file.read_text()) for file in options.out.glob("*.json")]
    return 1 if any("error" in one for one in done) else 0


if __name__ == "__main__":
    sys.exit(main())
