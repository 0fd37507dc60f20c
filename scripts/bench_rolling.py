"""Streams that run all the time while `vllmstack apply` and `restart` roll the replicas behind them: what is lost.

``python scripts/bench_rolling.py [--streams 100] [--tokens 128] [--json FILE]``

It brings up scripts/bench_rolling.yaml (two replicas), adds a third, restarts all three, and changes an engine option,
each under load, and takes the stack down. Exit status 1 if any stream failed or was cut.

Engines on a CPU that have work take all the time there is, and one that starts beside them on two cores is not there
after five minutes. So those that serve are held to a part of a core each (`--cores`): slower streams, not fewer.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import docker.errors

from scripts.rolling_load import Streams
from vllmstack.host.containers import connect, containers

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(__file__).with_suffix(".yaml")
URL = "http://127.0.0.1:18082"
PERIOD_MICROSECONDS = 100_000
LOOK_SECONDS = 1.0
STEPS: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
    ("apply, from 2 to 3 replicas", ("apply",), {"replicas: 2": "replicas: 3"}),
    ("restart of 3 replicas", ("restart",), {}),
    ("apply of a new engine option", ("apply",), {"max_num_seqs: 64": "max_num_seqs: 48"}),
)


def main() -> int:
    """Every step in turn; 0 if nothing was lost."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--cores", type=float, default=0.5, help="of each engine that serves; 0: all there are")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-rolling-") as folder:
        file = Path(folder) / SOURCE.name
        file.write_text(SOURCE.read_text().replace("../models", str(ROOT / "models")))
        vllmstack("up", str(file))
        results: list[dict[str, Any]] = []
        try:
            with Held(options.cores):
                for name, arguments, changes in STEPS:
                    one = measure(name, arguments, changes, file, streams=options.streams, tokens=options.tokens)
                    results.append(one | {"cores_of_an_engine": options.cores or None})
                    write(options.json, results)
        finally:
            vllmstack("down", "--delete-data")
    return 0 if all(one["lossless"] for one in results) else 1


def write(file: Path | None, results: list[dict[str, Any]]) -> None:
    """After each step: it takes long enough that one may want to end it."""
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=2) + "\n")


class Held:
    """A context manager: within the block each healthy engine has so many cores; one that starts has what is left."""

    def __init__(self, cores: float) -> None:
        self._quota = round(cores * PERIOD_MICROSECONDS)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def __enter__(self) -> None:
        if self._quota:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        if self._quota:
            self._thread.join()

    def _hold(self) -> None:
        client = connect()
        held: set[str] = set()
        while not self._enough.wait(LOOK_SECONDS):
            for one in containers(client):
                if one.is_engine and one.health == "healthy" and one.identity not in held:
                    try:
                        client.containers.get(one.identity).update(
                            cpu_period=PERIOD_MICROSECONDS, cpu_quota=self._quota
                        )
                    except docker.errors.APIError:
                        continue  # it has just been removed, or will be looked at again
                    held.add(one.identity)


def measure(
    name: str, arguments: tuple[str, ...], changes: dict[str, str], file: Path, *, streams: int, tokens: int
) -> dict[str, Any]:
    """One command on the stack, under load."""
    text = file.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    file.write_text(text)
    with Streams(URL, "smoke", count=streams, tokens=tokens) as running:
        started = time.monotonic()
        vllmstack(*arguments)
        seconds = time.monotonic() - started
    print(f"{name}, {seconds:.0f} s, {streams} streams at a time: {running.outcome}", flush=True)
    return {
        "step": name,
        "seconds": round(seconds, 1),
        "streams": streams,
        "tokens": tokens,
        "lossless": running.outcome.lossless,
        **running.outcome.summary(),
    }


def vllmstack(*arguments: str) -> None:
    """As a user would run it; its failure ends the measurement."""
    subprocess.run([sys.executable, "-m", "vllmstack", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
