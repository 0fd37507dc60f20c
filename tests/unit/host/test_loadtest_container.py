"""One measurement in the load test's container: what Compose is told, and what is left when it ends."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from tests.unit.conftest import DOCKER_THAT_WORKS, Clone, Programs
from tests.unit.fake_docker import FakeContainer, FakeDocker
from vllmstack.errors import HostError, InvalidInput
from vllmstack.host import image_supply
from vllmstack.host.loadtest_container import commit, has_loadtest_extra, is_inside, run_in_container
from vllmstack.images import load_images
from vllmstack.project import Project

GATEWAY = FakeContainer(service="gateway")


class Machine(FakeDocker):
    """A daemon on which the stack runs; the container of a measurement is whatever Compose is told to run."""

    def __init__(self, root: Path, programs: Programs) -> None:
        super().__init__(root)
        self.stack = [GATEWAY]
        self.programs = programs
        self.state: dict[str, Any] | None = {"Status": "exited", "ExitCode": 0}
        """Of the measurement's container, once Compose has ended; None: there never was one."""
        self.killed: list[str] = []
        self.removed: list[str] = []
        self.api.inspect_container = self._inspect_any
        self.api.kill = self._kill
        self.api.remove_container = self._remove

    @property
    def running(self) -> Path:
        """Written by the Compose that runs: its process id."""
        return self.programs.folder / "compose-run.pid"

    def compose_does(self, script: str) -> None:
        """What `docker compose run` does."""
        self.programs.install("docker", f'case "$*" in *" run "*) {script} ;; esac\n{DOCKER_THAT_WORKS}')

    def calls(self, verb: str) -> list[str]:
        """Arguments after the deployment's values, of each `docker compose VERB`."""
        calls = [call.partition("compose.env ")[2] for call in self.programs.calls("docker")]
        return [call for call in calls if f" {verb} " in f" {call} "]

    def await_compose(self) -> int:
        """The process id of the Compose that runs."""
        deadline = time.monotonic() + 60
        while not (self.running.is_file() and self.running.read_text().strip()):
            assert time.monotonic() < deadline, "Compose was not started"
            time.sleep(0.005)
        return int(self.running.read_text())

    def _inspect_any(self, name: str) -> dict[str, Any]:
        if "loadtest-run" not in name:
            return self._inspect(name)
        if self.state is None:
            raise docker.errors.NotFound(name)
        return {"State": self.state}

    def _kill(self, name: str, signal_name: str) -> None:
        self.killed.append(signal_name)
        os.kill(int(self.running.read_text()), signal.SIGTERM)

    def _remove(self, name: str, *, force: bool) -> None:
        assert force
        if self.state is None:
            raise docker.errors.NotFound(name)
        self.removed.append(name)


