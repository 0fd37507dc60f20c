"""`vllmstack doctor`: required against found, each with its mend."""

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.unit.conftest import DOCKER_THAT_WORKS, GIB, SMOKE, Clone, Outcome, Programs
from tests.unit.fake_docker import FakeDocker
from vllmstack.planning.inventory import Inventory

Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def host(
    clone: Clone, daemon: FakeDocker, programs: Programs, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has everything."""
    free = SimpleNamespace(total=1000 * GIB, used=0, free=500 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clone.deployment(f"{SMOKE}gateway: {{port: {port}}}\n")


@pytest.fixture
def taken(clone: Clone) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        clone.deployment(f"{SMOKE}gateway: {{port: {port}}}\n")
        yield port


def rows(out: str) -> dict[str, list[str]]:
    """The table: mark, required and found by the check's name."""
    cells = [re.split(r"\s{2,}", line.rstrip()) for line in out.splitlines()]
    return {name: [mark, *rest] for mark, name, *rest in (cell for cell in cells if len(cell) == 4)}


def test_a_machine_that_has_everything_passes(vllmstack: Run) -> None:
    done = vllmstack("doctor", "smoke")

    table = rows(done.out)
    assert done.status == 0
    assert table["Docker Engine"] == ["✓", "20.10 or newer, answering", "26.1.5+dfsg1"]
    assert table["Docker Compose"] == ["✓", "2.20 or newer", "2.40.3-3"]
    assert table["buildx"] == ["✓", "any, to build images", "0.29.1"]
    assert table["disk"][0] == "✓"
    assert "✗" not in done.out


def test_what_is_missing_is_marked_and_its_mend_stands_below(vllmstack: Run, taken: int) -> None:
    done = vllmstack("doctor", "smoke")

    assert done.status == 1
    assert rows(done.out)[f"port {taken}"] == ["✗", "free on 127.0.0.1", "address already in use"]
    assert done.out.endswith(
        f"✗ port {taken}: stop what listens there (`ss -ltnp 'sport = :{taken}'` names it), "
        "or set `gateway.port` in the deployment\n"
    )
    assert done.err == ""


def test_without_a_daemon_only_what_needs_none_is_checked(vllmstack: Run, programs: Programs) -> None:
    complaint = "Cannot connect to the Docker daemon."
    programs.install("docker", f"case \"$*\" in *Server*) echo '{complaint}' >&2; exit 1 ;; esac\n{DOCKER_THAT_WORKS}")

    done = vllmstack("doctor", "smoke")

    table = rows(done.out)
    assert done.status == 1
    assert table["Docker Engine"] == ["✗", "20.10 or newer, answering", complaint]
    assert "disk" not in table
    assert "✗ Docker Engine: start the daemon: sudo systemctl start docker\n" in done.out


def test_a_deployment_that_does_not_fit_is_one_of_the_checks(vllmstack: Run, clone: Clone) -> None:
    clone.deployment(SMOKE.replace("memory_gib: 4", "memory_gib: 0.5"))

    done = vllmstack("doctor", "smoke")

    assert done.status == 1
    assert rows(done.out)["Docker Engine"][0] == "✓"
    assert "✗ deployment: write memory_gib: " in done.out
    (check,) = [one for one in json.loads(vllmstack("doctor", "--json", "smoke").out) if one["name"] == "deployment"]
    assert check["found"].startswith("deployments/smoke.yaml: models/0/memory_gib: ")


def test_a_warning_of_the_plan_is_advice(vllmstack: Run, clone: Clone) -> None:
    (clone.root / "models" / "smoke" / "config.json").write_text('{"architectures": ["Unheard"]}')

    done = vllmstack("doctor", "smoke")

    assert done.status == 0
    assert "!  plan" in done.out
    assert "not known here" in " ".join(done.out.split())


def test_json_has_every_check_for_scripts(vllmstack: Run, taken: int) -> None:
    done = vllmstack("doctor", "--json", "smoke")

    checks = {check["name"]: check for check in json.loads(done.out)}
    assert done.status == 1
    assert checks["Docker Engine"]["good"] is True
    assert checks[f"port {taken}"]["good"] is False
    assert checks[f"port {taken}"]["mend"].startswith("stop what listens there")


def test_text_in_brackets_is_shown_as_it_is(vllmstack: Run, clone: Clone) -> None:
    clone.deployment(SMOKE.replace("directory: ../models/smoke", 'directory: "../models/[bold]"'))

    done = vllmstack("doctor", "smoke")

    assert "../models/[bold]" in done.out
