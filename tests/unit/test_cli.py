"""The error boundary: what each outcome is as an exit status, and what is said."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.unit.conftest import Clone, Outcome
from vllmstack import __version__, cli
from vllmstack.errors import InvalidInput, Problem

Run = Callable[..., Outcome]


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where log files of bugs go."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def failing(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_what_succeeds_exits_with_zero(vllmstack: Run, clone: Clone) -> None:
    assert vllmstack("validate", "smoke").status == 0


def test_help_names_every_command(vllmstack: Run) -> None:
    done = vllmstack("--help")

    assert done.status == 0
    assert all(f"  {command} " in done.out for command in cli.COMMANDS)


def test_help_needs_neither_docker_nor_pydantic() -> None:
    script = "import sys; from vllmstack.cli import main; main(['--version']); sys.exit('pydantic' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, f"vllmstack, version {__version__}\n")


@pytest.mark.parametrize("words", [(), *((command,) for command in cli.COMMANDS)])
def test_no_line_of_a_list_of_commands_is_cut_off(
    vllmstack: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    _, _, listed = vllmstack(*words, "--help").out.partition("Commands:\n")

    assert [line for line in listed.splitlines() if line.endswith("...") or len(line) > 80] == []


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_help_text(vllmstack: Run, command: str) -> None:
    done = vllmstack(command, "--help")

    assert done.status == 0
    assert done.out.startswith(f"Usage: vllmstack {command} ")


def test_every_command_is_there_without_the_packages_that_only_measuring_needs() -> None:
    packages = (
        "gevent",
        "jinja2",
        "locust",
        "matplotlib",
        "numpy",
        "orjson",
        "tokenizers",
    )  # pyproject's loadtest extra
    script = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({packages!r}))
from vllmstack.cli import COMMANDS
for name in COMMANDS:
    importlib.import_module("vllmstack.commands." + name)
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_an_expected_failure_shows_every_problem_and_no_traceback(vllmstack: Run, clone: Clone) -> None:
    clone.deployment("name: Smoke\nmodels: []\n", name="broken")

    done = vllmstack("validate", "broken")

    assert done.status == 1
    assert done.err.startswith("vllmstack: deployments/broken.yaml: name: ")
    assert "\ndeployments/broken.yaml: models: " in done.err
    assert done.err.count("\n  hint: ") == 2
    assert "Traceback" not in done.err


def test_outside_a_clone_every_command_says_so(vllmstack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    for command in ("up", "down", "status", "logs", "chat", "plan", "render"):
        done = vllmstack(command)

        assert done.status == 1
        assert "is not inside a clone of vllmstack" in done.err
        assert "\n  hint: change into the clone's folder first" in done.err


@pytest.mark.parametrize("arguments", [("fly",), ("up", "--fly"), ("validate",)])
def test_a_wrong_command_line_exits_with_two(vllmstack: Run, arguments: tuple[str, ...]) -> None:
    done = vllmstack(*arguments)

    assert done.status == 2
    assert "Usage: vllmstack" in done.err


def test_a_bug_exits_with_three_and_its_traceback_goes_to_a_file(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.guarded(failing(ZeroDivisionError("three times zero")))

    (log,) = logs.iterdir()
    said = capsys.readouterr().err
    assert status == 3
    assert said == (
        "vllmstack: a bug: ZeroDivisionError: three times zero\n" + f"  hint: please report it with {log}\n"
    )
    assert "Traceback (most recent call last):" in log.read_text()
    assert "ZeroDivisionError: three times zero" in log.read_text()


def test_a_bug_in_a_container_leaves_its_file_where_the_host_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("VLLMSTACK_LOGS", "results")

    cli.guarded(failing(ZeroDivisionError("three times zero")))

    (log,) = (tmp_path / "results").iterdir()
    assert f"please report it with results/{log.name}\n" in capsys.readouterr().err
    assert "Traceback (most recent call last):" in log.read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_exits_with_130_and_leaves_no_log(
    error: BaseException, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.guarded(failing(error)) == 130
    assert capsys.readouterr().err == "\nvllmstack: interrupted\n"
    assert list(logs.iterdir()) == []


@pytest.mark.parametrize(("asked", "status"), [(1, 1), (7, 7), ("text", 1), (None, 0), (0, 0)])
def test_a_command_that_has_said_all_chooses_its_status(asked: int | str | None, status: int) -> None:
    assert cli.guarded(failing(SystemExit(asked))) == status


def test_the_status_of_an_expected_failure_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(failing(InvalidInput(Problem(fact="no", hint="yes")))) == 1
    assert capsys.readouterr().err == "vllmstack: no\n  hint: yes\n"


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "vllmstack", "fly"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr
