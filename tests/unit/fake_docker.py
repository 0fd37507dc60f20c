"""A Docker daemon as the SDK shows it: made by a test, it answers and remembers what it was asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker
import docker.errors

from vllmstack.host.replica_roll import IDLE_STOP_SECONDS
from vllmstack.host.request_logs import moment


@dataclass(kw_only=True)
class FakeContainer:
    """One container of the stack, with what `docker inspect` would say."""

    service: str
    model: str = ""
    replica: int = 0
    gpus: str = ""
    status: str = "running"
    health: str = "healthy"
    health_line: str = ""
    restarts: int = 0
    exit_code: int = 0
    out_of_memory: bool = False
    host_port: int | None = None
    log: tuple[str, ...] = ()
    metrics: list[str] = field(default_factory=list)
    """Answers of its /metrics, one a reading; none: it does not answer."""
    warm: tuple[int, str] | Exception = (0, "200 {}")
    """Exit status and output of the request for a first token."""
    asked: list[list[str]] = field(default_factory=list)
    """What the health program was called with."""
    preloads: str = ""
    """Its label: the model whose files it brings."""
    project: str = "vllmstack"
    id: str = ""
    """The service's name, unless several containers of one service come one after the other."""
    one_off: bool = False
    """Of `docker compose run`."""
    digest: str = ""
    """Its label: what it was made from."""
    image: str = ""
    """The image's id."""
    started_at: str = "2026-11-21T07:55:00.5Z"
    stop_seconds: int = 45
    stopped_within: int | None = None
    """The seconds that it got when it was stopped."""
    startup_seconds: int = 1800
    programs: dict[str, Callable[[list[str]], tuple[int, str]]] = field(default_factory=dict)
    """What runs inside, by name: exit status and output for its arguments."""
    processes: list[tuple[str, str]] = field(default_factory=list)
    """Process id and title, as `docker top` shows them."""
    removed: bool = False

    def __post_init__(self) -> None:
        self.id = self.id or self.service

    @property
    def labels(self) -> dict[str, str]:
        own = {"vllmstack.model": self.model, "vllmstack.replica": str(self.replica), "vllmstack.gpus": self.gpus}
        compose = {
            "com.docker.compose.project": self.project,
            "com.docker.compose.service": self.service,
            "com.docker.compose.oneoff": str(self.one_off),
        }
        own = {"vllmstack.preload": self.preloads} if self.preloads else own if self.model else {}
        return compose | own | ({"vllmstack.config": self.digest} if self.digest else {})

    @property
    def attributes(self) -> dict[str, Any]:
        checks = [{"Output": f"{self.health_line}\n"}] if self.health_line else []
        bindings = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.host_port)}]} if self.host_port else {}
        return {
            "Id": self.id,
            "Image": self.image,
            "Config": {
                "Labels": self.labels,
                "StopTimeout": self.stop_seconds,
                "Healthcheck": {"StartPeriod": self.startup_seconds * 1_000_000_000},
            },
            "HostConfig": {"PortBindings": bindings},
            "RestartCount": self.restarts,
            "State": {
                "Status": self.status,
                "ExitCode": self.exit_code,
                "OOMKilled": self.out_of_memory,
                "StartedAt": self.started_at,
                **({"Health": {"Status": self.health, "Log": checks}} if self.health else {}),
            },
        }

    def logs(
        self,
        *,
        stream: bool,
        follow: bool = False,
        tail: int = 100_000,
        since: float = 0,
        until: float = 0,
        timestamps: bool = False,
    ) -> bytes | Iterator[bytes]:
        """Lines have their time stamps in ``log`` where a test asks for them."""
        if stream:
            assert follow
            text = "".join(f"{line}\n" for line in self.log).encode()
            # As Docker does it: in pieces that know nothing of lines.
            return iter([text[start : start + 100] for start in range(0, len(text), 100)])
        lines = self.log
        if timestamps:
            lines = tuple(line for line in lines if since <= moment(line.partition(" ")[0]) <= (until or float("inf")))
        return "".join(f"{line}\n" for line in lines[-tail:]).encode()

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self.exit_code}

    def stop(self, *, timeout: int) -> None:
        assert self.preloads or timeout in (self.stop_seconds, min(self.stop_seconds, IDLE_STOP_SECONDS))
        self.stopped_within = timeout
        self.status, self.health = "exited", "unhealthy"

    def remove(self, *, force: bool) -> None:
        assert force
        self.removed = True

    def top(self, *, ps_args: str) -> dict[str, Any]:
        assert ps_args == "-eo pid,args"
        return {"Titles": ["PID", "COMMAND"], "Processes": [list(row) for row in self.processes]}

    def exec_run(self, command: list[str], *, stderr: bool = True) -> SimpleNamespace:
        if command[0] in self.programs:
            status, said = self.programs[command[0]](command[1:])
            return SimpleNamespace(exit_code=status, output=said.encode())
        assert command[:2] == ["python3", "/etc/vllmstack/health.py"]
        self.asked.append(command[2:])
        if command[2] == "warm":
            if isinstance(self.warm, Exception):
                raise self.warm
            status, said = self.warm
            return SimpleNamespace(exit_code=status, output=said.encode())
        assert (command[2:], stderr) == (["metrics"], False)
        if not self.metrics:
            return SimpleNamespace(exit_code=1, output=b"")
        return SimpleNamespace(exit_code=0, output=self.metrics.pop(0).encode())


