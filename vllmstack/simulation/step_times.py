"""How long an engine's step takes."""

from dataclasses import dataclass
from typing import Protocol


class StepTimes(Protocol):
    """Seconds of one step, by what is in it."""

    @property
    def context_seconds(self) -> float:
        """More for each token of context of the sequences that decode: their KV cache is read."""

    def seconds(self, *, decoding: int, context: int, prefill: int, prefill_context: float) -> float:
        """One step.

        Args:
            decoding: sequences that get their next token.
            context: tokens of context of all of them.
            prefill: prompt tokens computed in the step.
            prefill_context: tokens that these attend to, summed over them.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTimes:
    """The sum of parts that grow with what is in the step."""

    step_seconds: float
    """Of any step: the weights are read, kernels are launched."""
    prefill_seconds: float
    """More for each prompt token in the step."""
    sequence_seconds: float = 0.0
    """More for each sequence that gets its next token."""
    context_seconds: float = 0.0
    """More for each token of context of those sequences."""

    def seconds(self, *, decoding: int, context: int, prefill: int, prefill_context: float) -> float:
        """The sum; what prompt tokens attend to is not told apart."""
        seconds = self.step_seconds + prefill * self.prefill_seconds
        return seconds + decoding * self.sequence_seconds + context * self.context_seconds
