"""The volume of models, as `vllmstack models` asks about it and changes it: by a container that has it mounted."""

import contextlib
import secrets
from collections.abc import Sequence

import docker
import docker.errors

from vllmstack.errors import VllmstackError
from vllmstack.host.compose import Compose
from vllmstack.host.files import write_whole
from vllmstack.host.image_supply import ImageSupply
from vllmstack.host.preloading import Said, Show, follow
from vllmstack.host.processes import interruptible
from vllmstack.host.secret_files import prepare_hub_token
from vllmstack.hub.wishes import Wish
from vllmstack.images import MODELS_IMAGE, Image
from vllmstack.project import Project, compose_project_name
from vllmstack.render.preload import REQUEST, render_request

SERVICE = "models"


class ModelVolume:
    """Runs one container for one action; ``image`` is what it is made from."""

    def __init__(self, project: Project, client: docker.DockerClient, image: Image) -> None:
        self._project = project
        self._client = client
        self._image = image

    def ask(self, action: str, wishes: Sequence[Wish] = (), show: Show = lambda _: None) -> Said:
        """What `python -m vllmstack.hub ACTION` says to its end. Nothing of the container is left.

        Raises:
            HostError: the image, the container or a file cannot be had.
            StackError: Docker lost the container.
        """
        reference = ImageSupply(self._project, self._client).provide({MODELS_IMAGE: self._image})[MODELS_IMAGE]
        values = {
            "VLLMSTACK_IMAGE_MODELS": reference,
            "VLLMSTACK_HUB_TOKEN_FILE": str(prepare_hub_token(self._project)),
        }
        compose = Compose.of_file(self._project, self._project.root / "docker" / "models" / "compose.yaml", values)
        name = f"{compose_project_name()}-{SERVICE}-{secrets.token_hex(4)}"
        request = self._project.state / ".models" / f"{name}.json"
        write_whole(request, render_request(wishes))
        mount = f"--volume={request}:{REQUEST}:ro"
        try:
            with interruptible():
                compose.run(
                    *("run", "--detach", "--name", name, mount, SERVICE, action, REQUEST),
                    doing="starting the container that has the volume of models",
                )
                return follow(self._client, name, name, show)
        finally:
            with contextlib.suppress(docker.errors.APIError):
                self._client.api.remove_container(name, force=True)
            with contextlib.suppress(OSError):
                request.unlink()


def raise_for(said: Said) -> None:
    """Raises what the container complained of, if anything."""
    if said.problems:
        raise VllmstackError(said.problems)
