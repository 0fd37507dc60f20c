"""What one run is asked to do: from the command line, from the web form, and back into a command line."""

import json
from argparse import Namespace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from loadtest.errors import LoadTestError
from loadtest.results import Load, LoadKind
from vllmstack.errors import Problem

DEFAULT_TIMEOUT_SECONDS = 600.0
ARRIVALS = ("poisson", "gamma", "constant", "ramp", "steps", "trace")


class RunOptions(BaseModel):
    """One run. What is None is decided by the scenario's own defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str = "chat"
    model: str | None = None
    concurrency: int | None = Field(default=None, ge=1)
    rate: float | None = Field(default=None, gt=0)
    """Sessions a second; None or 0 in a form: closed loop."""
    arrivals: str = "poisson"
    burstiness: float | None = None
    until_rate: float | None = None
    steps: str | None = None
    trace: str | None = None
    trace_speed: float = 1.0
    duration_seconds: float | None = Field(default=None, gt=0)
    """Of the window that is measured. None: the scenario's default."""
    warmup_seconds: float = Field(default=0.0, ge=0)
    requests: int | None = Field(default=None, ge=1)
    seed: int = 0
    parameters: dict[str, str] = {}
    timeout_seconds: float = Field(default=DEFAULT_TIMEOUT_SECONDS, gt=0)
    """Of one request."""
    limits: dict[str, float] = {}
    processes: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    """Locust workers that are started elsewhere and send instead of this machine's processes."""
    stack: str = ""
    url: str | None = None
    """Instead of the stack's gateway."""
    api_key_file: str | None = None
    tokenizer: str | None = None
    """A directory, instead of what the stack names."""
    result: str | None = None
    """Folder that gets run.json and requests.csv."""
    calibrate: bool = True
    git: str = ""

    @property
    def open_loop(self) -> bool:
        return self.rate is not None or self.arrivals in ("steps", "trace")

    def load(self) -> Load:
        """As it stands in the result."""
        if self.open_loop:
            return Load(
                kind=LoadKind.OPEN,
                rate=self.rate,
                arrivals=self.arrivals,
                burstiness=self.burstiness,
                requests=self.requests,
            )
        return Load(kind=LoadKind.CLOSED, concurrency=self.concurrency or 1, requests=self.requests)

    def arguments(self) -> list[str]:
        """Of Locust's command line; the same run again."""
        values: dict[str, Any] = {
            "--scenario": self.scenario,
            "--model": self.model,
            "--rate": self.rate,
            "--arrivals": self.arrivals,
            "--burstiness": self.burstiness,
            "--until-rate": self.until_rate,
            "--steps": self.steps,
            "--trace": self.trace,
            "--trace-speed": self.trace_speed,
            "--duration": self.duration_seconds,
            "--warmup": self.warmup_seconds,
            "--requests": self.requests,
            "--seed": self.seed,
            "--parameters": " ".join(f"{name}={value}" for name, value in self.parameters.items()) or None,
            "--timeout": self.timeout_seconds,
            "--limits": json.dumps(self.limits) if self.limits else None,
            "--stack": self.stack or None,
            "--api-key-file": self.api_key_file,
            "--tokenizer": self.tokenizer,
            "--result": self.result,
            "--git": self.git or None,
        }
        words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
        users = 1 if self.open_loop else self.concurrency or 1
        words += ["--users", str(users), "--spawn-rate", str(users)]
        if self.url:
            words += ["--host", self.url]
        return words if self.calibrate else [*words, "--no-calibration"]


def from_namespace(options: Namespace) -> RunOptions:
    """From Locust's parsed options: numbers may have become texts in the web form, and empty means left out.

    Raises:
        LoadTestError: with every field that is wrong.
    """
    given = vars(options)

    def text(name: str) -> str | None:
        value = given.get(name)
        return None if value in (None, "") else str(value)

    values: dict[str, Any] = {
        "scenario": text("scenario"),
        "model": text("model"),
        "concurrency": given.get("num_users") or None,
        "rate": None if text("rate") in (None, "0", "0.0") else text("rate"),
        "arrivals": text("arrivals"),
        "burstiness": text("burstiness"),
        "until_rate": text("until_rate"),
        "steps": text("steps"),
        "trace": text("trace"),
        "trace_speed": text("trace_speed"),
        "duration_seconds": None if text("duration") in (None, "0", "0.0") else text("duration"),
        "warmup_seconds": text("warmup"),
        "requests": None if text("requests") in (None, "0") else text("requests"),
        "seed": text("seed"),
        "parameters": parse_parameters(text("parameters") or ""),
        "timeout_seconds": text("timeout"),
        "limits": _limits(text("limits")),
        "processes": abs(int(text("processes") or 1)) or 1,
        "stack": text("stack"),
        "url": text("host"),
        "api_key_file": text("api_key_file"),
        "tokenizer": text("tokenizer"),
        "result": text("result"),
        "calibrate": not given.get("no_calibration"),
        "git": text("git"),
    }
    return checked({name: value for name, value in values.items() if value is not None})


