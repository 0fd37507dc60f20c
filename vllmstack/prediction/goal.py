"""What a load must come to, as `plan --target` takes it: "ttft_p95<300ms"."""

import re
from dataclasses import dataclass

from vllmstack.errors import InvalidInput, Problem

EXAMPLE = '"ttft_p95<300ms, tpot_p50<20ms"'
LATENCIES = ("ttft", "tpot", "e2e")
PERCENTILES = ("mean", "p50", "p90", "p95", "p99")
_LATENCY = re.compile(r"(ttft|tpot|e2e)_(mean|p50|p90|p95|p99)\s*<=?\s*(\d+(?:\.\d+)?)\s*(ms|s)", re.IGNORECASE)
_RATE = re.compile(r"tokens\s*>=?\s*(\d+(?:\.\d+)?)\s*(k?)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One limit: of a latency from above, or of output tokens a second (``tokens``) from below."""

    figure: str
    """``ttft``, ``tpot``, ``e2e`` or ``tokens``."""
    percentile: str = ""
    limit: float
    """Seconds, or tokens a second."""

    def __str__(self) -> str:
        if self.figure == "tokens":
            return f"tokens > {self.limit:,.0f}/s"
        return f"{self.figure}_{self.percentile} < {self.limit * 1000:g} ms"

    def met_by(self, value: float) -> bool:
        """Whether a predicted value is within the limit."""
        return value >= self.limit if self.figure == "tokens" else value <= self.limit


def parse_goals(text: str, *, place: str = "--target") -> tuple[Goal, ...]:
    """Reads limits with commas between them.

    Raises:
        InvalidInput: with every one that is not understood.
    """
    goals: list[Goal] = []
    problems: list[Problem] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if match := _LATENCY.fullmatch(part):
            seconds = float(match[3]) / (1000 if match[4].lower() == "ms" else 1)
            goals.append(Goal(figure=match[1].lower(), percentile=match[2].lower(), limit=seconds))
        elif match := _RATE.fullmatch(part):
            goals.append(Goal(figure="tokens", limit=float(match[1]) * (1000 if match[2] else 1)))
        else:
            names = f"{', '.join(LATENCIES)} with {', '.join(PERCENTILES)}, or tokens"
            problems.append(Problem(place=place, fact=f"{part!r} is not understood", hint=f"{names}: {EXAMPLE}"))
    if not goals and not problems:
        problems.append(Problem(place=place, fact="it is empty", hint=f"write it like {EXAMPLE}"))
    if problems:
        raise InvalidInput(problems)
    return tuple(goals)
