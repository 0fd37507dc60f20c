"""What is asked of the replicas: conversations, whose prompts grow by what was said before."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A message of a prompt, or the answer to it.

    Two prompts that both have a piece of the same identity are the same text up to that piece's end.
    """

    identity: int
    end: int
    """Tokens from the prompt's beginning to the end of this piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request of a conversation."""

    prompt: tuple[Piece, ...]
    answer: Piece
    pause_seconds: float
    """From the end of the answer before (from the conversation's arrival, of the first) until it is asked."""

    @property
    def prompt_tokens(self) -> int:
        return self.prompt[-1].end

    @property
    def completion_tokens(self) -> int:
        return self.answer.end - self.prompt_tokens

    def blocks(self, block_tokens: int) -> list[int]:
        """A number for each full block of prompt and answer.

        Equal numbers are equal text from the beginning up to there, as vLLM's chained block hashes are.
        """
        numbers: list[int] = []
        for piece in (*self.prompt, self.answer):
            numbers += [piece.identity << 20 | index for index in range(len(numbers), piece.end // block_tokens)]
        return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Requests one after the other, each asked some time after the answer to the last."""

    key: str
    """What session routing goes by."""
    arrival_seconds: float
    turns: Sequence[Turn]
