"""Docker Engine, Compose and buildx: found, or installed from a Debian or Ubuntu release's own packages."""

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vllmstack.console import step
from vllmstack.errors import HostError, Problem
from vllmstack.host.processes import run

ENGINE_OLDEST = (20, 10)
"""The oldest that the stack was run on (Debian 12's)."""
COMPOSE_OLDEST = (2, 20)
"""`include` came with Compose 2.20."""
DAEMON_LOG = Path("/var/log/vllmstack-dockerd.log")
DAEMON_START_SECONDS = 60
MAY_NOT_TALK_HINT = "sudo usermod -aG docker $USER, then log in again"
PLUGINS = Path("/usr/libexec/docker/cli-plugins")
SYSTEMD = Path("/run/systemd/system")
"""There where systemd runs (sd_booted(3))."""


@dataclass(frozen=True, kw_only=True)
class DockerState:
    """What was found; versions are empty where the part is missing."""

    client: str
    compose: str
    buildx: str
    server: str
    complaint: str
    """Why the server's version could not be had."""

    @property
    def runs(self) -> bool:
        """Enough to start containers from images that are here or can be pulled."""
        return engine_is_new_enough(self.server) and compose_is_new_enough(self.compose)

    @property
    def complete(self) -> bool:
        """Enough to build images too."""
        return self.runs and bool(self.buildx)

    @property
    def may_not_talk(self) -> bool:
        """The daemon is there, and its socket is closed to this user."""
        return "permission denied" in self.complaint.lower()


def compose_is_new_enough(version: str) -> bool:
    """Whether a version such as ``2.40.3-3`` has what compose.yaml uses."""
    return _numbers(version) >= COMPOSE_OLDEST


def engine_is_new_enough(version: str) -> bool:
    """Whether a server's version such as ``20.10.24+dfsg1`` is one that the stack runs on."""
    return _numbers(version) >= ENGINE_OLDEST


def _numbers(version: str) -> tuple[int, ...]:
    plain = version.removeprefix("v").split("-")[0].split("+")[0]
    return tuple(int(part) for part in plain.split(".")[:2] if part.isdigit())


def look() -> DockerState:
    """Asks the docker command; never raises."""
    server = _ask("docker", "version", "--format", "{{.Server.Version}}")
    buildx = _ask("docker", "buildx", "version")[0].split()
    return DockerState(
        client=_ask("docker", "version", "--format", "{{.Client.Version}}")[0] or _client_alone(),
        compose=_ask("docker", "compose", "version", "--short")[0],
        buildx=buildx[1] if len(buildx) > 1 else "",
        server=server[0],
        complaint=server[1],
    )


def ensure(*, building: bool = False) -> DockerState:
    """Docker, ready to use. As root on Debian or Ubuntu what is missing is installed and started.

    buildx is asked for only where an image must be built (``building``).

    Raises:
        HostError: something is missing that this cannot mend; the hint has the commands.
    """
    state = look()
    if state.complete or (state.runs and not building):
        return state
    if state.may_not_talk:
        raise HostError(Problem(fact="this user may not talk to the Docker daemon", hint=MAY_NOT_TALK_HINT))
    distribution = os_release()
    may_install = os.geteuid() == 0 and distribution.get("ID") in PACKAGES and not os.environ.get("DOCKER_HOST")
    if not may_install:
        raise HostError(Problem(fact=_missing(state), hint=_commands(distribution, state)))
    if not (state.client and state.buildx and compose_is_new_enough(state.compose) and shutil.which("dockerd")):
        _install(distribution)
    if not look().server:
        start_daemon()
    state = look()
    if not state.complete:
        raise HostError(Problem(fact=f"after installing: {_missing(state)}", hint="run `vllmstack doctor`"))
    return state


def ensure_running() -> None:
    """For commands that work on what runs already.

    Raises:
        HostError: Docker is not there or does not answer.
    """
    state = look()
    if not state.runs:
        raise HostError(Problem(fact=_missing(state), hint="`vllmstack up` starts it, `vllmstack doctor` looks closer"))


def os_release(file: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The distribution's own description of itself; empty where there is none."""
    if not file.is_file():
        return {}
    pairs = (line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


PACKAGES = {
    "debian": ["docker.io", "iptables", "ca-certificates"],
    "ubuntu": ["docker.io", "docker-compose-v2", "docker-buildx", "iptables", "ca-certificates"],
}


def _install(distribution: dict[str, str]) -> None:
    name = distribution["ID"]
    step(f"installing Docker Engine, Compose and buildx from {distribution.get('PRETTY_NAME', name)}'s packages")
    hint = "mend the machine's apt configuration, then run this again"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], doing="apt-get update", hint=hint, environment=quiet)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES[name]]
    run(install, doing="installing Docker Engine", hint=hint, environment=quiet)
    if name == "debian" and not (compose_is_new_enough(look().compose) and look().buildx):
        _install_plugins_from_sid(hint)


