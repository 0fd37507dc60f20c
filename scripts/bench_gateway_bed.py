"""Where the gateway's cost is measured: containers with cores of their own, and what each of them used.

The gateway under test has one core; client and upstreams have the others. Everything is in one network namespace, that
of an idle container, and reached by its address there: Docker's bridge, its packet filters and the devices that every
container has cost as much as a proxy does, and are the host's. ``bridge=True`` gives each a namespace of its own.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import docker
from docker.models.containers import Container

from vllmstack.deployment.model import Deployment
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import listen_port, render_gateway

SERVICES = ("engine-smoke-1", "engine-smoke-2")
PREFIX = "vllmstack-bench-gateway-"
START_SECONDS = 30.0
PATH = "/v1/chat/completions"

# Answers at once, whatever is asked; the time in the metrics says that the engine is not stuck.
FIXED_UPSTREAM = """
pid /tmp/nginx.pid;
worker_processes 1;
error_log stderr error;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 100000000;
    client_body_buffer_size 1m;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    default_type application/json;
    server {
        listen 8000;
        location = /metrics {
            default_type text/plain;
            return 200 'vllm:num_requests_running{engine="0"} 1\\nvllm:generation_tokens_total{engine="0"} $msec\\n';
        }
        location = /v1/models { return 200 '{"object":"list","data":[{"id":"smoke","object":"model","created":1}]}'; }
        location / { return 200 '__ANSWER__'; }
    }
}
"""

# What anyone would write who only wants requests spread: the least that nginx must do.
PLAIN_PROXY = """
pid /tmp/nginx.pid;
worker_processes __WORKERS__;
error_log stderr error;
events { worker_connections 8192; }
http {
    access_log off;
    keepalive_requests 100000000;
    client_body_buffer_size 1m;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    resolver 127.0.0.11 valid=1s ipv6=off;
    upstream engines {
        zone engines 256k;
        least_conn;
        server engine-smoke-1:8000 resolve;
        server engine-smoke-2:8000 resolve;
        keepalive 64;
    }
    server {
        listen 8081;
        location / {
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_pass http://engines;
        }
    }
}
"""

ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1, "model": "smoke",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 200}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 50, "total_tokens": 550},
    }
)  # fmt: skip


class Subject(Protocol):
    """What is measured."""

    @property
    def url(self) -> str:
        """Where clients reach it."""

    def cpu_seconds(self) -> float:
        """Of all its processes, since it started."""


@dataclass(frozen=True, slots=True)
class ContainerSubject:
    """A gateway in a container: its control group has counted."""

    container: Container
    url: str

    def cpu_seconds(self) -> float:
        """User and system time."""
        return float(self._stats()["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9

    def memory_bytes(self) -> int:
        """What it holds: all of the group's memory but file pages that could be dropped, as `docker stats` shows it."""
        memory = self._stats()["memory_stats"]
        droppable = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
        return int(memory["usage"] - droppable)

    def _stats(self) -> dict[str, Any]:
        stats: Any = self.container.stats(stream=False, one_shot=True)
        return dict(stats)


@dataclass(frozen=True, slots=True)
class ProcessSubject:
    """A router on this host: it and its children."""

    process: "subprocess.Popen[bytes]"
    url: str

    def cpu_seconds(self) -> float:
        """User and system time, of those that have ended too."""
        ticks = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # the session that it leads
                    ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


