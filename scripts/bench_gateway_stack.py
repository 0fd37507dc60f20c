"""A stack on real Compose to measure, in variants of one deployment: engines stay, only the gateway is made anew."""

import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import docker
import yaml

from vllmstack import engine_metrics
from vllmstack.render.gateway import PLAIN_PORT

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smoke"
UP_SECONDS = 900
PERIOD_MICROSECONDS = 20_000


class BenchStack:
    """Brings it up in the Compose project ``name``; takes it down at the end."""

    def __init__(self, name: str, deployment: Path) -> None:
        self._environment = {**os.environ, "COMPOSE_PROJECT_NAME": name}
        self._project = name
        self._described: dict[str, Any] = yaml.safe_load(deployment.read_text())
        [model] = self._described["models"]
        model["source"] = {"directory": str(ROOT / "models" / MODEL)}  # the variants lie elsewhere
        self._model: dict[str, Any] = model

    @property
    def url(self) -> str:
        """The gateway's own address: a process of Docker's, behind a published port, waits for the cores too."""
        label = [f"com.docker.compose.project={self._project}", "com.docker.compose.service=gateway"]
        [address] = _addresses(label).values()
        return f"http://{address}:{PLAIN_PORT}"

    def __enter__(self) -> "BenchStack":
        return self

    def __exit__(self, *exception: object) -> None:
        self._vllmstack("down", "--delete-data")

    def up(self, **changes: object) -> None:
        """Returns when the model, with these settings of its own changed, answers."""
        described = {**self._described, "models": [{**self._model, **changes}]}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "variant.yaml"
            file.write_text(yaml.safe_dump(described))
            self._vllmstack("up", str(file))

    def hold_engines(self, cores: float) -> None:
        """Gives each engine so much of a core: one that has work takes all there is, also what the others need."""
        label = [f"com.docker.compose.project={self._project}", "vllmstack.model"]
        client = docker.from_env()
        for engine in client.containers.list(filters={"label": label}):
            engine.update(cpu_period=PERIOD_MICROSECONDS, cpu_quota=round(cores * PERIOD_MICROSECONDS))
        client.close()

    def readings(self, names: Iterable[str]) -> dict[str, engine_metrics.Reading]:
        """Of every engine, by its service."""
        wanted = tuple(names)
        return {
            service: engine_metrics.read(_fetch(f"{url}/metrics"), wanted) for service, url in self._engines().items()
        }

    def reset_caches(self) -> None:
        """Empties the engines' prefix caches; they must run with VLLM_SERVER_DEV_MODE=1 and have nothing to do."""
        for url in self._engines().values():
            _fetch(f"{url}/reset_prefix_cache", b"")

    def _engines(self) -> dict[str, str]:
        found = _addresses([f"com.docker.compose.project={self._project}", "vllmstack.model"])
        return {service: f"http://{address}:8000" for service, address in sorted(found.items())}

    def _vllmstack(self, *words: str) -> None:
        command = [sys.executable, "-m", "vllmstack", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=UP_SECONDS, check=False
        )
        if done.returncode:
            raise SystemExit(f"vllmstack {words[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")


def _addresses(labels: list[str]) -> dict[str, str]:
    """Service → address, of the containers that have all labels."""
    client = docker.from_env()
    found: dict[str, str] = {}
    for one in client.api.containers(filters={"label": labels}):
        networks: Mapping[str, Mapping[str, str]] = one["NetworkSettings"]["Networks"]
        address = next(network["IPAddress"] for network in networks.values() if network["IPAddress"])
        found[one["Labels"]["com.docker.compose.service"]] = address
    client.close()
    return found


def _fetch(url: str, data: bytes | None = None) -> str:
    with urllib.request.urlopen(url, data=data, timeout=30) as answer:  # noqa: S310 # its own engines
        return str(answer.read().decode())
