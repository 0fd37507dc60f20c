"""What is left of a wrong file when the wrong values are taken out, so that the rest can be checked in the same run."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from vllmstack.deployment.messages import Location, locations
from vllmstack.deployment.model import Deployment

_STAND_INS: Mapping[str, Any] = {
    "name": "stand-in",
    "source": {"hub": "stand/in"},
    "load": {"concurrency": 1},
    "certificate": "stand-in",
    "key": "stand-in",
    "weights": {"stand-in": 1},
    "model": "stand-in",
    "ratio": 1,
}
"""For what is required and missing, or wrong: what rules find here is not reported, see ``areas``."""
_DEVICES = ("engine", "replicas", "gpus", "cpus")


def salvaged(data: Mapping[Any, Any]) -> Deployment | None:
    """A Deployment of what is right in ``data``; None if too little is."""
    rest = copy.deepcopy(dict(data))
    for _ in range(3):  # a stand-in can bring to light what its section lacks
        try:
            return Deployment.model_validate(rest)
        except ValidationError as error:
            for location in sorted(locations(error), key=len, reverse=True):
                _take_out(rest, location)
    return None


def areas(wrong: Iterable[Location]) -> set[str]:
    """Places whose further problems would only follow from a value that is wrong already."""
    found = set()
    for location in wrong:
        if location[:1] == ("models",) and location[2:3] in ((), ("name",)):
            found.add("splits")  # they name models
        if location[0] != "models" or len(location) < 3:
            found.add("/".join(map(str, location[:2])))
            continue
        model, key = location[:2], location[2]
        if key == "environment":
            found.add("/".join(map(str, location)))
            continue
        keys: tuple[int | str, ...] = (key,)
        if key in _DEVICES:
            keys = (*_DEVICES, "serve/tensor_parallel_size", "serve/pipeline_parallel_size", "serve/data_parallel_size")
        if key == "name":
            keys = ("name", "aliases")
        if key == "source":
            keys = ("source", "serve/trust_remote_code")
        found.update("/".join(map(str, (*model, part))) for part in keys)
    return found


def _take_out(data: Any, location: Location) -> None:
    *path, last = location
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, list) and isinstance(last, int) and last < len(data):
        # A stand-in keeps the numbers of the items after it.
        if path == ["models"]:
            data[last] = {"name": f"stand-in-{last}", "source": {"hub": "stand/in"}}
        elif path == ["splits"]:
            data[last] = {"name": f"stand-in-{last}", "weights": {"stand-in": 1}}
        else:
            del data[last]
    elif isinstance(data, dict):
        if last in _STAND_INS:
            data[last] = copy.deepcopy(_STAND_INS[str(last)])
        else:
            data.pop(last, None)
