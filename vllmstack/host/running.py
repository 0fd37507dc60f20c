"""The deployment that `up` started last, as its rendered files tell it."""

from pathlib import Path

from vllmstack.errors import HostError, Problem
from vllmstack.host.files import current_deployment
from vllmstack.host.secret_files import STACK_KEY
from vllmstack.project import Project

FILE_RECORD = "deployment-file"
"""Beside what is rendered: the path of the file that it was rendered from."""


def running_deployment(project: Project) -> str:
    """The deployment that `up` started last.

    Raises:
        HostError: nothing was started from this clone.
    """
    name = current_deployment(project)
    if name is None or not (project.rendered(name) / "compose.env").is_file():
        raise HostError(Problem(fact="nothing was started from this clone yet", hint="run `vllmstack up`"))
    return name


def running_url(project: Project) -> str:
    """The gateway of the deployment that `up` started last, without a path."""
    return running_variables(project)["VLLMSTACK_URL"]


def asks_for_keys(project: Project) -> bool:
    """Whether the deployment that `up` started last has API keys."""
    return "VLLMSTACK_API_KEYS_FILE" in running_variables(project)


def stack_key_file(project: Project) -> Path | None:
    """The file of the stack's own key; None if the deployment that `up` started last asks for none."""
    return project.secrets / STACK_KEY if asks_for_keys(project) else None


def running_key(project: Project) -> str | None:
    """The stack's own key; None if the deployment that `up` started last asks for none."""
    file = stack_key_file(project)
    return file.read_text().strip() if file and file.is_file() else None


def running_variables(project: Project) -> dict[str, str]:
    """What compose.yaml was given of the deployment that `up` started last."""
    return variables_in((project.rendered(running_deployment(project)) / "compose.env").read_text())


def variables_in(compose_env: str) -> dict[str, str]:
    """The values of a rendered compose.env, by name."""
    pairs = (line.partition("=") for line in compose_env.splitlines() if not line.startswith("#"))
    return {key: value.strip("'") for key, _, value in pairs}


def running_file(project: Project) -> str:
    """The deployment file that `up` or `apply` took last, or, where that is not known, the deployment's name."""
    name = running_deployment(project)
    record = project.rendered(name) / FILE_RECORD
    return record.read_text().strip() if record.is_file() else name
