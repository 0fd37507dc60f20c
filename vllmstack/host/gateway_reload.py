"""New configuration for the gateway that runs: tested, taken over by a reload, and seen to be.

nginx keeps its shared memory over a reload, and its old workers end their streams first (worker_shutdown_timeout).

It is told from inside its container. After `docker kill --signal HUP`, Docker takes the container for one that somebody
has stopped: with `restart: unless-stopped` it would not start a crashed gateway again (seen with Docker 26.1).
"""

import time

import docker
import docker.errors
import requests.exceptions

from vllmstack.errors import Problem, StackError
from vllmstack.host.containers import Container, containers
from vllmstack.host.gateway_control import SERVICE

POLL_SECONDS = 0.2
RELOAD_SECONDS = 15.0
WORKER = "nginx: worker process"
ENDING = "shutting down"
LOG_LINES = 200
QUOTED_LINES = 6


def check_configuration(client: docker.DockerClient) -> None:
    """Lets nginx read the files that are mounted now.

    Raises:
        StackError: it refuses them, with its own words.
    """
    _nginx(client, _gateway(client), "-t", "-q")


def reload_gateway(client: docker.DockerClient) -> None:
    """Returns when workers with the new configuration have taken over.

    Raises:
        StackError: nginx went on with the old one, with its last errors.
    """
    one = _gateway(client)
    before = _workers(client, one)
    since = int(time.time())
    _nginx(client, one, "-s", "reload")
    deadline = time.monotonic() + RELOAD_SECONDS
    while True:
        workers = _workers(client, one)
        # A host without ps shows none: then the signal has to be enough.
        if not workers & before and (workers or not before):
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    log = client.containers.get(one.identity).logs(since=since, tail=LOG_LINES, stream=False).decode(errors="replace")
    errors = [line for line in log.splitlines() if "[emerg]" in line or "[error]" in line]
    raise _complaint(f"nginx did not take over its new configuration:\n{_quoted(errors)}")


def _nginx(client: docker.DockerClient, gateway: Container, *arguments: str) -> None:
    """One of nginx's own commands in the container; with a configuration that is wrong it does nothing."""
    try:
        done = client.containers.get(gateway.identity).exec_run(["nginx", *arguments, "-e", "stderr"])
    except (docker.errors.APIError, requests.exceptions.RequestException) as error:
        raise _complaint(f"cannot be asked: {error}") from None
    if done.exit_code != 0:
        said = done.output.decode(errors="replace") if isinstance(done.output, bytes) else ""
        raise _complaint(f"nginx refuses its new configuration:\n{_quoted(said.splitlines())}")


def _gateway(client: docker.DockerClient) -> Container:
    one = next((one for one in containers(client) if one.service == SERVICE and one.status == "running"), None)
    if one is None:
        raise _complaint("does not run")
    return one


def _workers(client: docker.DockerClient, gateway: Container) -> set[str]:
    """Process ids of the workers that take requests."""
    try:
        seen = client.containers.get(gateway.identity).top(ps_args="-eo pid,args")
    except (docker.errors.APIError, requests.exceptions.RequestException):
        return set()
    return {row[0] for row in seen["Processes"] if WORKER in row[-1] and ENDING not in row[-1]}


def _quoted(lines: list[str]) -> str:
    return "\n".join(f"    {line[:300]}" for line in lines[-QUOTED_LINES:]) or "    it does not say why"


def _complaint(fact: str) -> StackError:
    hint = "it goes on with the old one; see `vllmstack logs gateway`"
    return StackError(Problem(file=SERVICE, fact=fact, hint=hint))
