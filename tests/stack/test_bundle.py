"""A bundle on a host without any network: a Docker Engine of its own in a namespace that has only a loopback device.

Nothing there can reach a registry, a package index or the hub: not `vllmstack load`, not the daemon, no container.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors
import pytest
import requests.exceptions

from tests.stack.conftest import UP_SECONDS, Clone, await_condition, environment

LOOPBACK_UP = """\
import fcntl, socket, struct
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40  # netdevice(7)
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sH", b"lo", IFF_UP | IFF_RUNNING))
"""
ASK = """\
import json, urllib.request
body = {"model": "smoke", "temperature": 0, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
request = urllib.request.Request(
    "http://127.0.0.1:8000/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
)
with urllib.request.urlopen(request, timeout=60) as answer:
    print(json.load(answer)["choices"][0]["message"]["content"])
"""
REACH_OUT = """\
import socket
try:
    socket.create_connection(("1.1.1.1", 443), timeout=10)
except OSError as error:
    print(error.strerror)
"""


@dataclass(frozen=True, kw_only=True)
class OfflineHost:
    """Processes in it have a loopback device and its Docker Engine, and nothing else beyond this machine's disk."""

    folder: Path
    namespace: str

    @property
    def socket(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def run(
        self, *command: str, folder: Path | None = None, seconds: float = 120, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["nsenter", f"--net={self.namespace}", "--", *command],
            cwd=folder or self.folder, env=environment() | {"DOCKER_HOST": self.socket},
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def answers(self) -> bool:
        """Whether its Docker Engine does."""
        try:
            with contextlib.closing(docker.DockerClient(base_url=self.socket)) as engine:
                return engine.ping()
        except (docker.errors.DockerException, requests.exceptions.RequestException):
            return False

    def remove_containers(self) -> None:
        """At once; killed with their engine they would leave their control groups."""
        with contextlib.closing(docker.DockerClient(base_url=self.socket)) as engine:
            for container in engine.containers.list(all=True):
                container.remove(force=True)

    def images(self) -> dict[str, str]:
        """Ids by name."""
        with contextlib.closing(docker.DockerClient(base_url=self.socket)) as engine:
            return {name: str(image.id) for image in engine.images.list() for name in image.tags}


@pytest.fixture(scope="module")
def offline_host() -> Iterator[OfflineHost]:
    programs = [name for name in ("dockerd", "unshare", "nsenter") if shutil.which(name) is None]
    if os.geteuid() != 0 or programs:
        pytest.skip(f"a Docker Engine in a namespace of its own needs root and {', '.join(programs) or 'nothing else'}")
    # A short path: a socket's may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="vllmstack-offline-"))
    options = [
        f"--{name}={folder}/{place}"
        for name, place in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "docker.pid"))
    ]
    own_containerd = ["--containerd-namespace=vllmstack-test", "--containerd-plugins-namespace=vllmstack-test-plugins"]
    with (folder / "dockerd.log").open("w") as log:
        # A process namespace too: when its first process ends, every container of it does.
        engine = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
             "dockerd", f"--host=unix://{folder}/docker.sock", *options, *own_containerd],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    host = OfflineHost(folder=folder, namespace=f"/proc/{engine.pid}/ns/net")
    try:
        await_condition(lambda: host.answers() or engine.poll() is not None, seconds=60, what="an engine that answers")
        if engine.poll() is not None:
            pytest.fail(f"dockerd ended:\n{(folder / 'dockerd.log').read_text()[-2000:]}")
        host.run(sys.executable, "-c", LOOPBACK_UP)
        yield host
        host.remove_containers()
    finally:
        engine.kill()  # unshare lets no other signal through; all of its process namespace ends with it
        engine.wait(30)
        await_condition(lambda: _is_removed(folder), seconds=60, what=f"{folder} can be removed")


def _is_removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@pytest.fixture(scope="module")
def bundle(clone: Clone, offline_host: OfflineHost, figures: list[str]) -> Path:
    file = offline_host.folder / "cpu-smoke.bundle.tar"
    clone.run("git", "init", "--quiet")  # it is a copy of the files that git knows, without git
    try:
        clone.run("git", "add", ".")
        started = time.monotonic()
        clone.vllmstack("bundle", "cpu-smoke", "--with-project", "--output", str(file), seconds=UP_SECONDS)
    finally:
        shutil.rmtree(clone.folder / ".git")
    figures.append(
        f"`vllmstack bundle cpu-smoke --with-project`: {file.stat().st_size / 1e9:.2f} GB in "
        f"{time.monotonic() - started:.0f} s"
    )
    return file


@pytest.fixture(scope="module")
def loaded(bundle: Path, offline_host: OfflineHost, figures: list[str]) -> "subprocess.CompletedProcess[str]":
    """What `vllmstack load` said, in the clone that came with the bundle."""
    folder = offline_host.folder / "vllmstack"
    offline_host.run("tar", "-xf", bundle.name, folder.name)
    offline_host.run("scripts/bootstrap.sh", folder=folder)
    started = time.monotonic()
    done = offline_host.run(".venv/bin/vllmstack", "load", f"../{bundle.name}", folder=folder, seconds=900)
    figures.append(
        f"`vllmstack load` without any network, until two replicas answer: {time.monotonic() - started:.0f} s"
    )
    return done


def test_the_host_has_no_way_out(offline_host: OfflineHost) -> None:
    assert offline_host.run(sys.executable, "-c", REACH_OUT).stdout == "Network is unreachable\n"


def test_a_bundle_comes_up_without_any_network_and_answers(
    loaded: "subprocess.CompletedProcess[str]", offline_host: OfflineHost
) -> None:
    answer = offline_host.run(sys.executable, "-c", ASK).stdout

    assert "Paris" in answer
    assert "2 replicas answer" in loaded.stderr
    for word in ("pulling", "building", "cannot be pulled", "debootstrap"):
        assert word not in loaded.stderr, loaded.stderr


def test_loading_it_again_finds_all_of_it_there(
    loaded: "subprocess.CompletedProcess[str]", bundle: Path, offline_host: OfflineHost, figures: list[str]
) -> None:
    before = offline_host.images()
    started = time.monotonic()

    done = offline_host.run(
        ".venv/bin/vllmstack", "load", f"../{bundle.name}", folder=offline_host.folder / "vllmstack", seconds=300
    )

    figures.append(f"the same again, with all of it there: {time.monotonic() - started:.0f} s")
    assert "loading" not in done.stderr
    assert "as it was in" in done.stderr
    assert offline_host.images() == before


def test_half_a_bundle_is_one_line_and_what_runs_goes_on(
    loaded: "subprocess.CompletedProcess[str]", bundle: Path, offline_host: OfflineHost
) -> None:
    before = offline_host.images()
    os.truncate(bundle, bundle.stat().st_size // 2)

    done = offline_host.run(
        ".venv/bin/vllmstack", "load", f"../{bundle.name}", folder=offline_host.folder / "vllmstack", check=False
    )

    assert done.returncode == 1
    assert done.stderr.startswith(
        f"vllmstack: ../{bundle.name}: is cut short: its end with the checksums is missing\n  hint: "
    )
    assert offline_host.images() == before
    assert "Paris" in offline_host.run(sys.executable, "-c", ASK).stdout
