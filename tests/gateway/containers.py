"""The gateway's own image with a really rendered configuration, and replicas whose faults the test chooses."""

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx2
import yaml
from docker.models.containers import Container
from docker.models.networks import Network

from tests.awaiting import wait_until
from tests.standstill import running_seconds
from vllmstack.deployment.model import Deployment
from vllmstack.planning.placement import place
from vllmstack.planning.plan import Plan
from vllmstack.render.gateway import METRICS_PORT, listen_port, render_gateway

HTTP = httpx2.Client(verify=False, timeout=20, limits=httpx2.Limits(max_keepalive_connections=0))
"""What fixtures ask with; it loads no certificates, which costs more than a request."""

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["gateway"]
GATEWAY_IMAGE = "vllmstack/gateway:test"
REPLICA_IMAGE = "vllmstack/gateway-test-replica"
PREFIX = "vllmstack-test-gateway-"


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits until the condition holds; fails after ``seconds`` in which the machine ran."""
    wait_until(condition, seconds=seconds, every=0.02, clock=running_seconds)


def build(client: docker.DockerClient, tag: str, folder: Path) -> None:
    """Builds an image on the Debian that this machine has."""
    base = "debian:trixie-slim"
    try:
        client.images.get("vllmstack/debian:trixie")
        base = "vllmstack/debian:trixie"
    except docker.errors.ImageNotFound:
        pass
    command = ["docker", "build", "--quiet", "--tag", tag, "--build-arg", f"BASE={base}", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr


def address(container: Container, network: Network) -> str:
    """The container's own address, which the host of a bridge network reaches."""
    container.reload()
    return str(container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"])


def deployment(
    model: dict[str, Any] | None = None, splits: tuple[dict[str, Any], ...] = (), **gateway: Any
) -> Deployment:
    """``smoke`` on two replicas, ``org/Other:1`` on one, and ``absent``, whose only replica does not exist.

    ``model`` has more settings of ``smoke``; the rest is the gateway's.
    """
    source = {"directory": "unused"}
    models = [
        {"name": "smoke", "aliases": ["tiny", "org/tiny"], "engine": "vllm-cpu", "replicas": 2, "source": source}
        | (model or {}),
        {"name": "org/Other:1", "engine": "vllm-cpu", "source": source},
        {"name": "absent", "engine": "vllm-cpu", "source": source, "admission": {"hold_seconds": 0}},
    ]
    return Deployment.model_validate({"name": "test", "models": models, "splits": splits, "gateway": gateway})


def plan(described: Deployment) -> Plan:
    """As the CLI makes it."""
    return Plan(deployment=described, replicas=place(described.models, [0]))


class Replica:
    """A controllable stand-in for one engine."""

    def __init__(self, client: docker.DockerClient, network: Network, service: str) -> None:
        self.service = service
        self._network = network
        name = f"{PREFIX}{uuid.uuid4().hex[:8]}-{service}"
        # The Compose service's name is an alias on the network; the host name tells replicas apart in answers.
        self.container = client.containers.create(REPLICA_IMAGE, name=name, hostname=service, network_mode="none")
        client.networks.get("none").disconnect(self.container)
        network.connect(self.container, aliases=[service])

    def start(self) -> None:
        """Returns when it answers."""
        self.container.start()
        eventually(self._answers)

    def stop(self) -> None:
        """As `kill -9` does."""
        self.container.kill()
        self.container.wait()

    def unplug(self) -> None:
        """Takes its network away; its processes notice nothing."""
        self._network.disconnect(self.container)

    def plug(self) -> None:
        """As before."""
        self._network.connect(self.container, aliases=[self.service])

    def control_when_started(self, **state: Any) -> None:
        """Starts it with a state of the test's from the first moment that it answers."""
        self.container.start()
        eventually(lambda: self._takes(state))

    def _takes(self, state: dict[str, Any]) -> bool:
        try:
            self.control(**state)
        except (httpx2.TransportError, httpx2.InvalidURL):
            return False
        return True

    def control(self, **state: Any) -> None:
        """Sets what all following requests meet."""
        HTTP.post(f"{self._url}/control", json=state).raise_for_status()

    def reset(self) -> None:
        """Forgets what was seen and mends what was broken; one that refuses is waited for."""
        mended = {"mode": "ok", "health": 200, "stuck": False, "embeds": False, "metrics": {}}
        eventually(lambda: self._takes(mended | {"requests": [], "aborted": 0, "tokens": 0}))

    def seen(self) -> dict[str, Any]:
        """Requests, aborted and active counts."""
        state: dict[str, Any] = HTTP.get(f"{self._url}/control").json()
        return state

    @property
    def _url(self) -> str:
        return f"http://{address(self.container, self._network)}:8000"

    def _answers(self) -> bool:
        try:
            return HTTP.get(f"{self._url}/health", timeout=1).status_code == 200
        except httpx2.TransportError:
            return False


class GatewayContainer:
    """The image, hardened as compose.yaml hardens it, with one rendered configuration and its secrets."""

    def __init__(
        self,
        client: docker.DockerClient,
        network: Network,
        folder: Path,
        described: Deployment,
        secrets: dict[str, str] | None = None,
    ) -> None:
        self.network = network
        self.folder = folder
        for path, text in render_gateway(plan(described)).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        volumes = {str(folder / "gateway"): {"bind": "/etc/vllmstack/gateway", "mode": "ro"}}
        for name, text in (secrets or {}).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o444)
            volumes[str(folder / name)] = {"bind": f"/run/secrets/{name}", "mode": "ro"}
        self.container = client.containers.create(
            GATEWAY_IMAGE,
            name=f"{PREFIX}{uuid.uuid4().hex[:8]}-gateway",
            network=network.name,
            volumes=volumes,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "mode=1777,size=256m"},  # noqa: S108 - the container's own
            sysctls=GATEWAY["sysctls"],
            pids_limit=64,
        )
        self._scheme = "https" if described.gateway.tls else "http"
        self.port = listen_port(described.gateway)

    def start(self) -> "GatewayContainer":
        """Returns when it has found its replicas: nginx looks their addresses up after it has started."""
        self.container.start()
        eventually(self.alive)
        eventually(lambda: sum(v for name, v in self.metrics().items() if name.startswith("replica_answers")) == 3)
        return self

    @property
    def host(self) -> str:
        """Its address."""
        return address(self.container, self.network)

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"{self._scheme}://{self.host}:{self.port}"

    @property
    def metrics_url(self) -> str:
        """What Prometheus scrapes."""
        return f"http://{self.host}:{METRICS_PORT}/metrics"

    def client(self, **options: Any) -> httpx2.Client:
        """A client that trusts whatever certificate the test made."""
        return httpx2.Client(base_url=self.url, timeout=20, verify=False, **options)

    def metrics(self) -> dict[str, float]:
        """Value by `name{labels}`, without the common prefix of the names."""
        text = HTTP.get(self.metrics_url).text
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("vllmstack_gateway_"): float(value) for name, value in lines}

    def logs(self) -> str:
        """Everything it wrote."""
        return str(self.container.logs().decode())

    def requests_logged(self) -> list[dict[str, Any]]:
        """The access log."""
        return [json.loads(line) for line in self.container.logs(stderr=False).decode().splitlines()]

    def logged(self, *answers: httpx2.Response) -> list[dict[str, Any]]:
        """The lines of these answers: nginx counts and logs a request after the client has all of its answer."""
        asked = [answer.headers["X-Request-Id"] for answer in answers]

        def lines() -> dict[str, dict[str, Any]]:
            return {line["request_id"]: line for line in self.requests_logged()}

        eventually(lambda: set(asked) <= set(lines()))
        return [lines()[name] for name in asked]

    def reload(self) -> None:
        """What `docker compose kill -s HUP gateway` does."""
        before = self.logs().count("reconfiguring")
        self.container.kill(signal="SIGHUP")
        eventually(lambda: self.logs().count("reconfiguring") > before)

    def alive(self) -> bool:
        try:
            return HTTP.get(self.metrics_url, timeout=1).status_code == 200
        except (httpx2.TransportError, httpx2.InvalidURL):
            self.container.reload()
            assert self.container.status != "exited", self.logs()
            return False
