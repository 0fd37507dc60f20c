"""Engines as this host reaches them: by address, since their names are known on their own networks only."""

import json
import re
from pathlib import Path

import docker
import docker.errors

from vllmstack.errors import HostError
from vllmstack.host.containers import connect
from vllmstack.project import Project, compose_project_name

HOST_STACK_FILE = "loadtest/stack.host.json"


def write_host_stack(project: Project, deployment: str, stack: Path) -> Path:
    """``stack.json`` with the engines' addresses instead of their names; the file itself where Docker does not say.

    A Linux host reaches its own bridges' containers; what it does not reach the load test says in one line.
    """
    try:
        addresses = _addresses(connect())
        document = json.loads(stack.read_text())
    except (HostError, docker.errors.DockerException, OSError):  # a file that is not there, whoever reads it says so
        return stack
    for model in document["models"]:
        for engine in model["engines"]:
            address = addresses.get(engine["name"])
            if address:
                engine["metrics"] = re.sub(r"//[^:/]+", f"//{address}", engine["metrics"], count=1)
    file = project.rendered(deployment) / HOST_STACK_FILE
    file.write_text(json.dumps(document, indent=2) + "\n")
    return file


def _addresses(client: docker.DockerClient) -> dict[str, str]:
    """By Compose service."""
    found: dict[str, str] = {}
    label = f"com.docker.compose.project={compose_project_name()}"
    for one in client.api.containers(filters={"label": [label, "vllmstack.model"]}):
        for network in one["NetworkSettings"]["Networks"].values():
            if network.get("IPAddress"):
                found[one["Labels"]["com.docker.compose.service"]] = network["IPAddress"]
    return found
