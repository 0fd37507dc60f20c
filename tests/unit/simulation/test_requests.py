"""Prompts as pieces, and the blocks that they fill."""

from tests.unit.simulation.turns import turn


def test_a_turn_counts_its_tokens() -> None:
    asked = turn(100, 140, answer=20)

    assert (asked.prompt_tokens, asked.completion_tokens) == (140, 20)


def test_only_full_blocks_have_numbers() -> None:
    assert len(turn(100, answer=27).blocks(16)) == 7  # of 127 tokens


def test_prompts_with_the_same_beginning_share_the_blocks_that_end_in_it() -> None:
    one, other = turn(40, 90, answer=10, identities=(7, 8)), turn(40, 90, answer=10, identities=(7, 9))

    same = [left == right for left, right in zip(one.blocks(16), other.blocks(16), strict=True)]

    assert same == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]  # the third has tokens 32 to 47, and the beginning ends at 40


def test_the_next_turn_shares_what_the_answer_filled() -> None:
    first = turn(32, answer=32, identities=(1,))
    following = turn(32, 64, 96, answer=16, identities=(1, 1001, 3))

    assert following.blocks(16)[:4] == first.blocks(16)
