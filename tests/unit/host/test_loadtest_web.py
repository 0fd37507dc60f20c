"""The load test's web UI: what is started, where it is reached, and what a failed start says."""

from pathlib import Path

import pytest

from tests.unit.conftest import DOCKER_THAT_WORKS, Clone, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.errors import HostError, InvalidInput
from vllmstack.host import image_supply
from vllmstack.host.compose import Compose
from vllmstack.host.loadtest_web import close_web_ui, is_loopback, open_web_ui, published_at
from vllmstack.images import load_images

GATEWAY = FakeContainer(service="gateway")
UP = "up --detach --no-deps --wait --wait-timeout 90 "


@pytest.fixture
def machine(clone: Clone, programs: Programs, daemon: FakeDocker) -> FakeDocker:
    """The stack is up, and the load test's image is here; `docker compose up` writes down what it is given."""
    clone.is_up()
    folder = clone.root / "docker" / "loadtest"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (clone.root / "loadtest" / "scenarios").mkdir(parents=True)
    (clone.root / "loadtest" / "scenarios" / "chat.yaml").write_text("name: chat\n")
    own = load_images(clone.project.images_file).images["loadtest"]
    assert own.build
    digest = image_supply.ImageSupply(clone.project, daemon.client)._digest(own.build)
    daemon.images_here = {own.reference: {image_supply.SOURCE_LABEL: digest}}
    daemon.stack = [GATEWAY]
    programs.install("docker", f'case "$*" in *" up "*) export > environment ;; esac\n{DOCKER_THAT_WORKS}')
    return daemon


def calls(programs: Programs) -> list[str]:
    """Arguments of each Compose on the deployment."""
    found = [call.partition("compose.env ")[2] for call in programs.calls("docker")]
    return [call for call in found if call]


def given(clone: Clone, name: str) -> str:
    """The value of a variable that `docker compose up` was given."""
    lines = (clone.root / "environment").read_text().splitlines()
    return next(line.partition("=")[2].strip("'") for line in lines if line.startswith(f"export {name}="))


def test_it_is_started_alone_and_its_address_is_returned(machine: FakeDocker, clone: Clone, programs: Programs) -> None:
    url = open_web_ui(clone.project)

    assert url == "http://127.0.0.1:8089/"
    assert calls(programs) == [f"{UP}loadtest"]
    assert given(clone, "VLLMSTACK_LOADTEST_PUBLISH") == "127.0.0.1:8089"
    assert given(clone, "VLLMSTACK_LOADTEST_MODE") == ""
    assert (clone.root / "results").is_dir()


@pytest.mark.parametrize(
    ("publish", "published", "url"),
    [
        ("9000", "127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("10.1.2.3:8089", "10.1.2.3:8089", "http://10.1.2.3:8089/"),
        ("0.0.0.0:80", "0.0.0.0:80", "http://127.0.0.1:80/"),
        ("[::1]:8089", "[::1]:8089", "http://[::1]:8089/"),
    ],
)
def test_it_is_published_where_it_is_asked_to_be(
    machine: FakeDocker, clone: Clone, publish: str, published: str, url: str
) -> None:
    assert open_web_ui(clone.project, publish=publish) == url
    assert given(clone, "VLLMSTACK_LOADTEST_PUBLISH") == published


@pytest.mark.parametrize("publish", ["", "here", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "::1:8089"])
def test_an_address_that_is_none_is_refused_before_anything_starts(
    machine: FakeDocker, clone: Clone, programs: Programs, publish: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_web_ui(clone.project, publish=publish)

    assert str(caught.value) == (
        f"{publish!r} is no address to publish on\n  hint: write ADDRESS:PORT, such as 127.0.0.1:8089"
    )
    assert calls(programs) == []


def test_more_processes_are_locusts_own(machine: FakeDocker, clone: Clone) -> None:
    open_web_ui(clone.project, processes=4)

    assert given(clone, "VLLMSTACK_LOADTEST_MODE") == "--processes 4"


def test_workers_send_instead_of_the_web_uis_own_container(
    machine: FakeDocker, clone: Clone, programs: Programs
) -> None:
    open_web_ui(clone.project, workers=3)

    assert calls(programs) == [f"{UP}--scale loadtest-worker=3 loadtest loadtest-worker"]
    assert given(clone, "VLLMSTACK_LOADTEST_MODE") == "--master"


def test_workers_of_an_earlier_start_go_when_none_are_asked_for(
    machine: FakeDocker, clone: Clone, programs: Programs
) -> None:
    machine.stack = [GATEWAY, FakeContainer(service="loadtest"), FakeContainer(service="loadtest-worker")]

    open_web_ui(clone.project)

    assert calls(programs) == ["rm --stop --force loadtest-worker", f"{UP}loadtest"]


def test_the_masters_port_is_published_only_when_it_is_asked_for(
    machine: FakeDocker, clone: Clone, programs: Programs
) -> None:
    open_web_ui(clone.project, publish_master="10.1.2.3:5557")

    override = f"--file {clone.root}/docker/loadtest/published-master.yaml"
    (up,) = [call for call in programs.calls("docker") if " up " in call]
    assert f"--file {clone.root}/compose.yaml {override} --env-file " in up
    assert given(clone, "VLLMSTACK_LOADTEST_MASTER_PUBLISH") == "10.1.2.3:5557"
    assert given(clone, "VLLMSTACK_LOADTEST_MODE") == "--master"


@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("loadtest/scenarios/chat.yaml", True),
        ("loadtest/scenarios/new.yaml", True),
        (".vllmstack/smoke/loadtest/stack.json", True),
        (".vllmstack/smoke/loadtest/stack.host.json", False),
        ("loadtest/__pycache__/run.cpython-311.pyc", False),
        ("docs/page.md", False),
    ],
)
def test_only_what_it_reads_makes_a_new_container_when_it_has_changed(
    machine: FakeDocker, clone: Clone, file: str, again: bool
) -> None:
    open_web_ui(clone.project)
    before = given(clone, "VLLMSTACK_LOADTEST_DIGEST")
    changed = clone.root / file
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_text("changed\n")

    open_web_ui(clone.project)

    assert (given(clone, "VLLMSTACK_LOADTEST_DIGEST") != before) is again