class FakeDocker:
    """The parts of `docker.DockerClient` that vllmstack uses; attributes are set by tests."""

    def __init__(self, root: Path) -> None:
        self.stack: list[FakeContainer] = []
        self.images_here: dict[str, dict[str, str]] = {}
        """Labels by reference."""
        self.registry: dict[str, list[dict[str, Any]] | Exception] = {}
        """What a pull of a reference gives: events, or the error it ends with. Others cannot be found."""
        self.pulled: list[str] = []
        self.runtimes = ["io.containerd.runc.v2", "runc"]
        self.server_version = "26.1.5+dfsg1"
        self.root = root
        self.api = SimpleNamespace(containers=self._summaries, inspect_container=self._inspect, pull=self._pull)
        self.containers = SimpleNamespace(get=self._container)
        self.images = SimpleNamespace(get=self._image, list=self._images)

    @property
    def client(self) -> docker.DockerClient:
        return cast(docker.DockerClient, self)

    def ping(self) -> bool:
        return True

    def info(self) -> dict[str, Any]:
        return {"DockerRootDir": str(self.root), "Runtimes": {name: {} for name in self.runtimes}}

    def version(self) -> dict[str, str]:
        return {"Version": self.server_version}

    def look(self) -> list[FakeContainer]:
        """Every container there is; a test may override it to let time pass."""
        return self.stack

    def _summaries(self, *, all: bool, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        wanted = dict(label.split("=", 1) for label in filters["label"])
        found = [one for one in self.look() if not one.removed and (all or one.status == "running")]
        return [{"Id": one.id, "Names": [f"/{one.id}"]} for one in found if wanted.items() <= one.labels.items()]

    def _container(self, identity: str) -> FakeContainer:
        for one in self.stack:
            if one.id == identity:
                return one
        raise docker.errors.NotFound(f"No such container: {identity}")

    def _inspect(self, identity: str) -> dict[str, Any]:
        return self._container(identity).attributes

    def _image(self, reference: str) -> SimpleNamespace:
        if reference not in self.images_here:
            raise docker.errors.ImageNotFound(f"No such image: {reference}")
        return SimpleNamespace(labels=self.images_here[reference], id=f"id of {reference}")

    def _images(self, *, name: str) -> list[str]:
        return [reference for reference in self.images_here if reference.rpartition(":")[0] == name]

    def _pull(self, reference: str, *, stream: bool, decode: bool) -> Iterator[dict[str, Any]]:
        assert stream
        assert decode
        self.pulled.append(reference)
        answer = self.registry.get(reference, docker.errors.NotFound("manifest unknown"))
        if isinstance(answer, Exception):
            raise answer
        yield from answer
        if not any("error" in event for event in answer):
            self.images_here[reference] = {}
