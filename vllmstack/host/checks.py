"""What a deployment needs of this machine: required against found, each with the mend."""

import errno
import shutil
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors

from vllmstack.deployment.model import Engine, GpuAccess
from vllmstack.errors import HostError, Problem
from vllmstack.host.containers import containers
from vllmstack.host.docker_engine import (
    COMPOSE_OLDEST,
    ENGINE_OLDEST,
    MAY_NOT_TALK_HINT,
    DockerState,
    compose_is_new_enough,
    engine_is_new_enough,
)
from vllmstack.host.inventory import driver_version
from vllmstack.host.secret_files import hub_token
from vllmstack.planning.plan import Plan
from vllmstack.project import Project
from vllmstack.render.stack import published_address

GIB = 1024**3
IMAGE_BYTES = {Engine.VLLM: 25 * GIB, Engine.VLLM_CPU: 10 * GIB}
"""Room for the engine's image while it is pulled or built: vllm-openai unpacks to about 20 GB, engine-cpu to 4.2 GB."""
CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
CDI_OLDEST_DOCKER = 25


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of `vllmstack doctor`."""

    name: str
    required: str
    found: str
    good: bool
    mend: str
    advice_only: bool = False
    """The stack comes up without it."""

    @property
    def failed(self) -> bool:
        return not self.good and not self.advice_only

    @property
    def problem(self) -> Problem:
        return Problem(fact=f"{self.name}: needed {self.required}, found {self.found}", hint=self.mend)


def docker_checks(state: DockerState) -> list[Check]:
    """Docker Engine, Compose and buildx."""
    install = "as root on Debian or Ubuntu `vllmstack up` installs it; elsewhere see Docker's manual"
    oldest = ".".join(map(str, COMPOSE_OLDEST))
    if state.may_not_talk:
        mend = MAY_NOT_TALK_HINT
    elif state.client and not state.server:
        mend = "start the daemon: sudo systemctl start docker"
    else:
        mend = install
    return [
        Check(
            name="Docker Engine",
            required=f"{'.'.join(map(str, ENGINE_OLDEST))} or newer, answering",
            found=state.server or state.complaint.splitlines()[0] if (state.server or state.complaint) else "none",
            good=engine_is_new_enough(state.server),
            mend=mend,
        ),
        Check(
            name="Docker Compose",
            required=f"{oldest} or newer",
            found=state.compose or "none",
            good=compose_is_new_enough(state.compose),
            mend=install,
        ),
        Check(
            name="buildx",
            required="any, to build images",
            found=state.buildx or "none",
            good=bool(state.buildx),
            mend=install,
            advice_only=True,
        ),
    ]


def preflight(project: Project, plan: Plan, client: docker.DockerClient) -> list[Check]:
    """What `up` refuses to start without."""
    return [
        *_port_checks(plan, client),
        *_gpu_checks(plan, client),
        *_disk_checks(plan, client),
        *_readable_checks(project),
        *_token_checks(project, plan),
    ]


def _port_checks(plan: Plan, client: docker.DockerClient) -> Iterable[Check]:
    gateway = plan.deployment.gateway
    address = published_address(gateway)
    ours = any(
        one.service == "gateway" and one.status == "running" and gateway.port in one.host_ports
        for one in containers(client)
    )
    error = None if ours else _port_error(address, gateway.port)
    if error and error.errno == errno.EADDRNOTAVAIL:
        yield Check(
            name=f"port {gateway.port}",
            required="an address of this machine",
            found=f"{address}, which no interface has",
            good=False,
            mend="set `gateway.address` in the deployment to one of those that `ip address` lists",
        )
        return
    complaint = (error.strerror or str(error)).lower() if error else ""
    yield Check(
        name=f"port {gateway.port}",
        required=f"free on {address}",
        found=complaint or ("in use by this stack's gateway" if ours else "free"),
        good=not complaint,
        mend=f"stop what listens there (`ss -ltnp 'sport = :{gateway.port}'` names it), "
        "or set `gateway.port` in the deployment",
    )


def _port_error(address: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As dockerd binds: a closed connection's TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            return None  # below 1024: closed to this user, not to dockerd
        except OSError as error:
            return error
    return None


def _gpu_checks(plan: Plan, client: docker.DockerClient) -> Iterable[Check]:
    wanted = sorted({gpu for replica in plan.replicas for gpu in replica.gpu_ids})
    if not wanted:
        return
    machine = plan.inventory
    seen = [gpu.id for gpu in machine.gpus] if machine and not machine.assumed else []
    missing = [gpu for gpu in wanted if gpu not in seen]
    yield Check(
        name="GPUs",
        required=f"GPU {', '.join(map(str, wanted))}",
        found=f"GPU {', '.join(map(str, seen))}" if seen else "none",
        good=not missing,
        mend="install NVIDIA's driver, choose a deployment for fewer GPUs, or one with `engine: vllm-cpu`",
    )
    if plan.deployment.gpu.access is GpuAccess.CDI:
        yield _cdi_check(client)
    else:
        runtimes = client.info().get("Runtimes", {})
        yield Check(
            name="GPU access",
            required="the `nvidia` container runtime",
            found="registered" if "nvidia" in runtimes else "no such runtime in Docker",
            good="nvidia" in runtimes,
            mend="install nvidia-container-toolkit, run `sudo nvidia-ctk runtime configure --runtime=docker` and "
            "restart Docker; or set `gpu: {access: cdi}`",
        )


def driver_check() -> Check:
    """NVIDIA's driver, for `doctor`; `up` sees by the GPUs themselves whether it works."""
    driver = driver_version()
    return Check(
        name="NVIDIA driver",
        required="one that answers nvidia-smi",
        found=driver or "none",
        good=bool(driver),
        mend="install NVIDIA's driver for this distribution, or choose a deployment with `engine: vllm-cpu`",
    )


