"""Requests to simulate, in few words."""

from vllmstack.simulation.requests import Conversation, Piece, Turn


def turn(*ends: int, answer: int, identities: tuple[int, ...] = (), pause_seconds: float = 0.0) -> Turn:
    """A prompt of pieces that end there, and an answer of so many tokens; identities count from 1 if left out."""
    own = identities or tuple(range(1, len(ends) + 1))
    pieces = tuple(Piece(identity, end) for identity, end in zip(own, ends, strict=True))
    return Turn(prompt=pieces, answer=Piece(1000 + own[-1], ends[-1] + answer), pause_seconds=pause_seconds)


def single(number: int, arrival: float, asked: Turn) -> Conversation:
    """A conversation of one turn."""
    return Conversation(key=f"session-{number}", arrival_seconds=arrival, turns=[asked])
