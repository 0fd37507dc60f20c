"""Quantiles of values that were measured or simulated: each is one of them, by nearest rank."""

import math
from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least value that ``share`` of all are at or below."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