class Bed:
    """Containers on one network; all of them end with it. Root only: others may not enter a container's network.

    In one namespace both replicas are one server: it has two names.
    """

    def __init__(
        self, *, image: str, upstream_image: str, gateway_core: int, other_cores: Sequence[int], bridge: bool
    ) -> None:
        if os.geteuid() != 0:
            raise SystemExit("client and routers run in a container's network, which only root may enter")
        self._bridge = bridge
        self.gateway_core = str(gateway_core)
        self.other_cores = ",".join(map(str, other_cores))
        self._image = image
        self._upstream_image = upstream_image
        self._docker = docker.from_env()
        self._ending = ExitStack()
        self._replicas: list[Container] = []

    def __enter__(self) -> "Bed":
        self._network = self._docker.networks.create(PREFIX + uuid.uuid4().hex[:8], driver="bridge")
        self._ending.callback(self._network.remove)
        # Whose network the others share, or routers alone.
        self._idle = self._start("idle", self._upstream_image, self.gateway_core, ["sleep", "infinity"], {})
        self._idle.reload()
        return self

    @property
    def inside(self) -> list[str]:
        """The words before a command of this host that make it run where the gateway's clients are."""
        return [] if self._bridge else self._enter()

    def _enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._idle.attrs['State']['Pid']}/ns/net"]

    def __exit__(self, *exception: object) -> None:
        self._ending.close()
        self._docker.close()

    def fixed_upstreams(self, folder: Path) -> None:
        """Starts both replicas, as nginx that answers one fixed text."""
        self._upstreams(
            self._image, ["nginx", "-c", "/bench/upstream.conf", "-g", "daemon off;"],
            {"upstream.conf": FIXED_UPSTREAM.replace("__ANSWER__", ANSWER)}, folder,
        )  # fmt: skip

    def streaming_upstreams(self, folder: Path, **options: float) -> None:
        """Starts both replicas, as a server that writes events at a steady pace."""
        source = Path(__file__).with_name("bench_gateway_upstream.py").read_text()
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._upstreams(
            self._upstream_image, ["python3", "-u", "/bench/upstream.py", *words], {"upstream.py": source}, folder
        )

    def address(self, container: Container) -> str:
        """On the network."""
        container = container if self._bridge else self._idle
        container.reload()
        return str(container.attrs["NetworkSettings"]["Networks"][self._network.name]["IPAddress"])

    def gateway(self, folder: Path, described: Deployment) -> ContainerSubject:
        """The gateway's image with this deployment's configuration; ready when it has found its replicas."""
        plan = Plan(deployment=described, replicas=place(described.models, [0]))
        for path, text in render_gateway(plan).items():
            write(folder / path, text)
        folders = {folder / "gateway": "/etc/vllmstack/gateway"}
        container = self._start("gateway", self._image, self.gateway_core, None, folders)
        url = f"http://{self.address(container)}:{listen_port(described.gateway)}"
        await_answer(url + "/ready", lambda: _log(container), self.inside)
        return ContainerSubject(container, url)

    def plain(self, folder: Path, workers: int) -> ContainerSubject:
        """The same nginx as a plain proxy."""
        write(folder / "plain.conf", PLAIN_PROXY.replace("__WORKERS__", str(workers)))
        command = ["nginx", "-c", "/bench/plain.conf", "-g", "daemon off;"]
        container = self._start("plain", self._image, self.gateway_core, command, {folder: "/bench"})
        url = f"http://{self.address(container)}:8081"
        await_answer(url + "/health", lambda: _log(container), self.inside)
        return ContainerSubject(container, url)

    def router(self, command: Sequence[str], port: int) -> ProcessSubject:
        """A router, a program of this host, in the idle container's network."""
        host = self.address(self._idle)
        words = [
            *self._enter(), "taskset", "--cpu-list", self.gateway_core, *command, "--host", host, "--port", str(port),
        ]  # fmt: skip
        log = subprocess.DEVNULL
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

        def end() -> None:
            os.killpg(process.pid, 9)
            process.wait()

        self._ending.callback(end)
        url = f"http://{host}:{port}"
        await_answer(url + "/health", lambda: f"{' '.join(command)} (status {process.poll()})", self.inside)
        return ProcessSubject(process, url)

    def upstream_urls(self) -> list[str]:
        """Where the replicas are, for a client or a router on this host."""
        return [f"http://{self.address(container)}:8000" for container in self._replicas]

    def _upstreams(self, image: str, command: Sequence[str], files: dict[str, str], folder: Path) -> None:
        for name, text in files.items():
            write(folder / name, text)
        for service in SERVICES if self._bridge else SERVICES[:1]:
            self._replicas.append(self._start(service, image, self.other_cores, command, {folder: "/bench"}))
        for url in self.upstream_urls():
            await_answer(url + "/health", lambda: "\n".join(map(_log, self._replicas)), self.inside)

    def _start(
        self, service: str, image: str, cores: str, command: Sequence[str] | None, folders: dict[Path, str]
    ) -> Container:
        shares = not self._bridge and service != "idle"
        container = self._docker.containers.create(
            image,
            list(command) if command else None,
            name=f"{PREFIX}{uuid.uuid4().hex[:8]}-{service}",
            network_mode=f"container:{self._idle.id}" if shares else "none",
            volumes={str(folder): {"bind": inside, "mode": "ro"} for folder, inside in folders.items()},
            cpuset_cpus=cores,
            healthcheck={"test": ["NONE"]},  # the image's own would be counted
            tmpfs={"/tmp": "mode=1777,size=256m"},  # noqa: S108 - the container's own
        )
        self._ending.callback(container.remove, force=True)
        if not shares:
            self._docker.networks.get("none").disconnect(container)
            self._network.connect(container, aliases=[service] if self._bridge else list(SERVICES))
        container.start()
        return container


def write(file: Path, text: str) -> None:
    """Readable for whatever user a container runs as."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def await_answer(url: str, why: Callable[[], str], inside: Sequence[str]) -> None:
    """Returns once a GET is answered with 200; ``inside`` are the words that make a command run in the right network.

    Raises:
        SystemExit: not within half a minute; ``why`` says more.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        words = [*inside, "curl", "--silent", "--fail", "--output", "/dev/null", "--max-time", "2", url]
        asked = subprocess.run(words, check=False)
        if asked.returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"{url} does not answer:\n{why()[-3000:]}")


def _log(container: Container) -> str:
    return str(container.logs().decode())
