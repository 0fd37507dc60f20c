"""The one place that runs `docker compose`."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vllmstack.host.processes import run
from vllmstack.project import Project, compose_project_name


class Compose:
    """Compose on one rendered deployment.

    ``variables`` go before what the deployment's compose.env says; ``overrides`` are files that are merged into
    compose.yaml.
    """

    def __init__(
        self,
        project: Project,
        deployment_name: str,
        *,
        variables: Mapping[str, str] | None = None,
        overrides: Sequence[Path] = (),
    ) -> None:
        self._project = project
        self._folder = project.root
        self._options = ["--env-file", str(project.rendered(deployment_name) / "compose.env")]
        self._files = (project.compose_file, *overrides)
        self.environment = {**os.environ, **(variables or {})}

    @classmethod
    def of_file(cls, project: Project, file: Path, variables: Mapping[str, str]) -> "Compose":
        """Compose on a file of its own, in the stack's project: with its volumes and networks, without a deployment."""
        made = cls(project, "", variables={"COMPOSE_IGNORE_ORPHANS": "1", **variables})
        made._folder, made._options, made._files = file.parent, [], (file,)
        return made

    def command(self, *arguments: str) -> list[str]:
        """The full command line; what a person could type."""
        options = {
            "--project-name": compose_project_name(),
            "--project-directory": str(self._folder),
        }
        words = [word for option in options.items() for word in option]
        words += [word for file in self._files for word in ("--file", str(file))]
        return ["docker", "compose", *words, *self._options, *arguments]

    def run(self, *arguments: str, doing: str, hint: str = "see `vllmstack logs`") -> str:
        """Runs to the end; raises HostError with Compose's own last lines."""
        return run(
            self.command(*arguments), doing=doing, hint=hint, environment=self.environment, folder=self._project.root
        )

    def start(self, *arguments: str, log: Path) -> "subprocess.Popen[bytes]":
        """Starts Compose and leaves it running, with both outputs in ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self._project.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )

    def follow(self, arguments: Sequence[str], rewrite: Callable[[str], str] | None = None) -> int:
        """Runs with this terminal's own input and output; the exit status. ``rewrite`` changes each line of output."""
        command = self.command(*arguments)
        if rewrite is None:
            return subprocess.run(command, cwd=self._project.root, env=self.environment, check=False).returncode
        with subprocess.Popen(
            command,
            cwd=self._project.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                for line in process.stdout or ():
                    print(rewrite(line.rstrip("\r\n")), flush=True)
            except BrokenPipeError:  # whoever read this has seen enough, as `head` has
                process.terminate()
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else it breaks again at the exit
                return 0
        return process.returncode
