"""Which hub repositories a model needs, and the model as the lock file pins it: pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Deployment, Model
from vllmstack.deployment.model_lock import ModelLock
from vllmstack.hub.wishes import Use, Wish

MAIN = "main"
"""What vLLM asks for where nobody says otherwise."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MISTRAL = ("load_format", "config_format")


def wishes_of(model: Model, lock: ModelLock | None = None) -> tuple[Wish, ...]:
    """What must be in the volume before the model's engines start: they have no way to the hub.

    The model itself first, then its tokenizer, draft model and adapters where these are the hub's; each as it is
    locked. Empty for a model from a directory.
    """
    found: dict[tuple[str, str], Wish] = {}
    for wish in _wishes(model):
        # One repository may be several things, a model and its own tokenizer: the model has all of it.
        found.setdefault((wish.hub, wish.revision), wish)
    return tuple((lock or ModelLock()).applied(wish) for wish in found.values())


def all_wishes(deployment: Deployment, lock: ModelLock | None = None) -> dict[str, tuple[Wish, ...]]:
    """By model's name, of those that need any."""
    return {model.name: wishes for model in deployment.models if (wishes := wishes_of(model, lock))}


def unlocked(deployment: Deployment, lock: ModelLock) -> list[tuple[str, Wish]]:
    """What stands on a branch or tag that may be another commit the next time, with the model that needs it."""
    return [
        (name, wish)
        for name, wishes in all_wishes(deployment, lock).items()
        for wish in wishes
        if not wish.commit and not _COMMIT.fullmatch(wish.revision)
    ]


def pinned(deployment: Deployment, lock: ModelLock) -> Deployment:
    """The deployment with the lock's commits for its revisions, wherever vLLM takes one.

    An adapter's path has no revision in vLLM: its branch stands for the locked commit in the volume.
    """
    return deployment.model_copy(update={"models": tuple(_pinned(model, lock) for model in deployment.models)})


def _pinned(model: Model, lock: ModelLock) -> Model:
    commits = {(wish.hub, wish.revision): wish.commit for wish in wishes_of(model, lock) if wish.commit}
    if not commits or not model.source.hub:
        return model
    source, serve = model.source, dict(model.serve)
    if commit := commits.get((model.source.hub, model.source.revision or MAIN)):
        source = source.model_copy(update={"revision": commit})
    for option, hub, revision in _revisions(model):
        if commit := commits.get((hub, revision)):
            if option == "tokenizer_revision":
                serve[option] = commit
            else:
                serve["speculative_config"] = {**serve["speculative_config"], "revision": commit}
    return model.model_copy(update={"source": source, "serve": serve})


def _wishes(model: Model) -> Iterator[Wish]:
    hub = model.source.hub
    if hub is None:
        return
    revision = model.source.revision or MAIN
    trusts = model.serve.get("trust_remote_code") is True
    mistral = any(model.serve.get(option) == "mistral" for option in _MISTRAL)
    # Validation lets nobody trust code that has no commit; of the other repositories nobody has read the code.
    yield Wish(hub=hub, revision=revision, code=trusts and bool(_COMMIT.fullmatch(revision)), mistral=mistral)
    for option, other, asked in _revisions(model):
        yield Wish(hub=other, revision=asked, use=Use.CONFIG if option == "tokenizer_revision" else Use.MODEL)
    if isinstance(path := model.serve.get("hf_config_path"), str) and _HUB_ID.fullmatch(path):
        yield Wish(hub=path, revision=revision, use=Use.CONFIG)
    for adapter in adapters_of(model.serve):
        if adapter.folder is None and adapter.may_be_on_the_hub:
            yield Wish(hub=adapter.path, revision=MAIN, use=Use.ADAPTER)


def _revisions(model: Model) -> Iterator[tuple[str, str, str]]:
    """Option that pins it, repository and revision, of what vLLM takes a revision for beside the model."""
    serve: Mapping[str, Any] = model.serve
    tokenizer, revision = serve.get("tokenizer"), serve.get("tokenizer_revision")
    if (isinstance(tokenizer, str) and _HUB_ID.fullmatch(tokenizer)) or (tokenizer is None and revision):
        yield "tokenizer_revision", tokenizer or model.source.hub or "", str(revision or MAIN)
    draft = serve.get("speculative_config")
    if isinstance(draft, Mapping) and isinstance(draft.get("model"), str) and _HUB_ID.fullmatch(draft["model"]):
        yield "speculative_config", draft["model"], str(draft.get("revision") or MAIN)
