"""What a container shows of an engine's work: vLLM's own metrics, connections, processes. Part of health.py."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")
MOVING = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:generation_tokens_total",
    "vllm:prompt_tokens_total",
    "vllm:prefix_cache_queries_total",
    "vllm:iteration_tokens_total_count",
    "vllm:kv_cache_usage_perc",
)
"""All of these change only when the engine has made a step."""
COMPILERS = {"cc1plus", "cicc", "c++", "g++", "gcc", "ld", "ninja", "nvcc", "ptxas", "cudafe++"}
ESTABLISHED = "01"
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""As /proc/net/tcp and tcp6 write 127.0.0.1 and ::1."""


def read_metrics(text: str) -> tuple[list[float], str]:
    """The sums of MOVING, 0 for one that is not there, and the model's name."""
    values = dict.fromkeys(MOVING, 0.0)
    model = ""
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if brace and name in values:
            values[name] += float(rest.rpartition(" ")[2])
            found = re.search(r'model_name="((?:[^"\\]|\\.)*)"', rest)
            model = model or (json.loads(f'"{found[1]}"') if found else "")
    return list(values.values()), model


def connections(port: int, known: Mapping[str, float], now: float) -> dict[str, float]:
    """Who is connected to the port, but this container itself, and when each was first seen."""
    peers: dict[str, float] = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for local, remote, state in (line.split()[1:4] for line in lines):
            established = state == ESTABLISHED and int(local.rpartition(":")[2], 16) == port
            if established and remote.partition(":")[0] not in LOOPBACK:
                peers[remote] = known.get(remote, now)
    return peers


def processes() -> Iterator[Path]:
    """Of the container, without this one."""
    return (one for one in PROC.iterdir() if one.name.isdigit() and int(one.name) != os.getpid())


def compiles() -> bool:
    """Whether a compiler runs: kernels are made when a request first needs them."""
    names = set()
    for process in processes():
        try:
            names.add((process / "comm").read_text().strip())
        except OSError:
            continue  # it has ended
    return bool(names & COMPILERS)


def computed_seconds() -> float:
    """CPU time of all processes together."""
    ticks = 0
    for process in processes():
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
