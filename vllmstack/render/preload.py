"""What brings a model's files into the volume before its engines start: a Compose service, and the file it reads."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from vllmstack.deployment.model import Model
from vllmstack.hub.wishes import Wish, as_json
from vllmstack.planning.placement import model_slug

REQUEST = "/etc/vllmstack/request.json"
LABEL = "vllmstack.preload"
"""Of a preload's container: the model that it is for. Engines have ``vllmstack.model``."""
FOLDER = "preload/"


def preload_service(model: Model) -> str:
    """The Compose service's name."""
    return f"preload-{model_slug(model)}"


def request_path(model: Model) -> str:
    """The file that says what is needed, relative to ``.vllmstack/NAME/``."""
    return f"{FOLDER}{model_slug(model)}.json"


def render_request(wishes: Sequence[Wish]) -> str:
    """The file's text."""
    return json.dumps({"wishes": [as_json(wish) for wish in wishes]}, indent=1) + "\n"


def render_preload(model: Model, wishes: Sequence[Wish], image: str, *, root: str) -> dict[str, Any]:
    """The service; ``root`` leads from the file that it is written to, to the clone."""
    digest = hashlib.sha256(render_request(wishes).encode()).hexdigest()[:16]
    return {
        "extends": {"file": f"{root}/docker/models/service.yaml", "service": "preload"},
        "image": image,
        "command": ["pull", REQUEST],
        "labels": {LABEL: model.name, "vllmstack.request": digest},
        "volumes": [
            {
                "type": "bind",
                "source": f"./{request_path(model)}",
                "target": REQUEST,
                "read_only": True,
                "bind": {"create_host_path": False},
            }
        ],
    } | ({"secrets": ["hub_token"]} if model.source.gated else {})


def commits_label(wishes: Sequence[Wish]) -> dict[str, str]:
    """Of an engine: the locked commits that it reads, so that a moved lock makes a new container."""
    commits = [f"{wish.hub}@{wish.commit[:12]}" for wish in wishes if wish.commit]
    return {"vllmstack.commits": " ".join(commits)} if commits else {}
