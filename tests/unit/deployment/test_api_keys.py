"""The file of API keys."""

import pytest

from vllmstack.deployment.api_keys import key_file_problems, parse_keys

KEY = "0123456789abcdef"


def test_comments_and_blank_lines_are_left_out() -> None:
    text = f"# keys\n\nalice {KEY}\n  bob\t{KEY}2  \n"

    assert key_file_problems(text) == []
    assert parse_keys(text) == {"alice": KEY, "bob": f"{KEY}2"}


@pytest.mark.parametrize(
    ("text", "place", "fact"),
    [
        ("", "", "holds no key"),
        ("# only a comment\n", "", "holds no key"),
        (f"{KEY}\n", "line 1", "has one word"),
        (f"\nalice {KEY} {KEY}\n", "line 2", "has 3 words"),
        (f"al:ice {KEY}\n", "line 1", "the name has other characters than letters, digits and . _ -"),
        ("alice secret\n", "line 1", "the key has 6 characters, fewer than 16"),
        (f'alice "{KEY}"\n', "line 1", "the key has characters that a Bearer token cannot carry"),
        (f"alice {KEY}\nalice {KEY}2\n", "line 2", "has the name of line 1"),
        (f"alice {KEY}\nbob {KEY}\n", "line 2", "has the key of line 1"),
    ],
)
def test_a_mistake_is_named_by_its_line_and_shows_no_key(text: str, place: str, fact: str) -> None:
    (problem,) = key_file_problems(text)

    assert (problem.place, problem.fact) == (place, fact)
    assert KEY not in str(problem)
