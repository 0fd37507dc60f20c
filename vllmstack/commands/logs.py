"""`vllmstack logs`: what the services say, and all that they say of one request."""

import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from vllmstack.errors import InvalidInput, Problem
from vllmstack.host.compose import Compose
from vllmstack.host.containers import Container, connect, containers
from vllmstack.host.request_logs import LogLine, lines_of_request
from vllmstack.host.running import running_deployment
from vllmstack.log_lines import brief, parsed, plain
from vllmstack.project import find_project

PREFIX = re.compile(r"((?:\x1b\[[\d;]+m)?(\S+?)-\d+\s*\| ?(?:\x1b\[0m)? ?)(.*)")
"""Compose's: the container without its project, in a colour of its own on a terminal."""
SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command("logs")
@click.argument("names", metavar="[MODEL|SERVICE]…", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines.")
@click.option("-n", "--tail", default="200", show_default=True, help="Lines of each service, or `all`.")
@click.option("--since", help="A time or a span, such as 10m.")
@click.option("--request", "request_id", metavar="ID", help="All lines about one request, by time: its X-Request-Id.")
@click.option("--json", "as_json", is_flag=True, help="An object a line: time, service, line.")
def command(
    names: tuple[str, ...], *, follow: bool, tail: str, since: str | None, request_id: str | None, as_json: bool
) -> None:
    """Show logs: of all services, of a model's replicas, or of one."""
    project = find_project()
    compose = Compose(project, running_deployment(project), variables=_colours())
    client = connect()
    stack = containers(client)
    wanted = _wanted(stack, names)
    if request_id:
        if follow:
            raise click.UsageError("--request shows what has been logged: it cannot --follow")
        begin = None if since is None else _moment(since)
        _show_request(lines_of_request(client, wanted, request_id, begin), request_id, as_json)
        return
    arguments = ["logs", "--tail", tail]
    arguments += ["--follow"] if follow else []
    arguments += ["--since", since] if since else []
    arguments += ["--timestamps"] if as_json else []
    services = [one.service for one in wanted] if names else []
    status = compose.follow([*arguments, *services], rewrite=_as_json if as_json else _readable)
    if status:
        sys.exit(status)


def _colours() -> dict[str, str]:
    """Compose sees a pipe, and a person perhaps a terminal."""
    return {"COMPOSE_ANSI": "always"} if sys.stdout.isatty() else {}


def _wanted(stack: Sequence[Container], names: Sequence[str]) -> list[Container]:
    """The containers that the names mean, in the names' order; all if there are none.

    Raises:
        InvalidInput: with the names that nothing has.
    """
    if not names:
        return list(stack)
    known = sorted({one.model for one in stack if one.model} | {one.service for one in stack})
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInput(
            Problem(
                fact=f"nothing that runs is called {', '.join(unknown)}", hint=f"known: {', '.join(known) or 'nothing'}"
            )
        )
    return [one for name in names for one in stack if name in (one.model, one.service)]


def _readable(line: str) -> str:
    found = PREFIX.fullmatch(line)
    if not found:
        return plain(line)
    return "\n".join(found[1] + text for text in plain(found[3]).split("\n"))


def _as_json(line: str) -> str:
    found = PREFIX.fullmatch(line)
    stamp, _, said = (found[3] if found else line).partition(" ")
    return _object(stamp, found[2] if found else "", said)


def _object(stamp: str, service: str, said: str) -> str:
    document: dict[str, Any] = {"time": stamp, "service": service, "line": parsed(said) or said}
    return json.dumps(document, ensure_ascii=False)


def _show_request(lines: Sequence[LogLine], request_id: str, as_json: bool) -> None:
    """Raises InvalidInput if there are none."""
    if not lines:
        raise InvalidInput(
            Problem(
                fact=f"no line that is kept speaks of the request {request_id}",
                hint="the id is the answer's X-Request-Id header; Docker keeps 60 MB of each container's lines",
            )
        )
    width = max(len(line.service) for line in lines)
    for line in lines:
        if as_json:
            click.echo(_object(line.time, line.service, line.text))
            continue
        first, *further = brief(line.text).split("\n")
        click.echo(f"{line.time[:23]}Z  {line.service:<{width}}  {first}")
        for text in further:
            click.echo(f"{'':<{width + 28}}{text}")


def _moment(since: str) -> float:
    """Seconds since 1970 of ``10m``, ``1h30m`` (ago) or ``2026-11-21T08:00:00`` (in UTC if it names no zone).

    Raises:
        InvalidInput: it is neither.
    """
    if re.fullmatch(r"(\d+[smhd])+", since):
        ago = sum(int(count) * SPAN_SECONDS[unit] for count, unit in re.findall(r"(\d+)([smhd])", since))
        return time.time() - ago
    try:
        found = datetime.fromisoformat(since)
    except ValueError:
        problem = Problem(
            place="--since", fact=f"{since!r} is no time and no span", hint="write 10m or 2026-11-21T08:00:00"
        )
        raise InvalidInput(problem) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
