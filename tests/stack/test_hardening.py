"""What the running containers may do, as Docker itself describes them."""

import re

from tests.stack.conftest import Stack


def test_every_service_is_healthy(stack: Stack) -> None:
    health = {
        one.labels["com.docker.compose.service"]: one.attrs["State"]["Health"]["Status"] for one in stack.containers()
    }

    assert health == dict.fromkeys(
        (
            *("engine-smoke-1", "engine-smoke-2", "engine-other-smoke-1", "gateway", "prometheus"),
            *("alertmanager", "node-exporter", "container-exporter"),
        ),
        "healthy",
    )


def test_only_the_gateway_is_published(stack: Stack) -> None:
    published = {
        one.labels["com.docker.compose.service"]: bindings
        for one in stack.containers()
        for bindings in one.attrs["HostConfig"]["PortBindings"].values()
    }

    assert published == {"gateway": [{"HostIp": "127.0.0.1", "HostPort": "18080"}]}


def test_every_container_has_least_privilege_and_limits(stack: Stack) -> None:
    for one in stack.containers():
        host = one.attrs["HostConfig"]
        service = one.labels["com.docker.compose.service"]
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert not host["Privileged"], service
        assert host["ReadonlyRootfs"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["PidsLimit"] > 0, service
        assert host["Memory"] > 0, service
        assert host["LogConfig"]["Config"]["max-size"], service
        assert not any("docker.sock" in mount["Source"] for mount in one.attrs["Mounts"]), service


def test_no_secret_shows_in_a_containers_description_or_in_rendered_files(stack: Stack) -> None:
    texts = [file.read_text() for file in (stack.clone.folder / "secrets").iterdir() if file.is_file()]
    secrets = [word for text in texts for word in re.findall(r"[\w-]{30,}", text)]
    assert len(secrets) >= 5  # the stack's own key, Grafana's password, and hashes of three keys

    rendered = "".join(file.read_text() for file in (stack.clone.folder / ".vllmstack").rglob("*") if file.is_file())
    described = "".join(str(one.attrs) for one in stack.containers())

    for secret in secrets:
        assert secret not in rendered
        assert secret not in described


def test_engines_cannot_be_reached_but_through_the_gateway(stack: Stack) -> None:
    networks = {
        one.labels["com.docker.compose.service"]: sorted(one.attrs["NetworkSettings"]["Networks"])
        for one in stack.containers()
    }

    assert networks["engine-smoke-1"] == ["vllmstack-test_engines"]
    assert stack.engine.networks.get("vllmstack-test_engines").attrs["Internal"]
    assert not stack.container("engine-smoke-1").attrs["HostConfig"]["PortBindings"]


def test_compose_finds_nothing_to_complain_about(stack: Stack) -> None:
    done = stack.clone.run("docker", "compose", "config", "--quiet")

    assert (done.stdout, done.stderr) == ("", "")
