"""A model from a hub: pulled, locked, served by an engine without a way out, and moved on under the running stack."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

import docker
import pytest
import yaml

from tests.hub_server import HubServer, Repository, read_repository, serving
from tests.stack.conftest import PROJECT, ROOT, UP_SECONDS, Clone, Stack

MODEL = "vllmstack/smoke"
DEPLOYMENT = "tests/stack/deployments/from-hub.yaml"
OLD, NEW = "1" * 40, "2" * 40


@dataclass(frozen=True, kw_only=True)
class FromHub:
    """The stack, the hub that its model came from, and what `up` said."""

    stack: Stack
    hub: HubServer
    first_pull: str
    up: str


@pytest.fixture(scope="module")
def hub(docker_client: docker.DockerClient) -> Iterator[HubServer]:
    """On the address of this host that containers reach."""
    bridge = docker_client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    # A daemon names its gateway only where it found the bridge there when it started; it takes the first address.
    address = bridge.get("Gateway") or str(ipaddress.ip_network(bridge["Subnet"])[1])
    own = HubServer(
        repositories={MODEL: Repository(files=read_repository(ROOT / "models" / "smoke").files, commit=OLD)}
    )
    with serving(own, address) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.url)
        patch.setenv("NO_PROXY", address)
        yield server


@pytest.fixture(scope="module")
def served(clone: Clone, docker_client: docker.DockerClient, hub: HubServer) -> Iterator[FromHub]:
    """Pulled at the second attempt, and up; the hub is closed from then on."""
    hub.cut_after["model.safetensors"] = [3_000_000, *[0] * 9]
    failed = clone.vllmstack("models", "pull", DEPLOYMENT, seconds=UP_SECONDS, check=False)
    assert failed.returncode == 1, failed.stderr
    hub.cut_after.clear()
    clone.vllmstack("models", "pull", DEPLOYMENT)
    hub.status = 503
    done = clone.vllmstack("up", DEPLOYMENT, seconds=UP_SECONDS)
    stack = Stack(clone=clone, engine=docker_client, url="http://127.0.0.1:18080", key=None)
    yield FromHub(stack=stack, hub=hub, first_pull=failed.stderr, up=done.stderr)
    clone.vllmstack("down", "--delete-data")


def answer(served: FromHub) -> str:
    message = {"role": "user", "content": "What is the capital of France?"}
    done = served.stack.client().chat.completions.create(model="smoke", messages=[message], temperature=0)  # type: ignore[list-item]
    return str(done.choices[0].message.content)


def revision(served: FromHub) -> str:
    (file,) = (served.stack.clone.folder / ".vllmstack" / "from-hub" / "engines").iterdir()
    return str(yaml.safe_load(file.read_text())["revision"])


def test_a_hub_that_breaks_off_is_one_clear_line(served: FromHub) -> None:
    said = served.first_pull.splitlines()

    assert said[-2].startswith(f"vllmstack: {MODEL}: {served.hub.url} cannot be reached: ")
    assert "Traceback" not in served.first_pull


def test_the_model_of_the_hub_answers_though_the_hub_is_gone(served: FromHub) -> None:
    assert "Paris" in answer(served)
    assert f"{MODEL}: {OLD[:12]} is there" in served.up
    assert "is not locked" not in served.up


def test_the_engine_has_no_way_out_no_token_and_may_not_write_weights(served: FromHub) -> None:
    engine = served.stack.container("engine-smoke-1").attrs

    assert list(engine["NetworkSettings"]["Networks"]) == [f"{PROJECT}_engines"]
    (volume,) = [mount for mount in engine["Mounts"] if mount.get("Name") == f"{PROJECT}_hub-cache"]
    assert not volume["RW"]
    assert not any("hub_token" in mount["Destination"] for mount in engine["Mounts"])
    assert "preload-smoke" not in served.stack.services()


def test_list_verify_and_rm(served: FromHub) -> None:
    clone = served.stack.clone
    listed = clone.vllmstack("models", "list").stdout
    verified = clone.vllmstack("models", "verify", DEPLOYMENT).stderr
    refused = clone.vllmstack("models", "rm", MODEL, "--yes", check=False)

    assert [MODEL, OLD[:12]] == listed.splitlines()[1].split()[:2]
    assert max(map(len, listed.splitlines())) <= 80
    assert f"{MODEL}: 6 files are as they should be" in verified
    assert refused.returncode == 1
    assert "from-hub, which runs, uses it" in refused.stderr


def test_a_moved_lock_is_applied_to_the_running_stack(served: FromHub) -> None:
    clone = served.stack.clone
    nothing = clone.vllmstack("apply", DEPLOYMENT, "--dry-run").stdout
    files = served.hub.repositories[MODEL].files
    served.hub.repositories[MODEL] = Repository(files={**files, "generation_config.json": b"{}"}, commit=NEW)
    served.hub.status = 0
    clone.vllmstack("models", "pull", DEPLOYMENT, "--update")
    served.hub.status = 503

    foretold = clone.vllmstack("apply", DEPLOYMENT, "--dry-run").stdout
    before = revision(served)
    clone.vllmstack("apply", DEPLOYMENT, seconds=300)

    assert "nothing to do" in nothing
    assert foretold.splitlines() == [
        "1. preload preload-smoke: its engines read its files",
        "2. replace engine-smoke-1: changed: revision",
    ]
    assert (before, revision(served)) == (OLD, NEW)
    assert "Paris" in answer(served)
