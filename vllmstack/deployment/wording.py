"""Words for error messages: how a value is shown, what it is called, and what was perhaps meant."""

import difflib
import json
from collections.abc import Iterable
from typing import Any

LONGEST_SHOWN = 60


def shown(value: Any) -> str:
    """The value as it would stand in YAML, cut where it is long. Not for secrets: callers leave those out."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool | int | float | list | tuple | dict) or value is None:
        text = json.dumps(value, ensure_ascii=False, default=str).replace("Infinity", ".inf").replace("NaN", ".nan")
    else:
        text = str(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def kind(value: Any) -> str:
    """What YAML made of it: ``a whole number``, ``text``, ``a list`` and so on."""
    if value is None:
        return "nothing"
    for python_type, name in (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (list | tuple, "a list"),
        (dict, "a mapping"),
    ):
        if isinstance(value, python_type):
            return name
    return f"a {type(value).__name__}"


def wrong_kind(value: Any, expected: str) -> str:
    """The fact that another kind of value was expected, e.g. ``"two" is text, where a whole number belongs``."""
    if value is None:
        return f"has no value, where {expected} belongs"
    if isinstance(value, bool):
        return f"is {shown(value)}, where {expected} belongs"
    if isinstance(value, dict | list):
        return f"is {kind(value)}, where {expected} belongs"
    return f"{shown(value)} is {kind(value)}, where {expected} belongs"


def perhaps(word: str, candidates: Iterable[str]) -> str | None:
    """``Perhaps you meant `replicas`?``, or None if nothing is near. Upper and lower case are one."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Perhaps you meant `{by_lower[found[0]]}`?" if found else None


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *head, last = [str(word) for word in words]
    return f"{', '.join(head)} and {last}" if head else last
