"""Secrets as files below ``secrets/``: never in argv, logs, `docker inspect` or anything rendered."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vllmstack.deployment.api_keys import ApiKey, gateway_text, new_secret
from vllmstack.deployment.model import Deployment
from vllmstack.errors import HostError, Problem
from vllmstack.host.key_file import read_keys
from vllmstack.hub.tokens import token_in
from vllmstack.project import Project

GRAFANA_PASSWORD = "grafana_admin_password"  # noqa: S105 - a file's name
HUB_TOKEN = "hub_token"  # noqa: S105
API_KEYS = "api_keys"
"""What the gateway reads: hashes of the users' keys and of the stack's own."""
STACK_KEY = "stack_key"
"""A key for the stack itself: its check at the start, `chat`, the load test. No user's key is kept anywhere."""
ALERTS = "alerts"
"""The folder of what Alertmanager's receivers need: each file is one secret, put there by the operator."""
NOTHING = "none"
"""An empty file: Compose wants a file for each secret that compose.yaml names, also for one nobody asked for."""


def prepare_secrets(project: Project, deployment: Deployment) -> None:
    """Makes what is missing: Grafana's password and the stack's own key on first use, the hub token out of HF_TOKEN.

    The folder is closed to other users (0700); the files are readable (0444), because a container reads them as a
    user of its own and Compose mounts them as they are.

    Raises:
        HostError: the folder is another user's, or cannot be written; the token is none.
    """
    with _said_clearly(project):
        _prepare(project, deployment)


def prepare_hub_token(project: Project) -> Path:
    """The file with the hub's token, or the empty one if nobody has one, for `vllmstack models`.

    Raises:
        HostError: the folder is another user's, or cannot be written; the token is none.
    """
    with _said_clearly(project):
        _make_folder(project)
        if token := hub_token(project):
            _write(project.secrets / HUB_TOKEN, token)
            return project.secrets / HUB_TOKEN
    return project.secrets / NOTHING


def write_keys(project: Project, keys: Sequence[ApiKey]) -> None:
    """Gives the gateway these keys and the stack's own; one that runs takes them over within seconds.

    Raises:
        HostError: the folder is another user's, or cannot be written.
    """
    with _said_clearly(project):
        own = _own(project.secrets / STACK_KEY, new_secret)
        _write(project.secrets / API_KEYS, gateway_text(keys, own))


@contextlib.contextmanager
def _said_clearly(project: Project) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(
            Problem(
                fact=f"cannot write {error.filename or project.secrets}: {error.strerror}",
                hint="give this user the folder secrets (`sudo vllmstack up` makes it root's), and look at `df -h .`",
            )
        ) from None


def _prepare(project: Project, deployment: Deployment) -> None:
    _make_folder(project)
    receivers = project.secrets / ALERTS
    receivers.mkdir(exist_ok=True)
    for path in (receivers, *receivers.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o444)
    # With an empty file Grafana would take its own default.
    _own(project.secrets / GRAFANA_PASSWORD, lambda: secrets.token_urlsafe(24))
    # Whoever has no gated model is not kept from starting by what HF_TOKEN holds.
    if any(model.source.gated for model in deployment.models) and (token := hub_token(project)):
        _write(project.secrets / HUB_TOKEN, token)
    gateway = deployment.gateway
    if gateway.api_keys_file:
        write_keys(project, read_keys(gateway.api_keys_file, str(gateway.api_keys_file)))
    if gateway.tls:
        _write(project.secrets / "tls_certificate", gateway.tls.certificate.read_text())
        _write(project.secrets / "tls_key", gateway.tls.key.read_text())


def _make_folder(project: Project) -> None:
    project.secrets.mkdir(mode=0o700, exist_ok=True)
    project.secrets.chmod(0o700)
    _write(project.secrets / NOTHING, "")


def hub_token(project: Project) -> str | None:
    """The Hugging Face token: HF_TOKEN, the file that HF_TOKEN_PATH or `hf auth login` keeps, or one kept before.

    Raises:
        HostError: what stands there is no token.
    """
    if os.environ.get("HF_TOKEN"):
        return token_in(os.environ["HF_TOKEN"], "HF_TOKEN")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    for file in (Path(os.environ.get("HF_TOKEN_PATH", home / "token")), project.secrets / HUB_TOKEN):
        with contextlib.suppress(OSError):  # not there, or another user's
            if token := token_in(file.read_text(errors="replace"), str(file)):
                return token
    return None


def _own(file: Path, make: Callable[[], str]) -> str:
    """A secret of the stack's own, made where the file is not there or empty."""
    if not file.exists() or not file.read_text().strip():
        _write(file, make())
    return file.read_text().strip()


def _write(file: Path, text: str) -> None:
    """In place: a running container sees the file that it mounted, not another one of the same name."""
    if file.is_file() and file.read_text() == text:
        return
    if file.exists():
        file.chmod(0o644)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w") as stream:
        stream.write(text)
    file.chmod(0o444)
