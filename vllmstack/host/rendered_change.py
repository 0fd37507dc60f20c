"""Rendered files that change under a running stack, a part at a time, and go back where a part fails."""

from collections.abc import Mapping

from vllmstack.host.files import read_rendered, write_rendered
from vllmstack.project import Project

COMPOSE_PARTS = ("compose.env", "engines.compose.yaml")
ENGINE_OPTIONS = "engines/"
PRELOADS = "preload/"
GATEWAY = "gateway/"


class RenderedChange:
    """What is rendered now, and what shall be.

    Engines' option files have names that change with their text: old and new ones lie side by side until all is done,
    and a container that Docker starts again finds its own.
    """

    def __init__(self, project: Project, deployment_name: str, new: Mapping[str, str]) -> None:
        self._project = project
        self._name = deployment_name
        self._new = new
        self._before = read_rendered(project, deployment_name, *COMPOSE_PARTS, PRELOADS, GATEWAY)

    def offer_engines(self) -> None:
        """What Compose makes containers from. What the gateway reads stays as it is."""
        self._write(self._new, *COMPOSE_PARTS, ENGINE_OPTIONS, PRELOADS)

    def offer_gateway(self) -> None:
        """What the gateway reads at its next reload."""
        self._write(self._new, GATEWAY)

    def keep_gateway(self) -> None:
        """The gateway has taken it over: it no longer goes back, and neither does how its container is made."""
        self._before |= {
            path: text for path, text in self._new.items() if path.startswith(GATEWAY) or path == "compose.env"
        }

    def put_back(self) -> None:
        """As it was before, but for what is kept; option files of engines that have them stay."""
        self._write(self._before, *COMPOSE_PARTS, PRELOADS, GATEWAY)

    def finish(self) -> None:
        """All of the new files, and nothing else."""
        write_rendered(self._project, self._name, self._new)

    def _write(self, files: Mapping[str, str], *prefixes: str) -> None:
        part = {path: text for path, text in files.items() if path.startswith(prefixes)}
        write_rendered(self._project, self._name, part, alone=False)
