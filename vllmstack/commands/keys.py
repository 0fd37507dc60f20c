"""`vllmstack keys`: who may use a deployment, for which models, and how much of it."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from vllmstack.commands.preparation import shown_path
from vllmstack.console import out, step
from vllmstack.deployment import api_keys
from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.api_keys import ApiKey, Priority
from vllmstack.deployment.loader import find
from vllmstack.deployment.wording import listed, perhaps, shown
from vllmstack.deployment.yaml_file import read_mapping
from vllmstack.errors import InvalidInput, Problem
from vllmstack.host.files import current_deployment
from vllmstack.host.key_file import Change, change_keys, read_keys
from vllmstack.host.running import asks_for_keys
from vllmstack.host.secret_files import write_keys
from vllmstack.project import Project, find_project

DEPLOYMENT = click.option(
    "--deployment", metavar="NAME", help="Whose keys: a name below deployments/, or a path. Left out: what runs."
)
LIMIT = click.IntRange(min=1)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A deployment's keys file. The deployment itself may be wrong elsewhere: that must not keep a key alive."""

    project: Project
    deployment: str
    """The deployment's name."""
    models: tuple[str, ...]
    """Names that its clients may use."""
    file: Path
    shown: str
    """The file as messages name it."""

    def change(self, change: Change) -> tuple[ApiKey, ...]:
        return change_keys(self.file, self.shown, change)

    def publish(self, keys: Sequence[ApiKey]) -> bool:
        """Gives the keys to the gateway; False if another deployment runs, or none."""
        project = self.project
        if current_deployment(project) != self.deployment or not asks_for_keys(project):
            return False
        write_keys(project, keys)
        return True


@click.group("keys")
def command() -> None:
    """Add, list and revoke API keys, without a restart.

    The deployment's `gateway.api_keys_file` names the file that they are in; it
    holds no key, only each key's SHA-256.
    """


@command.command("add")
@click.argument("name")
@click.option("--models", metavar="A,B", help="Names that it may ask for; all if left out.")
@click.option("--requests-per-minute", metavar="N", type=LIMIT)
@click.option("--tokens-per-minute", metavar="N", type=LIMIT, help="Of prompts and answers.")
@click.option("--concurrency", metavar="N", type=LIMIT, help="Requests at the same time.")
@click.option(
    "--priority",
    type=click.Choice([str(one) for one in Priority]),
    default=str(Priority.INTERACTIVE),
    show_default=True,
    help="Batch waits behind interactive where requests have to wait.",
)
@click.option("--debug", is_flag=True, help="May ask why a replica was chosen.")
@DEPLOYMENT
def add(name: str, models: str | None, deployment: str | None, **settings: Any) -> None:
    """Make a key for NAME and print it, this once."""
    source = _source(deployment)
    secret = api_keys.new_secret()
    key = api_keys.make_key(name, secret, models=_models(models, source), **settings)
    keys = source.change(lambda before: api_keys.added(before, key))
    # Before anything else can fail: it is kept nowhere.
    click.echo(secret)
    in_effect = source.publish(keys)
    step(f"{source.shown}: the key of {name}; it is shown this once")
    step("it is let in within 2 s" if in_effect else _later(source))


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@DEPLOYMENT
def show(as_json: bool, deployment: str | None) -> None:
    """Show whose keys there are, and their limits."""
    source = _source(deployment)
    keys = read_keys(source.file, source.shown)
    if as_json:
        out.print_json(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in keys]))
    elif keys:
        out.print(_table(keys))
    else:
        nobody = f"{source.shown}: nobody has a key; `vllmstack keys add NAME` makes one"
        out.print(nobody, soft_wrap=True, markup=False)


