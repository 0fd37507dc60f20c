"""The requests that the gateway's cost is measured with: chats of 2 KB, of a few tenants, all different at the end."""

import json
from collections.abc import Iterator

BODY_BYTES = 2048
TENANTS = 8
BODIES = 256
WORDS = ("deployment", "replica", "request", "prefix", "token", "cache", "latency", "gateway")


def bodies(**options: object) -> Iterator[str]:
    """``BODIES`` of them, each of ``BODY_BYTES``: instructions of a tenant, a question, an answer, another question."""
    for number in range(BODIES):
        tenant = number % TENANTS
        messages = [
            {"role": "system", "content": _text(tenant, 700)},
            {"role": "user", "content": _text(100 + number // 2, 300)},
            {"role": "assistant", "content": _text(300 + number // 2, 400)},
            {"role": "user", "content": ""},
        ]
        body = {"model": "smoke", "messages": messages, **options}
        room = BODY_BYTES - len(json.dumps(body))
        messages[-1]["content"] = _text(1000 + number, room)
        yield json.dumps(body)


def http_request(host: str, body: str) -> bytes:
    """The whole request, on a connection that is kept."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1", f"Host: {host}", "Content-Type: application/json",
        f"Content-Length: {len(body)}", "", body,
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


def wrk_script() -> str:
    """The same for wrk."""
    quoted = ",\n".join(f"[==[{body}]==]" for body in bodies(max_tokens=64))
    return (
        f"local bodies = {{{quoted}}}\n"
        'local headers = {["Content-Type"] = "application/json"}\n'
        "local requests, number = {}, 0\n"
        "function init()\n"
        '  for i, body in ipairs(bodies) do requests[i] = wrk.format("POST", nil, headers, body) end\n'
        "end\n"
        "function request()\n"
        "  number = number % #requests + 1\n"
        "  return requests[number]\n"
        "end\n"
    )


def _text(seed: int, length: int) -> str:
    words = [f"{WORDS[(seed + index) % len(WORDS)]}{seed}" for index in range(length // 6 + 1)]
    return " ".join(words)[:length]
