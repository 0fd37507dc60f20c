"""Locust's start form: what is wrong with it is said in the form, before anything starts."""

import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.arguments import FORM_FIELDS
from loadtest.errors import LoadTestError
from loadtest.offered.arrivals import parse_steps
from loadtest.offered.trace import load_trace
from loadtest.options import RunOptions, from_namespace
from loadtest.stack import StackFacts
from loadtest.workload.scenario import load_scenario
from vllmstack.errors import Problem

LOCUSTS_OWN = {"user_count": "num_users"}
"""Fields that Locust calls otherwise once they are parsed."""
CHANGEABLE = frozenset({"user_count", "spawn_rate", "rate", "host", "run_time", "profile"})
"""While a run goes on. A run whose scenario or schedule changed under way would be two runs in one result; users and
rate are how a person looks for the load that a server bears."""

_FLAG = re.compile(rf"--({'|'.join(name.replace('_', '-') for name in sorted(FORM_FIELDS, reverse=True))})\b")


def refusal(
    form: Mapping[str, str],
    parsed: Mapping[str, Any],
    *,
    running: bool,
    stack: StackFacts | None,
    scenarios_folder: Path,
    check: Callable[[RunOptions], object] | None = None,
) -> str:
    """One line that says all that keeps the form from being used; empty: nothing does.

    ``parsed`` are Locust's options as they are before the form; ``check`` is what else a run needs, and may take time.
    """
    problems: list[Problem] = []
    try:
        if form.get("run_time"):
            fact = "would cut the run off, warm-up and drain included"
            problems.append(Problem(place="run time", fact=fact, hint="give the duration below instead"))
        changes = {name: value for name, value in form.items() if name in parsed} | {
            parsed_name: _whole_number(form[name]) for name, parsed_name in LOCUSTS_OWN.items() if name in form
        }
        if running:
            problems += _changed_under_way(form, parsed)
        options = from_namespace(Namespace(**{**parsed, **changes}))
        problems += _mistakes(options, stack, scenarios_folder)
        if check and not problems and not running:
            check(options)
    except LoadTestError as error:
        problems += error.problems
    return "; ".join(f"{fact} ({hint})" for fact, hint in lines(problems))


def load_changes(form: Mapping[str, str], parsed: Mapping[str, Any]) -> str:
    """How the form changes the load of the run that goes on: ``users from 4 to 8``; empty: not at all."""
    changes = []
    for name, parsed_name, word in (("user_count", "num_users", "users"), ("rate", "rate", "rate")):
        before, after = _as_text(parsed.get(parsed_name)), form.get(name)
        if after is not None and after != before:
            changes.append(f"{word} from {before or 0} to {after}")
    return ", ".join(changes)


def _whole_number(text: str) -> int | None:
    """None where Locust itself refuses it."""
    return int(text) if text.isdigit() else None


def _changed_under_way(form: Mapping[str, str], parsed: Mapping[str, Any]) -> list[Problem]:
    changed = [
        name
        for name, value in form.items()
        if name in parsed and name not in CHANGEABLE and value != _as_text(parsed[name])
    ]
    if _open(form.get("rate")) != _open(_as_text(parsed.get("rate"))):
        changed.append("rate")
    hint = "stop it first, then start a new one; users and a rate above 0 can be changed under way"
    return [Problem(place=name, fact="cannot be changed while a run goes on", hint=hint) for name in changed[:1]]


def _as_text(value: object) -> str:
    return "" if value is None else str(value)


def _open(rate: str | None) -> bool:
    return (rate or "").strip() not in ("", "0", "0.0")


def _mistakes(options: RunOptions, stack: StackFacts | None, scenarios_folder: Path) -> list[Problem]:
    checks: list[Callable[[], object]] = [
        lambda: load_scenario(options.scenario, folder=scenarios_folder).with_parameters(options.parameters)
    ]
    if stack is not None:
        checks.append(lambda: stack.model(options.model))
    if options.arrivals == "steps":
        checks.append(lambda: parse_steps(options.steps or ""))
    if options.arrivals == "trace":
        checks.append(lambda: load_trace(Path(options.trace or ""), speed=options.trace_speed))
    problems: list[Problem] = []
    for one in checks:
        try:
            one()
        except LoadTestError as error:
            problems += error.problems
    return problems


def lines(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """Facts and hints, each one line in the form's words: a field, not a flag."""
    return [(_words(f"{_place(problem)}{problem.fact}"), _words(problem.hint)) for problem in problems]


def _place(problem: Problem) -> str:
    return "".join(f"{part}: " for part in (problem.file, problem.place) if part)


def _words(text: str) -> str:
    return _FLAG.sub(lambda flag: flag[1].replace("-", " "), " ".join(text.split()))
