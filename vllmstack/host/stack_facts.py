"""What docker/exporters/container_exporter.py cannot see: which container is which service, and when that changed."""

import json
import time
from typing import Any

import docker

from vllmstack.host.containers import containers
from vllmstack.host.files import write_whole
from vllmstack.project import Project

CONTAINERS = "containers.json"
CHANGES = "changes.json"


def note_containers(project: Project, client: docker.DockerClient) -> None:
    """Which container is which service now.

    Raises:
        HostError: the folder cannot be written.
    """
    stack = {
        one.identity: {"service": one.service, "model": one.model, "replica": one.service if one.is_engine else ""}
        for one in containers(client)
    }
    write_whole(project.facts / CONTAINERS, json.dumps(stack, indent=1) + "\n")


def note_change(project: Project, verb: str) -> None:
    """The moment at which the stack was changed, by the command that did it.

    Raises:
        HostError: the folder cannot be written.
    """
    file = project.facts / CHANGES
    changes: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    write_whole(file, json.dumps(changes | {verb: round(time.time())}) + "\n")


def prepare_facts(project: Project) -> None:
    """The folder, before Docker makes one that belongs to root.

    Raises:
        HostError: it cannot be made.
    """
    if not (project.facts / CONTAINERS).is_file():
        write_whole(project.facts / CONTAINERS, "{}\n")
