"""``models.lock``: which commit of each hub repository is served, and what its files hold.

It lies beside the deployment files, is written by `vllmstack models pull`, and belongs into version control with them.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from vllmstack.deployment import messages
from vllmstack.deployment.model import Flag, Part, Whole
from vllmstack.errors import InvalidInput, Problem
from vllmstack.hub.selection import is_pickle, wanted
from vllmstack.hub.wishes import HubFile, Snapshot, Wish
from vllmstack.plain_path import is_plain_path

FILE = "models.lock"
REFERENCE = "docs/guides/models.md"
HEADER = """\
# Which commit of each hub repository is served, and what its files hold. `vllmstack models pull` writes it, and
# `--update` moves it on. Commit it with the deployments: whoever has both serves the same bytes.
"""

_AGAIN = "take the file from version control, or let `vllmstack models pull` write it anew"

Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class LockedFile(Part):
    """One file; just one of the two digests."""

    bytes: Whole = Field(ge=0, description="Its size.")
    sha256: Sha256 | None = Field(default=None, description="Of its content, where the hub keeps it as a large file.")
    blob: Commit | None = Field(default=None, description="Git's id of its content.")

    @model_validator(mode="after")
    def _has_a_digest(self) -> "LockedFile":
        if bool(self.sha256) == bool(self.blob):
            fact = "does not have just one of `sha256` and `blob`"
            raise PydanticCustomError("problem", "{fact}", {"fact": fact, "hint": _AGAIN})
        return self


class Locked(Part):
    """A repository at one commit."""

    hub: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")] = Field(description="ORGANISATION/NAME.")
    revision: str = Field(description="Branch, tag or commit that was asked for.")
    commit: Commit = Field(description="What it stood for.")
    code: Flag = Field(default=False, description="With its Python files, for `trust_remote_code`.")
    pickles: Flag = Field(default=False, description="Its weights are pickles, and somebody allowed them.")
    files: dict[str, LockedFile] = Field(min_length=1, description="Those that vLLM needs, by path.")

    @field_validator("files")
    @classmethod
    def _stay_in_the_folder(cls, files: dict[str, LockedFile]) -> dict[str, LockedFile]:
        if outside := [path for path in files if not is_plain_path(path)]:
            fact = f"{outside[0]!r} leads out of the model's folder"
            raise PydanticCustomError("problem", "{fact}", {"fact": fact, "hint": _AGAIN})
        return files

    @property
    def hub_files(self) -> tuple[HubFile, ...]:
        """Its files, sorted by path."""
        return tuple(
            HubFile(path=path, size=file.bytes, sha256=file.sha256 or "", blob=file.blob or "")
            for path, file in sorted(self.files.items())
        )


class ModelLock(Part):
    """The whole file."""

    models: tuple[Locked, ...] = Field(default=(), description="One entry a repository and revision.")

    def entry(self, hub: str, revision: str) -> Locked | None:
        """What a repository's revision is locked to."""
        return next((one for one in self.models if (one.hub, one.revision) == (hub, revision)), None)

    def applied(self, wish: Wish) -> Wish:
        """The wish at the locked commit, with those of the locked files that it needs; as it was, if none is locked."""
        one = self.entry(wish.hub, wish.revision)
        if one is None or wish.update:
            return wish
        found = replace(wish, commit=one.commit, pickles=one.pickles or wish.pickles)
        return replace(found, files=wanted(one.hub_files, found))

    def files_at(self, hub: str, commit: str) -> dict[str, HubFile]:
        """By path what is locked of a commit, whichever revisions stand for it."""
        entries = [one for one in self.models if (one.hub, one.commit) == (hub, commit)]
        return {file.path: file for one in entries for file in one.hub_files}

    def with_snapshot(self, wish: Wish, found: Snapshot) -> "ModelLock":
        """The lock with what was found for a wish; what other wishes locked of the same commit stays."""
        before = self.entry(wish.hub, wish.revision)
        kept = before if before and before.commit == found.commit else None
        files = (kept.files if kept else {}) | {
            file.path: LockedFile(bytes=file.size, sha256=file.sha256 or None, blob=None if file.sha256 else file.blob)
            for file in wanted(found.files, wish)
        }
        fresh = Locked(
            hub=wish.hub,
            revision=wish.revision,
            commit=found.commit,
            code=wish.code or bool(kept and kept.code),
            pickles=any(map(is_pickle, files)),
            files=dict(sorted(files.items())),
        )
        return ModelLock(models=_sorted([*self._without(wish), fresh]))

    def _without(self, wish: Wish) -> list[Locked]:
        return [one for one in self.models if (one.hub, one.revision) != (wish.hub, wish.revision)]


_SHAPE = messages.Shape(ModelLock, REFERENCE)


def parse_lock(data: dict[Any, Any], file: str) -> ModelLock:
    """The lock in a file's mapping.

    Raises:
        InvalidInput: with every mistake.
    """
    try:
        lock = ModelLock.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(messages.problems(error, data, file, _SHAPE)) from None
    seen: set[tuple[str, str]] = set()
    problems = []
    for index, one in enumerate(lock.models):
        if (one.hub, one.revision) in seen:
            fact = f"{one.hub} is locked at {one.revision} already"
            problems.append(Problem(file=file, place=f"models/{index}", fact=fact, hint="keep one of the two entries"))
        seen.add((one.hub, one.revision))
    if problems:
        raise InvalidInput(problems)
    return lock


def lock_text(lock: ModelLock) -> str:
    """The file's text; the same lock gives the same bytes, and a file is a line."""
    document = {"models": [one.model_dump(exclude_none=True, exclude_defaults=True) for one in _sorted(lock.models)]}
    return HEADER + yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=1000)


def _sorted(models: Iterable[Locked]) -> tuple[Locked, ...]:
    return tuple(sorted(models, key=lambda one: (one.hub.lower(), one.revision)))
