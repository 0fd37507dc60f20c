"""A deployment file's text with other values in it: what a person wrote around them stays."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from vllmstack.deployment.options import underscored

Place = tuple[str | int, ...]
"""Keys and numbers from the top: ``("models", 0, "source")``. Dashes and underscores are the same."""


def with_values(text: str, values: Mapping[Place, Any]) -> str:
    """The text with these values put in the place of what is there, or added where nothing is.

    Comments and order stay. Where the text shares a value between several places (anchors, merges), so that they cannot
    be told apart in it, the whole file is written anew, without its comments.
    """
    wanted = yaml.safe_load(text)
    for place, value in values.items():
        _put(wanted, place, value)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101 - it was loaded as a deployment
    edits = sorted({_edit(text, root, place, value) for place, value in values.items()}, reverse=True)
    edited = text
    for start, end, fresh in edits:
        edited = edited[:start] + fresh + edited[end:]
    try:
        is_right = yaml.safe_load(edited) == wanted
    except yaml.YAMLError:
        is_right = False
    return edited if is_right else yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True, width=120)


def _put(data: Any, place: Place, value: Any) -> None:
    first, *rest = place
    if isinstance(first, str):
        first = next((key for key in data if isinstance(key, str) and underscored(key) == underscored(first)), first)
    if not rest:
        data[first] = value
        return
    if isinstance(data, dict):
        data.setdefault(first, {})
    _put(data[first], tuple(rest), value)


def _edit(text: str, node: yaml.Node, place: Place, value: Any) -> tuple[int, int, str]:
    """Where to cut, and what to put there."""
    first, *rest = place
    if isinstance(node, yaml.SequenceNode) and isinstance(first, int):
        return _edit(text, node.value[first], tuple(rest), value)
    assert isinstance(node, yaml.MappingNode)  # noqa: S101 - it was loaded as a deployment
    for key, part in node.value:
        if underscored(str(key.value)) == underscored(str(first)):
            if rest:
                return _edit(text, part, tuple(rest), value)
            return text.index(":", key.end_mark.index) + 1, _end(text, part), f" {_flow(value)}"
    for one in reversed(rest):
        value = {one: value}
    entry = f"{first}: {_flow(value)}"
    if node.flow_style:
        start = node.start_mark.index + 1
        return start, start, f"{entry}, " if node.value else entry
    line_end = text.find("\n", _end(text, node))
    start = line_end if line_end >= 0 else len(text)
    return start, start, f"\n{' ' * node.start_mark.column}{entry}"


def _end(text: str, node: yaml.Node) -> int:
    """Where a value's own text ends; PyYAML has a block end where the next key begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    start: int = node.start_mark.index
    return start + len(text[start : node.end_mark.index].rstrip())


def _flow(value: Any) -> str:
    """JSON is YAML, and reads like it."""
    return json.dumps(value, ensure_ascii=False)