def test_what_does_not_start_says_why_and_is_removed(machine: FakeDocker, clone: Clone, programs: Programs) -> None:
    programs.install(
        "docker", f'case "$*" in *" up "*) echo "container is unhealthy" >&2; exit 1 ;; esac\n{DOCKER_THAT_WORKS}'
    )
    said = ("starting", "", "vllmstack: scenarios/chat.yaml: prompt_tokens: is missing")
    machine.stack = [GATEWAY, FakeContainer(service="loadtest", status="restarting", log=said)]

    with pytest.raises(HostError) as caught:
        open_web_ui(clone.project)

    assert str(caught.value) == (
        "starting the load test's web UI failed (exit 1):\n    container is unhealthy\n"
        "  the container's last words:\n    starting\n    vllmstack: scenarios/chat.yaml: prompt_tokens: is missing\n"
        "  hint: mend what the lines name, then run `vllmstack load` again"
    )
    assert calls(programs)[-1] == "rm --stop --force loadtest"


def test_a_start_that_makes_no_container_shows_what_compose_says(
    machine: FakeDocker, clone: Clone, programs: Programs
) -> None:
    programs.install(
        "docker", f'case "$*" in *" up "*) echo "port is already allocated" >&2; exit 1 ;; esac\n{DOCKER_THAT_WORKS}'
    )

    with pytest.raises(HostError, match="port is already allocated") as caught:
        open_web_ui(clone.project)

    assert "last words" not in str(caught.value)


def test_without_a_running_stack_it_is_not_started(machine: FakeDocker, clone: Clone, programs: Programs) -> None:
    machine.stack = []

    with pytest.raises(HostError, match="the stack is not up"):
        open_web_ui(clone.project)
    assert calls(programs) == []


@pytest.mark.parametrize(
    ("running", "removed"),
    [
        (["gateway"], None),
        (["gateway", "loadtest"], "rm --stop --force loadtest"),
        (["loadtest", "loadtest-worker"], "rm --stop --force loadtest loadtest-worker"),
    ],
)
def test_it_is_closed_with_its_workers(
    machine: FakeDocker, clone: Clone, programs: Programs, running: list[str], removed: str | None
) -> None:
    machine.stack = [FakeContainer(service=service) for service in running]

    closed = close_web_ui(Compose(clone.project, "smoke"), machine.client)

    assert closed is (removed is not None)
    assert calls(programs) == ([removed] if removed else [])


@pytest.mark.parametrize(
    ("address", "only_here"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False)],  # noqa: S104
)
def test_who_reaches_an_address(address: str, only_here: bool) -> None:
    assert is_loopback(address) is only_here


def test_an_address_and_its_port_are_told_apart() -> None:
    assert published_at("10.1.2.3:80") == ("10.1.2.3", 80)
    assert published_at("80") == ("127.0.0.1", 80)


def test_the_file_for_workers_on_other_hosts_is_there() -> None:
    assert (Path(__file__).parents[3] / "docker" / "loadtest" / "published-master.yaml").is_file()
