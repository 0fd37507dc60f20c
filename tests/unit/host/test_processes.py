"""Other programs: their output, and their failure told to a person."""

import sys
from pathlib import Path

import pytest

from tests.unit.conftest import Programs
from vllmstack.errors import HostError
from vllmstack.host.processes import LAST_LINES, run


def failure(program: str, **options: object) -> str:
    with pytest.raises(HostError) as caught:
        run([program], doing="fetching", hint="try again", **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_standard_output_is_returned(programs: Programs) -> None:
    programs.install("tool", "echo one\necho two >&2\n")

    assert run(["tool"], doing="fetching", hint="") == "one\n"


def test_environment_and_folder_are_the_programs_own(programs: Programs, tmp_path: Path) -> None:
    programs.install("tool", 'echo "$COLOUR in $PWD"\n')

    assert run(["tool"], doing="", hint="", environment={"COLOUR": "blue"}, folder=tmp_path) == f"blue in {tmp_path}\n"


def test_a_failure_ends_with_the_programs_last_words(programs: Programs) -> None:
    programs.install("tool", "echo progress\necho 'no route' >&2\necho 'giving up' >&2\nexit 7\n")

    assert failure("tool") == "fetching failed (exit 7):\n    no route\n    giving up\n  hint: try again"


def test_what_complains_on_standard_output_is_heard_too(programs: Programs) -> None:
    programs.install("tool", "echo 'no route'\nexit 1\n")

    assert failure("tool") == "fetching failed (exit 1):\n    no route\n  hint: try again"


def test_only_the_last_lines_are_shown(programs: Programs) -> None:
    programs.install("tool", 'i=0; while [ $i -lt 100 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 1\n')

    said = failure("tool")

    assert said.count("    line ") == LAST_LINES
    assert "    line 99\n" in said


def test_with_a_log_the_whole_output_is_kept_and_named(programs: Programs, tmp_path: Path) -> None:
    programs.install("tool", "echo built\necho broken >&2\nexit 2\n")
    log = tmp_path / "build" / "tool.log"

    said = failure("tool", log=log)

    assert log.read_text() == "built\nbroken\n"
    assert said == (f"fetching failed (exit 2):\n    built\n    broken\n  hint: try again (the whole output: {log})")


def test_a_missing_program_is_named(programs: Programs) -> None:
    assert failure("tool") == "fetching: there is no `tool` on this machine\n  hint: try again"


def test_a_log_that_cannot_be_written_is_no_bug(tmp_path: Path) -> None:
    (tmp_path / "build").write_text("a file where a folder should be")
    log = tmp_path / "build" / "tool.log"

    with pytest.raises(HostError) as caught:
        run([sys.executable, "--version"], doing="fetching", hint="make room", log=log)

    assert str(caught.value).splitlines()[0].startswith(f"fetching: {tmp_path}/build")
