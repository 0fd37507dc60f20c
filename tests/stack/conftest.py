"""A clone of its own for the stack tests, and the stack that they share: real Compose, real vLLM on the CPU."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import httpx2
import openai
import pytest
from docker.models.containers import Container

from tests.awaiting import wait_until
from tests.standstill import running_seconds

ROOT = Path(__file__).parents[2]
PROJECT = "vllmstack-test"
DEPLOYMENT = "tests/stack/deployments/two-models.yaml"
KEY = "sk-test-0123456789abcdef0123456789abcdef"
UP_SECONDS = 1500
"""The first `up` on a bare machine builds three images."""


@dataclass(frozen=True, kw_only=True)
class Clone:
    """A copy of the files that git knows, in which commands run as a user would run them."""

    folder: Path

    def run(
        self, *command: str, seconds: float = 120, check: bool = True, input: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command there; with ``check`` its failure fails the test, with all it said."""
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=seconds, env=environment(), check=False,
            input=input,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def vllmstack(
        self, *arguments: str, seconds: float = 120, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        return self.run(sys.executable, "-m", "vllmstack", *arguments, seconds=seconds, check=check)


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The running stack, as clients and operators reach it."""

    clone: Clone
    engine: docker.DockerClient
    url: str
    key: str | None

    def client(self, key: str | None = None) -> openai.OpenAI:
        """An OpenAI client that never retries: what the gateway does is what the test sees."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key or "none", max_retries=0, timeout=60)

    def http(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)

    def containers(self) -> list[Container]:
        return self.engine.containers.list(all=True, filters={"label": f"com.docker.compose.project={PROJECT}"})

    def services(self) -> set[str]:
        """That have a container, running or not."""
        return {one.labels["com.docker.compose.service"] for one in self.containers()}

    def container(self, service: str) -> Container:
        return next(one for one in self.containers() if one.labels["com.docker.compose.service"] == service)


def environment() -> dict[str, str]:
    """The process's own, for a stack beside the user's own."""
    wanted = {"COMPOSE_PROJECT_NAME": PROJECT, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONPATH": ""}
    return {key: value for key, value in os.environ.items() if key not in ("DEPLOYMENT", "MAKEFLAGS")} | wanted


def await_condition(condition: Callable[[], bool], *, seconds: float, what: str | Callable[[], str]) -> float:
    """Waits until the condition holds; returns the seconds it took, or fails the test.

    The limit is one of the time in which the machine runs. ``what`` may be a function, asked when the test fails.
    """
    started = time.monotonic()
    wait_until(condition, seconds=seconds, what=what, every=0.2, clock=running_seconds)
    return time.monotonic() - started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the default deployment's tests, which start and end a stack in the clone that all others share.

    Then those of bundles, whose stack on another Docker Engine has the machine to itself until the shared one is up,
    and those of models, whose stack is their own.
    """
    first = ("test_default.py", "test_bundle.py", "test_models.py")
    places = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted(
        (items[place] for place in places),
        key=lambda item: first.index(item.path.name) if item.path.name in first else len(first),
    )
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> list[str]:
    """Lines that a test wants to be read: what it measured. They are printed before pytest's closing line."""
    return request.config.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the figures."""
    for line in terminalreporter.config.stash.get(FIGURES, []):
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # `make` inside the clone runs what is under test, without installing it again.
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return Clone(folder=folder)


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="session")
def stack(clone: Clone, docker_client: docker.DockerClient) -> Iterator[Stack]:
    """Two models, three engines, with keys. Whatever a test does to it, it mends."""
    clone.vllmstack("up", DEPLOYMENT, seconds=UP_SECONDS)
    yield Stack(clone=clone, engine=docker_client, url="http://127.0.0.1:18080", key=KEY)
    clone.vllmstack("down", "--delete-data")
