"""What a token of the hub can be: host and container ask the same, before it stands in a header.

An HTTP library that refuses a header says so with its value, and the token would be on the terminal and in the log.
"""

import re

from vllmstack.errors import HostError, Problem

_WORD = re.compile(r"[\x21-\x7e]+")


def token_in(text: str, place: str) -> str:
    """The token that stands in ``text``, without space around it; empty where nothing does.

    Raises:
        HostError: it is no token; ``place`` is where it stands. What stands there is not shown.
    """
    token = text.strip()
    if token and not _WORD.fullmatch(token):
        hint = "put the token there as the hub shows it, and nothing else"
        raise HostError(Problem(file=place, fact="holds no token: that is one word of ASCII", hint=hint))
    return token
