"""What a deployment needs of the machine: each lack with its exact message and mend."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.conftest import Clone
from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.deployment.model import Deployment
from vllmstack.host import checks
from vllmstack.host.checks import GIB, Check, docker_checks, preflight
from vllmstack.host.docker_engine import DockerState
from vllmstack.planning.dimensions import public_models
from vllmstack.planning.inventory import Inventory, SeenGpu
from vllmstack.planning.plan import Plan, make_plan

CPU = {"name": "smoke", "source": {"directory": "/models/smoke"}, "engine": "vllm-cpu"}
HUB = {"name": "llama", "source": {"hub": "org/llama"}}
LARGE = "meta-llama/Llama-2-70b-chat-hf"


def gpu(number: int) -> SeenGpu:
    return SeenGpu(id=number, name="NVIDIA L40S", memory_bytes=48 * GIB, used_bytes=0, compute_capability=(8, 9))


def plan(*models: dict[str, Any], gpus: int = 0, **changes: Any) -> Plan:
    deployment = Deployment.model_validate({"name": "test", "models": list(models) or [CPU]} | changes)
    machine = Inventory(memory_bytes=256 * GIB, core_ids=(0, 1), gpus=tuple(map(gpu, range(gpus))))
    dimensions = {model.name: public_models().get(str(model.source.hub)) for model in deployment.models}
    return make_plan(deployment, machine, dimensions)


def failures(clone: Clone, of: Plan, daemon: FakeDocker) -> list[str]:
    return [str(check.problem) for check in preflight(clone.project, of, daemon.client) if check.failed]


def named(clone: Clone, of: Plan, daemon: FakeDocker, name: str) -> Check:
    (found,) = [check for check in preflight(clone.project, of, daemon.client) if check.name == name]
    return found


@pytest.fixture(autouse=True)
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is free on every disk: 500 GiB, unless a test says otherwise."""
    free = SimpleNamespace(total=1000 * GIB, used=0, free=500 * GIB)

    def usage(path: Path) -> SimpleNamespace:
        assert path.exists()
        return free

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return free


@pytest.fixture
def port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        yield number


def test_nothing_is_missing_on_a_machine_that_has_all(clone: Clone, daemon: FakeDocker, port: int) -> None:
    of = plan(gateway={"port": port})

    assert [(check.name, check.found) for check in preflight(clone.project, of, daemon.client)] == [
        (f"port {port}", "free"),
        ("disk", "500 GiB free"),
    ]
    assert failures(clone, of, daemon) == []


def test_a_port_that_another_program_listens_on(clone: Clone, daemon: FakeDocker, taken: int) -> None:
    assert failures(clone, plan(gateway={"port": taken}), daemon) == [
        f"port {taken}: needed free on 127.0.0.1, found address already in use\n"
        f"  hint: stop what listens there (`ss -ltnp 'sport = :{taken}'` names it), "
        "or set `gateway.port` in the deployment"
    ]


def test_the_port_of_the_stacks_own_gateway_is_no_obstacle(clone: Clone, daemon: FakeDocker, taken: int) -> None:
    daemon.stack = [FakeContainer(service="gateway", host_port=taken)]

    check = named(clone, plan(gateway={"port": taken}), daemon, f"port {taken}")

    assert check.good
    assert check.found == "in use by this stack's gateway"


def test_a_gateway_on_another_port_does_not_excuse_a_taken_one(clone: Clone, daemon: FakeDocker, taken: int) -> None:
    daemon.stack = [FakeContainer(service="gateway", host_port=1)]

    assert not named(clone, plan(gateway={"port": taken}), daemon, f"port {taken}").good


def test_a_stopped_gateway_holds_no_port(clone: Clone, daemon: FakeDocker, taken: int) -> None:
    daemon.stack = [FakeContainer(service="gateway", status="exited", host_port=taken)]

    assert not named(clone, plan(gateway={"port": taken}), daemon, f"port {taken}").good


def test_an_address_that_this_machine_does_not_have(clone: Clone, daemon: FakeDocker) -> None:
    of = plan(gateway={"address": "192.0.2.1", "api_keys_file": "/keys"})  # TEST-NET-1 (RFC 5737)

    assert failures(clone, of, daemon) == [
        "port 8000: needed an address of this machine, found 192.0.2.1, which no interface has\n"
        "  hint: set `gateway.address` in the deployment to one of those that `ip address` lists"
    ]


def test_a_port_that_only_root_may_open_is_left_to_dockerd(
    clone: Clone, daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checks.socket, "socket", Socket)  # type: ignore[attr-defined]

    assert named(clone, plan(gateway={"port": 80}), daemon, "port 80").good


