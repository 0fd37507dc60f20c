"""The command line of `docker compose`."""

from pathlib import Path

import pytest

from tests.unit.conftest import Clone, Programs
from vllmstack.errors import HostError
from vllmstack.host.compose import Compose


def test_the_command_line_names_project_folder_file_and_values(clone: Clone) -> None:
    root = clone.root

    assert Compose(clone.project, "smoke").command("up", "--wait") == [
        "docker", "compose",
        "--project-name", "vllmstack",
        "--project-directory", str(root),
        "--file", f"{root}/compose.yaml",
        "--env-file", f"{root}/.vllmstack/smoke/compose.env",
        "up", "--wait",
    ]  # fmt: skip


def test_a_second_stack_has_its_own_project(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "second")

    assert Compose(clone.project, "smoke").command()[2:4] == ["--project-name", "second"]


def test_further_files_are_merged_into_compose_yaml_in_their_order(clone: Clone) -> None:
    command = Compose(clone.project, "smoke", overrides=[Path("/a.yaml"), Path("/b.yaml")]).command()

    assert command[6:12] == ["--file", f"{clone.root}/compose.yaml", "--file", "/a.yaml", "--file", "/b.yaml"]


def test_variables_go_into_every_composes_environment(
    clone: Clone, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLOUR", "red")
    programs.install("docker", 'echo "$COLOUR $SIZE" >> said\n')
    compose = Compose(clone.project, "smoke", variables={"SIZE": "9"})

    compose.run("ps", doing="docker compose ps")
    compose.follow(["ps"])
    compose.start("ps", log=tmp_path / "log").wait(timeout=60)

    assert (clone.root / "said").read_text() == "red 9\n" * 3


def test_it_runs_to_the_end_and_returns_what_was_printed(clone: Clone, programs: Programs) -> None:
    programs.install("docker", "echo here in $PWD\n")

    printed = Compose(clone.project, "smoke").run("ps", doing="docker compose ps")

    assert printed == f"here in {clone.root}\n"
    (call,) = programs.calls("docker")
    assert call == " ".join(Compose(clone.project, "smoke").command("ps")[1:])


def test_a_failure_names_what_was_done_and_composes_last_words(clone: Clone, programs: Programs) -> None:
    programs.install("docker", "echo 'no such service: a' >&2; exit 1\n")

    with pytest.raises(HostError) as caught:
        Compose(clone.project, "smoke").run("stop", "a", doing="stopping a")

    assert str(caught.value) == ("stopping a failed (exit 1):\n    no such service: a\n  hint: see `vllmstack logs`")


def test_it_starts_in_the_background_with_both_outputs_in_a_log(
    clone: Clone, programs: Programs, tmp_path: Path
) -> None:
    programs.install("docker", "echo one; echo two >&2; exit 3\n")
    log = tmp_path / "build" / "up.log"

    process = Compose(clone.project, "smoke").start("up", log=log)

    assert process.wait(timeout=60) == 3
    assert log.read_text() == "one\ntwo\n"


def test_it_follows_and_returns_composes_own_status(
    clone: Clone, programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    programs.install("docker", "echo a line; exit 4\n")

    assert Compose(clone.project, "smoke").follow(["logs", "--follow"]) == 4
    assert capfd.readouterr().out == "a line\n"


def test_what_it_follows_can_be_rewritten_line_by_line(
    clone: Clone, programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    programs.install("docker", "echo a line; printf 'an end'; echo a complaint >&2; exit 4\n")

    assert Compose(clone.project, "smoke").follow(["logs"], rewrite=str.upper) == 4
    said = capfd.readouterr()
    assert (said.out, said.err) == ("A LINE\nAN END\n", "a complaint\n")
