"""Amounts that vary from request to request: lengths in tokens, pauses in seconds, as a scenario writes them.

A number is that number each time, ``50-250`` is uniform, and a mapping names a distribution; on a command line, where
spaces and commas part values, the same goes with colons::

    prompt_tokens: 512
    prompt_tokens: 50-250
    prompt_tokens: {distribution: lognormal, mean: 120, deviation: 60, min: 50, max: 250}
    prompt_tokens: lognormal:mean=120:deviation=60:min=50:max=250
    prompt_tokens: choices:1000*3:8000*1
"""

import math
import random
import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from vllmstack.deployment.model import Number, Part
from vllmstack.deployment.wording import listed, shown

TRIES = 64
"""How often a value outside of the bounds is drawn again before it is moved to the bound."""
_RANGE = re.compile(r"\s*(\d+(?:\.\d+)?)(?:\s*-\s*(\d+(?:\.\d+)?))?\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_FORMS = (
    "write a number, a range like 50-250, or a mapping like "
    "{distribution: lognormal, mean: 120, deviation: 60, min: 50, max: 250}"
)

Quantity = Annotated[Number, Field(ge=0)]


class Distribution(StrEnum):
    """How an amount varies."""

    FIXED = "fixed"
    UNIFORM = "uniform"
    NORMAL = "normal"
    LOGNORMAL = "lognormal"
    EXPONENTIAL = "exponential"
    CHOICES = "choices"


_NEEDS = {
    Distribution.FIXED: ("value",),
    Distribution.UNIFORM: ("min", "max"),
    Distribution.NORMAL: ("mean", "deviation", "max"),
    Distribution.LOGNORMAL: ("mean", "deviation", "max"),
    Distribution.EXPONENTIAL: ("mean", "max"),
    Distribution.CHOICES: ("choices",),
}
_ALLOWS = {name: {"distribution", "min", *needs} for name, needs in _NEEDS.items()} | {
    Distribution.FIXED: {"distribution", "value"},
    Distribution.CHOICES: {"distribution", "choices"},
}


class Choice(Part):
    """One value of several."""

    value: Quantity = Field(description="The amount.")
    weight: Quantity = Field(default=1, description="How often, relative to the other choices.")


