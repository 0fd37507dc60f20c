"""The load test in its container on the stack's networks, where it meets gateway and engines by name.

compose.yaml has three services for it: `loadtest-run` (one measurement, this module), `loadtest` (the web UI,
``loadtest_web``) and `loadtest-worker` (more senders for either).
"""

import contextlib
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import docker
import docker.errors

from vllmstack.console import step
from vllmstack.errors import HostError, InvalidInput, Problem
from vllmstack.host.compose import Compose
from vllmstack.host.containers import connect, containers
from vllmstack.host.image_supply import ImageSupply
from vllmstack.host.processes import interruptible
from vllmstack.host.running import running_deployment, running_variables
from vllmstack.host.startup import end
from vllmstack.images import Image, load_images
from vllmstack.project import Project, compose_project_name, find_project

IMAGE = "loadtest"
RUN_SERVICE = "loadtest-run"
WORKER_SERVICE = "loadtest-worker"
RESULTS = "results"
MOUNTED = (RESULTS, "loadtest", "vllmstack")
"""Folders of the clone that the container has at the same relative paths; it writes to the first alone."""
EXTRA = ("gevent", "jinja2", "locust", "matplotlib", "numpy", "orjson", "tokenizers")
"""What pyproject.toml's extra `loadtest` brings."""
VARIABLES = (
    "VLLMSTACK_GIT",
    "VLLMSTACK_LOADTEST_DIGEST",
    "VLLMSTACK_LOADTEST_MASTER",
    "VLLMSTACK_LOADTEST_MODE",
    "VLLMSTACK_LOADTEST_PUBLISH",
    "VLLMSTACK_USER",
)
"""What compose.yaml asks for and no deployment decides."""


def is_inside() -> bool:
    """Whether this process runs in the load test's container, so that a measurement belongs into this process."""
    return os.environ.get("VLLMSTACK_IN_CONTAINER") == "1"


def has_loadtest_extra() -> bool:
    """Whether this Python has what a measurement needs; on a host it is not installed unless asked for."""
    return all(importlib.util.find_spec(package) for package in EXTRA)


def run_in_container(arguments: Sequence[str | Path], *, workers: int = 0, needs_stack: bool = True) -> int:
    """Runs ``vllmstack ARGUMENTS`` in the container, with this terminal's output, and returns its exit status.

    A Path among the arguments is a file of this host: below results/ and loadtest/ it is given as the container sees
    it, and one from elsewhere is mounted, to be read. ``workers`` more containers send requests for it. What measures
    nothing, a report, does not need the stack.

    Ctrl-C ends what runs inside, which then writes down what it has measured; a second one ends it at once. Either way
    no container is left.

    Raises:
        HostError: the stack is not up, another measurement runs, or the container cannot be had or started.
        InvalidInput: a file that is not there, or that workers would not see.
    """
    project = find_project()
    words, mounts = _as_inside(project, arguments)
    if workers and mounts:
        hint = f"copy it to {RESULTS}/, which they see"
        raise InvalidInput(
            [Problem(file=str(one), fact="the workers' containers do not see it", hint=hint) for one in mounts]
        )
    client = running_stack() if needs_stack else connect()
    if needs_stack:
        _refuse_a_second(client)
    name = f"{compose_project_name()}-{RUN_SERVICE}-{secrets.token_hex(4)}"
    compose = loadtest_compose(project, client, {"VLLMSTACK_LOADTEST_MASTER": name})
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    # Without --rm: its exit status is Compose's own too, and 1 would be said of a container that never ran.
    options = ["--no-deps", "--use-aliases", "--name", name]
    options += [] if terminal else ["--no-TTY", "--interactive=false"]
    options += [f"--volume={file}:{file}:ro" for file in mounts]
    options += [f"--env={variable}" for variable in ("COLUMNS", "NO_COLOR") if variable in os.environ]
    with _workers(compose, workers), interruptible():
        process = subprocess.Popen(
            compose.command("--progress", "quiet", "run", *options, RUN_SERVICE, *words),
            cwd=project.root,
            env=compose.environment,
            stdin=None if terminal else subprocess.DEVNULL,
            # Without a terminal Ctrl-C is passed on once, by _attend, and not a second time by the kernel.
            process_group=None if terminal else 0,
        )
        try:
            _attend(process, client, name)
            return _status(client, name)
        finally:
            end(process)
            with contextlib.suppress(docker.errors.APIError):  # it was never made
                client.api.remove_container(name, force=True)


def loadtest_compose(
    project: Project, client: docker.DockerClient, variables: Mapping[str, str], *, overrides: Sequence[Path] = ()
) -> Compose:
    """Compose with all that the load test's services ask for: their image, a folder for results, and values."""
    values = {
        "VLLMSTACK_IMAGE_LOADTEST": ImageSupply(project, client).provide({IMAGE: _image(project)})[IMAGE],
        "VLLMSTACK_USER": _writer(project.root / RESULTS),
        "VLLMSTACK_GIT": commit(project),
    }
    return Compose(project, running_deployment(project), variables={**values, **variables}, overrides=overrides)


