"""`vllmstack up`: what is started, what is said, and what is undone when it does not come up."""

import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest.stack import load_stack
from tests.ports import free_port
from tests.unit.conftest import DOCKER_THAT_WORKS, GIB, KEY, SMOKE, Clone, FakeGateway, Outcome, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker
from tests.unit.rolling_machine import MONITORING, RollingMachine
from vllmstack.commands.preparation import prepare
from vllmstack.commands.up import _farewell
from vllmstack.deployment.api_keys import keys_text, make_key
from vllmstack.host import image_supply, startup
from vllmstack.host.change_lock import changing
from vllmstack.images import load_images
from vllmstack.planning.inventory import Inventory

Run = Callable[..., Outcome]


CAT = "$(cat secrets/stack_key)"
"""Takes the stack's own key out of its file, so that the line works as it is pasted."""


def engine(number: int, **changes: Any) -> FakeContainer:
    serving = {"health": "healthy", "health_line": "serving: /health says 200"}
    return FakeContainer(service=f"engine-smoke-{number}", model="smoke", replica=number, **(serving | changes))


GATEWAY, PROMETHEUS = FakeContainer(service="gateway"), FakeContainer(service="prometheus")
ALL_WELL = [engine(1), engine(2), GATEWAY, PROMETHEUS]


class Machine(FakeDocker):
    """A daemon whose containers are what Compose was last told, and a gateway that listens while they run."""

    def __init__(self, root: Path, programs: Programs, port: int) -> None:
        super().__init__(root)
        self.programs = programs
        self.port = port
        self.gateway = FakeGateway()
        self.gateway.answer("/ready", "{}")
        self.gateway.answer("/v1/models", "{}")
        self.tls: ssl.SSLContext | None = None
        self.host = "127.0.0.1"
        self.compose_runs = programs.folder / "compose-runs"
        """Written by a Compose that goes on running: its process id."""
        self.before: list[FakeContainer] = []
        """What runs before the command."""
        self.started: list[FakeContainer] | BaseException = ALL_WELL
        """What `docker compose up` leads to; an exception is raised by the first look at it."""
        self.server: ThreadingHTTPServer | None = None

    def compose_calls(self) -> list[str]:
        """Arguments of every `docker compose` on the deployment."""
        calls = [call for call in self.programs.calls("docker") if call.startswith("compose --project-name")]
        return [call.partition("compose.env ")[2] for call in calls]

    def compose_does(self, script: str) -> None:
        """What `docker compose up` itself does; it ends at once with 0 if nothing is said."""
        self.programs.install("docker", f'case "$*" in *"compose.env up "*) {script} ;; esac\n{DOCKER_THAT_WORKS}')

    def look(self) -> list[FakeContainer]:
        last = ["", *self.compose_calls()][-1].split()
        if "down" in last:
            self.stack = []
        elif last:
            self.listen()
            if isinstance(self.started, BaseException):
                deadline = time.monotonic() + 60
                while not (self.compose_runs.is_file() and self.compose_runs.read_text()):
                    assert time.monotonic() < deadline, "Compose was not started"
                    time.sleep(0.001)
                raise self.started
            self.stack = self.started
        else:
            self.stack = self.before
        return self.stack

    def listen(self) -> None:
        if self.server is None:
            self.server = self.gateway.server(self.port, self.tls, self.host)


