"""A batch that is killed again and again: every line answered once, and how much memory it takes.

    python scripts/bench_batch.py [--lines 100000] [--kills 5] [--json FILE]

The load test's mock engine answers at once; `vllmstack batch run` is ended by SIGKILL at random moments and started
again. 1 if a line has no answer or two, or if more than 300 MB were used.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_MEGABYTES = 300


def write_input(file: Path, lines: int) -> None:
    """Requests of one token."""
    with file.open("w") as stream:
        for number in range(lines):
            body = {"model": "smoke", "prompt": f"Line {number}", "max_tokens": 1}
            request = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/completions", "body": body}
            stream.write(json.dumps(request) + "\n")


def highest_megabytes(process: "subprocess.Popen[bytes]") -> float:
    """Resident memory at its highest; 0 once the process has ended."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0.0)


class Count:
    """Of the lines of a file that grows, and is now and then cut off a little."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = self._lines = 0

    def lines(self) -> int:
        """Those that are there by now; reads what is new."""
        if not self._file.is_file():
            return 0
        if self._file.stat().st_size < self._read:
            self._read = self._lines = 0
        with self._file.open("rb") as stream:
            stream.seek(self._read)
            while block := stream.read(1 << 20):
                self._read += len(block)
                self._lines += block.count(b"\n")
        return self._lines


def main() -> int:
    """Measures; 1 if what is promised is not so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    numbers = random.Random(options.seed)  # noqa: S311 # repeatable on purpose
    mock = [
        sys.executable, "-m", "loadtest.trust.mock_server", "--port", "0", "--model", "smoke",
        "--ttft-seconds", "0", "--itl-seconds", "0", "--lifetime-seconds", "1800",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(mock, cwd=ROOT, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout  # noqa: S101
            port = json.loads(server.stdout.readline())["port"]
            source, answers = Path(folder) / "in.jsonl", Path(folder) / "in.answers.jsonl"
            write_input(source, options.lines)
            url = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "vllmstack", "batch", "run", str(source), "--url", url]
            stops = sorted(numbers.sample(range(options.lines // 20, options.lines), options.kills))
            count = Count(answers)
            megabytes, began, kills = 0.0, time.monotonic(), 0
            while True:
                process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
                while process.poll() is None:
                    megabytes = max(megabytes, highest_megabytes(process))
                    if stops and count.lines() >= stops[0]:
                        os.kill(process.pid, signal.SIGKILL)
                        stops.pop(0)
                        kills += 1
                    time.sleep(0.1)
                if process.returncode >= 0:
                    break
            seconds = time.monotonic() - began
            ids = [json.loads(line)["custom_id"] for line in answers.open()]
        finally:
            server.terminate()
    figures = {
        "lines": options.lines,
        "kills": kills,
        "exit": process.returncode,
        "answers": len(ids),
        "answered": len(set(ids)),
        "megabytes": round(megabytes, 1),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(figures))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), **figures}, indent=1) + "\n")
    good = len(ids) == len(set(ids)) == options.lines and process.returncode == 0 and kills == options.kills
    return 0 if good and megabytes < MOST_MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