def _install_plugins_from_sid(hint: str) -> None:
    """Debian 12 has no Compose v2: the two plugins are static enough to run there from Debian's unstable release.

    The packages are fetched and verified by apt, with lists of its own, so that the machine's sources stay as they are.
    """
    step("Compose v2 and buildx are not in this release: taking the two plugins from Debian unstable")
    sources = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        doing="reading apt's sources",
        hint=hint,
    ).splitlines()
    mirror = next((uri for uri in sources if uri.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        raise HostError(Problem(fact="apt's sources name no Debian mirror", hint=hint))
    with tempfile.TemporaryDirectory(prefix="vllmstack-apt-") as folder:
        home = Path(folder)
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (home / part).mkdir(parents=True)
        (home / "sources.list").write_text(f"deb [check-valid-until=no] {mirror} sid main\n")
        options = [
            f"-oDir::Etc::SourceList={home}/sources.list",
            "-oDir::Etc::SourceParts=/dev/null",
            f"-oDir::State::Lists={home}/lists",
            f"-oDir::Cache={home}/cache",
            "-oAPT::Sandbox::User=root",
        ]
        run(["apt-get", *options, "update", "-qq"], doing="reading Debian unstable's index", hint=hint)
        wanted = ["docker-compose", "docker-buildx"]
        run(
            ["apt-get", *options, "download", "-qq", *wanted],
            doing="fetching the plugins",
            hint=hint,
            folder=home / "debs",
        )
        for package in sorted((home / "debs").glob("*.deb")):
            run(["dpkg", "-x", str(package), str(home / "root")], doing=f"unpacking {package.name}", hint=hint)
        PLUGINS.mkdir(parents=True, exist_ok=True)
        for plugin in sorted((home / "root").glob("usr/libexec/docker/cli-plugins/*")):
            shutil.copy2(plugin, PLUGINS / plugin.name)


def start_daemon() -> None:
    """Starts Docker Engine: by systemd where it runs, else by hand with its log in DAEMON_LOG.

    Raises:
        HostError: it does not answer within DAEMON_START_SECONDS.
    """
    step("starting Docker Engine")
    if SYSTEMD.is_dir():
        run(
            ["systemctl", "enable", "--now", "docker"],
            doing="systemctl enable --now docker",
            hint="journalctl -u docker",
        )
    else:
        with DAEMON_LOG.open("a") as log:
            # A session of its own: it outlives this command, as a service would.
            subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + DAEMON_START_SECONDS
    while time.monotonic() < deadline:
        if look().server:
            return
        time.sleep(0.5)
    raise HostError(
        Problem(fact=f"Docker Engine did not answer within {DAEMON_START_SECONDS} s", hint=f"its log is {DAEMON_LOG}")
    )


def _ask(*command: str) -> tuple[str, str]:
    """Standard output and error, stripped; both empty where the program is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return "", ""
    return (done.stdout.strip() if done.returncode == 0 else ""), done.stderr.strip()


def _client_alone() -> str:
    words = _ask("docker", "--version")[0].split()
    return words[2].rstrip(",") if len(words) > 2 else ""


def _missing(state: DockerState) -> str:
    if not state.client:
        return "Docker is not installed"
    if not state.compose:
        return "the docker command has no Compose v2 (`docker compose`)"
    if not compose_is_new_enough(state.compose):
        return f"Compose {state.compose} is older than {'.'.join(map(str, COMPOSE_OLDEST))}"
    if not state.buildx:
        return "the docker command has no buildx (`docker buildx`)"
    if state.server and not engine_is_new_enough(state.server):
        return f"Docker Engine {state.server} is older than {'.'.join(map(str, ENGINE_OLDEST))}"
    return f"the Docker daemon does not answer{': ' + state.complaint.splitlines()[0] if state.complaint else ''}"


def _commands(distribution: dict[str, str], state: DockerState) -> str:
    """The exact commands for this machine, as one line."""
    if state.client and compose_is_new_enough(state.compose) and state.buildx and not state.server:
        if host := os.environ.get("DOCKER_HOST"):
            return f"start the daemon that DOCKER_HOST names ({host}), or unset DOCKER_HOST"
        return "start it: sudo systemctl start docker" if SYSTEMD.is_dir() else "start it: sudo dockerd &"
    return _install_commands(distribution)


def _install_commands(distribution: dict[str, str]) -> str:
    kind = {distribution.get("ID", ""), *distribution.get("ID_LIKE", "").split()}
    if "ubuntu" in kind:
        return "sudo apt-get install docker.io docker-compose-v2 docker-buildx"
    if "debian" in kind:
        return "sudo make up (as root it installs Docker from the distribution's packages)"
    if kind & {"fedora", "rhel", "centos"}:
        return "sudo dnf install moby-engine docker-compose docker-buildx && sudo systemctl enable --now docker"
    if "arch" in kind:
        return "sudo pacman -S docker docker-compose docker-buildx && sudo systemctl enable --now docker"
    return (
        "install Docker Engine 20.10 or newer, Compose 2.20 or newer and buildx as Docker's manual says for this system"
    )
