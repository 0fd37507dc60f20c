"""The deployment that `up` started last, as its rendered files tell it."""

from vllmstack.deployment.api_keys import parse_keys
from vllmstack.errors import HostError, Problem
from vllmstack.host.files import current_deployment
from vllmstack.project import Project


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


def running_key(project: Project) -> str | None:
    """The first API key of the deployment that `up` started last; None if it asks for none."""
    file = project.secrets / "api_keys"
    if "VLLMSTACK_API_KEYS_FILE" not in running_variables(project) or not file.is_file():
        return None
    return next(iter(parse_keys(file.read_text()).values()), None)


def running_variables(project: Project) -> dict[str, str]:
    """What compose.yaml was given of the deployment that `up` started last."""
    lines = (project.rendered(running_deployment(project)) / "compose.env").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {key: value.strip("'") for key, _, value in pairs}
