"""`vllmstack down`."""

from collections.abc import Callable

from tests.unit.conftest import Clone, Outcome, Programs
from vllmstack.host.change_lock import changing

Run = Callable[..., Outcome]


def compose_calls(programs: Programs) -> list[str]:
    return [call for call in programs.calls("docker") if call.startswith("compose --project-name")]


def test_it_stops_every_service_and_keeps_the_data(vllmstack: Run, clone: Clone, programs: Programs) -> None:
    clone.is_up()

    done = vllmstack("down")

    (call,) = compose_calls(programs)
    assert done.status == 0
    # The optional services too, whichever of them were left out when it was started.
    assert call.endswith("/.vllmstack/smoke/compose.env --profile * down --remove-orphans")
    assert done.err == (
        "• stopping; requests in flight get their drain time\n• down; weights, caches and metrics are kept\n"
    )


def test_it_deletes_the_data_when_told(vllmstack: Run, clone: Clone, programs: Programs) -> None:
    clone.is_up()

    done = vllmstack("down", "--delete-data")

    (call,) = compose_calls(programs)
    assert call.endswith(" down --remove-orphans --volumes")
    assert done.err.endswith("• down, data deleted\n")


def test_it_does_not_stop_what_another_command_changes(vllmstack: Run, clone: Clone, programs: Programs) -> None:
    clone.is_up()

    with changing(clone.project, "apply"):
        done = vllmstack("down")

    assert done.status == 1
    assert done.err.startswith("vllmstack: another command changes this stack: `vllmstack apply`, process ")
    assert compose_calls(programs) == []


def test_before_the_first_up_there_is_nothing_to_stop(vllmstack: Run, clone: Clone, programs: Programs) -> None:
    done = vllmstack("down")

    assert done.status == 1
    assert done.err == "vllmstack: nothing was started from this clone yet\n  hint: run `vllmstack up`\n"
    assert compose_calls(programs) == []


def test_without_a_daemon_it_says_so(vllmstack: Run, clone: Clone, programs: Programs) -> None:
    clone.is_up()
    programs.install("docker", '[ "$1" = --version ] && echo "Docker version 26.1.5, build a" || exit 1\n')

    done = vllmstack("down")

    assert done.status == 1
    assert done.err.startswith("vllmstack: the docker command has no Compose v2")


def test_what_compose_complains_of_is_shown(vllmstack: Run, clone: Clone, programs: Programs) -> None:
    clone.is_up()
    script = (programs.folder / "docker").read_text()
    programs.install("docker", f'case "$*" in *" down "*) echo "network in use" >&2; exit 1 ;; esac\n{script}')

    done = vllmstack("down")

    assert done.status == 1
    assert "vllmstack: docker compose down failed (exit 1):\n    network in use\n" in done.err