def test_gpus_that_are_not_there(clone: Clone, daemon: FakeDocker, port: int) -> None:
    daemon.runtimes = ["nvidia", "runc"]

    assert failures(clone, plan(HUB | {"gpus": 2}, gateway={"port": port}), daemon) == [
        "GPUs: needed GPU 0, 1, found none\n"
        "  hint: install NVIDIA's driver, choose a deployment for fewer GPUs, or one with `engine: vllm-cpu`"
    ]


def test_gpus_that_were_only_assumed_for_the_plan_are_not_there(clone: Clone, daemon: FakeDocker) -> None:
    assumed = plan(HUB, gpu={"type": "L40S"})

    assert assumed.inventory
    assert assumed.inventory.gpus
    assert named(clone, assumed, daemon, "GPUs").found == "none"


def test_gpus_that_are_there_are_named(clone: Clone, daemon: FakeDocker) -> None:
    check = named(clone, plan(HUB | {"replicas": 2}, gpus=3), daemon, "GPUs")

    assert check.good
    assert (check.required, check.found) == ("GPU 0, 1", "GPU 0, 1, 2")


def test_a_daemon_without_nvidias_runtime(clone: Clone, daemon: FakeDocker, port: int) -> None:
    assert failures(clone, plan(HUB, gpus=1, gateway={"port": port}), daemon) == [
        "GPU access: needed the `nvidia` container runtime, found no such runtime in Docker\n"
        "  hint: install nvidia-container-toolkit, run `sudo nvidia-ctk runtime configure --runtime=docker` and "
        "restart Docker; or set `gpu: {access: cdi}`"
    ]