@command.command("revoke")
@click.argument("name")
@DEPLOYMENT
def revoke(name: str, deployment: str | None) -> None:
    """Remove the key of NAME; what it is asking already ends as usual."""
    source = _source(deployment)
    keys = source.change(lambda before: api_keys.revoked(before, name))
    in_effect = source.publish(keys)
    step(f"{source.shown}: the key of {name} is revoked")
    step("it is refused within 2 s" if in_effect else _later(source))


def _source(asked: str | None) -> Source:
    """The keys file of the deployment that is asked for, of ``DEPLOYMENT``, or of what runs.

    Raises:
        InvalidInput: there is no such deployment, or it asks for no keys.
    """
    project = find_project()
    path = Path(shown_path(_deployment_file(project, asked or os.environ.get("DEPLOYMENT"))))
    data, _ = read_mapping(path)
    gateway = data.get("gateway")
    written = gateway.get("api_keys_file") if isinstance(gateway, dict) else None
    if not isinstance(written, str) or not written:
        hint = "write below `gateway:` the line `api_keys_file: keys.json`; the file is made for you"
        problem = Problem(
            file=str(path), place="gateway/api_keys_file", fact="is missing: no key is asked for", hint=hint
        )
        raise InvalidInput(problem)
    file = path.resolve().parent / written
    name = data.get("name")
    return Source(
        project=project,
        deployment=name if isinstance(name, str) else "",
        models=tuple(_names(data)),
        file=file,
        shown=shown_path(file),
    )


def _deployment_file(project: Project, asked: str | None) -> Path:
    if asked:
        return find(asked, project.deployments)
    running = current_deployment(project)
    if running is None:
        raise InvalidInput(Problem(fact="no deployment runs", hint="say whose keys they are: --deployment NAME"))
    try:
        return find(running, project.deployments)
    except InvalidInput:
        fact = f"the file of {running}, which runs, is not {project.deployments.name}/{running}.yaml"
        raise InvalidInput(Problem(fact=fact, hint="name it: --deployment PATH")) from None


def _names(data: dict[Any, Any]) -> Iterator[str]:
    """What clients may write into `model`: models, their aliases and adapters, splits; as far as the file is right."""
    for model in _mappings(data.get("models")):
        aliases, serve = model.get("aliases"), model.get("serve")
        named = [model.get("name"), *(aliases if isinstance(aliases, list) else ())]
        named += [adapter.name for adapter in adapters_of(serve)] if isinstance(serve, dict) else []
        yield from (name for name in named if isinstance(name, str))
    yield from (split["name"] for split in _mappings(data.get("splits")) if isinstance(split.get("name"), str))


def _mappings(value: Any) -> list[dict[Any, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _models(text: str | None, source: Source) -> tuple[str, ...] | None:
    """The names in ``a,b``; None for all.

    Raises:
        InvalidInput: with every name that the deployment does not serve.
    """
    if text is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known = f"{source.deployment} serves {listed(source.models)}" if source.models else "the deployment has no models"
    problems = [
        Problem(place="--models", fact=f"there is no model {shown(name)}", hint=perhaps(name, source.models) or known)
        for name in names
        if name not in source.models
    ]
    if not names:
        problems = [Problem(place="--models", fact="names no model", hint="leave it out for all of them")]
    if problems:
        raise InvalidInput(problems)
    return names


def _later(source: Source) -> str:
    name = source.deployment or "the deployment"
    return f"{name} does not run now, or was started without keys: the next `vllmstack up` brings them"


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for heading in ("name", "models"):
        table.add_column(heading, overflow="fold")
    for heading in ("req/min", "tok/min", "at once"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("priority", overflow="fold")
    table.add_column("made", no_wrap=True)
    for key in keys:
        limits = (key.requests_per_minute, key.tokens_per_minute, key.concurrency)
        table.add_row(
            key.name,
            ", ".join(key.models) if key.models else "all",
            *("–" if limit is None else f"{limit:,}" for limit in limits),
            f"{key.priority}{', debug' if key.debug else ''}",
            (key.created or "")[:10],
        )
    return table