def _limits(text: str | None) -> dict[str, float]:
    try:
        return {str(name): float(seconds) for name, seconds in json.loads(text or "{}").items()}
    except (ValueError, TypeError, AttributeError) as error:
        hint = 'write JSON of seconds, as in {"ttft": 0.5, "tpot": 0.05}'
        raise LoadTestError(Problem(place="--limits", fact=f"{text!r} cannot be read", hint=hint)) from error


def checked(values: dict[str, Any]) -> RunOptions:
    """RunOptions of these values.

    Raises:
        LoadTestError: with every field that is wrong.
    """
    problems: list[Problem] = []
    options: RunOptions | None = None
    try:
        options = RunOptions.model_validate(values)
    except ValueError as error:
        problems += [_problem(one) for one in error.errors()]  # type: ignore[attr-defined]
    else:
        problems += list(_contradictions(options))
    if problems or options is None:
        raise LoadTestError(problems)
    return options


def parse_parameters(text: str) -> dict[str, str]:
    """``prompt_tokens=512 completion_tokens=64`` → names and values.

    Raises:
        LoadTestError: a word without ``=``.
    """
    pairs = [word.partition("=") for word in text.replace(",", " ").split()]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise LoadTestError(
            [
                Problem(place="--parameters", fact=f"{word!r} has no value", hint="write NAME=VALUE NAME=VALUE")
                for word in wrong
            ]
        )
    return {name: value for name, _, value in pairs}


_FLAGS = {
    "duration_seconds": "--duration",
    "warmup_seconds": "--warmup",
    "timeout_seconds": "--timeout",
    "concurrency": "--users",
}


def _flag(field: str) -> str:
    return _FLAGS.get(field, "--" + field.replace("_", "-"))


def _problem(error: dict[str, Any]) -> Problem:
    field, kind, context = str(error["loc"][0]), error["type"], error.get("ctx") or {}
    fact = f"{error['input']!r} is not a {'whole number' if kind.startswith('int') else 'number'}"
    hint = "write digits, as in 10"
    if kind in ("greater_than", "greater_than_equal"):
        least = context.get("gt", context.get("ge"))
        fact = f"{error['input']} is too small"
        hint = f"write a number above {least:g}" if kind == "greater_than" else f"write {least:g} or more"
    elif kind == "string_type":
        fact, hint = f"{error['input']!r} is no text", "put it in quotes"
    return Problem(place=_flag(field), fact=fact, hint=hint)


def _contradictions(options: RunOptions) -> list[Problem]:
    problems = []
    if options.arrivals not in ARRIVALS:
        fact = f"no arrivals are called {options.arrivals!r}"
        problems.append(Problem(place="--arrivals", fact=fact, hint=f"choose one of {', '.join(ARRIVALS)}"))
    if options.rate is None and options.arrivals in ("gamma", "constant", "ramp"):
        fact = f"{options.arrivals} arrivals need a rate"
        problems.append(Problem(place="--arrivals", fact=fact, hint="add --rate, or leave --arrivals out"))
    needs = {"ramp": "until_rate", "steps": "steps", "trace": "trace"}
    needed = needs.get(options.arrivals)
    if needed and getattr(options, needed) is None:
        fact = f"{options.arrivals} needs {_flag(needed)}"
        problems.append(Problem(place="--arrivals", fact=fact, hint=f"add {_flag(needed)}, or choose poisson"))
    if options.arrivals == "gamma" and options.burstiness is None:
        problems.append(
            Problem(place="--arrivals", fact="gamma needs --burstiness", hint="1 is Poisson, 0.5 burstier, 2 evener")
        )
    return problems
