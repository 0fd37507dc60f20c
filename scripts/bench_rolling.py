"""Streams that run all the time while `vllmstack apply` and `restart` roll the replicas behind them: what is lost.

``python scripts/bench_rolling.py [--streams 100] [--tokens 128] [--json FILE]``

It brings up scripts/bench_rolling.yaml (two replicas), adds a third, restarts all three, and changes an engine option,
each under load, and takes the stack down. Exit status 1 if any stream failed or was cut.
"""

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.rolling_load import Streams

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(__file__).with_suffix(".yaml")
URL = "http://127.0.0.1:18082"
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
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-rolling-") as folder:
        file = Path(folder) / SOURCE.name
        file.write_text(SOURCE.read_text().replace("../models", str(ROOT / "models")))
        vllmstack("up", str(file))
        try:
            results = [
                measure(name, arguments, changes, file, streams=options.streams, tokens=options.tokens)
                for name, arguments, changes in STEPS
            ]
        finally:
            vllmstack("down", "--delete-data")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(one["lossless"] for one in results) else 1


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
