"""The one place that runs `docker compose`."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vllmstack.host.processes import run
from vllmstack.project import Project, compose_project_name


class Compose:
    """Compose on one rendered deployment."""

    def __init__(self, project: Project, deployment_name: str) -> None:
        self._project = project
        self._variables = project.rendered(deployment_name) / "compose.env"

    def command(self, *arguments: str) -> list[str]:
        """The full command line; what a person could type."""
        options = {
            "--project-name": compose_project_name(),
            "--project-directory": str(self._project.root),
            "--file": str(self._project.compose_file),
            "--env-file": str(self._variables),
        }
        return ["docker", "compose", *(word for option in options.items() for word in option), *arguments]

    def run(self, *arguments: str, doing: str, hint: str = "see `vllmstack logs`") -> str:
        """Runs to the end; raises HostError with Compose's own last lines."""
        return run(self.command(*arguments), doing=doing, hint=hint, folder=self._project.root)

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        """Starts Compose and leaves it running, with both outputs in ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            return subprocess.Popen(
                self.command(*arguments), cwd=self._project.root, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def follow(self, arguments: Sequence[str]) -> int:
        """Runs with this terminal's own input and output; the exit status."""
        command = self.command(*arguments)
        return subprocess.run(command, cwd=self._project.root, env=dict(os.environ), check=False).returncode
