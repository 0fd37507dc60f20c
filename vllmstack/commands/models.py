"""`vllmstack models`: weights in the volume before anything starts, at the commits that the lock file names."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from vllmstack.commands.model_names import as_stored, asked_for, rows_of, stored_in, to_remove
from vllmstack.commands.model_progress import ModelProgress
from vllmstack.commands.model_table import model_table
from vllmstack.commands.preparation import load_deployment
from vllmstack.console import out, step
from vllmstack.deployment.model_lock import FILE, ModelLock
from vllmstack.errors import HostError, Problem, VllmstackError
from vllmstack.host.containers import connect, containers
from vllmstack.host.docker_engine import ensure_running
from vllmstack.host.files import current_deployment, read_rendered
from vllmstack.host.model_lock_file import change_lock, read_lock
from vllmstack.host.model_volume import ModelVolume, raise_for
from vllmstack.host.preloading import Said
from vllmstack.host.running import running_file
from vllmstack.hub.wishes import Wish, snapshot_from, wish_from
from vllmstack.images import MODELS_IMAGE, images_for, load_images
from vllmstack.project import Project, find_project
from vllmstack.render.preload import FOLDER as PRELOADS

NAMES = click.argument("names", metavar="[NAME]…", nargs=-1)


@click.group("models")
def command() -> None:
    """Fetch, list, check and remove models of the hub.

    They are kept in the volume that engines read; `up` fetches what is missing.
    NAME is a deployment, or a hub id: ORGANISATION/NAME or
    ORGANISATION/NAME@REVISION.
    """


@command.command("pull")
@NAMES
@click.option("--update", is_flag=True, help="Move to what the branches are now.")
@click.option("--allow-pickle", is_flag=True, help="Weights that run code when loaded, where there are no others.")
def pull(names: tuple[str, ...], update: bool, allow_pickle: bool) -> None:
    """Fetch models, and write into models.lock which commit they are.

    Left out: the deployment that runs, else the default one. What is there
    already is not fetched again, and what is locked is fetched as it is locked.
    """
    project = find_project()
    asked = asked_for(project, names)
    volume = _volume(project)
    problems: list[Problem] = []
    for one in asked:
        wishes = [_as_wanted(wish, update=update, allow_pickle=allow_pickle) for wish in one.wishes]
        with ModelProgress() as progress:
            said = volume.ask("pull", wishes, progress.show)
        problems += said.problems
        _lock(one.folder, wishes, said)
    if problems:
        raise HostError(list(dict.fromkeys(problems)))


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts; sizes are in bytes.")
def show(as_json: bool) -> None:
    """Show what is in the volume, whether it is locked, and who uses it."""
    project = find_project()
    said = _volume(project).ask("list")
    raise_for(said)
    rows = rows_of(project, said)
    if as_json:
        out.print_json(json.dumps([vars(row) for row in rows]))
    elif rows:
        out.print(model_table(rows))
    else:
        out.print("no models yet: `vllmstack models pull` fetches a deployment's", soft_wrap=True, markup=False)


@command.command("verify")
@NAMES
def verify(names: tuple[str, ...]) -> None:
    """Read every file, and compare it with the lock.

    Left out: all that is in the volume; what is not locked is compared with
    what the hub said when it was fetched. A model with a wrong file is fetched
    again by the next `pull` or `up`.
    """
    project = find_project()
    volume = _volume(project)
    if names:
        wishes = [wish for one in asked_for(project, names) for wish in one.wishes]
    else:
        lock = read_lock(project.deployments)
        wishes = [as_stored(one.snapshot, lock) for one in stored_in(volume.ask("list"))]
    if not wishes:
        step("no models yet: nothing to compare")
        return
    with ModelProgress() as progress:
        said = volume.ask("verify", wishes, progress.show)
    raise_for(said)


@command.command("rm")
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(names: tuple[str, ...], yes: bool) -> None:
    """Remove models from the volume; the lock file stays as it is.

    NAME@COMMIT removes one of several commits.
    """
    project = find_project()
    volume = _volume(project)
    said = volume.ask("list")
    raise_for(said)
    wishes = to_remove(project, names, said)
    _refuse_what_runs(project, wishes)
    sizes = {(row.hub, row.commit): row.size for row in rows_of(project, said)}
    for wish in wishes:
        size = sum(size for (hub, commit), size in sizes.items() if hub == wish.hub and wish.commit in ("", commit))
        step(f"{wish.hub}{f' {wish.commit[:12]}' if wish.commit else ''}: {size / 1e9:.2f} GB")
    if not yes:
        click.confirm("Remove?", abort=True, err=True)
    said = volume.ask("remove", wishes)
    raise_for(said)
    step(f"removed: {sum(one['freed'] for one in said.results) / 1e9:.2f} GB are free again")


def _as_wanted(wish: Wish, *, update: bool, allow_pickle: bool) -> Wish:
    wish = replace(wish, pickles=wish.pickles or allow_pickle)
    return replace(wish, update=True, commit="", files=()) if update else wish


def _volume(project: Project) -> ModelVolume:
    """With the image that the deployment which runs names, if it names one."""
    ensure_running()
    known = load_images(project.images_file)
    image = known.images[MODELS_IMAGE]
    with contextlib.suppress(VllmstackError):  # nothing runs, or its file is gone or wrong by now
        _, deployment = load_deployment(project, running_file(project))
        image = images_for(deployment, known).get(MODELS_IMAGE, image)
    return ModelVolume(project, connect(), image)


def _lock(folder: Path, wishes: Sequence[Wish], said: Said) -> None:
    """Writes down what has come, also where something else has not."""
    came = {(one["hub"], one.pop("revision")): snapshot_from(one) for one in (dict(one) for one in said.results)}
    pairs = [(wish, came[wish.hub, wish.revision]) for wish in wishes if (wish.hub, wish.revision) in came]
    if not pairs:
        return

    def change(lock: ModelLock) -> ModelLock:
        for wish, snapshot in pairs:
            lock = lock.with_snapshot(wish, snapshot)
        return lock

    before = read_lock(folder)
    after = change_lock(folder, change)
    shown_file = os.path.relpath(folder / FILE)
    for wish, _ in pairs:
        now, then = after.entry(wish.hub, wish.revision), before.entry(wish.hub, wish.revision)
        if now and then and now.commit != then.commit:
            step(f"{shown_file}: {wish.hub} moves from {then.commit[:12]} to {now.commit[:12]}")
        elif now and then is None:
            step(f"{shown_file}: {wish.hub} {wish.revision} is {now.commit[:12]} from now on")


def _refuse_what_runs(project: Project, wishes: Sequence[Wish]) -> None:
    """An engine that Docker starts again would not find its files."""
    name = current_deployment(project)
    if name is None or not any(one.is_engine for one in containers(connect())):
        return
    requests = read_rendered(project, name, PRELOADS).values()
    used = [wish_from(one) for text in requests for one in json.loads(text)["wishes"]]
    problems = [
        Problem(file=wish.hub, fact=f"{name}, which runs, uses it", hint="`vllmstack down` first")
        for wish in wishes
        if any(one.hub == wish.hub and (not wish.commit or one.commit in ("", wish.commit)) for one in used)
    ]
    if problems:
        raise HostError(problems)
