"""What has changed of an engine, in the words of its files: for the reason that a step gives."""

from collections.abc import Mapping
from typing import Any

import yaml

COMPOSE_FILE = "engines.compose.yaml"
_MOST = 4
"""Names of one reason; more of them make a line that nobody reads."""
_SETTINGS = {"mem_limit": "memory", "stop_grace_period": "drain time", "healthcheck": "startup time"}
_TOLD_ELSEWHERE = {"labels", "volumes", "depends_on", "environment"}


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """By service: vLLM's options, environment variables and container settings that differ between two renderings.

    Both are rendered files by path. A service that only one of them has, or whose files are gone, is left out.
    """
    before, after = _services(old), _services(new)
    found = {}
    for service in before.keys() & after.keys():
        names = [
            *_changed(_options(old, before[service]), _options(new, after[service])),
            *_changed(before[service].get("environment") or {}, after[service].get("environment") or {}),
            *(
                _SETTINGS.get(name, name)
                for name in _changed(before[service], after[service])
                if name not in _TOLD_ELSEWHERE
            ),
        ]
        if names:
            more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
            found[service] = ", ".join(names[:_MOST]) + more
    return found


def _services(files: Mapping[str, str]) -> dict[str, Any]:
    document = yaml.safe_load(files.get(COMPOSE_FILE, "")) or {}
    services: dict[str, Any] = document.get("services", {})
    return services


def _options(files: Mapping[str, str], service: Mapping[str, Any]) -> dict[str, Any]:
    """Those of vLLM's own configuration file, which the service mounts."""
    sources = [mount["source"] for mount in service.get("volumes", []) if isinstance(mount, dict)]
    for source in sources:
        text = files.get(str(source).removeprefix("./"))
        if text is not None:
            options: dict[str, Any] = yaml.safe_load(text) or {}
            return options
    return {}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names in the order of the files, the new one's first."""
    return [name for name in {**after, **before} if before.get(name) != after.get(name)]
