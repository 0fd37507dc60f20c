"""Source code to be completed is Python, and ends where a line is to be continued."""

import ast

import pytest

from loadtest.workload.code import PythonFile
from loadtest.workload.prompts import Prompts
from loadtest.workload.randomness import source
from loadtest.workload.tokenizer import Tokenizer


@pytest.fixture
def file(smoke: Tokenizer, prompts: Prompts) -> PythonFile:
    """Of about 600 tokens."""
    return PythonFile(600, count=smoke.count, lexicon=prompts.lexicon, numbers=source("code"))


def test_the_file_is_python_up_to_the_line_at_the_cursor(file: PythonFile) -> None:
    text = file.text("a comment")
    assert text.startswith("# a comment\n")
    assert text.endswith(" = ")
    assert len(ast.parse(text + "1\n").body) > 5


def test_there_is_room_left_for_a_comment(file: PythonFile, smoke: Tokenizer) -> None:
    assert 400 < smoke.count(file.text("")) <= 600 - 20


def test_a_short_file_is_only_the_line_at_the_cursor(smoke: Tokenizer, prompts: Prompts) -> None:
    short = PythonFile(30, count=smoke.count, lexicon=prompts.lexicon, numbers=source("code"))
    assert short.text("x").count("\n") == 2
