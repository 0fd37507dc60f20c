"""How flags are written."""

from typing import Literal

from loadtest.results import Flag


def physics_flag(severity: Literal["invalid", "warning", "note"], fact: str, hint: str) -> Flag:
    """Of a result that contradicts itself or the hardware."""
    return Flag(kind="physics", severity=severity, fact=fact, hint=hint)


def impossible(fact: str, hint: str) -> Flag:
    """Nothing of the run can be used."""
    return physics_flag("invalid", fact, hint)


def milliseconds(seconds: float) -> str:
    """``1,234.5 ms``, or ``2.81 ms`` where a tenth would say little."""
    value = seconds * 1000
    return f"{value:,.1f} ms" if abs(value) >= 10 else f"{value:.2f} ms"