def running_stack() -> docker.DockerClient:
    """A client for the daemon on which the stack runs.

    Raises:
        HostError: there is no gateway that a load test could ask.
    """
    running_deployment(find_project())
    client = connect()
    if not any(one.service == "gateway" and one.status == "running" for one in containers(client)):
        raise HostError(Problem(fact="the stack is not up: there is nothing to measure", hint="run `vllmstack up`"))
    return client


def commit(project: Project) -> str:
    """The clone's commit, with ``-dirty`` where files differ from it; empty where git does not say."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _image(project: Project) -> Image:
    """What the deployment names in its `images:`, else this repository's own, also after a change of its version."""
    own = load_images(project.images_file).images[IMAGE]
    named = running_variables(project).get(f"VLLMSTACK_IMAGE_{IMAGE.upper()}", own.reference)
    return own if named.rpartition(":")[0] == own.reference.rpartition(":")[0] else Image(reference=named)


def _writer(results: Path) -> str:
    """User and group that write there: this user, or, for root, whoever the folder belongs to.

    Root without capabilities, which it is in the container, may not write to another user's folder.
    """
    try:
        results.mkdir(exist_ok=True)
    except OSError as error:
        raise HostError(
            Problem(fact=f"cannot make {results}: {error.strerror}", hint="give this user the clone's folder")
        ) from None
    if os.geteuid() == 0:
        owner = results.stat()
        return f"{owner.st_uid}:{owner.st_gid}"
    if not os.access(results, os.W_OK):
        raise HostError(Problem(fact=f"{results} belongs to another user", hint=f"sudo chown -R $USER {results}"))
    return f"{os.geteuid()}:{os.getegid()}"


def _as_inside(project: Project, arguments: Sequence[str | Path]) -> tuple[list[str], list[Path]]:
    """The arguments with each path as the container sees it, and the files to mount for that."""
    words: list[str] = []
    mounts: list[Path] = []
    problems: list[Problem] = []
    for argument in arguments:
        if isinstance(argument, str):
            words.append(argument)
            continue
        path = argument.resolve()
        if path.is_relative_to(project.root) and path.relative_to(project.root).parts[:1] in [
            (one,) for one in MOUNTED
        ]:
            words.append(str(path.relative_to(project.root)))
        elif path.exists():
            words.append(str(path))
            mounts.append(path)
        else:
            hint = f"files to read must be there; what is written goes below {project.root / RESULTS}"
            problems.append(Problem(file=str(argument), fact="there is no such file", hint=hint))
    if problems:
        raise InvalidInput(problems)
    return words, mounts


def _refuse_a_second(client: docker.DockerClient) -> None:
    """Two measurements at a time would measure each other."""
    labels = [f"com.docker.compose.project={compose_project_name()}", f"com.docker.compose.service={RUN_SERVICE}"]
    for one in client.api.containers(all=False, filters={"label": labels}):
        name = one["Names"][0].removeprefix("/")
        raise HostError(
            Problem(fact=f"a measurement runs already: {name}", hint=f"wait for its end, or `docker rm --force {name}`")
        )


@contextlib.contextmanager
def _workers(compose: Compose, count: int) -> Iterator[None]:
    """So many containers that wait for their master; none of them is left."""
    if not count:
        yield
        return
    try:
        scale = ["--scale", f"{WORKER_SERVICE}={count}", WORKER_SERVICE]
        compose.run("up", "--detach", "--no-deps", *scale, doing=f"starting {count} workers")
        yield
    finally:
        compose.run("rm", "--stop", "--force", WORKER_SERVICE, doing="removing the workers")


def _attend(process: "subprocess.Popen[bytes]", client: docker.DockerClient, name: str) -> None:
    """Waits for the end."""
    try:
        process.wait()
    except KeyboardInterrupt:
        step("stopping; what was measured so far is kept (Ctrl-C again: it is not)")
        with contextlib.suppress(docker.errors.APIError):  # not started yet, or at its end
            client.api.kill(name, signal.SIGINT.name)
        process.wait()


def _status(client: docker.DockerClient, name: str) -> int:
    """The container's own exit status.

    Raises:
        HostError: it never ran, or was killed because it took too much memory.
    """
    try:
        state = client.api.inspect_container(name)["State"]
    except docker.errors.NotFound:
        state = {"Status": "created"}
    if state["Status"] == "created":
        raise HostError(Problem(fact="the load test's container did not start", hint="see Docker's message above"))
    if state.get("OOMKilled"):
        hint = "ask for less at a time, or raise `mem_limit` of x-loadtest in compose.yaml"
        raise HostError(Problem(fact="the load test's container was killed: out of memory", hint=hint))
    return int(state["ExitCode"])
