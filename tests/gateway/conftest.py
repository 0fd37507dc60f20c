"""One network, three replicas and a gateway for the whole session; a test that needs limits starts its own gateway."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.networks import Network

from tests.gateway.containers import (
    GATEWAY_IMAGE,
    PREFIX,
    REPLICA_IMAGE,
    ROOT,
    GatewayContainer,
    Replica,
    build,
    deployment,
)

StartGateway = Callable[..., GatewayContainer]


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The Docker daemon with both images built."""
    client = docker.from_env()
    build(client, GATEWAY_IMAGE, ROOT / "docker/gateway")
    build(client, REPLICA_IMAGE, Path(__file__).parent / "replica")
    yield client
    client.close()


@pytest.fixture(scope="session")
def network(engine: docker.DockerClient) -> Iterator[Network]:
    """A network of its own, as Compose makes one."""
    made = engine.networks.create(f"{PREFIX}{uuid.uuid4().hex[:8]}", driver="bridge")
    yield made
    made.remove()


@pytest.fixture(scope="session")
def fleet(engine: docker.DockerClient, network: Network) -> Iterator[dict[str, Replica]]:
    """The replicas by service."""
    services = ("engine-smoke-1", "engine-smoke-2", "engine-org-other-1-1")
    replicas = {service: Replica(engine, network, service) for service in services}
    try:
        for replica in replicas.values():
            replica.start()
        yield replicas
    finally:
        for replica in replicas.values():
            replica.container.remove(force=True)


@pytest.fixture
def replicas(fleet: dict[str, Replica]) -> dict[str, Replica]:
    """The replicas, mended."""
    for replica in fleet.values():
        replica.reset()
    return fleet


@pytest.fixture(scope="session")
def shared_gateway(
    engine: docker.DockerClient, network: Network, fleet: dict[str, Replica], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayContainer]:
    """A gateway without keys or limits."""
    gateway = GatewayContainer(engine, network, tmp_path_factory.mktemp("gateway"), deployment())
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.container.remove(force=True)


@pytest.fixture
def gateway(shared_gateway: GatewayContainer, replicas: dict[str, Replica]) -> GatewayContainer:
    """The shared gateway with mended replicas."""
    return shared_gateway


@pytest.fixture
def start_gateway(
    engine: docker.DockerClient, network: Network, replicas: dict[str, Replica], tmp_path: Path
) -> Iterator[StartGateway]:
    """Starts gateways with settings, secrets and more of nginx's server of the test's own."""
    started: list[GatewayContainer] = []

    def start(secrets: dict[str, str] | None = None, server: str = "", **settings: Any) -> GatewayContainer:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(GatewayContainer(engine, network, folder, deployment(**settings), secrets))
        listen = folder / "gateway/listen.conf"
        listen.write_text(listen.read_text() + server)
        return started[-1].start()

    yield start
    for gateway in started:
        gateway.container.remove(force=True)
