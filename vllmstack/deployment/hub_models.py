"""Which hub repositories a model needs, and the model as the lock file pins it: pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vllmstack.deployment.adapters import OPTION as LORA_MODULES
from vllmstack.deployment.adapters import adapters_of
from vllmstack.deployment.model import Deployment, Model
from vllmstack.deployment.model_lock import ModelLock
from vllmstack.hub.layout import engine_folder
from vllmstack.hub.selection import MISTRAL_CONFIG
from vllmstack.hub.wishes import Use, Wish

MAIN = "main"
"""What vLLM asks for where nobody says otherwise."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MISTRAL = ("load_format", "config_format")


@dataclass(frozen=True, kw_only=True)
class Need:
    """A repository that an engine asks for."""

    place: tuple[str, ...]
    """What names it, below the model; of an adapter `serve`, the option and its number."""
    wish: Wish


def needs_of(model: Model) -> tuple[Need, ...]:
    """All that a model's engines would ask the hub for, the model itself first: the one list of it.

    What is preloaded, locked, pinned, bundled, or refused by a bundle, is taken from here.
    """
    return tuple(_needs(model))


def wishes_of(model: Model, lock: ModelLock | None = None) -> tuple[Wish, ...]:
    """What must be in the volume before the model's engines start: they have no way to the hub.

    Each as it is locked. Empty for a model from a directory.
    """
    if model.source.hub is None:
        return ()
    found = dict.fromkeys(need.wish for need in needs_of(model))
    # One repository may be several things, a model and its own tokenizer: the model has all of it.
    whole = {(wish.hub, wish.revision) for wish in found if wish.use is Use.MODEL}
    wishes = (wish for wish in found if wish.use is not Use.CONFIG or (wish.hub, wish.revision) not in whole)
    return tuple((lock or ModelLock()).applied(wish) for wish in wishes)


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
    """The deployment with the lock's commits for its revisions.

    What vLLM takes no revision for is named as the commit's folder in the engine's container.
    """
    return deployment.model_copy(update={"models": tuple(_pinned(model, lock) for model in deployment.models)})


def _pinned(model: Model, lock: ModelLock) -> Model:
    if model.source.hub is None:
        return model
    source, serve = model.source, dict(model.serve)
    adapters = [adapter.at(adapter.path) for adapter in adapters_of(serve)]
    for need in needs_of(model):
        wish = lock.applied(need.wish)
        commit = wish.commit
        if not commit:
            continue
        match need.place:
            case ("source",):
                source = source.model_copy(update={"revision": commit})
                serve |= _formats(model, wish)
            case ("serve", "tokenizer" | "tokenizer_revision"):
                serve["tokenizer_revision"] = commit
            case ("serve", "speculative_config", _) | ("serve", "spec_model"):
                serve["speculative_config"] = {**_mapping(serve.get("speculative_config")), "revision": commit}
            case ("serve", "hf_config_path"):
                serve["hf_config_path"] = engine_folder(need.wish.hub, commit)
            case ("serve", _, number):
                adapters[int(number)]["path"] = engine_folder(need.wish.hub, commit)
                serve[LORA_MODULES] = adapters
    return model.model_copy(update={"source": source, "serve": serve})


def _formats(model: Model, wish: Wish) -> dict[str, str]:
    """What `auto` stands for, of a repository that has its weights in Mistral's own format too.

    vLLM takes that one as soon as its files are in the volume, whichever deployment they came for.
    """
    has_both = {"config.json", MISTRAL_CONFIG} <= {file.path for file in wish.files}
    if wish.mistral or not has_both:
        return {}
    return {option: "hf" for option in (*_MISTRAL, "tokenizer_mode") if model.serve.get(option, "auto") == "auto"}


def _needs(model: Model) -> Iterator[Need]:
    hub, serve = model.source.hub, model.serve
    revision = model.source.revision or MAIN
    mistral = any(serve.get(option) == "mistral" for option in _MISTRAL)
    if hub:
        # Validation lets nobody trust code that has no commit; of the other repositories nobody has read the code.
        trusts = serve.get("trust_remote_code") is True and bool(_COMMIT.fullmatch(revision))
        yield Need(place=("source",), wish=Wish(hub=hub, revision=revision, code=trusts, mistral=mistral))
    own_revision = str(serve.get("tokenizer_revision") or MAIN)
    if tokenizer := _hub_id(serve.get("tokenizer")):
        wish = Wish(hub=tokenizer, revision=own_revision, use=Use.CONFIG)
        yield Need(place=("serve", "tokenizer"), wish=wish)
    elif hub and serve.get("tokenizer") is None and serve.get("tokenizer_revision"):
        wish = Wish(hub=hub, revision=own_revision, use=Use.CONFIG)
        yield Need(place=("serve", "tokenizer_revision"), wish=wish)
    # vLLM's create_speculative_config takes the one for the other's `model`; how weights are read, both models share.
    config = _mapping(serve.get("speculative_config"))
    drafts = {
        ("serve", "speculative_config", "model"): config.get("model"),
        ("serve", "spec_model"): serve.get("spec_model"),
    }
    for place, draft in drafts.items():
        if found := _hub_id(draft):
            yield Need(place=place, wish=Wish(hub=found, revision=str(config.get("revision") or MAIN), mistral=mistral))
    if path := _hub_id(serve.get("hf_config_path")):
        yield Need(place=("serve", "hf_config_path"), wish=Wish(hub=path, revision=revision, use=Use.CONFIG))
    for number, adapter in enumerate(adapters_of(serve)):
        if adapter.folder is None and adapter.may_be_on_the_hub:
            wish = Wish(hub=adapter.path, revision=MAIN, use=Use.ADAPTER)
            yield Need(place=("serve", LORA_MODULES, str(number)), wish=wish)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _hub_id(value: Any) -> str | None:
    return value if isinstance(value, str) and _HUB_ID.fullmatch(value) else None
