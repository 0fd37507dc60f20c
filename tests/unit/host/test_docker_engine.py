"""Docker found, installed, started, or the exact commands that do it."""

from pathlib import Path

import pytest

from tests.unit.conftest import DOCKER_THAT_WORKS, Programs
from vllmstack.errors import HostError
from vllmstack.host import docker_engine
from vllmstack.host.docker_engine import (
    DockerState,
    compose_is_new_enough,
    engine_is_new_enough,
    ensure,
    ensure_running,
    look,
    os_release,
    start_daemon,
)

NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"

# Docker whose daemon answers once there is a file `running`, and whose plugins are files too.
DOCKER = f"""\
here=${{0%/*}}
case "$*" in
  "version --format {{{{.Client.Version}}}}") [ -e "$here/running" ] && echo 26.1.5 || exit 1 ;;
  "version --format {{{{.Server.Version}}}}")
    [ -e "$here/running" ] && echo 26.1.5 || {{ echo '{NO_DAEMON}' >&2; exit 1; }} ;;
  "--version") echo 'Docker version 26.1.5+dfsg1, build a72d7cd' ;;
  "compose version --short") [ -e "$here/plugins/docker-compose" ] && echo 2.40.3-3 || exit 1 ;;
  "buildx version") [ -e "$here/plugins/docker-buildx" ] && echo 'github.com/docker/buildx 0.29.1 x' || exit 1 ;;
esac
"""


