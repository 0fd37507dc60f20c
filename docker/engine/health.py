"""The engines' health check: runs inside the container, with nothing but Python's standard library.

    python3 health.py            exit 0: serving; 1: not. Prints one word and why: `loading`, `serving`, `broken`.
    python3 health.py metrics    prints /metrics as it is
    python3 health.py warm MODEL one token from the model: the first request pays for what vLLM does lazily (0.5 s)

Docker keeps the printed line, so `vllmstack status` can tell an engine that still loads its weights (nothing listens
yet, and nothing ever did since the container started) from one that answered before and does not any more.
"""

import http.client
import json
import pathlib
import sys

PORT = 8000
ANSWER_SECONDS = 5.0
WARM_SECONDS = 100.0  # below the 120 s that vllmstack's Docker client waits
# /tmp is a tmpfs: a mark in it lasts as long as the container's current run.
SERVED_BEFORE = pathlib.Path("/tmp/.vllmstack-served")  # noqa: S108 - private to the container


def ask(method: str, path: str, body: object = None, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """Status and body of one request; raises OSError or HTTPException if the engine does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=seconds)
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def state() -> tuple[str, str]:
    """One of the three words, and the reason."""
    try:
        status, _ = ask("GET", "/health")
    except (OSError, http.client.HTTPException) as error:
        if SERVED_BEFORE.exists():
            return "broken", f"answered before, and now: {error}"
        return "loading", "not listening yet"
    if status == 200:
        SERVED_BEFORE.touch()
        return "serving", "/health says 200"
    return "broken", f"/health says {status}"


def warm(model: str) -> tuple[int, bytes]:
    """The last answer: a chat, or a completion from a model without a chat template."""
    common = {"model": model, "max_tokens": 1}
    chat = common | {"messages": [{"role": "user", "content": "Hello"}]}
    status, body = ask("POST", "/v1/chat/completions", chat, WARM_SECONDS)
    if status == 200:  # streaming has lazy parts of its own
        status, body = ask("POST", "/v1/chat/completions", chat | {"stream": True}, WARM_SECONDS)
    elif 400 <= status < 500:
        status, body = ask("POST", "/v1/completions", common | {"prompt": "Hello"}, WARM_SECONDS)
    return status, body


def main(arguments: list[str]) -> int:
    if arguments == ["metrics"]:
        try:
            status, body = ask("GET", "/metrics")
        except (OSError, http.client.HTTPException):
            return 1
        sys.stdout.buffer.write(body)
        return 0 if status == 200 else 1
    if arguments[:1] == ["warm"]:
        try:
            status, body = warm(arguments[1])
        except (OSError, http.client.HTTPException) as error:
            print(f"no answer: {error}")
            return 1
        print(status, body[:300].decode(errors="replace"))
        # An embedding model has neither endpoint, and says so with a 4xx: it answers, which is what counts.
        return 0 if status < 500 else 1
    word, reason = state()
    print(f"{word}: {reason}")
    return 0 if word == "serving" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
