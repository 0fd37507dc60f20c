"""What is asked for of a hub repository, and the files that answer it, as host and container tell them to each other.

Plain values and JSON: the container has Python and huggingface_hub, and nothing else that vllmstack imports.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


class Use(StrEnum):
    """What a repository is for, and so which of its files are needed."""

    MODEL = "model"
    ADAPTER = "adapter"
    """A LoRA adapter."""
    CONFIG = "config"
    """Configuration and tokenizer, without weights."""
    ANY = "any"
    """A model or an adapter, whatever it holds."""


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """One file of a repository at one commit."""

    path: str
    """Relative to the repository's root, with ``/``."""
    size: int
    """Bytes."""
    sha256: str = ""
    """Of its content, where the hub keeps it as a large file (LFS); else empty."""
    blob: str = ""
    """Git's id of its content: SHA-1 with a header. Of a large file it is the pointer's, which says nothing."""

    @property
    def digest(self) -> str:
        """What its content is checked against, and its name in the cache."""
        return self.sha256 or self.blob


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A repository that shall be in the volume."""

    hub: str
    """ORGANISATION/NAME."""
    revision: str = "main"
    """Branch, tag or commit, as somebody asked for it."""
    use: Use = Use.MODEL
    code: bool = False
    """Its Python files too: vLLM will run them (`trust_remote_code`)."""
    pickles: bool = False
    """Weights that run code when they are loaded are taken where there are no others."""
    mistral: bool = False
    """In Mistral's own format: consolidated*.safetensors and params.json."""
    commit: str = ""
    """That the lock file has for it; empty: not locked."""
    files: tuple[HubFile, ...] = ()
    """Those of the lock file, which nothing that comes may differ from. Are they enough, the hub's list is not asked
    for."""
    update: bool = False
    """Ask the hub what the revision is now, whatever is there."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A repository at one commit as it is in the volume: whole, and checked when it was written."""

    hub: str
    commit: str
    files: tuple[HubFile, ...]
    code: bool = False
    pickles: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def wish_from(data: Mapping[str, Any]) -> Wish:
    """A wish from what :func:`as_json` made of it."""
    return replace(Wish(**{**data, "files": files_from(data.get("files", ()))}), use=Use(data.get("use", Use.MODEL)))


def snapshot_from(data: Mapping[str, Any]) -> Snapshot:
    """A snapshot from what :func:`as_json` made of it."""
    return Snapshot(**{**data, "files": files_from(data["files"])})


def files_from(data: Any) -> tuple[HubFile, ...]:
    """Files from plain mappings."""
    return tuple(HubFile(**file) for file in data)


def as_json(one: Wish | Snapshot) -> dict[str, Any]:
    """Plain values, without those that are left out."""
    return {key: value for key, value in asdict(one).items() if value not in ("", False, (), [])} | {
        "files": [
            {key: value for key, value in asdict(file).items() if key == "size" or value not in ("", False)}
            for file in one.files
        ]
    }
