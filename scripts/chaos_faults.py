"""What `make chaos` does to a running stack: a function a fault, which tells when it happened and what mends it.

Processes are killed and paused from inside their container. What that cannot do (its first process, its mounts) does a
container that sees the host's processes, with four capabilities, for that one command: `privileged` would ask for all
of them, which not every machine has to give.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from vllmstack.host.containers import containers
from vllmstack.host.gateway_control import SERVICE as GATEWAY

SIGNAL = """
import os, pathlib, signal, sys, time
print(time.time())
number, wanted = int(sys.argv[1]), sys.argv[2]
hit = []
for process in sorted(pathlib.Path("/proc").iterdir()):
    if not process.name.isdigit() or int(process.name) in (1, os.getpid()):
        continue
    name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
    parent = int(rest.split()[1])
    # Parent 0: a program that Docker runs in the container, such as this one.
    if parent and (wanted == "all" or (wanted == "server" and parent == 1) or name.startswith(wanted)):
        os.kill(int(process.name), number)
        hit.append(name)
sys.exit(not hit)
"""
"""Signals the processes of an engine: `all`, `server` (vLLM's API server), or those with such a name."""

FILL = """
import os
with open("/tmp/.chaos", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 20))
    except OSError as error:
        print(error)
try:
    open("/tmp/.chaos-more", "wb", buffering=0).write(bytes(1 << 16))
except OSError as error:
    print(error)
else:
    raise SystemExit("it still takes more")
"""
USED_MIB = 'import os; s = os.statvfs("/tmp"); print((s.f_blocks - s.f_bfree) * s.f_frsize >> 20)'
ROOM_MIB = 32
TMPFS = "8g"
"""Its size in docker/engine/service.yaml."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A fault that has happened."""

    at: float
    """Of the monotonic clock."""
    mend: Callable[[], object] | None = None
    """None: it mends itself."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The running stack, as Docker has it."""

    client: docker.DockerClient

    def container(self, service: str) -> Container:
        """A service's container, newly looked up."""
        found = next(one for one in containers(self.client) if one.service == service)
        return self.client.containers.get(found.identity)

    def run_in(self, service: str, *command: str) -> str:
        """What a program in a service's container prints.

        Raises:
            RuntimeError: it failed.
        """
        done = self.container(service).exec_run(list(command))
        said = done.output.decode(errors="replace").strip() if isinstance(done.output, bytes) else ""
        if done.exit_code:
            raise RuntimeError(f"{' '.join(command)[:80]} in {service}: {said}")
        return said

    def run_on_host(self, *command: str) -> str:
        """What a program prints that may send signals to the host's processes, and mount among their files."""
        said = self.client.containers.run(
            self.container(GATEWAY).attrs["Config"]["Image"],
            list(command),
            user="0",
            cap_drop=["ALL"],
            cap_add=["KILL", "SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"],
            security_opt=["apparmor=unconfined"],  # its default profile forbids mounts
            pid_mode="host",
            network_mode="none",
            remove=True,
        )
        return said.decode().strip() if isinstance(said, bytes) else ""

    def process(self, service: str) -> str:
        """The host's id of a container's first process."""
        return str(self.container(service).attrs["State"]["Pid"])


def _moment(printed: str) -> float:
    """Of the monotonic clock, from the time of day that a program printed before it did something."""
    return time.monotonic() - (time.time() - float(printed.split(maxsplit=1)[0]))


def _signal(stack: Stack, service: str, number: int, processes: str) -> Broken:
    return Broken(at=_moment(stack.run_in(service, "python3", "-c", SIGNAL, str(number), processes)))


def kill_server(stack: Stack, service: str) -> Broken:
    """The API server of vLLM."""
    return _signal(stack, service, 9, "server")


def kill_engine_core(stack: Stack, service: str) -> Broken:
    """The process behind the API server that computes."""
    return _signal(stack, service, 9, "VLLM::EngineCor")


def pause(stack: Stack, service: str) -> Broken:
    """Every process of the engine; nobody wakes them."""
    return _signal(stack, service, 19, "all")


def pause_engine_core(stack: Stack, service: str) -> Broken:
    """The processes that compute: the API server goes on and says that all is well."""
    return _signal(stack, service, 19, "VLLM::")


def pause_network(stack: Stack, service: str) -> Broken:
    """Its only network, as when a cable is pulled."""
    container = stack.container(service)
    name, settings = next(iter(container.attrs["NetworkSettings"]["Networks"].items()))
    network = stack.client.networks.get(name)
    network.disconnect(container)
    return Broken(at=time.monotonic(), mend=lambda: network.connect(container, aliases=settings["Aliases"]))


def fill_disk(stack: Stack, service: str) -> Broken:
    """All that it may write beside the caches: /tmp, made small first, so that the host's memory is spared."""
    size = int(stack.run_in(service, "python3", "-c", USED_MIB)) + ROOM_MIB
    mount = ("nsenter", "--target", stack.process(service), "--mount", "mount", "-o")
    stack.run_on_host(*mount, f"remount,size={size}m", "/tmp")  # noqa: S108 - the container's
    stack.run_in(service, "python3", "-c", FILL)

    def mend() -> None:
        stack.run_in(service, "rm", "/tmp/.chaos", "/tmp/.chaos-more")  # noqa: S108
        stack.run_on_host(*mount, f"remount,size={TMPFS}", "/tmp")  # noqa: S108

    return Broken(at=time.monotonic(), mend=mend)


def kill_worker(stack: Stack, _: str) -> Broken:
    """The nginx worker with the most open files, which is the one with the most connections."""
    program = (
        "most=0; for child in $(cat /proc/1/task/1/children); do open=(/proc/$child/fd/*); "
        "if (( ${#open[@]} > most )); then most=${#open[@]}; worker=$child; fi; done; date +%s.%N; kill -9 $worker"
    )
    return Broken(at=_moment(stack.run_in(GATEWAY, "bash", "-c", program)))


def kill_gateway(stack: Stack, _: str) -> Broken:
    """The container's first process, nginx' master. `docker kill` would tell Docker not to start it again."""
    return Broken(at=_moment(stack.run_on_host("bash", "-c", f"date +%s.%N; kill -9 {stack.process(GATEWAY)}")))
