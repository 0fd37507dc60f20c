"""Source code to be completed: a Python file up to the place where the cursor stands."""

import random
from collections.abc import Callable

from loadtest.workload.lexicon import Lexicon

RESERVED_TOKENS = 40
"""Left for the comment at the top, whose words bring the file to its length."""
_FUNCTIONS = (
    "def {0}_{1}({2}, {3}=1):\n    {4} = {2}.{5}({3})\n    if {4} is None:\n        return {6}\n    return {4}\n\n\n",
    "class {0}{1}:\n    def __init__(self, {2}, {3}):\n        self.{2} = {2}\n        self.{4} = {3} + 1\n\n\n",
    "def {0}_{1}({2}):\n    {3} = []\n    for {4} in {2}:\n        {3}.append({5}({4}))\n    return {3}\n\n\n",
    "{0}_{1} = {{\n    '{2}': {3},\n    '{4}': [{5}, {6}],\n}}\n\n\n",
    "def {0}_{1}({2}, {3}):\n    with open({2}) as {4}:\n        return {{{5}: {6} for {5}, {6} in {4}}}\n\n\n",
)
_CURSOR = "def {0}_{1}({2}, {3}):\n    {4} = "


class PythonFile:
    """The text around a comment; :meth:`text` gives the whole."""

    def __init__(self, tokens: int, *, count: Callable[[str], int], lexicon: Lexicon, numbers: random.Random) -> None:
        """``tokens`` of the whole file; ``count`` those of a piece."""

        def filled(pattern: str) -> str:
            return pattern.format(*numbers.sample(lexicon.names, 7))

        cursor = filled(_CURSOR)
        left = tokens - RESERVED_TOKENS - count(cursor)
        pieces = []
        while left > 0:
            pieces.append(filled(numbers.choice(_FUNCTIONS)))
            left -= count(pieces[-1])
        # The last one went beyond what there is room for.
        self._body = "".join(pieces[:-1]) + cursor

    def text(self, comment: str) -> str:
        return f"# {comment}\n{self._body}"
