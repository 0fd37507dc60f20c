"""What several commands begin with: a deployment found, loaded and planned for this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vllmstack.deployment.loader import find, load
from vllmstack.deployment.model import Deployment
from vllmstack.deployment.model_lock import ModelLock
from vllmstack.host.inventory import see_inventory
from vllmstack.host.model_files import dimensions_of
from vllmstack.host.model_lock_file import read_lock
from vllmstack.planning.dimensions import ModelDimensions
from vllmstack.planning.gpus import gpu_type
from vllmstack.planning.inventory import Inventory
from vllmstack.planning.plan import Plan, make_plan
from vllmstack.project import Project, find_project

DEFAULT_WITHOUT_GPU = "cpu-smoke"
DEFAULT_WITH_GPU = "llama-3.2-1b-fp8"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A deployment, ready to be rendered."""

    project: Project
    file: str
    """As a message names it."""
    deployment: Deployment
    plan: Plan
    dimensions: Mapping[str, ModelDimensions | None]
    """By model name; None where nothing here tells them."""
    lock: ModelLock
    """Of the hub's models: the file beside the deployment's."""


def default_deployment(inventory: Inventory) -> str:
    """What `up` serves when nobody says what: ``DEPLOYMENT`` in the environment, else by whether there is a GPU."""
    return os.environ.get("DEPLOYMENT") or (DEFAULT_WITH_GPU if inventory.gpus else DEFAULT_WITHOUT_GPU)


def load_deployment(project: Project, name: str) -> tuple[str, Deployment]:
    """The deployment, and its file as a message names it."""
    shown = shown_path(find(name, project.deployments))
    return shown, load(Path(shown))


def prepare(name: str | None, gpu_name: str | None = None) -> Prepared:
    """Loads and plans, for this machine or for one with GPUs of the type ``gpu_name``.

    Raises:
        InvalidInput: the file is wrong, the GPU type unknown, or something does not fit; with every problem.
    """
    project = find_project()
    inventory = see_inventory()
    file, deployment = load_deployment(project, name or default_deployment(inventory))
    if gpu_name is not None:
        kind = gpu_type(gpu_name, place="--gpu")
        inventory = replace(inventory, gpus=())
        deployment = deployment.model_copy(update={"gpu": deployment.gpu.model_copy(update={"type": kind.name})})
    dimensions = {model.name: dimensions_of(model) for model in deployment.models}
    return Prepared(
        project=project,
        file=file,
        deployment=deployment,
        plan=make_plan(deployment, inventory, dimensions, file),
        dimensions=dimensions,
        lock=read_lock(Path(file).parent),
    )


def shown_path(path: Path) -> str:
    """The file as a message names it: from the working directory, where it lies below that."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
