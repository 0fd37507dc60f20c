"""Runs on a GPU that the planner's simulator is held against: models of public dimensions under many loads.

    python scripts/measure_prediction.py --out DIR [--models NAME,…] [--starts NAME,…] [--seconds 560]

Each model is served by `vllm serve` with dummy weights, one after the other, and asked by the load test: two mixes of
lengths, concurrency 1 to 256. DIR/NAME.json gets what was measured, every request's lengths included, and the tokens of
KV cache that vLLM logged. `--starts` are only started, for that log line. Ends by itself after `--seconds`: what was
measured until then is kept. `bench_prediction.py` compares.
"""

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.options import RunOptions
from loadtest.results import ROWS_FILE, RunResult
from loadtest.run import measure
from tests.gpu.dummy_model import write_model

ROOT = Path(__file__).resolve().parents[1]
PORT = 18200
REQUESTS = {"chat": {1: 24, 8: 80, 32: 192, 96: 384, 256: 768}, "documents": {1: 24, 8: 80, 32: 160, 96: 288, 256: 512}}
"""By mix and concurrency: each user asks at least twice."""
MANY_CHUNKS = 64
"""Concurrency from which two processes send: one takes 60,000 chunks a second."""
FAMILIES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


@dataclass(frozen=True, kw_only=True)
class Served:
    """One way to serve a model."""

    hub: str
    options: dict[str, Any] = field(default_factory=dict)


MODELS = {
    "llama-3.1-8b": Served(hub="meta-llama/Llama-3.1-8B", options={"max_model_len": 8192}),
    "llama-3.2-1b": Served(hub="meta-llama/Llama-3.2-1B", options={"max_model_len": 8192}),
    "llama-2-13b": Served(hub="meta-llama/Llama-2-13b-hf"),
    "qwen3-4b": Served(hub="Qwen/Qwen3-4B", options={"max_model_len": 8192}),
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


class Server:
    """`vllm serve` in a process group of its own."""

    def __init__(self, folder: Path, served: Served, log: Path) -> None:
        options = {"load_format": "dummy", "gpu_memory_utilization": 0.9, **served.options}
        words = [str(folder), "--served-model-name", folder.name, "--port", str(PORT), "--host", "127.0.0.1"]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
        self.log = log
        self._stream = log.open("wb")
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *words]
        self._process = subprocess.Popen(
            command, stdout=self._stream, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder.parent
        )
        self.options = options

    def wait(self, seconds: float) -> None:
        """Until it answers.

        Raises:
            RuntimeError: it ended, or takes too long.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"vllm ended with {self._process.returncode}: {self.last_lines()}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
            else:
                return
        raise RuntimeError(f"vllm does not answer after {seconds} s: {self.last_lines()}")

    def last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def kv_cache_tokens(self) -> int | None:
        """What vLLM logged."""
        found = re.search(r"GPU KV cache size: ([\d,]+) tokens", self.log.read_text(errors="replace"))
        return int(found[1].replace(",", "")) if found else None

    def stop(self) -> None:
        """The whole group, by its own id."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                continue
        self._stream.close()


def stack_file(folder: Path, model: str, length: int) -> Path:
    """What the load test must know, as `vllmstack up` would render it."""
    path = folder.parent / f"{model}-stack.json"
    facts = {"name": model, "max_model_len": length, "tokenizer": {"directory": str(folder)}}
    stack = {"deployment": model, "url": f"http://127.0.0.1:{PORT}", "vllm": "", "models": [facts]}
    path.write_text(json.dumps(stack))
    return path


def run_once(stack: Path, mix: str, concurrency: int, results: Path) -> dict[str, Any]:
    """One load; what is kept of it."""
    options = RunOptions(
        scenario=str(ROOT / f"scripts/prediction-{mix}.yaml"), concurrency=concurrency,
        requests=REQUESTS[mix][concurrency], seed=concurrency, stack=str(stack), result=str(results), calibrate=False,
        processes=2 if concurrency > MANY_CHUNKS else 1,
    )  # fmt: skip
    return summary(measure(options), mix, concurrency, results)


def summary(run: RunResult, mix: str, concurrency: int, results: Path) -> dict[str, Any]:
    """The figures, and every request's lengths and times in the order of sending."""
    with (results / ROWS_FILE).open() as rows:
        read = sorted(csv.DictReader(rows), key=lambda row: float(row["sent_at"]))
    ttft = sorted(float(row["ttft_seconds"]) for row in read if row["ttft_seconds"])
    tpot = sorted(float(row["tpot_seconds"]) for row in read if row["tpot_seconds"])
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


def measure_model(name: str, out: Path, work: Path, until: float, *, loads: bool) -> None:
    """Serves it, runs its loads, writes its file after each."""
    served = MODELS[name]
    folder = work / name
    config = config_of(served.hub)
    write_model(folder, config, int(config["vocab_size"]))
    begun = time.monotonic()
    server = Server(folder, served, work / f"{name}.log")
    document: dict[str, Any] = {
        "model": name, "hub": served.hub, "options": server.options, "date": time.strftime("%Y-%m-%d"),
        "gpu": gpu_name(), "vllm": vllm_version(), "runs": [],
    }  # fmt: skip
    try:
        server.wait(min(240.0, until - begun))
        document["start_seconds"] = round(time.monotonic() - begun, 1)
        document["kv_cache_tokens"] = server.kv_cache_tokens()
        print(f"{name}: {document['kv_cache_tokens']} tokens of KV cache, {document['start_seconds']} s", flush=True)
        stack = stack_file(folder, name, int(served.options.get("max_model_len", 4096)))
        if loads:
            # The first requests find kernels that were never launched; they are not counted.
            for mix in REQUESTS:
                run_once(stack, mix, 8, work / f"{name}-{mix}-warm")
        for mix, concurrencies in REQUESTS.items() if loads else ():
            for concurrency in concurrencies:
                if time.monotonic() > until:
                    return
                run = run_once(stack, mix, concurrency, work / f"{name}-{mix}-{concurrency}")
                document["runs"].append(run)
                shown = {key: value for key, value in run.items() if key not in ("lengths", "times")}
                print(json.dumps(shown), flush=True)
                (out / f"{name}.json").write_text(json.dumps(document))
    except Exception as error:
        document["error"] = f"{error}"[-3000:]
        print(f"{name}: {error}", flush=True)
    finally:
        server.stop()
        (out / f"{name}.json").write_text(json.dumps(document))


def gpu_name() -> str:
    """As nvidia-smi names it."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def vllm_version() -> str:
    """Of the vLLM that this Python has."""
    return version("vllm")


def main() -> int:
    """Measures; 1 if a model could not be served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="llama-3.1-8b,llama-3.2-1b,llama-2-13b")
    parser.add_argument("--starts", default="")
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    names = [(name, True) for name in options.models.split(",") if name]
    names += [(name, False) for name in options.starts.split(",") if name]
    with tempfile.TemporaryDirectory() as work:
        for name, loads in names:
            if time.monotonic() < until:
                measure_model(name, options.out, Path(work), until, loads=loads)
    done = [json.loads(file.read_text()) for file in options.out.glob("*.json")]
    return 1 if any("error" in one for one in done) else 0


if __name__ == "__main__":
    sys.exit(main())
