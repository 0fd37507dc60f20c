"""What names of `vllmstack models` mean: deployments and hub ids, as wishes; and what is in the volume, as rows."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vllmstack.commands.model_table import Row
from vllmstack.commands.preparation import default_deployment, load_deployment
from vllmstack.console import step
from vllmstack.deployment.hub_models import all_wishes
from vllmstack.deployment.loader import names
from vllmstack.deployment.model_lock import ModelLock
from vllmstack.deployment.wording import listed, perhaps, shown
from vllmstack.errors import InvalidInput, Problem
from vllmstack.host.files import current_deployment
from vllmstack.host.inventory import see_inventory
from vllmstack.host.model_lock_file import read_lock
from vllmstack.host.preloading import Said
from vllmstack.host.running import running_file
from vllmstack.hub.wishes import Snapshot, Use, Wish, snapshot_from
from vllmstack.project import Project

_HUB_ID = re.compile(r"(?P<hub>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a name on the command line means."""

    wishes: tuple[Wish, ...]
    folder: Path
    """Where its lock file lies."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What is in the volume."""

    snapshot: Snapshot
    revisions: tuple[str, ...]


def asked_for(project: Project, names: Sequence[str]) -> list[Asked]:
    """What the names mean, as it is locked.

    Raises:
        InvalidInput: a name is neither a deployment nor a hub id, or a deployment is wrong; with every problem.
    """
    found: list[Asked] = []
    problems: list[Problem] = []
    for name in names or [_default(project)]:
        if one := _hub_id(name):
            lock = read_lock(project.deployments)
            found.append(Asked(wishes=(lock.applied(one),), folder=project.deployments))
            continue
        try:
            file, deployment = load_deployment(project, name)
            folder = Path(file).parent
            wishes = all_wishes(deployment, read_lock(folder))
        except InvalidInput as error:
            problems += error.problems
            continue
        if not wishes:
            step(f"{file}: its models are directories of this machine: nothing to fetch")
        found.append(Asked(wishes=tuple(wish for some in wishes.values() for wish in some), folder=folder))
    if problems:
        raise InvalidInput(problems)
    return [one for one in found if one.wishes]


def _default(project: Project) -> str:
    return running_file(project) if current_deployment(project) else default_deployment(see_inventory())


def _hub_id(name: str) -> Wish | None:
    match = _HUB_ID.fullmatch(name)
    if not match or name.endswith((".yaml", ".yml")):
        return None
    return Wish(hub=match["hub"], revision=match["revision"] or "main", use=Use.ANY)


def stored_in(said: Said) -> list[Stored]:
    found = []
    for result in said.results:
        revisions = tuple(result["revisions"])
        plain = {key: value for key, value in result.items() if key != "revisions"}
        found.append(Stored(snapshot=snapshot_from(plain), revisions=revisions))
    return found


def as_stored(snapshot: Snapshot, lock: ModelLock) -> Wish:
    """What a snapshot is compared with: each of its files as this commit is locked."""
    locked = lock.files_at(snapshot.hub, snapshot.commit)
    files = tuple(locked.get(file.path, file) for file in snapshot.files)
    return Wish(hub=snapshot.hub, revision=snapshot.commit, commit=snapshot.commit, files=files)


def rows_of(project: Project, said: Said) -> list[Row]:
    locked = {(one.hub, one.commit) for one in read_lock(project.deployments).models}
    users = _users(project)
    rows = []
    for one in stored_in(said):
        hub, commit = one.snapshot.hub, one.snapshot.commit
        using = [
            name
            for name, wish in users
            if wish.hub == hub and (wish.commit or wish.revision) in (commit, *one.revisions)
        ]
        rows.append(
            Row(
                hub=hub,
                commit=commit,
                revisions=list(one.revisions),
                size=one.snapshot.size,
                locked=(hub, commit) in locked,
                deployments=sorted(set(using)),
            )
        )
    rows += [Row(hub=one["hub"], size=one["size"], whole=False) for one in said.leftovers]
    return rows


def _users(project: Project) -> list[tuple[str, Wish]]:
    """Deployments' names with what they need; a deployment that is wrong needs nothing yet."""
    found = []
    lock = read_lock(project.deployments)
    for name in names(project.deployments):
        try:
            _, deployment = load_deployment(project, name)
        except InvalidInput:
            continue
        found += [(deployment.name, wish) for wishes in all_wishes(deployment, lock).values() for wish in wishes]
    return found


def to_remove(project: Project, asked: Sequence[str], said: Said) -> list[Wish]:
    there = stored_in(said)
    hubs = sorted({one.snapshot.hub for one in there} | {one["hub"] for one in said.leftovers})
    wishes: list[Wish] = []
    problems: list[Problem] = []
    for name in asked:
        one = _hub_id(name)
        if one is None:
            wanted = [
                Wish(hub=wish.hub) for some in asked_for(project, [name]) for wish in some.wishes if wish.hub in hubs
            ]
        elif "@" in name:
            wanted = [
                Wish(hub=found.snapshot.hub, commit=found.snapshot.commit)
                for found in there
                if found.snapshot.hub == one.hub
                and (found.snapshot.commit.startswith(one.revision) or one.revision in found.revisions)
            ]
        else:
            wanted = [Wish(hub=hub) for hub in hubs if hub == one.hub]
        wishes += wanted
        if not wanted:
            hint = perhaps(name, hubs) or f"the volume has {listed(hubs) if hubs else 'nothing'}"
            problems.append(Problem(fact=f"the volume has nothing of {shown(name)}", hint=hint))
    if problems:
        raise InvalidInput(problems)
    return list(dict.fromkeys(wishes))
