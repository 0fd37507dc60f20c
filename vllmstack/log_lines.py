"""Log lines of the services: as people read them, as JSON, and whether they speak of a request.

Most services write one JSON object a line: engines (docker/engine/logging.json), the gateway's access log, Prometheus,
Grafana. What is printed rather than logged stays text: nginx's error log, a crash's traceback, what libraries say.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

# vLLM 0.26 writes the process before each line, its JSON too.
JSON_LINE = re.compile(r"(?:\((?P<process>[^()]*) pid=(?P<pid>\d+)\) )?(?P<json>\{.*\})\s*")
TIME = ("time", "t", "ts")
LEVEL = ("level", "lvl")
MESSAGE = ("message", "msg")
NO_FIELDS = ("process", "pid", "logger", "file", "line", "exc_info", "method", "path", "status", "color_message")
"""They stand before the message, in it or below it, or say nothing more; color_message is uvicorn's."""

BEFORE_ID = r"(?:^|[^\w.:-])(?:\d+_)?(?:[a-z_]+-)?"
AFTER_ID = r"(?:[-_]\d+|-[0-9a-f]{8,32})*(?![\w:-]|\.\w)"
"""vLLM makes ``chatcmpl-ID`` of the header, numbers the prompts and answers of one request, and adds random digits."""

STACK_FRAME = 'File "'
INDENTED = re.compile(r"^(\([^)]*\) )?\s{2,}\S")
ERROR_LINE = re.compile(r"(?:ERROR|[A-Za-z]+Error:|error:|Error )")
TELLING_LINES = 6
LINE_CHARACTERS = 300


def parsed(line: str) -> dict[str, Any] | None:
    """The line's JSON object; None if it is no JSON."""
    found = JSON_LINE.fullmatch(line)
    if not found:
        return None
    try:
        document: dict[str, Any] = json.loads(found["json"])
    except ValueError:
        return None
    if found["process"] and not document.get("process"):
        document |= {"process": found["process"], "pid": int(found["pid"])}
    return document


def plain(line: str) -> str:
    """The line as vLLM's own text log would have it, several lines of a traceback; what is no JSON stays as it is."""
    document = parsed(line)
    if document is None:
        return line
    process = f"({document['process']} pid={document.get('pid')})" if document.get("process") else ""
    where = f"[{document['file']}:{document.get('line')}]" if document.get("file") else ""
    before = " ".join(filter(None, (process, _level(document), _first(document, TIME), where)))
    return "\n".join(f"{before} {text}" for text in _texts(document))


def brief(line: str) -> str:
    """The line without its time and its place in the code, for those who see both elsewhere or need neither."""
    document = parsed(line)
    if document is None:
        return line
    return "\n".join(" ".join(filter(None, (_level(document), text))) for text in _texts(document))


def telling(log: Sequence[str]) -> list[str]:
    """Of an engine's last lines the few that say why it ended; the very last ones where none names an error.

    Lines that name an error, each with the indented one below it, where pydantic and Python put the cause.
    """
    lines = [line for line in log if line.strip()]
    found: dict[str, None] = {}
    for line, below in zip(lines, [*lines[1:], ""], strict=True) if lines else ():
        if ERROR_LINE.search(line) and STACK_FRAME not in line:
            found[line] = None
            if INDENTED.search(below) and STACK_FRAME not in below:
                found[below] = None
    return [line[:LINE_CHARACTERS] for line in (list(found) or lines)[-TELLING_LINES:]]


def speaks_of(line: str, request_id: str) -> bool:
    """Whether the line is about the request that the gateway gave this id, or took it from its client."""
    if request_id not in line:
        return False
    document = parsed(line)
    if document and "request_id" in document:
        return bool(document["request_id"] == request_id)
    text = "\n".join(_texts(document)) if document else line
    return re.search(BEFORE_ID + re.escape(request_id) + AFTER_ID, text) is not None


def _level(document: dict[str, Any]) -> str:
    return _first(document, LEVEL).upper()


def _first(document: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((str(document[name]) for name in names if document.get(name)), "")


def _texts(document: dict[str, Any]) -> list[str]:
    """The message with what else is said, and the traceback below it; at least one line."""
    request = " ".join(str(document[name]) for name in ("method", "path", "status") if document.get(name))
    told = (*TIME, *LEVEL, *MESSAGE, *NO_FIELDS)
    fields = [f"{name}={value}" for name, value in document.items() if name not in told and value not in (None, "")]
    message = " ".join(filter(None, (_first(document, MESSAGE), request, *fields)))
    return [*message.splitlines(), *str(document.get("exc_info") or "").splitlines()] or [""]
