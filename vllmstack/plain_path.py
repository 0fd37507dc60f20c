"""Paths that others name, in a bundle, a lock file or on the hub, and that become files here.

Only the standard library: the container of docker/models imports it, which has no pydantic.
"""

import re

_PART = re.compile(r"[^\x00-\x1f\x7f/\\\ud800-\udfff]{1,255}")
"""Surrogates are what Python makes of a name's bytes that are no UTF-8: no text can hold them."""


def is_plain_path(path: str) -> bool:
    """Whether it stays below the folder that it is unpacked to: text, relative, no ``..``, no control characters."""
    parts = path.split("/")
    return all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)