def test_a_machine_without_a_cdi_specification(
    clone: Clone, daemon: FakeDocker, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "CDI_FOLDERS", (tmp_path / "cdi", tmp_path / "nowhere"))
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi" / "README").touch()

    assert failures(clone, plan(HUB, gpus=1, gpu={"access": "cdi"}, gateway={"port": port}), daemon) == [
        "GPU access: needed a CDI specification, Docker 25 or newer, found no specification; Docker 26.1.5+dfsg1\n"
        "  hint: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    ]


def test_a_docker_that_does_not_know_cdi(
    clone: Clone, daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "CDI_FOLDERS", (tmp_path,))
    (tmp_path / "nvidia.yaml").touch()
    daemon.server_version = "20.10.24+dfsg1"

    check = named(clone, plan(HUB, gpus=1, gpu={"access": "cdi"}), daemon, "GPU access")

    assert check.failed
    assert check.found == f"{tmp_path}/nvidia.yaml; Docker 20.10.24+dfsg1"
    assert check.mend == "update Docker, or set `gpu: {access: nvidia}`"


def test_cdi_that_is_complete(
    clone: Clone, daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "CDI_FOLDERS", (tmp_path,))
    (tmp_path / "nvidia.json").touch()

    assert named(clone, plan(HUB, gpus=1, gpu={"access": "cdi"}), daemon, "GPU access").good


def test_a_model_on_cores_needs_no_gpu(clone: Clone, daemon: FakeDocker) -> None:
    names = [check.name for check in preflight(clone.project, plan(CPU), daemon.client)]

    assert names == ["port 8000", "disk"]


def test_a_disk_that_is_too_small_for_the_image(
    clone: Clone, daemon: FakeDocker, port: int, free_bytes: SimpleNamespace
) -> None:
    free_bytes.free = 3 * GIB

    assert failures(clone, plan(CPU, gateway={"port": port}), daemon) == [
        f"disk: needed 11 GiB free below {daemon.root}, found 3 GiB free\n"
        "  hint: free space there (`docker system df` shows what Docker keeps), or move Docker's data-root"
    ]


def test_an_image_that_is_there_needs_no_room(clone: Clone, daemon: FakeDocker, free_bytes: SimpleNamespace) -> None:
    free_bytes.free = 3 * GIB
    daemon.images_here = {"vllmstack/engine-cpu:0.32.0": {}}

    check = named(clone, plan(CPU), daemon, "disk")

    assert check.good
    assert check.required.startswith("1 GiB ")


def test_room_for_weights_is_advice_because_they_may_be_there_already(
    clone: Clone, daemon: FakeDocker, free_bytes: SimpleNamespace
) -> None:
    free_bytes.free = 100 * GIB
    daemon.images_here = {"vllm/vllm-openai:v0.32.0": {}}
    of = plan({"name": "llama", "source": {"hub": LARGE}, "gpus": 8, "serve": {"max_model_len": 2048}}, gpus=8)

    check = named(clone, of, daemon, "disk for weights")

    # 70 billion parameters of two bytes, and a GiB to work with.
    assert 128 <= int(check.required.split()[0]) <= 134
    assert (check.good, check.failed) == (False, False)
    assert named(clone, of, daemon, "disk").good


def test_a_data_root_that_is_not_there_yet_is_judged_by_its_parent(clone: Clone, daemon: FakeDocker) -> None:
    existing = daemon.root
    daemon.root = existing / "not" / "yet"

    assert named(clone, plan(CPU), daemon, "disk").required.endswith(f"below {existing}")


def test_a_gated_model_without_a_token(clone: Clone, daemon: FakeDocker, port: int) -> None:
    daemon.runtimes = ["nvidia"]
    gated = {"name": "llama", "source": {"hub": "org/llama", "gated": True}}

    assert failures(clone, plan(gated, gpus=1, gateway={"port": port}), daemon) == [
        "HF_TOKEN: needed a Hugging Face token for org/llama, found none\n"
        "  hint: accept the licence on the model's page, then `export HF_TOKEN=…` (it is kept in secrets/hub_token)"
    ]


def test_what_is_no_token_is_one_check_of_all(
    clone: Clone, daemon: FakeDocker, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.runtimes = ["nvidia"]
    monkeypatch.setenv("HF_TOKEN", "hf_one hf_two")
    gated = {"name": "llama", "source": {"hub": "org/llama", "gated": True}}

    assert failures(clone, plan(gated, gpus=1, gateway={"port": port}), daemon) == [
        "HF_TOKEN: needed a Hugging Face token for org/llama, found none: HF_TOKEN holds no token: that is one word of "
        "ASCII\n  hint: put the token there as the hub shows it, and nothing else"
    ]


def test_a_token_is_found_and_never_shown(clone: Clone, daemon: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    gated = {"name": "llama", "source": {"hub": "org/llama", "gated": True}}

    check = named(clone, plan(gated, gpus=1), daemon, "HF_TOKEN")

    assert check.good
    assert "hf_0123456789" not in str(check)


def test_all_that_is_missing_is_told_at_once(
    clone: Clone, daemon: FakeDocker, taken: int, free_bytes: SimpleNamespace
) -> None:
    free_bytes.free = 0
    gated = {"name": "llama", "source": {"hub": "org/llama", "gated": True}}

    of = plan(gated, gateway={"port": taken})

    assert [line.partition(":")[0] for line in failures(clone, of, daemon)] == [
        f"port {taken}",
        "GPUs",
        "GPU access",
        "disk",
        "HF_TOKEN",
    ]


def docker_state(**changes: str) -> DockerState:
    found = {"client": "26.1.5", "compose": "2.40.3", "buildx": "0.29.1", "server": "26.1.5", "complaint": ""}
    return DockerState(**(found | changes))


def test_a_complete_docker_passes() -> None:
    assert [(check.name, check.found, check.good) for check in docker_checks(docker_state())] == [
        ("Docker Engine", "26.1.5", True),
        ("Docker Compose", "2.40.3", True),
        ("buildx", "0.29.1", True),
    ]


INSTALL = "as root on Debian or Ubuntu `vllmstack up` installs it; elsewhere see Docker's manual"


@pytest.mark.parametrize(
    ("state", "name", "found", "mend"),
    [
        ({"client": "", "server": ""}, "Docker Engine", "none", INSTALL),
        (
            {"server": "", "complaint": "Cannot connect to the Docker daemon.\nIs it running?"},
            "Docker Engine",
            "Cannot connect to the Docker daemon.",
            "start the daemon: sudo systemctl start docker",
        ),
        (
            {"server": "", "complaint": "permission denied while trying to connect"},
            "Docker Engine",
            "permission denied while trying to connect",
            "sudo usermod -aG docker $USER, then log in again",
        ),
        ({"server": "19.03.15"}, "Docker Engine", "19.03.15", INSTALL),
        ({"compose": ""}, "Docker Compose", "none", INSTALL),
        ({"compose": "2.10.0"}, "Docker Compose", "2.10.0", INSTALL),
    ],
)
def test_each_part_of_docker_that_is_missing_has_its_mend(
    state: dict[str, str], name: str, found: str, mend: str
) -> None:
    failed = [check for check in docker_checks(docker_state(**state)) if check.failed]

    assert [(check.name, check.found, check.mend) for check in failed] == [(name, found, mend)]


def test_without_buildx_the_stack_comes_up_where_nothing_has_to_be_built() -> None:
    (buildx,) = [check for check in docker_checks(docker_state(buildx="")) if not check.good]

    assert (buildx.name, buildx.found, buildx.mend) == ("buildx", "none", INSTALL)
    assert not buildx.failed


def test_advice_is_no_failure() -> None:
    advice = Check(name="plan", required="no warning", found="slow", good=False, mend="", advice_only=True)

    assert not advice.failed