class Machine:
    """A Linux machine that lacks things: its programs, its distribution and its user."""

    def __init__(self, programs: Programs, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self.programs = programs
        self.plugins = programs.folder / "plugins"
        self.systemd = folder / "systemd"
        monkeypatch.setattr(docker_engine, "PLUGINS", self.plugins)
        monkeypatch.setattr(docker_engine, "SYSTEMD", self.systemd)
        monkeypatch.setattr(docker_engine, "DAEMON_LOG", folder / "dockerd.log")
        (programs.folder / "docker").unlink()
        self.be("debian")

    def be(self, distribution: str, *, like: str = "", user: int = 0) -> None:
        release = {"ID": distribution, "ID_LIKE": like, "PRETTY_NAME": distribution.capitalize()}
        self._monkeypatch.setattr(docker_engine, "os_release", lambda: release)
        self._monkeypatch.setattr("os.geteuid", lambda: user)

    def has_docker(self, *, running: bool = False, plugins: bool = True) -> None:
        self.programs.install("docker", DOCKER)
        self.programs.install("dockerd", ': > "${0%/*}/running"\n')
        if running:
            (self.programs.folder / "running").touch()
        if plugins:
            self.plugins.mkdir()
            for name in ("docker-compose", "docker-buildx"):
                (self.plugins / name).touch()

    def problem(self, *, building: bool = True) -> tuple[str, str]:
        """Fact and hint of what `ensure` refuses with."""
        with pytest.raises(HostError) as caught:
            ensure(building=building)
        (problem,) = caught.value.problems
        return problem.fact, problem.hint


@pytest.fixture
def machine(programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(programs, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("2.40.3-3", True),
        ("v2.20.0", True),
        ("2.20.2+ds1-0ubuntu1~22.04.1", True),
        ("5.0.0", True),
        ("2.19.9", False),
        ("1.29.2", False),
        ("2", False),
        ("", False),
        ("dev", False),
    ],
)
def test_compose_from_2_20_on_is_new_enough(version: str, enough: bool) -> None:
    assert compose_is_new_enough(version) is enough


@pytest.mark.parametrize(
    ("version", "enough"),
    [("20.10.24+dfsg1", True), ("26.1.5", True), ("19.03.15", False), ("20.9", False), ("", False)],
)
def test_docker_from_20_10_on_is_new_enough(version: str, enough: bool) -> None:
    assert engine_is_new_enough(version) is enough


def test_os_release_is_read_with_and_without_quotes(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text(
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n\n# a comment\nVERSION_ID='12'\nA=b=c\n"
    )

    assert os_release(file) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "ID": "debian",
        "VERSION_ID": "12",
        "A": "b=c",
    }


def test_a_machine_without_os_release_is_no_known_distribution(tmp_path: Path) -> None:
    assert os_release(tmp_path / "os-release") == {}


def test_a_look_names_every_version(programs: Programs) -> None:
    state = look()

    assert state == DockerState(
        client="26.1.5+dfsg1", compose="2.40.3-3", buildx="0.29.1", server="26.1.5+dfsg1", complaint=""
    )
    assert state.complete


def test_a_look_at_a_machine_without_docker_finds_nothing(machine: Machine) -> None:
    state = look()

    assert state == DockerState(client="", compose="", buildx="", server="", complaint="")
    assert not state.complete


def test_a_look_at_a_stopped_daemon_finds_the_client_and_the_complaint(machine: Machine) -> None:
    machine.has_docker(running=False)

    state = look()

    assert (state.client, state.server, state.complaint) == ("26.1.5+dfsg1", "", NO_DAEMON)


def test_what_is_complete_is_left_alone(machine: Machine) -> None:
    machine.has_docker(running=True)

    assert ensure().complete
    assert machine.programs.calls("apt-get") == []
    assert machine.programs.calls("dockerd") == []


def test_without_buildx_what_need_not_be_built_runs(machine: Machine) -> None:
    machine.has_docker(running=True)
    (machine.plugins / "docker-buildx").unlink()

    assert ensure().runs
    ensure_running()
    assert machine.programs.calls("apt-get") == []


def test_a_user_who_may_not_talk_to_the_daemon_is_told_the_group(programs: Programs) -> None:
    denied = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
    programs.install("docker", f"{DOCKER_THAT_WORKS.replace('echo 26.1.5+dfsg1', f'echo {denied!r} >&2; exit 1')}")

    with pytest.raises(HostError) as caught:
        ensure()

    assert str(caught.value) == (
        "this user may not talk to the Docker daemon\n  hint: sudo usermod -aG docker $USER, then log in again"
    )


@pytest.mark.parametrize(
    ("distribution", "like", "command"),
    [
        ("ubuntu", "debian", "sudo apt-get install docker.io docker-compose-v2 docker-buildx"),
        ("linuxmint", "ubuntu debian", "sudo apt-get install docker.io docker-compose-v2 docker-buildx"),
        ("debian", "", "sudo make up (as root it installs Docker from the distribution's packages)"),
        (
            "fedora",
            "",
            "sudo dnf install moby-engine docker-compose docker-buildx && sudo systemctl enable --now docker",
        ),
        (
            "rocky",
            "rhel centos fedora",
            "sudo dnf install moby-engine docker-compose docker-buildx && sudo systemctl enable --now docker",
        ),
        ("arch", "", "sudo pacman -S docker docker-compose docker-buildx && sudo systemctl enable --now docker"),
        (
            "plan9",
            "",
            "install Docker Engine 20.10 or newer, Compose 2.20 or newer and buildx as Docker's manual says for this "
            "system",
        ),
    ],
)
def test_a_user_who_is_not_root_is_told_the_commands_of_the_distribution(
    machine: Machine, distribution: str, like: str, command: str
) -> None:
    machine.be(distribution, like=like, user=1000)

    assert machine.problem() == ("Docker is not installed", command)


def test_root_of_another_distribution_is_told_the_commands_too(machine: Machine) -> None:
    machine.be("fedora", user=0)

    fact, hint = machine.problem()

    assert fact == "Docker is not installed"
    assert hint.startswith("sudo dnf install ")


@pytest.mark.parametrize(("systemd", "hint"), [(True, "sudo systemctl start docker"), (False, "sudo dockerd &")])
def test_a_user_is_told_how_to_start_a_stopped_daemon(machine: Machine, systemd: bool, hint: str) -> None:
    machine.be("debian", user=1000)
    machine.has_docker(running=False)
    if systemd:
        machine.systemd.mkdir()

    assert machine.problem() == (f"the Docker daemon does not answer: {NO_DAEMON}", f"start it: {hint}")


def test_a_daemon_elsewhere_that_does_not_answer_is_not_replaced_by_one_here(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.9:2375")
    machine.has_docker(running=False)

    _, hint = machine.problem()

    assert hint == "start the daemon that DOCKER_HOST names (tcp://10.0.0.9:2375), or unset DOCKER_HOST"
    assert machine.programs.calls("dockerd") == []


@pytest.mark.parametrize(
    ("version", "lacks", "fact"),
    [
        ("compose version --short) echo", "2.10.0", "Compose 2.10.0 is older than 2.20"),
        ("compose version --short) echo", "", "the docker command has no Compose v2 (`docker compose`)"),
        ("buildx version) echo", "", "the docker command has no buildx (`docker buildx`)"),
        ("version --format {{.Server.Version}}) echo", "19.03.1", "Docker Engine 19.03.1 is older than 20.10"),
    ],
)
def test_a_part_that_is_missing_or_old_is_named_and_is_not_mended_by_starting_the_daemon(
    machine: Machine, version: str, lacks: str, fact: str
) -> None:
    machine.be("ubuntu", user=1000)
    pattern, _, echo = version.rpartition(") ")
    machine.programs.install("docker", f'[ "$*" = "{pattern}" ] && {{ {echo} {lacks}; exit; }}\n{DOCKER_THAT_WORKS}')

    assert machine.problem() == (fact, "sudo apt-get install docker.io docker-compose-v2 docker-buildx")


def test_as_root_a_stopped_daemon_is_started_by_hand_where_no_service_manager_runs(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.has_docker(running=False)

    assert ensure().server == "26.1.5"
    assert len(machine.programs.calls("dockerd")) == 1
    assert machine.programs.calls("apt-get") == []
    assert capsys.readouterr().err == "• starting Docker Engine\n"


def test_as_root_a_stopped_daemon_is_started_by_systemd_where_it_runs(machine: Machine) -> None:
    machine.has_docker(running=False)
    machine.systemd.mkdir()
    machine.programs.install("systemctl", ': > "${0%/*}/running"\n')

    assert ensure().server == "26.1.5"
    assert machine.programs.calls("systemctl") == ["enable --now docker"]
    assert machine.programs.calls("dockerd") == []


def test_as_root_on_ubuntu_everything_comes_from_its_own_packages(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.has_docker(running=True)
    (machine.programs.folder / "docker").rename(machine.programs.folder / "packaged")
    machine.be("ubuntu", like="debian")
    machine.programs.install("apt-get", 'case "$1" in install) /bin/mv "${0%/*}/packaged" "${0%/*}/docker" ;; esac\n')

    assert ensure().complete
    assert machine.programs.calls("apt-get") == [
        "update -qq",
        "install -y -qq --no-install-recommends docker.io docker-compose-v2 docker-buildx iptables ca-certificates",
    ]
    assert capsys.readouterr().err == "• installing Docker Engine, Compose and buildx from Ubuntu's packages\n"


def test_as_root_on_debian_12_the_plugins_come_from_unstable_without_touching_apts_sources(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.has_docker(running=True, plugins=False)
    machine.programs.install(
        "apt-get",
        """\
case "$*" in
  indextargets*) echo http://deb.example.org/debian-security; echo http://deb.example.org/debian/ ;;
  *download*) : > docker-buildx_1.deb; : > docker-compose_1.deb ;;
esac
""",
    )
    machine.programs.install(
        "dpkg",
        """\
folder=$3/usr/libexec/docker/cli-plugins
/bin/mkdir -p "$folder"
name=${2##*/}
: > "$folder/${name%%_*}"
""",
    )

    assert ensure().complete
    calls = machine.programs.calls("apt-get")
    assert [call.split()[-1] for call in calls if "install" in call] == ["ca-certificates"]
    assert "Created-By: Packages" in calls[2]
    own = ("-oDir::Etc::SourceList=", "-oDir::Etc::SourceParts=/dev/null", "-oDir::State::Lists=", "-oDir::Cache=")
    assert all(option in call for call in calls[3:] for option in own)
    assert calls[-1].endswith("download -qq docker-compose docker-buildx")
    assert sorted(file.name for file in machine.plugins.iterdir()) == ["docker-buildx", "docker-compose"]
    assert "Compose v2 and buildx are not in this release" in capsys.readouterr().err


def test_sources_without_a_debian_mirror_are_named(machine: Machine) -> None:
    machine.has_docker(running=True, plugins=False)
    machine.programs.install("apt-get", "[ $1 = indextargets ] && echo http://mirror.example.org/ubuntu; :\n")

    assert machine.problem() == (
        "apt's sources name no Debian mirror",
        "mend the machine's apt configuration, then run this again",
    )


def test_an_installation_that_fails_shows_apts_last_words(machine: Machine) -> None:
    machine.programs.install("apt-get", "echo 'E: Could not resolve' >&2; exit 100\n")

    assert machine.problem() == (
        "apt-get update failed (exit 100):\n    E: Could not resolve",
        "mend the machine's apt configuration, then run this again",
    )


def test_an_installation_that_does_not_help_is_not_repeated(machine: Machine) -> None:
    machine.be("ubuntu")
    machine.has_docker(running=True)
    machine.programs.install("apt-get")
    (machine.plugins / "docker-buildx").unlink()

    assert machine.problem() == (
        "after installing: the docker command has no buildx (`docker buildx`)",
        "run `vllmstack doctor`",
    )


def test_a_daemon_that_does_not_come_up_is_given_up_on_with_its_log(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(docker_engine, "DAEMON_START_SECONDS", 0)
    machine.has_docker(running=False)
    machine.programs.install("dockerd", "echo 'no space left' >&2\n")

    with pytest.raises(HostError) as caught:
        start_daemon()

    assert str(caught.value) == (
        f"Docker Engine did not answer within 0 s\n  hint: its log is {tmp_path / 'dockerd.log'}"
    )


def test_commands_on_what_runs_say_what_is_missing_and_start_nothing(machine: Machine) -> None:
    machine.has_docker(running=False)

    with pytest.raises(HostError) as caught:
        ensure_running()

    assert str(caught.value) == (
        f"the Docker daemon does not answer: {NO_DAEMON}\n"
        "  hint: `vllmstack up` starts it, `vllmstack doctor` looks closer"
    )
    assert machine.programs.calls("dockerd") == []
