"""Where the files of a clone lie: the folder with compose.yaml, and what is rendered into it."""

import os
from dataclasses import dataclass
from pathlib import Path

from vllmstack.errors import HostError, Problem


@dataclass(frozen=True, kw_only=True)
class Project:
    """A clone of vllmstack."""

    root: Path

    @property
    def compose_file(self) -> Path:
        return self.root / "compose.yaml"

    @property
    def deployments(self) -> Path:
        return self.root / "deployments"

    @property
    def images_file(self) -> Path:
        return self.root / "docker" / "images.yaml"

    @property
    def alertmanager_file(self) -> Path:
        return self.root / "prometheus" / "alertmanager.yml"

    @property
    def facts(self) -> Path:
        """What the stack's own exporter reads: which container is which service, and when the stack was changed."""
        return self.state / ".facts"

    @property
    def secrets(self) -> Path:
        """Only the owner enters this folder; its files are readable, for containers that run as other users."""
        return self.root / "secrets"

    @property
    def state(self) -> Path:
        return self.root / ".vllmstack"

    @property
    def current(self) -> Path:
        """A link to what `up` rendered last."""
        return self.state / ".current"

    @property
    def bundles(self) -> Path:
        """What `load` unpacks: a folder a bundle, with its deployment file and weights."""
        return self.root / "bundles"

    def rendered(self, deployment_name: str) -> Path:
        return self.state / deployment_name


def find_project(start: Path | None = None) -> Project:
    """The clone that holds ``start`` (the working directory if left out).

    Raises:
        HostError: no folder from ``start`` upward is a clone of vllmstack.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "compose.yaml").is_file() and (folder / "docker" / "images.yaml").is_file():
            return Project(root=folder)
    raise HostError(
        Problem(
            fact=f"{here} is not inside a clone of vllmstack (no compose.yaml with docker/images.yaml beside it)",
            hint="change into the clone's folder first",
        )
    )


def compose_project_name() -> str:
    """Compose's project: its own variable, so that a second stack can live beside the first."""
    return os.environ.get("COMPOSE_PROJECT_NAME") or "vllmstack"
