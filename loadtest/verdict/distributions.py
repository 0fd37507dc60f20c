"""Quantiles of Student's t and the binomial distribution, without scipy: both are an incomplete beta function."""

import math
from functools import lru_cache

_TINY = 1e-300
_PRECISION = 1e-13


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), for a, b > 0 and x in 0 to 1.

    Source: the continued fraction of DLMF 8.17.22, evaluated as in DLMF 3.10(iii) (modified Lentz).
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    # It converges fast below the mean; above it, DLMF 8.17.4 turns the tails round.
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    log_factor = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    return math.exp(log_factor) * _continued_fraction(a, b, x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    numerator, denominator = 1.0, 1.0 - (a + b) * x / (a + 1)
    denominator = 1.0 / (denominator if abs(denominator) > _TINY else _TINY)
    value = denominator
    # It needs about sqrt(max(a, b)) steps; 20,000 suffice for more values than any run has.
    for step in range(1, 20_000):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        change = 1.0
        for coefficient in (even, odd):
            denominator = 1.0 + coefficient * denominator
            denominator = 1.0 / (denominator if abs(denominator) > _TINY else _TINY)
            numerator = 1.0 + coefficient / numerator
            numerator = numerator if abs(numerator) > _TINY else _TINY
            change = numerator * denominator
            value *= change
        if abs(change - 1.0) < _PRECISION:
            break
    return value


@lru_cache(maxsize=1024)
def student_t(share: float, degrees: float) -> float:
    """The value that ``share`` (0 to 1, not included) of Student's t with ``degrees`` of freedom stays below.

    Source: the distribution function is 1 − I_{ν/(ν+t²)}(ν/2, 1/2) / 2 for t ≥ 0 (Abramowitz and Stegun 26.7.1);
    inverted by bisection.
    """
    if share < 0.5:
        return -student_t(1 - share, degrees)
    low, high = 0.0, 1.0
    while _student_t_below(high, degrees) < share:
        high *= 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        if _student_t_below(middle, degrees) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _student_t_below(value: float, degrees: float) -> float:
    return 1.0 - incomplete_beta(degrees / 2, 0.5, degrees / (degrees + value * value)) / 2


def binomial_at_most(successes: int, trials: int, share: float) -> float:
    """Probability of at most ``successes`` in ``trials``, each a success with probability ``share``.

    Source: Abramowitz and Stegun 26.5.24.
    """
    if successes < 0:
        return 0.0
    if successes >= trials:
        return 1.0
    return incomplete_beta(trials - successes, successes + 1, 1 - share)


@lru_cache(maxsize=1024)
def binomial_quantile(probability: float, trials: int, share: float) -> int:
    """The fewest successes that are not exceeded with at least ``probability``."""
    low, high = -1, trials
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_at_most(middle, trials, share) >= probability:
            high = middle
        else:
            low = middle
    return high