def _cdi_check(client: docker.DockerClient) -> Check:
    specs = [
        file
        for folder in CDI_FOLDERS
        if folder.is_dir()
        for file in folder.iterdir()
        if file.suffix in (".yaml", ".json")
    ]
    version = client.version()["Version"]
    new_enough = int(version.split(".")[0]) >= CDI_OLDEST_DOCKER
    return Check(
        name="GPU access",
        required=f"a CDI specification, Docker {CDI_OLDEST_DOCKER} or newer",
        found=f"{', '.join(map(str, specs)) or 'no specification'}; Docker {version}",
        good=bool(specs) and new_enough,
        mend="sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
        if new_enough
        else "update Docker, or set `gpu: {access: nvidia}`",
    )


def _disk_checks(plan: Plan, client: docker.DockerClient) -> Iterable[Check]:
    root = Path(client.info().get("DockerRootDir", "/var/lib/docker"))
    while not root.exists():
        root = root.parent
    engines = {replica.model.engine for replica in plan.replicas}
    weights = sum(
        plan.budgets[model.name].weights_bytes * plan.budgets[model.name].devices
        for model in plan.deployment.models
        if model.source.hub and model.name in plan.budgets
    )
    missing_images = sum(
        size for engine, size in IMAGE_BYTES.items() if engine in engines and not _has_engine(client, engine)
    )
    free = shutil.disk_usage(root).free
    yield Check(
        name="disk",
        required=f"{(missing_images + GIB) / GIB:.0f} GiB free below {root}",
        found=f"{free / GIB:.0f} GiB free",
        good=free >= missing_images + GIB,
        mend="free space there (`docker system df` shows what Docker keeps), or move Docker's data-root",
    )
    needed = weights + missing_images + GIB
    if weights and free < needed:
        yield Check(
            name="disk for weights",
            required=f"{needed / GIB:.0f} GiB free below {root}, if nothing of them is there yet",
            found=f"{free / GIB:.0f} GiB free",
            good=False,
            mend="`vllmstack models list` shows what is there; the preload looks at what is missing, before it fetches",
            advice_only=True,
        )


def _readable_checks(project: Project) -> Iterable[Check]:
    """Containers read the clone's files as users of their own: a clone made under umask 077 is closed to them."""
    code = (
        *("docker/engine/health.py", "docker/engine/evidence.py", "docker/engine/middleware/vllmstack_ending.py"),
        "vllmstack/hub/__main__.py",
    )
    mounted = ("prometheus/prometheus.yml", "prometheus/rules", "grafana/provisioning", *code)
    files = [project.root / path for path in mounted if (project.root / path).exists()]
    closed = [str(file.relative_to(project.root)) for file in files if not file.stat().st_mode & stat.S_IROTH]
    if closed:
        yield Check(
            name="files",
            required="readable by other users",
            found=f"closed: {', '.join(closed)}",
            good=False,
            mend="chmod -R o+rX docker grafana models prometheus vllmstack",
        )


def _has_engine(client: docker.DockerClient, engine: Engine) -> bool:
    names = {Engine.VLLM: "vllm/vllm-openai", Engine.VLLM_CPU: "vllmstack/engine-cpu"}
    return bool(client.images.list(name=names[engine]))


def _token_checks(project: Project, plan: Plan) -> Iterable[Check]:
    gated = [model for model in plan.deployment.models if model.source.gated]
    if not gated:
        return
    mend = "accept the licence on the model's page, then `export HF_TOKEN=…` (it is kept in secrets/hub_token)"
    try:
        token = hub_token(project)
        found = "a token" if token else "none"
    except HostError as error:
        (problem,) = error.problems
        token, found, mend = None, f"none: {problem.file} {problem.fact}", problem.hint
    names = ", ".join(str(model.source.hub) for model in gated)
    yield Check(
        name="HF_TOKEN",
        required=f"a Hugging Face token for {names}",
        found=found,
        good=bool(token),
        mend=mend,
    )
