"""What the gateway costs: CPU a request and a streamed chunk, time to the first token, memory of held streams.

    python scripts/bench_gateway_cost.py [--sglang-python PATH] [--vllm-router-python PATH] [--json FILE]

The gateway's own image with a really rendered configuration (two replicas, `lmetric`) on one core; wrk or a client of
this repository, and the upstreams, on the others. CPU is that of the gateway's control group. In turns with it, on the
same core: the same nginx as a plain proxy, and sglang-router and vllm-router with their cache-aware policies where a
Python that has them is given. All share one network namespace; with --bridge each has its own on a bridge of Docker's.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import docker
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtest.trust.mock_process import cores
from scripts.bench_gateway_bed import PATH, Bed, ContainerSubject, Subject, write
from scripts.bench_gateway_bodies import wrk_script
from tests.gateway.containers import GATEWAY_IMAGE, REPLICA_IMAGE, ROOT, build
from vllmstack.deployment.model import Deployment

LIMITS = {
    "request_microseconds": 50.0,
    "chunk_microseconds": 26.0,
    "ttft_added_p99_seconds": 0.001,
    "held_memory_bytes": 150e6,
    "errors": 0.0,
}
STREAMS = 128
EVENTS = 200
WORKERS = 1
"""As many nginx workers as the gateway has in a container with one core (docker/gateway/gateway-start)."""
MEBI = 1 << 20
COLUMNS = (
    ("requests", "microseconds", 1.0),
    ("requests", "requests_per_second", 1.0),
    ("chunks", "microseconds", 1.0),
    ("chunks", "ttft_p50_seconds", 1e3),
    ("chunks", "ttft_p99_seconds", 1e3),
)
"""Part, figure and factor of each column of the table."""


def deployment() -> Deployment:
    """Two replicas; room for all streams that are held."""
    model = {
        "name": "smoke", "engine": "vllm-cpu", "replicas": 2, "source": {"directory": "unused"},
        "routing": "lmetric", "admission": {"max_in_flight": 8192},
    }  # fmt: skip
    return Deployment.model_validate({"name": "bench", "models": [model]})


Measure = Callable[[], dict[str, float]]
Rounds = dict[str, list[dict[str, float]]]


class Bench:
    """All measurements, each on a bed of its own."""

    def __init__(self, options: argparse.Namespace, folder: Path, console: Console) -> None:
        self._options = options
        self._folder = folder
        self._console = console
        self._gateway_core, *self._other_cores = cores()
        self._pin = ["taskset", "--cpu-list", ",".join(map(str, self._other_cores))]
        self._inside: list[str] = []
        write(folder / "post.lua", wrk_script())

    def requests(self) -> Rounds:
        """Short requests, as fast as one core forwards them: each subject in turns."""
        with self._bed() as bed:
            bed.fixed_upstreams(self._folder / "fixed")
            subjects: dict[str, Subject] = {"lmetric": self._gateway(bed), "plain nginx": self._plain(bed)}
            for name, python, module, port in (
                ("sglang-router", self._options.sglang_python, "sglang_router.launch_router", 18601),
                ("vllm-router", self._options.vllm_router_python, "vllm_router.launch_router", 18603),
            ):
                if python is None:
                    self._console.print(f"{name} is left out: no Python that has it was given")
                    continue
                command = [
                    str(python), "-m", module, "--policy", "cache_aware",
                    "--prometheus-port", str(port + 1), "--log-level", "error", "--worker-urls", *bed.upstream_urls(),
                ]  # fmt: skip
                subjects[name] = bed.router(command, port)
            return self._in_turns({name: partial(self._wrk, subject) for name, subject in subjects.items()})

    def chunks(self) -> Rounds:
        """Streams at a steady pace, and the time to their first events; also without any gateway."""
        with self._bed() as bed:
            bed.streaming_upstreams(self._folder / "paced", interval_ms=10)
            subjects = {"lmetric": self._gateway(bed), "plain nginx": self._plain(bed)}
            measures: dict[str, Measure] = {
                name: partial(self._streams, [subject.url], subject) for name, subject in subjects.items()
            }
            return self._in_turns({**measures, "no gateway": partial(self._streams, bed.upstream_urls(), None)})

    def held(self) -> dict[str, float]:
        """Many slow streams at a time: what the gateway holds for them."""
        count = self._options.held_streams
        options = ("--streams", count, "--requests", count, "--events", 30, "--ramp", count / 250)
        with self._bed() as bed:
            bed.streaming_upstreams(self._folder / "slow", interval_ms=1000)
            subject = self._gateway(bed)
            most, ended = [subject.memory_bytes()], threading.Event()

            def watch() -> None:
                while not ended.wait(0.5):
                    most.append(subject.memory_bytes())

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                found = self._client([subject.url], *options)
            finally:
                ended.set()
                watcher.join()
        return {"streams": count, "errors": found["errors"], "memory_bytes": max(most), "idle_memory_bytes": most[0]}

    def _bed(self) -> Bed:
        return Bed(
            image=GATEWAY_IMAGE,
            upstream_image=REPLICA_IMAGE,
            gateway_core=self._gateway_core,
            other_cores=self._other_cores,
            bridge=self._options.bridge,
        )

    def _gateway(self, bed: Bed) -> ContainerSubject:
        self._inside = bed.inside
        return bed.gateway(self._folder / "gateway", deployment())

    def _plain(self, bed: Bed) -> ContainerSubject:
        return bed.plain(self._folder / "plain", WORKERS)

    def _in_turns(self, measured: dict[str, Measure]) -> Rounds:
        for measure in measured.values():
            measure()  # what is done for the first time is nobody's
        rounds: Rounds = {name: [] for name in measured}
        for number in range(self._options.rounds):
            for name in list(measured)[:: -1 if number % 2 else 1]:
                one = measured[name]()
                rounds[name].append(one)
                self._console.print(f"{number + 1} {name:<14}", {key: round(value, 6) for key, value in one.items()})
        return rounds

    def _wrk(self, subject: Subject) -> dict[str, float]:
        command = [
            *self._inside, *self._pin, "wrk", "--threads", "1", "--connections", str(self._options.connections),
            "--duration", f"{self._options.seconds}s", "--script", str(self._folder / "post.lua"), subject.url + PATH,
        ]  # fmt: skip
        before = subject.cpu_seconds()
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        spent = subject.cpu_seconds() - before
        lines = {line.split(":")[0].strip(): line.rpartition(":")[2] for line in said.splitlines() if ":" in line}
        [count] = [int(line.split()[0]) for line in said.splitlines() if " requests in " in line]
        refused = int(lines.get("Non-2xx or 3xx responses", "0"))
        lost = sum(int(part.split()[1]) for part in lines.get("Socket errors", "").split(",") if part.strip())
        rate = count / self._options.seconds
        return {"microseconds": spent / count * 1e6, "requests_per_second": rate, "errors": float(refused + lost)}

    def _streams(self, urls: list[str], subject: Subject | None) -> dict[str, float]:
        options = ("--streams", STREAMS, "--requests", STREAMS * self._options.answers, "--events", EVENTS, "--ramp", 2)
        before = subject.cpu_seconds() if subject else 0.0
        found = self._client(urls, *options)
        spent = (subject.cpu_seconds() if subject else 0.0) - before
        return {**found, **({"microseconds": spent / found["events"] * 1e6} if subject else {})}

    def _client(self, urls: list[str], *options: object) -> dict[str, float]:
        script = str(Path(__file__).with_name("bench_gateway_client.py"))
        words = [*self._inside, *self._pin, sys.executable, script, *urls, *map(str, options)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if not done.stdout.strip():
            raise SystemExit(f"the client failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if found["errors"]:
            self._console.print(found["errors"])
        return {**found, "errors": float(sum(found["errors"].values()))}


def median(rounds: list[dict[str, float]], key: str) -> float:
    """Over the rounds."""
    return statistics.median(one[key] for one in rounds)


def judge(requests: Rounds, chunks: Rounds, held: dict[str, float]) -> dict[str, dict[str, float | bool]]:
    """Each figure beside its limit."""
    ours = median(requests["lmetric"], "microseconds")
    direct = median(chunks["no gateway"], "ttft_p99_seconds")
    found = {
        "request_microseconds": ours,
        "chunk_microseconds": median(chunks["lmetric"], "microseconds"),
        "ttft_added_p99_seconds": median(chunks["lmetric"], "ttft_p99_seconds") - direct,
        "held_memory_bytes": held["memory_bytes"],
        "errors": held["errors"] + sum(one["errors"] for part in (requests, chunks) for one in part["lmetric"]),
    }
    verdict: dict[str, dict[str, float | bool]] = {
        name: {"measured": value, "limit": LIMITS[name], "met": value <= LIMITS[name]} for name, value in found.items()
    }
    for name in ("sglang-router", "vllm-router"):
        if name in requests:
            other = median(requests[name], "microseconds")
            verdict[f"request_microseconds of {name}"] = {"measured": ours, "limit": other, "met": ours < other}
    return verdict


def report(results: dict[str, Any], console: Console) -> None:
    """Tables for people."""
    table = Table(title="CPU of one core, medians over the rounds", title_justify="left")
    for column in ("", "µs a request", "requests/s", "µs a chunk", "TTFT p50 ms", "TTFT p99 ms"):
        table.add_column(column, justify="right" if column else "left")
    for name in dict.fromkeys([*results["requests"], *results["chunks"]]):
        cells = []
        for part, key, scale in COLUMNS:
            rounds = results[part].get(name)
            cells.append(f"{median(rounds, key) * scale:.2f}" if rounds and key in rounds[0] else "")
        table.add_row(name, *cells)
    console.print(table)
    held = results["held"]
    console.print(
        f"{held['streams']} streams held: {held['memory_bytes'] / MEBI:.0f} MiB, idle before "
        f"{held['idle_memory_bytes'] / MEBI:.0f} MiB, {held['errors']:.0f} errors"
    )
    for name, row in results["verdict"].items():
        console.print(f"{'met   ' if row['met'] else 'MISSED'} {name}: {row['measured']:.6g}, limit {row['limit']:.6g}")


def main() -> int:
    """Measures; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sglang-python", type=Path, help="a Python that has sglang-router")
    parser.add_argument("--vllm-router-python", type=Path, help="a Python that has vllm-router")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6, help="of one round of requests")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--answers", type=int, default=5, help="of each stream in one round")
    parser.add_argument("--held-streams", type=int, default=2000)
    parser.add_argument("--no-build", action="store_true", help="the images are here, on a machine without a registry")
    parser.add_argument("--bridge", action="store_true", help="a network namespace for each")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    console = Console(width=120)
    if len(cores()) < 2 or not all(map(shutil.which, ("wrk", "curl", "nsenter"))):
        raise SystemExit("it takes two cores, wrk and curl (apt-get install wrk curl util-linux)")
    if not options.no_build:
        client = docker.from_env()
        build(client, GATEWAY_IMAGE, ROOT / "docker/gateway")
        build(client, REPLICA_IMAGE, ROOT / "tests/gateway/replica")  # it has Python
        client.close()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # containers' users read below it
        bench = Bench(options, folder, console)
        requests, chunks, held = bench.requests(), bench.chunks(), bench.held()
    verdict = judge(requests, chunks, held)
    results = {"requests": requests, "chunks": chunks, "held": held, "verdict": verdict}
    report(results, console)
    if options.json:
        facts = {
            "date": time.strftime("%Y-%m-%d"),
            "cores": len(cores()),
            "bridge": options.bridge,
            "connections": options.connections,
        }
        write(options.json, json.dumps({**facts, **results}, indent=1) + "\n")
    return 0 if all(row["met"] for row in verdict.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