@pytest.fixture
def machine(clone: Clone, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """The stack is up, and the load test's image is here."""
    made = Machine(tmp_path, programs)
    clone.is_up()
    folder = clone.root / "docker" / "loadtest"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    own = load_images(clone.project.images_file).images["loadtest"]
    assert own.build
    supply = image_supply.ImageSupply(clone.project, made.client)
    made.images_here = {own.reference: {image_supply.SOURCE_LABEL: supply._digest(own.build)}}
    monkeypatch.setattr("docker.from_env", lambda **_: made)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    made.compose_does("exit 0")
    return made


def attends() -> bool:
    """Whether the main thread is in ``_attend``."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code.co_name != "_attend":
        frame = frame.f_back
    return frame is not None


def interrupt_when_it_runs(machine: Machine, *signals: signal.Signals) -> threading.Thread:
    """Sends this process the signals, each after the one before has had its effect."""

    def interrupt() -> None:
        machine.await_compose()
        # Compose may run before this process has been told so: who is interrupted must be waiting for it.
        deadline = time.monotonic() + 60
        while not attends() and time.monotonic() < deadline:
            time.sleep(0.005)
        for number, one in enumerate(signals):
            deadline = time.monotonic() + 60
            while len(machine.killed) < number and time.monotonic() < deadline:
                time.sleep(0.005)
            os.kill(os.getpid(), one)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_it_runs_the_same_command_inside_and_passes_its_status_on(machine: Machine) -> None:
    machine.state = {"Status": "exited", "ExitCode": 2}

    status = run_in_container(["load", "--here", "--rate", "4"])

    (call,) = machine.calls("run")
    name = re.search(r"--name (\S+)", call)
    assert status == 2
    assert name
    assert re.fullmatch(r"vllmstack-loadtest-run-[0-9a-f]{8}", name[1])
    assert call == (
        f"--progress quiet run --no-deps --use-aliases --name {name[1]} --no-TTY --interactive=false "
        "loadtest-run load --here --rate 4"
    )
    assert machine.removed == [name[1]]


def test_a_terminal_is_passed_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    run_in_container(["load"])

    assert "--no-TTY" not in machine.calls("run")[0]
    assert "--interactive" not in machine.calls("run")[0]


def test_the_width_of_the_terminal_reaches_the_tables_inside(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")

    run_in_container(["load"])

    assert " --env=COLUMNS loadtest-run load" in machine.calls("run")[0]


def test_results_belong_to_whoever_asks(machine: Machine, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.compose_does('echo "$VLLMSTACK_USER" > user')

    run_in_container(["load"])
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setattr("os.getegid", lambda: 5678)
    owner = (clone.root / "results").stat()
    first = (clone.root / "user").read_text()
    run_in_container(["load"])

    assert first == f"{owner.st_uid}:{owner.st_gid}\n"
    assert (clone.root / "user").read_text() == "1234:5678\n"


def test_root_writes_as_the_one_to_whom_the_results_belong(
    machine: Machine, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives a folder to somebody else")
    results = clone.root / "results"
    results.mkdir()
    os.chown(results, 1000, 1001)
    machine.compose_does('echo "$VLLMSTACK_USER" > user')

    run_in_container(["load"])

    assert (clone.root / "user").read_text() == "1000:1001\n"


def test_a_results_folder_of_another_user_is_one_clear_line(
    machine: Machine, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.access", lambda *_: False)

    with pytest.raises(HostError) as caught:
        run_in_container(["load"])

    results = clone.root / "results"
    assert str(caught.value) == f"{results} belongs to another user\n  hint: sudo chown -R $USER {results}"


def test_compose_is_told_the_image_the_commit_and_the_master(machine: Machine, clone: Clone) -> None:
    machine.programs.install("git", "echo 0123456789ab-dirty\n")
    machine.compose_does("export > environment")
    values = clone.project.rendered("smoke") / "compose.env"
    values.write_text(values.read_text() + "VLLMSTACK_IMAGE_LOADTEST='vllmstack/loadtest:0.1'\n")

    run_in_container(["load"])

    lines = (clone.root / "environment").read_text().splitlines()
    environment = dict(re.findall(r"^export (\w+)='(.*)'$", line)[0] for line in lines if "=" in line)
    # What was rendered by an earlier version of this repository does not name the image to build now.
    own = load_images(clone.project.images_file).images["loadtest"].reference
    assert environment["VLLMSTACK_IMAGE_LOADTEST"] == own
    assert environment["VLLMSTACK_GIT"] == "0123456789ab-dirty"
    assert environment["VLLMSTACK_LOADTEST_MASTER"].startswith("vllmstack-loadtest-run-")


def test_an_image_that_the_deployment_names_is_pulled_and_never_built(machine: Machine, clone: Clone) -> None:
    values = clone.project.rendered("smoke") / "compose.env"
    values.write_text(values.read_text() + "VLLMSTACK_IMAGE_LOADTEST='registry.example.org/loadtest:1'\n")
    machine.registry["registry.example.org/loadtest:1"] = [{"status": "Pull complete"}]
    machine.compose_does('echo "$VLLMSTACK_IMAGE_LOADTEST" > image')

    run_in_container(["load"])

    assert (clone.root / "image").read_text() == "registry.example.org/loadtest:1\n"
    assert machine.pulled == ["registry.example.org/loadtest:1"]


def test_a_file_below_the_clones_mounted_folders_has_the_same_relative_path_inside(
    machine: Machine, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.project.deployments)

    run_in_container(["load", "--result", Path("../results/new/run"), "--scenario", clone.root / "loadtest" / "a.yaml"])

    (call,) = machine.calls("run")
    assert call.endswith("loadtest-run load --result results/new/run --scenario loadtest/a.yaml")
    assert "--volume" not in call


def test_a_file_from_elsewhere_is_mounted_to_be_read(machine: Machine, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.touch()

    run_in_container(["load", "--trace", trace])

    (call,) = machine.calls("run")
    assert f" --volume={trace}:{trace}:ro loadtest-run load --trace {trace}" in call


def test_every_file_that_is_not_there_is_named(machine: Machine, clone: Clone) -> None:
    with pytest.raises(InvalidInput) as caught:
        run_in_container(["load", "--trace", Path("a.csv"), "--result", Path("/elsewhere/b")])

    hint = f"files to read must be there; what is written goes below {clone.root}/results"
    assert str(caught.value) == (
        f"a.csv: there is no such file\n  hint: {hint}\n/elsewhere/b: there is no such file\n  hint: {hint}"
    )
    assert machine.calls("run") == []


def test_workers_wait_for_the_measurement_and_none_is_left(machine: Machine) -> None:
    run_in_container(["load"], workers=3)

    calls = [call for call in machine.programs.calls("docker") if "compose.env " in call]
    up, run, remove = [call.partition("compose.env ")[2] for call in calls]
    assert up == "up --detach --no-deps --scale loadtest-worker=3 loadtest-worker"
    assert " run " in run
    assert remove == "rm --stop --force loadtest-worker"


def test_workers_are_told_the_name_of_the_container_that_leads(machine: Machine, clone: Clone) -> None:
    machine.programs.install("docker", f'echo "$VLLMSTACK_LOADTEST_MASTER" >> masters\n{DOCKER_THAT_WORKS}')

    run_in_container(["load"], workers=1)

    (name,) = machine.removed
    masters = [line for line in (clone.root / "masters").read_text().splitlines() if line]
    assert masters == [name] * 3  # started, measured, removed


def test_workers_would_not_see_a_file_from_elsewhere(machine: Machine, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.touch()

    with pytest.raises(InvalidInput) as caught:
        run_in_container(["load", "--trace", trace], workers=1)

    assert str(caught.value) == (
        f"{trace}: the workers' containers do not see it\n  hint: copy it to results/, which they see"
    )


def test_workers_that_do_not_start_are_removed(machine: Machine) -> None:
    machine.programs.install("docker", f'case "$*" in *" up "*) exit 1 ;; esac\n{DOCKER_THAT_WORKS}')

    with pytest.raises(HostError, match="starting 2 workers failed"):
        run_in_container(["load"], workers=2)

    assert machine.calls("run") == []
    assert machine.calls("rm") == ["rm --stop --force loadtest-worker"]


def test_ctrl_c_ends_what_runs_inside_and_its_status_is_passed_on(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.compose_does(f"echo $$ > '{machine.running}'; exec /bin/sleep 60")
    machine.state = {"Status": "exited", "ExitCode": 130}
    thread = interrupt_when_it_runs(machine, signal.SIGINT)

    status = run_in_container(["load"])

    thread.join()
    assert status == 130
    assert machine.killed == ["SIGINT"]
    assert len(machine.removed) == 1
    assert "• stopping; what was measured so far is kept (Ctrl-C again: it is not)\n" in capsys.readouterr().err


def test_a_closed_terminal_and_a_jobs_end_clean_up_too(machine: Machine) -> None:
    machine.compose_does(f"echo $$ > '{machine.running}'; exec /bin/sleep 60")
    before = signal.getsignal(signal.SIGTERM)
    thread = interrupt_when_it_runs(machine, signal.SIGTERM)

    run_in_container(["load"])

    thread.join()
    assert machine.killed == ["SIGINT"]
    assert len(machine.removed) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_waits_for_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.compose_does(f"echo $$ > '{machine.running}'; exec /bin/sleep 60")
    # What runs inside does not listen.
    machine.api.kill = lambda _, signal_name: machine.killed.append(signal_name)
    thread = interrupt_when_it_runs(machine, signal.SIGINT, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_in_container(["load"])

    thread.join()
    assert len(machine.removed) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(machine.running.read_text()), 0)


@pytest.mark.parametrize("state", [None, {"Status": "created", "ExitCode": 0}])
def test_a_container_that_never_ran_has_no_status(machine: Machine, state: dict[str, Any] | None) -> None:
    machine.compose_does("echo 'Error response from daemon: no space left' >&2; exit 1")
    machine.state = state

    with pytest.raises(HostError, match="the load test's container did not start"):
        run_in_container(["load"])


def test_a_container_that_took_too_much_memory_says_so(machine: Machine) -> None:
    machine.state = {"Status": "exited", "ExitCode": 137, "OOMKilled": True}

    with pytest.raises(HostError, match="the load test's container was killed: out of memory"):
        run_in_container(["load"])
    assert len(machine.removed) == 1


@pytest.mark.parametrize("stack", [[], [FakeContainer(service="gateway", status="exited")]])
def test_without_a_running_stack_there_is_nothing_to_measure(machine: Machine, stack: list[FakeContainer]) -> None:
    machine.stack = stack

    with pytest.raises(HostError) as caught:
        run_in_container(["load"])

    assert str(caught.value) == "the stack is not up: there is nothing to measure\n  hint: run `vllmstack up`"
    assert machine.calls("run") == []


def test_what_measures_nothing_runs_without_the_stack(machine: Machine) -> None:
    machine.stack = []

    assert run_in_container(["report"], needs_stack=False) == 0
    assert machine.calls("run")[0].endswith(" loadtest-run report")


def test_before_the_first_up_there_is_nothing_to_measure(machine: Machine, clone: Clone) -> None:
    clone.project.current.unlink()

    with pytest.raises(HostError, match="nothing was started from this clone yet"):
        run_in_container(["load"])


def test_two_measurements_at_a_time_are_refused(machine: Machine) -> None:
    machine.stack = [GATEWAY, FakeContainer(service="loadtest-run", id="vllmstack-loadtest-run-1", one_off=True)]

    with pytest.raises(HostError) as caught:
        run_in_container(["load"])

    assert str(caught.value) == (
        "a measurement runs already: vllmstack-loadtest-run-1\n"
        "  hint: wait for its end, or `docker rm --force vllmstack-loadtest-run-1`"
    )


def test_inside_the_container_its_variable_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLMSTACK_IN_CONTAINER", raising=False)
    assert not is_inside()

    monkeypatch.setenv("VLLMSTACK_IN_CONTAINER", "1")
    assert is_inside()


@pytest.mark.parametrize("missing", [None, "locust", "tokenizers"])
def test_the_extra_is_there_when_all_of_its_packages_are(monkeypatch: pytest.MonkeyPatch, missing: str | None) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())

    assert has_loadtest_extra() is (missing is None)


def test_the_commit_is_the_clones_with_a_mark_for_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    git("tag", "v1")

    assert commit(Project(root=tmp_path)) == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "file").write_text("b")
    assert commit(Project(root=tmp_path)) == git("rev-parse", "--short=12", "HEAD") + "-dirty"


def test_without_git_or_outside_of_it_no_commit_is_told(tmp_path: Path, programs: Programs) -> None:
    assert commit(Project(root=tmp_path)) == ""

    programs.install("git", "echo 'fatal: not a git repository' >&2; exit 128\n")
    assert commit(Project(root=tmp_path)) == ""
