"""One command at a time changes the stack."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.conftest import Clone
from vllmstack.errors import HostError
from vllmstack.host.change_lock import changing

ROOT = Path(__file__).parents[3]


def test_a_second_command_is_refused_and_told_who_it_is(clone: Clone) -> None:
    with changing(clone.project, "apply"), pytest.raises(HostError) as caught, changing(clone.project, "restart"):
        pass

    assert str(caught.value) == (
        f"another command changes this stack: `vllmstack apply`, process {os.getpid()}\n"
        "  hint: wait for its end, then ask again"
    )


def test_after_its_end_the_next_one_may(clone: Clone) -> None:
    with changing(clone.project, "apply"):
        pass
    with changing(clone.project, "up"):
        said = (clone.project.state / ".changing").read_text()

    assert said == f"`vllmstack up`, process {os.getpid()}\n"


def test_one_that_was_killed_is_in_nobodys_way(clone: Clone) -> None:
    script = (
        "import sys; from vllmstack.project import find_project; from vllmstack.host.change_lock import changing\n"
        "with changing(find_project(), 'down'): print('mine', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
    )  # fmt: skip
    assert other.stdin
    assert other.stdout
    with other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(HostError, match=f"`vllmstack down`, process {other.pid}"), changing(clone.project, "up"):
            pass
        other.kill()
        other.wait()

        with changing(clone.project, "up"):
            pass


def test_a_closed_terminal_is_an_interruption(clone: Clone) -> None:
    before = signal.getsignal(signal.SIGHUP)

    with pytest.raises(KeyboardInterrupt), changing(clone.project, "apply"):
        os.kill(os.getpid(), signal.SIGHUP)

    assert signal.getsignal(signal.SIGHUP) is before


def test_a_folder_that_cannot_be_written_is_one_clear_line(clone: Clone) -> None:
    clone.project.state.write_text("a file where a folder should be")

    with pytest.raises(HostError) as caught, changing(clone.project, "up"):
        pass

    assert str(caught.value).startswith(f"cannot write {clone.root}/.vllmstack/.changing: ")
