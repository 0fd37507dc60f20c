"""All that the services logged about one request, read off Docker's own records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker
import docker.errors

from vllmstack.host.containers import Container
from vllmstack.host.gateway_control import SERVICE as GATEWAY
from vllmstack.log_lines import parsed, speaks_of

SLACK_SECONDS = 5.0
"""The gateway writes its log up to a second late, and a busy machine is later."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of one service."""

    time: str
    """When Docker got it: RFC 3339 in UTC, with nanoseconds."""
    service: str
    text: str


def lines_of_request(
    client: docker.DockerClient, stack: Sequence[Container], request_id: str, since: float | None = None
) -> list[LogLine]:
    """In order of time. ``since``: nothing before it, in seconds since 1970.

    The gateway is read first: what it says of the request tells from when to when the others have to be read. Of a
    request that is still on its way it says nothing; then everything that the others have kept is read.
    """
    gateways = [one for one in stack if one.service == GATEWAY]
    others = [one for one in stack if one.service != GATEWAY]
    found = [line for one in gateways for line in _matching(client, one, request_id, since, None)]
    until = None
    if found:
        begins = [moment(line.time) - _duration_seconds(line.text) for line in found]
        since = max(min(begins) - SLACK_SECONDS, since or 0.0)
        until = max(moment(line.time) for line in found) + SLACK_SECONDS
    found += [line for one in others for line in _matching(client, one, request_id, since, until)]
    return sorted(found, key=lambda line: line.time)


def moment(stamp: str) -> float:
    """Docker's time stamp, with nanoseconds, as seconds since 1970.

    Raises:
        ValueError: it is none.
    """
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _matching(
    client: docker.DockerClient, container: Container, request_id: str, since: float | None, until: float | None
) -> list[LogLine]:
    window: dict[str, Any] = {"since": since, "until": until}
    window = {name: value for name, value in window.items() if value is not None}
    try:
        text = client.containers.get(container.identity).logs(stream=False, timestamps=True, **window)
    except docker.errors.APIError:  # it was removed just now, or logs elsewhere
        return []
    found = []
    for line in text.splitlines():
        if request_id.encode() not in line:
            continue
        stamp, _, said = line.decode(errors="replace").partition(" ")
        if speaks_of(said, request_id):
            found.append(LogLine(time=stamp, service=container.service, text=said))
    return found


def _duration_seconds(text: str) -> float:
    seconds = (parsed(text) or {}).get("request_seconds", 0.0)
    return float(seconds) if isinstance(seconds, int | float) else 0.0
