"""The stack on real GPUs: what `vllmstack up` starts, where it runs, and whether the plan told the truth.

Needs an NVIDIA GPU with CDI, Docker 25 or newer, and the engine image that the deployments name; a second GPU for two
of the tests. With VLLMSTACK_RESULTS set, what was measured is written there as JSON.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import openai
import pytest

from tests.gpu.dummy_model import LLAMA_2_7B, write_model

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = Path("tests/gpu/deployments")
URL = "http://127.0.0.1:18080"
PLAN_TOLERANCE = 0.10
"""Of the plan's KV-cache tokens against what vLLM logs."""


def gpu_count() -> int:
    if shutil.which("nvidia-smi") is None:
        return 0
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0


pytestmark = pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU on this machine")
two_gpus = pytest.mark.skipif(gpu_count() < 2, reason="fewer than two NVIDIA GPUs on this machine")


@pytest.fixture(scope="module", autouse=True)
def model_directory() -> None:
    write_model(ROOT / "tests/gpu/models/llama-2-7b", LLAMA_2_7B, 32000)


def vllmstack(*arguments: str, seconds: float = 500) -> str:
    command = [sys.executable, "-m", "vllmstack", *arguments]
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": "vllmstack-test", "COLUMNS": "80"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    print(f"$ vllmstack {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout


class Served:
    """A deployment that is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.plan: dict[str, Any] = json.loads(vllmstack("plan", str(DEPLOYMENTS / f"{name}.yaml"), "--json"))
        vllmstack("up", str(DEPLOYMENTS / f"{name}.yaml"))
        self.docker = docker.from_env()
        self.engines = sorted(
            self.docker.containers.list(
                filters={"label": ["vllmstack.model", "com.docker.compose.project=vllmstack-test"]}
            ),
            key=lambda one: one.labels["com.docker.compose.service"],
        )

    def logged_kv_cache_tokens(self) -> int:
        log = self.log()
        found = re.search(r"GPU KV cache size: ([\d,]+) tokens", log)
        assert found, log[-2000:]
        return int(found.group(1).replace(",", ""))

    def log(self) -> str:
        """What the first engine has said."""
        text = self.engines[0].logs(stream=False)
        assert isinstance(text, bytes)
        return text.decode(errors="replace")

    def planned_kv_cache_tokens(self) -> int:
        return int(self.plan["memory"]["llama-2-7b"]["kv_cache_tokens"])

    def gpus_seen_inside(self) -> list[list[str]]:
        """For each engine the GPUs' UUIDs that its own container lists."""
        seen = []
        for one in self.engines:
            output = one.exec_run(["python3", "-c", LIST_GPUS]).output
            assert isinstance(output, bytes)
            seen.append(sorted(output.decode().split()))
        return seen

    def gpu_processes(self) -> dict[str, int]:
        """MiB in use on each GPU of the host, by UUID."""
        command = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {uuid: int(used) for uuid, used in (line.split(", ") for line in output.strip().splitlines())}

    def save(self, **measured: object) -> None:
        record = {
            "deployment": self.name,
            "planned_kv_cache_tokens": self.planned_kv_cache_tokens(),
            "logged_kv_cache_tokens": self.logged_kv_cache_tokens(),
            "gpus_inside": self.gpus_seen_inside(),
            "memory_used_mib": self.gpu_processes(),
            "devices": {
                one.labels["com.docker.compose.service"]: one.attrs["HostConfig"]["DeviceRequests"]
                for one in self.engines
            },
            "status": json.loads(vllmstack("status", "--json")),
            "vllm_log": [line.strip()[-300:] for line in self.log().splitlines() if TELLING.search(line)],
            **measured,
        }
        if folder := os.environ.get("VLLMSTACK_RESULTS"):
            (Path(folder) / f"{self.name}.json").write_text(json.dumps(record, indent=2))


TELLING = re.compile(r"KV cache size|Model loading took|init engine|version 0\.")
LIST_GPUS = "import torch; print(*[torch.cuda.get_device_properties(i).uuid for i in range(torch.cuda.device_count())])"


def serve(name: str) -> Iterator[Served]:
    try:
        yield Served(name)
    finally:
        vllmstack("down", "--delete-data")


@pytest.fixture
def one_gpu() -> Iterator[Served]:
    yield from serve("llama-2-7b")


@pytest.fixture
def two_replicas() -> Iterator[Served]:
    yield from serve("two-replicas")


@pytest.fixture
def tensor_parallel() -> Iterator[Served]:
    yield from serve("tensor-parallel")


def generate(tokens: int) -> int:
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    answer = client.completions.create(
        model="llama-2-7b", prompt="w10 " * 100, max_tokens=tokens, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.usage
    return answer.usage.completion_tokens


def assert_plan_was_right(served: Served) -> None:
    planned, logged = served.planned_kv_cache_tokens(), served.logged_kv_cache_tokens()
    assert abs(planned - logged) <= PLAN_TOLERANCE * logged, (planned, logged)


def test_a_7b_model_is_served_from_one_gpu_as_planned(one_gpu: Served) -> None:
    assert generate(256) == 256

    chat = vllmstack("chat", "--max-tokens", "256", "w20 w30 w40")
    one_gpu.save(chat=chat)
    assert_plan_was_right(one_gpu)


@two_gpus
def test_two_replicas_have_one_gpu_each(two_replicas: Served) -> None:
    assert generate(64) == 64

    two_replicas.save()
    inside = two_replicas.gpus_seen_inside()
    assert [len(gpus) for gpus in inside] == [1, 1]
    assert inside[0] != inside[1]
    assert all(mib > 100_000 for mib in two_replicas.gpu_processes().values())
    assert_plan_was_right(two_replicas)


@two_gpus
def test_one_tensor_parallel_replica_spans_two_gpus(tensor_parallel: Served) -> None:
    assert generate(64) == 64

    tensor_parallel.save()
    assert [len(gpus) for gpus in tensor_parallel.gpus_seen_inside()] == [2]
    assert_plan_was_right(tensor_parallel)
