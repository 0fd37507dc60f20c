"""What is wrong with the answers to hostile requests, if anything is."""

import base64
import json
import re
from typing import Any

from tests.gateway.wire import Answer, Outcome

MARKER = re.compile(rb"(?:fuzz|canary|smuggled)-[a-z-]*[0-9]+(?:-[0-9]+)?z")
ENGINE_HEADERS = {
    "host", "content-type", "content-length", "accept", "x-request-id", "traceparent", "tracestate", "x-forwarded-for",
    "x-forwarded-proto",
}  # fmt: skip
REFUSALS_BEYOND_4XX = (501, 505)
"""What HTTP itself asks for: a transfer coding, or a version of HTTP, that is not supported (RFC 9110, 15.6)."""


def echoes(answer: Answer) -> list[dict[str, Any]]:
    """What the engines got, as they told it in an answer of any path's shape."""
    told = answer.json()
    if "choices" in told:
        texts = [choice["text"] for choice in told["choices"]]
    else:
        texts = [text for part in told.get("results", [told]) for text in part["text"]]
    return [json.loads(text[text.index('{"path": ') :]) for text in texts]


def body_of(echo: dict[str, Any]) -> bytes:
    """The body that an engine got."""
    return base64.b64decode(echo["body"])


def fault_of_error(answer: Answer) -> str:
    """What keeps an answer from being an error of OpenAI's shape, or nothing."""
    told = answer.json()
    if not isinstance(told, dict) or set(told) != {"error"}:
        return "is no error in OpenAI's shape"
    error = told["error"]
    if set(error) != {"message", "type", "param", "code"} or not all(error[key] for key in ("message", "type", "code")):
        return "is no whole error in OpenAI's shape"
    if answer.status == 0:
        return ""
    if answer.headers.get("content-type") != "application/json" or "x-request-id" not in answer.headers:
        return "lacks a header"
    return "" if 400 <= answer.status < 500 or answer.status in REFUSALS_BEYOND_4XX else "is no fault of the client's"


def fault_of_echo(outcome: Outcome, place: int) -> str:
    """What keeps an engine's answer from being the one to this request, or nothing."""
    case, answer = outcome.case, outcome.answers[place]
    for echo in echoes(answer):
        headers = dict(echo["headers"])
        if not set(headers) <= ENGINE_HEADERS:
            return f"reached an engine with {set(headers) - ENGINE_HEADERS}"
        if case.bodies and body_of(echo) != case.bodies[place]:
            return "reached an engine with another body"
        if case.keeps and headers["x-request-id"] != case.markers[place]:
            return "is another request's"
    return "" if case.admitted else "was let in without a key"


def fault_of(outcome: Outcome) -> str:
    """What is wrong with a case's end, or nothing."""
    case, answers = outcome.case, outcome.answers
    if outcome.failure:
        return outcome.failure
    least = 1 if case.keeps else len(case.bodies)
    if len(answers) < least or len(answers) > max(1, len(case.markers)) + (1 if case.cut else 0):
        return f"has {len(answers)} answers"
    for place, answer in enumerate(answers):
        others = {marker.decode() for marker in MARKER.findall(answer.body)} - set(case.markers)
        if others:
            return f"tells of {others}"
        served = answer.status == 200
        fault = fault_of_echo(outcome, place) if served else fault_of_error(answer)
        if fault or (not served and not case.keeps and place < len(case.bodies)):
            return f"{fault or 'is refused'}: {answer.status} {answer.body[:300]!r}"
    return ""