@pytest.fixture
def machine(
    clone: Clone, programs: Programs, inventory: Inventory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Machine]:
    """One that has everything: Docker, disk, all images, and a free port for the gateway."""
    made = Machine(tmp_path, programs, free_port())
    clone.deployment(f"{SMOKE}gateway: {{port: {made.port}}}\n")
    images = load_images(clone.project.images_file).images
    bases = ("debian:bookworm-slim", "debian:trixie-slim")
    made.images_here = {reference: {} for reference in (*bases, *(image.reference for image in images.values()))}
    free = SimpleNamespace(total=1000 * GIB, used=0, free=500 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(startup, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(image_supply, "CA_BUNDLES", ())
    monkeypatch.setattr(image_supply, "_pip_config", lambda: None)
    monkeypatch.setattr("docker.from_env", lambda **_: made)
    yield made
    if made.server:
        made.server.shutdown()
        made.server.server_close()


def test_it_ends_with_the_urls_and_a_curl_line(vllmstack: Run, machine: Machine) -> None:
    done = vllmstack("up", "smoke")

    url = f"http://127.0.0.1:{machine.port}"
    assert done.status == 0, done.err
    assert (
        done.out
        == f"""
OpenAI endpoint  {url}/v1
Grafana          {url}/grafana/  (admin, password in secrets/grafana_admin_password)

curl {url}/v1/chat/completions \\
  -H 'Content-Type: application/json' \\
  -d '{{"model": "smoke", "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

"""
    )


def test_it_says_what_it_does_step_by_step(vllmstack: Run, machine: Machine) -> None:
    said = vllmstack("up", "smoke").err

    steps = [re.sub(r"\d+ s\b", "N s", line) for line in said.splitlines()]
    assert steps[0] == "• deployments/smoke.yaml: For tests"
    assert "•     N s  engine-smoke-1: serving" in steps
    assert steps[-3:-1] == ["• warming: one token from each replica", "• up in N s: 2 replicas answer"]
    assert steps[-1].startswith("! no API keys: everyone on this machine may use it")


def test_compose_is_told_to_wait_for_as_long_as_two_starts_may_take(vllmstack: Run, machine: Machine) -> None:
    vllmstack("up", "smoke")

    assert machine.compose_calls() == ["up --detach --remove-orphans --wait --wait-timeout 3720"]


def test_it_leaves_what_later_commands_and_plain_compose_need(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    vllmstack("up", "smoke")

    assert clone.project.current.readlink() == Path("smoke")
    assert (clone.project.current / "engines.compose.yaml").is_file()
    assert {file.name for file in clone.project.secrets.iterdir()} == {"none", "alerts", "grafana_admin_password"}


def test_each_replica_gives_a_first_token_before_the_gateway_is_asked(vllmstack: Run, machine: Machine) -> None:
    machine.started = [engine(1), engine(2), FakeContainer(service="gateway")]

    vllmstack("up", "smoke")

    assert [one.asked for one in machine.stack] == [[["warm", "smoke"]], [["warm", "smoke"]], []]
    assert [path for path, _, _ in machine.gateway.requests] == ["/ready", "/v1/models"]


def test_with_keys_the_curl_line_asks_for_one_and_none_is_shown(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    (clone.project.deployments / "keys").write_text(keys_text([make_key("alice", KEY)]))
    clone.deployment(f"{SMOKE}gateway: {{port: {machine.port}, address: 127.0.0.1, api_keys_file: keys}}\n")

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    line = f'curl http://127.0.0.1:{machine.port}/v1/chat/completions -H "Authorization: Bearer {CAT}" \\\n'
    assert line in done.out
    own = (clone.project.secrets / "stack_key").read_text()
    assert machine.gateway.requests[-1][1]["authorization"] == f"Bearer {own}"
    assert own not in done.out + done.err
    assert "no API keys" not in done.err
    assert "nobody has a key yet" not in done.err


def test_with_an_empty_list_of_keys_it_says_how_to_add_one(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    (clone.project.deployments / "keys").write_text('{"keys": []}')
    clone.deployment(f"{SMOKE}gateway: {{port: {machine.port}, address: 127.0.0.1, api_keys_file: keys}}\n")

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert done.err.endswith(
        "! nobody has a key yet but the stack itself: `vllmstack keys add NAME --deployment deployments/smoke.yaml`\n"
    )


def test_with_tls_the_curl_line_speaks_it(vllmstack: Run, machine: Machine, certificate: Clone) -> None:
    folder = certificate.project.deployments
    machine.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    machine.tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    certificate.deployment(f"{SMOKE}gateway: {{port: {machine.port}, tls: {{certificate: cert.pem, key: key.pem}}}}\n")

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert f"\ncurl --insecure https://127.0.0.1:{machine.port}/v1/chat/completions \\\n" in done.out
    assert (certificate.project.secrets / "tls_key").read_text() == (folder / "key.pem").read_text()


def test_an_ipv6_address_stays_whole(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback address: {error}")
    machine.host = "::1"
    clone.deployment(f'{SMOKE}gateway: {{port: {machine.port}, address: "::1"}}\n')

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert f"OpenAI endpoint  http://[::1]:{machine.port}/v1\n" in done.out
    assert f"\ncurl http://[::1]:{machine.port}/v1/chat/completions" in done.out


def test_an_address_that_looks_like_markup_is_shown_as_it_is(
    machine: Machine, clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    (clone.project.deployments / "keys").write_text(keys_text([make_key("alice", KEY)]))
    clone.deployment(f'{SMOKE}gateway: {{address: "fd00::1", api_keys_file: keys}}\n')

    _farewell(prepare("smoke"), grafana=True, done="up")

    assert capsys.readouterr().out.count(" http://[fd00::1]:8000/") == 3


def test_without_grafanas_image_the_rest_comes_up_and_one_line_says_so(vllmstack: Run, machine: Machine) -> None:
    machine.images_here = {name: labels for name, labels in machine.images_here.items() if "grafana" not in name}

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert "grafana is left out, Prometheus still records everything" in done.err
    assert "Grafana" not in done.out


def test_it_does_not_wait_for_the_load_tests_image(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    reference = load_images(clone.project.images_file).images["loadtest"].reference
    del machine.images_here[reference]

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert reference not in machine.pulled
    assert not any(reference in call for call in machine.programs.calls("docker"))
    # Plain `docker compose --profile load up` finds it named.
    assert f"VLLMSTACK_IMAGE_LOADTEST='{reference}'\n" in (clone.project.current / "compose.env").read_text()


def test_the_load_test_finds_the_models_tokenizer_among_what_is_rendered(
    vllmstack: Run, machine: Machine, clone: Clone
) -> None:
    (clone.root / "models" / "smoke" / "tokenizer.json").write_text("{}")

    vllmstack("up", "smoke")

    stack = load_stack(clone.project.current / "loadtest" / "stack.json")
    directory = stack.model("smoke").tokenizer.directory
    assert directory
    assert (clone.project.current / "loadtest" / directory / "tokenizer.json").read_text() == "{}"


WEB_UI = FakeContainer(service="loadtest")


def test_the_web_ui_of_another_deployment_is_closed(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    clone.is_up(name="earlier")
    machine.before = [GATEWAY, PROMETHEUS, WEB_UI]

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert "rm --stop --force loadtest" in machine.compose_calls()
    assert "• the load test's web UI was the other deployment's: " in done.err


def test_what_the_plan_warns_of_is_said_before_anything_starts(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    (clone.root / "models" / "smoke" / "config.json").write_text('{"architectures": ["Unheard"]}')

    said = vllmstack("up", "smoke").err

    assert said.splitlines()[1].startswith("! smoke: ")
    assert "not known here" in said.splitlines()[1]


def test_a_description_in_brackets_is_shown_as_it_is(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    clone.deployment(SMOKE.replace("For tests", '"[beta] for tests [/beta]"') + f"gateway: {{port: {machine.port}}}\n")

    said = vllmstack("up", "smoke").err

    assert said.startswith("• deployments/smoke.yaml: [beta] for tests [/beta]\n")


def test_a_taken_port_is_refused_before_anything_is_made(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    with socket.create_server(("127.0.0.1", machine.port)):
        done = vllmstack("up", "smoke")

    assert done.status == 1
    assert f"vllmstack: port {machine.port}: needed free on 127.0.0.1, found address already in use\n" in done.err
    assert machine.compose_calls() == []
    assert machine.pulled == []
    assert not clone.project.state.exists()
    assert not clone.project.secrets.exists()


def test_a_wrong_file_is_refused_before_docker_is_asked(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    clone.deployment(SMOKE.replace("max_model_len", "max_model_length"))

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "models/0/serve/max_model_length: " in done.err
    assert machine.programs.calls("docker") == []


def test_a_folder_that_cannot_be_written_is_one_clear_line(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    clone.project.secrets.write_text("a file where a folder should be")

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "vllmstack: cannot write " in done.err
    assert "Traceback" not in done.err
    assert machine.compose_calls() == []


def test_an_engine_that_dies_is_quoted_and_nothing_stays_behind(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    machine.compose_does("exec /bin/sleep 60")
    dead = engine(1, status="exited", exit_code=1, log=("INFO starting", "ValueError: max_model_len is too large"))
    machine.started = [dead, engine(2, status="created", health=""), GATEWAY]

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "vllmstack: engine-smoke-1: the container stopped (exit 1) while starting" in done.err
    assert "    ValueError: max_model_len is too large\n" in done.err
    assert machine.compose_calls()[1:] == ["--profile * down --remove-orphans --timeout 10"]
    assert machine.look() == []
    assert not clone.project.current.is_symlink()
    assert done.out == ""


def test_an_interruption_stops_what_was_started(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    machine.compose_does(f"echo $$ > '{machine.compose_runs}'; exec /bin/sleep 60")
    machine.started = KeyboardInterrupt()

    done = vllmstack("up", "smoke")

    assert done.status == 130
    assert machine.compose_calls()[1:] == ["--profile * down --remove-orphans --timeout 10"]
    assert "vllmstack: interrupted\n" in done.err
    assert not clone.project.current.is_symlink()
    # Neither does Compose go on in the background.
    with pytest.raises(ProcessLookupError):
        os.kill(int(machine.compose_runs.read_text()), 0)


def test_compose_that_fails_is_quoted_and_undone(vllmstack: Run, machine: Machine) -> None:
    machine.compose_does("echo 'Error response from daemon: could not find an available subnet' >&2; exit 1")
    machine.started = []

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "docker compose up failed:\n    Error response from daemon: could not find an available subnet" in done.err
    assert machine.compose_calls()[1:] == ["--profile * down --remove-orphans --timeout 10"]


def test_a_replica_that_does_not_answer_is_undone(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    machine.started = [engine(1), engine(2, warm=(1, "500 CUDA error")), GATEWAY, PROMETHEUS]

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "vllmstack: engine-smoke-2: answers no request: 500 CUDA error\n" in done.err
    assert machine.compose_calls()[-1].startswith("--profile * down")
    assert not clone.project.current.is_symlink()


def test_a_gateway_that_refuses_the_deployments_own_key_is_undone(
    vllmstack: Run, machine: Machine, clone: Clone
) -> None:
    machine.gateway.answer("/v1/models", "wrong key", status=401)

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "vllmstack: the gateway answers 401: wrong key\n" in done.err
    assert machine.compose_calls()[-1].startswith("--profile * down")


def test_what_ran_before_goes_on_and_only_what_did_not_come_up_is_removed(
    vllmstack: Run, machine: Machine, clone: Clone
) -> None:
    clone.is_up(name="earlier")
    machine.before = [GATEWAY, PROMETHEUS]
    machine.compose_does("exec /bin/sleep 60")
    machine.started = [
        engine(1, status="exited", exit_code=1, health="unhealthy", log=("ValueError: too large",)),
        engine(2),
        GATEWAY,
        PROMETHEUS,
    ]

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert machine.compose_calls()[1:] == ["rm --stop --force engine-smoke-1"]
    assert "• removing what did not come up: engine-smoke-1\n" in done.err
    assert "! the rest goes on as it is: `vllmstack status` shows it, `vllmstack down` stops it\n" in done.err
    assert clone.project.current.readlink() == Path("smoke")  # whose gateway runs now


def test_a_stop_that_fails_does_not_hide_why_it_was_needed(vllmstack: Run, machine: Machine) -> None:
    machine.compose_does("echo 'no such network' >&2; exit 1")
    script = (machine.programs.folder / "docker").read_text()
    machine.programs.install("docker", f"case \"$*\" in *' down '*) echo 'in use' >&2; exit 1 ;; esac\n{script}")
    machine.started = []

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "! docker compose down failed (exit 1):\n    in use\n" in done.err
    assert "vllmstack: docker compose up failed:\n    no such network\n" in done.err


def test_a_second_up_meets_its_own_gateway_and_changes_nothing(vllmstack: Run, rolling: RollingMachine) -> None:
    rolling.stack.append(WEB_UI)
    calls = rolling.calls()

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert rolling.calls() == calls
    assert "• smoke runs: what has changed is applied a step at a time, as `vllmstack apply` does\n" in done.err
    assert re.search(r"• as it was in \d+ s: 2 replicas answer\n", done.err)
    assert done.out.startswith("\nOpenAI endpoint  http://127.0.0.1:")
    assert [path for path, _, _ in rolling.http.requests] == ["/ready", "/v1/models"]


def test_an_up_of_what_runs_changes_it_as_apply_does(vllmstack: Run, rolling: RollingMachine) -> None:
    text = SMOKE.replace("replicas: 2", "replicas: 3")
    rolling.clone.deployment(f"{text}gateway: {{port: {rolling.port}, body_limit_mib: 7}}\n")

    done = vllmstack("up", "smoke")

    assert done.status == 0, done.err
    assert rolling.events == ["make engine-smoke-3", "reload", "resume engine-smoke-3"]
    assert re.search(r"• changed in \d+ s: 3 replicas answer\n", done.err)


def test_an_up_whose_change_fails_leaves_what_runs(vllmstack: Run, rolling: RollingMachine, clone: Clone) -> None:
    rolling.broken["engine-smoke-3"] = ("ValueError: no",)
    text = SMOKE.replace("replicas: 2", "replicas: 3")
    rolling.clone.deployment(f"{text}gateway: {{port: {rolling.port}}}\n")

    done = vllmstack("up", "smoke")

    assert done.status == 1
    assert rolling.services() == sorted(["engine-smoke-1", "engine-smoke-2", "gateway", *MONITORING])
    assert clone.project.current.readlink() == Path("smoke")
    assert done.out == ""


def test_what_still_loads_since_an_up_that_was_killed_is_waited_for(
    vllmstack: Run, rolling: RollingMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("vllmstack.commands.rolling.await_ready", lambda _, seconds: waited.append(seconds))
    rolling.named("engine-smoke-2").health = "starting"

    assert vllmstack("up", "smoke").status == 0
    assert waited == [1800]


def test_another_command_that_changes_the_stack_is_waited_for_by_hand(
    vllmstack: Run, machine: Machine, clone: Clone
) -> None:
    with changing(clone.project, "restart"):
        done = vllmstack("up", "smoke")

    assert done.status == 1
    assert "vllmstack: another command changes this stack: `vllmstack restart`, process " in done.err
    assert machine.compose_calls() == []


def test_the_log_of_compose_is_kept(vllmstack: Run, machine: Machine, clone: Clone) -> None:
    machine.compose_does("echo Container started >&2")

    vllmstack("up", "smoke")

    log = clone.project.state / ".build" / "compose-up.log"
    assert log.read_text() == "Container started\n"
    assert os.access(log, os.R_OK)


HUB = SMOKE.replace("directory: ../models/smoke", "hub: org/smoke")


def test_a_model_of_the_hub_comes_before_anything_else_starts(
    vllmstack: Run, rolling: RollingMachine, clone: Clone
) -> None:
    clone.deployment(f"{HUB.replace('name: smoke', 'name: other', 1)}gateway: {{port: {rolling.port}}}\n", name="other")

    rolling.hub_fails["preload-smoke"] = {"file": "org/smoke", "place": "", "fact": "is gated", "hint": "ask"}
    rolling.deployment = "other"
    refused = vllmstack("up", "other")
    events = list(rolling.events)

    assert refused.status == 1
    assert "! smoke: org/smoke is not locked to a commit: `vllmstack models pull deployments/other.yaml`" in refused.err
    assert refused.err.endswith("vllmstack: org/smoke: is gated\n  hint: ask\n")
    # What ran goes on, and is what `status` and `apply` speak of.
    assert events == ["make preload-smoke", "remove preload-smoke"]
    assert clone.project.current.readlink() == Path("smoke")