class Amount(Part):
    """A number that is drawn anew for each request."""

    distribution: Distribution = Field(default=Distribution.FIXED, description="How the amount varies.")
    value: Quantity | None = Field(default=None, description="The amount (fixed).")
    mean: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="The mean before the bounds cut it (normal, lognormal, exponential)."
    )
    deviation: Quantity | None = Field(
        default=None, description="Standard deviation before the bounds cut it (normal, lognormal)."
    )
    min: Quantity | None = Field(default=None, description="The smallest; values below it are drawn again.")
    max: Quantity | None = Field(default=None, description="The largest; values above it are drawn again.")
    choices: tuple[Choice, ...] = Field(default=(), description="The values and their weights (choices).")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int | float | str):
            return data
        text = str(data).strip()
        match = _RANGE.fullmatch(text)
        if match:
            low, high = match.groups()
            if high is None:
                return {"value": _number(low)}
            return {"distribution": "uniform", "min": _number(low), "max": _number(high)}
        name, *values = text.split(":")
        if name not in list(Distribution) or not values:
            raise _problem(f"{shown(data)} is no amount", _FORMS)
        split = "*" if name == Distribution.CHOICES else "="
        pairs = [value.split(split) for value in values]
        wrong = [value for value, pair in zip(values, pairs, strict=True) if not _is_pair(pair, split)]
        if wrong:
            raise _problem(f"{shown(wrong[0])} does not fit in {shown(data)}", _FORMS)
        if name == Distribution.CHOICES:
            choices = [{"value": _number(value), "weight": _number((*weight, "1")[0])} for value, *weight in pairs]
            return {"distribution": name, "choices": choices}
        return {"distribution": name, **{key: _number(value) for key, value in pairs}}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        written = {name for name in self.model_fields_set if getattr(self, name) not in (None, ())}
        missing = [name for name in _NEEDS[self.distribution] if name not in written]
        surplus = sorted(written - _ALLOWS[self.distribution])
        needs = listed(_NEEDS[self.distribution])
        if missing:
            raise _problem(f"{self.distribution} lacks {listed(missing)}", f"{self.distribution} needs {needs}")
        if surplus:
            raise _problem(
                f"{self.distribution} has no {listed(surplus)}",
                f"{self.distribution} needs {needs}; the distributions are {', '.join(Distribution)}",
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise _problem(f"min {plain(self.min)} is more than max {plain(self.max)}", "swap them")
        if self.choices and not any(choice.weight for choice in self.choices):
            raise _problem("all weights are 0", "give one of the choices a weight above 0")
        return self

    @property
    def smallest(self) -> float:
        """Nothing below it is drawn."""
        if self.choices:
            return min(choice.value for choice in self.choices if choice.weight)
        return self.value if self.value is not None else self.min or 0.0

    @property
    def largest(self) -> float:
        """Nothing above it is drawn."""
        if self.choices:
            return max(choice.value for choice in self.choices if choice.weight)
        return self.value if self.value is not None else self.max or 0.0

    def draw(self, source: random.Random) -> float:
        """One value, between ``smallest`` and ``largest``; the same source gives the same values."""
        if self.value is not None:
            return self.value
        if self.choices:
            weights = [choice.weight for choice in self.choices]
            return source.choices(self.choices, weights)[0].value
        if self.distribution is Distribution.UNIFORM:
            return source.uniform(self.smallest, self.largest)
        value = self.smallest
        for _ in range(TRIES):
            value = self._unbounded(source)
            if self.smallest <= value <= self.largest:
                return value
        return min(max(value, self.smallest), self.largest)

    def _unbounded(self, source: random.Random) -> float:
        mean, deviation = self.mean or 0.0, self.deviation or 0.0
        if self.distribution is Distribution.EXPONENTIAL:
            return source.expovariate(1 / mean)
        if self.distribution is Distribution.NORMAL:
            return source.gauss(mean, deviation)
        # A lognormal's own mean m and deviation s from those of its logarithm: σ² = ln(1 + s²/m²), μ = ln m − σ²/2.
        variance = math.log1p((deviation / mean) ** 2)
        return source.lognormvariate(math.log(mean) - variance / 2, math.sqrt(variance))

    def __str__(self) -> str:
        """As a command line may give it, without spaces and commas."""
        if self.value is not None:
            return plain(self.value)
        if self.distribution is Distribution.UNIFORM:
            return f"{plain(self.smallest)}-{plain(self.largest)}"
        if self.choices:
            return ":".join(["choices", *(f"{plain(one.value)}*{plain(one.weight)}" for one in self.choices)])
        numbers = {name: getattr(self, name) for name in ("mean", "deviation", "min", "max")}
        pairs = (f"{name}={plain(number)}" for name, number in numbers.items() if number is not None)
        return ":".join([self.distribution, *pairs])


class Seconds(Amount):
    """A time that varies."""


class Whole(Amount):
    """A count of 1 or more that varies: tokens, turns."""

    @model_validator(mode="after")
    def _whole_numbers(self) -> Self:
        named = (("value", self.value), ("min", self.min), ("max", self.max))
        values = [*named, *(("choices", choice.value) for choice in self.choices)]
        for name, value in values:
            if value is not None and (value < 1 or value != int(value)):
                raise _problem(f"{name} is {plain(value)}", "write whole numbers, 1 or more")
        return self

    @property
    def fewest(self) -> int:
        return max(1, int(self.smallest))

    @property
    def most(self) -> int:
        return max(1, int(self.largest))

    def pick(self, source: random.Random) -> int:
        """One whole value from ``fewest`` to ``most``."""
        if self.distribution is Distribution.UNIFORM:
            return source.randint(self.fewest, self.most)
        return min(max(round(self.draw(source)), self.fewest), self.most)


def plain(number: float) -> str:
    """``131072`` and ``0.5``: neither ``131072.0`` nor ``1.31072e+05``."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


def _is_pair(pair: list[str], split: str) -> bool:
    """``["min", "50"]``, or of choices ``["1000", "3"]`` and ``["1000"]``."""
    numbers = pair if split == "*" else pair[1:]
    return len(pair) in ((1, 2) if split == "*" else (2,)) and all(map(_NUMBER.fullmatch, numbers))


def _problem(fact: str, hint: str) -> PydanticCustomError:
    return PydanticCustomError("problem", "{fact}", {"fact": fact, "hint": hint})
