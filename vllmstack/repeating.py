"""Which requests to a server of OpenAI's API may be sent again, and how long to wait before.

The rule is that of OpenAI's own clients (https://github.com/openai/openai-python, ``_should_retry``); how many tries a
request has is for who sends it.
"""

import random
from collections.abc import Mapping

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

BUSY = (408, 409, 429)
"""Beside all 5xx: the server is busy, not the request wrong."""


def is_passing(status: int, headers: Mapping[str, str]) -> bool:
    """Whether the same request may be answered a while later.

    A quota that it can never fit says that it may not. ``headers`` finds names however they are written, as httpx2's.
    """
    if headers.get("x-should-retry") == "false":
        return False
    return status in BUSY or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, as the gateway says them, and no more than the longest pause; None where it says none.

    A date is no number of ours, and "0" would be asked again without end.
    """
    text = headers.get("retry-after", "")
    seconds = float(text) if text.isascii() and text.isdigit() else 0.0
    return min(seconds, LONGEST_PAUSE_SECONDS) or None


def pause_seconds(failures: int) -> float:
    """What to wait after so many failures, 1 or more, if the server says nothing: doubles from time to time.

    With jitter, so that requests that were refused together do not come again together.
    """
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 64), LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1)  # noqa: S311
