"""What commands that measure begin with: here or in the load test's container, of what, and where the results go."""

import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from loadtest.errors import LoadTestError
from vllmstack.errors import HostError, Problem, VllmstackError
from vllmstack.host.engine_addresses import write_host_stack
from vllmstack.host.loadtest_container import RESULTS, commit, has_loadtest_extra, is_inside, run_in_container
from vllmstack.host.running import running_deployment, running_url, stack_key_file
from vllmstack.project import find_project
from vllmstack.render.loadtest import STACK_FILE

MOUNTED_STATE = Path("/etc/vllmstack")
"""Where compose.yaml mounts what is rendered."""
MOUNTED_KEY = Path("/run/secrets/stack_key")
"""Empty where the gateway asks for none."""


def measures_here(here: bool) -> bool:
    """Whether this process measures itself: inside the container, or because `--here` asks for it.

    Raises:
        LoadTestError: `--here`, and the packages for it are not installed.
    """
    if is_inside():
        return True
    if here and not has_loadtest_extra():
        raise LoadTestError(
            Problem(
                place="--here",
                fact="this Python has not the packages that measuring needs",
                hint=f"{sys.executable} -m pip install -r docker/loadtest/requirements.txt, or leave out --here",
            )
        )
    return here


def measure_in_container(arguments: Sequence[str | Path], *, workers: int = 0) -> NoReturn:
    """Ends this program with the status of the same command in the container; see ``run_in_container``.

    Raises:
        LoadTestError: nothing could be measured: for a program that reads exit statuses this is no missed target.
    """
    try:
        status = run_in_container(arguments, workers=workers)
    except VllmstackError as error:
        raise LoadTestError(error.problems) from error
    sys.exit(status)


def surroundings() -> dict[str, Any]:
    """``stack``, ``url``, ``api_key_file`` and ``git`` of RunOptions, as this process finds them.

    Raises:
        LoadTestError: nothing was started from this clone.
    """
    if is_inside():
        return {
            "stack": str(MOUNTED_STATE / STACK_FILE),
            "api_key_file": str(MOUNTED_KEY),
            "git": os.environ.get("VLLMSTACK_GIT", ""),
        }
    try:
        project = find_project()
        deployment = running_deployment(project)
        stack = write_host_stack(project, deployment, project.rendered(deployment) / STACK_FILE)
        key_file = stack_key_file(project)
        return {
            "stack": str(stack),
            # The names of containers, which stack.json has, mean nothing outside their networks.
            "url": running_url(project),
            "api_key_file": str(key_file) if key_file else None,
            "git": commit(project),
        }
    except HostError as error:
        raise LoadTestError(error.problems) from error


def new_results_folder(name: str) -> Path:
    """``results/20261121-104500-NAME``, which nothing is in yet: below the clone, or below the container's mount."""
    root = Path() if is_inside() else find_project().root
    return root / RESULTS / f"{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}-{name}"
