"""What a real vLLM of one's own does when it is killed, and when it cannot start. Run in the CPU engine's image.

python -m tests.stack.offline_probe FOLDER; prints one JSON object.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from vllmstack.errors import StackError
from vllmstack.serving import start_server

MODEL = "models/smoke"
LINES = 24
OPTIONS = ("enforce_eager=true", "dtype=float32", "max_model_len=1024")


def main(folder: Path) -> int:
    """Always 0: who reads what it prints judges it."""
    source, answers = folder / "in.jsonl", folder / "in.answers.jsonl"
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    with source.open("w") as stream:
        for number in range(LINES):
            body = {"messages": messages, "temperature": 0, "max_tokens": 24}
            line = {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            stream.write(json.dumps(line) + "\n")
    command = [sys.executable, "-m", "vllmstack", "batch", "run", str(source), "--offline", MODEL, "--concurrency", "1"]
    command += [part for option in OPTIONS for part in ("--option", option)]
    first = subprocess.Popen(command)
    while first.poll() is None and not (answers.is_file() and answers.read_bytes().count(b"\n") >= 3):
        time.sleep(0.05)
    running = engines()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    began = time.monotonic()
    while engines() and time.monotonic() - began < 60:
        time.sleep(0.2)
    found = {"killed": first.returncode, "engines": len(running), "left": engines()}
    found["kept"] = answers.read_bytes().count(b"\n")
    found["again"] = subprocess.run(command, check=False).returncode
    found["left_again"] = engines()
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    found["ids"] = sorted(line["custom_id"] for line in lines)
    found["texts"] = sorted({line["response"]["body"]["choices"][0]["message"]["content"] for line in lines})
    try:
        start_server(MODEL, 0, wait=120, max_model_len=1_000_000, kv_cache_memory_bytes=1 << 28)
    except StackError as error:
        found["said"] = str(error)
    found["left_by_one_that_failed"] = engines()
    print(json.dumps(found))
    return 0


def engines() -> list[str]:
    """Command lines of vLLM's processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if "api_server" in line or line.startswith("VLLM::"):
            found.append(line[:200])
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
