"""Finds a model's config.json on this machine: its directory, the hub's cache, else the table of public models."""

import json
import os
from pathlib import Path

from vllmstack.deployment.model import Model
from vllmstack.hub import layout
from vllmstack.planning.dimensions import ModelDimensions, UnknownDimensions, from_config, public_models


def dimensions_of(model: Model, folder: Path | None = None) -> ModelDimensions | None:
    """The model's dimensions, or None where nothing here tells them.

    ``folder`` is the deployment file's, for a relative ``source.directory``. A directory's own config.json is the only
    answer for it; a hub id is looked up in the cache that a download would fill, then in the built-in table.
    """
    if model.source.directory is not None:
        directory = model.source.directory if folder is None else folder / model.source.directory
        return read_dimensions(directory / "config.json")
    if model.source.hub is None:
        return None
    cached = cached_config(model.source.hub, model.source.revision)
    found = read_dimensions(cached) if cached else None
    return found or public_models().get(model.source.hub)


def read_dimensions(config: Path) -> ModelDimensions | None:
    """The dimensions in a config.json; None where it is missing, unreadable or of an unknown architecture."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        return from_config(content) if isinstance(content, dict) else None
    except (OSError, ValueError, UnknownDimensions):
        return None


def cached_config(hub_id: str, revision: str | None = None) -> Path | None:
    """config.json of the cached snapshot, if there is one."""
    config = cached_snapshot(hub_id, revision) / "config.json"
    return config if config.is_file() else None


def cached_snapshot(hub_id: str, revision: str | None = None) -> Path:
    """A snapshot's folder in the hub's cache, whether or not it is there."""
    name = revision or "main"
    try:
        commit = (hub_cache() / layout.refs(hub_id) / name).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        commit = name
    return hub_cache() / layout.snapshots(hub_id) / commit


def hub_cache() -> Path:
    """The hub's cache as huggingface_hub finds it: HF_HUB_CACHE, then HF_HOME/hub, then ~/.cache/huggingface/hub."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / layout.CACHE
