"""The file of API keys: one ``NAME KEY`` a line, blank lines and lines that begin with ``#`` left out."""

import re
from collections.abc import Mapping

from vllmstack.errors import Problem

SHORTEST_KEY = 16
"""Characters: 16 random letters and digits are 95 bits, which nobody guesses over a network."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")
"""What a Bearer token may consist of (RFC 6750, 2.1)."""
_MAKE_ONE = "make one with `openssl rand -hex 24`"


def key_file_problems(text: str) -> list[Problem]:
    """Every mistake in the file's text; places are lines, and no key is shown."""
    problems: list[Problem] = []
    names: dict[str, int] = {}
    keys: dict[str, int] = {}
    for number, line in _lines(text):
        place = f"line {number}"
        words = line.split()
        if len(words) != 2:
            has = "one word" if len(words) == 1 else f"{len(words)} words"
            problems.append(Problem(place=place, fact=f"has {has}", hint="write a name, a space and the key: NAME KEY"))
            continue
        name, key = words
        if not _NAME.fullmatch(name):
            problems.append(
                Problem(
                    place=place, fact="the name has other characters than letters, digits and . _ -", hint="change it"
                )
            )
        if not _KEY.fullmatch(key):
            problems.append(
                Problem(place=place, fact="the key has characters that a Bearer token cannot carry", hint=_MAKE_ONE)
            )
        elif len(key) < SHORTEST_KEY:
            problems.append(
                Problem(
                    place=place, fact=f"the key has {len(key)} characters, fewer than {SHORTEST_KEY}", hint=_MAKE_ONE
                )
            )
        for what, word, seen in (("name", name, names), ("key", key, keys)):
            if word in seen:
                problems.append(
                    Problem(
                        place=place, fact=f"has the {what} of line {seen[word]}", hint=f"give each line its own {what}"
                    )
                )
            seen.setdefault(word, number)
    if not names and not problems:
        problems.append(Problem(fact="holds no key", hint=f"write a line NAME KEY; {_MAKE_ONE}"))
    return problems


def parse_keys(text: str) -> Mapping[str, str]:
    """Key by client name, from a text without mistakes."""
    return dict(line.split() for _, line in _lines(text))


def _lines(text: str) -> list[tuple[int, str]]:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
