"""The engines' health check: runs inside the container, with nothing but Python's standard library.

    python3 health.py            exit 0: serving; 1: not. Prints one word and why: `loading`, `serving`, `broken`.
    python3 health.py metrics    prints /metrics as it is

Docker keeps the printed line, so `vllmstack status` can tell an engine that still loads its weights (nothing listens
yet, and nothing ever did since the container started) from one that answered before and does not any more.
"""

import http.client
import pathlib
import sys

PORT = 8000
ANSWER_SECONDS = 5.0
# /tmp is a tmpfs: a mark in it lasts as long as the container's current run.
SERVED_BEFORE = pathlib.Path("/tmp/.vllmstack-served")  # noqa: S108 - private to the container


def get(path: str) -> tuple[int, bytes]:
    """Status and body of one GET; raises OSError or HTTPException if the engine does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def state() -> tuple[str, str]:
    """One of the three words, and the reason."""
    try:
        status, _ = get("/health")
    except (OSError, http.client.HTTPException) as error:
        if SERVED_BEFORE.exists():
            return "broken", f"answered before, and now: {error}"
        return "loading", "not listening yet"
    if status == 200:
        # An engine that was restarted in place keeps its /tmp: the mark is as old as the process's first answer.
        SERVED_BEFORE.touch()
        return "serving", "/health says 200"
    return "broken", f"/health says {status}"


def main(arguments: list[str]) -> int:
    if arguments == ["metrics"]:
        status, body = get("/metrics")
        sys.stdout.buffer.write(body)
        return 0 if status == 200 else 1
    word, reason = state()
    print(f"{word}: {reason}")
    return 0 if word == "serving" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
