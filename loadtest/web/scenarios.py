"""What the start form can choose from: scenarios with their parameters and the load that is theirs."""

from pathlib import Path
from typing import Any

from loadtest.errors import LoadTestError
from loadtest.workload.parameters import parameters
from loadtest.workload.scenario import load_scenario, scenario_names
from loadtest.workload.sections import DefaultLoad


def scenario_list(folder: Path) -> list[dict[str, Any]]:
    """Every scenario of the folder; one whose file is wrong has the mistake for a description."""
    return [_scenario(name, folder) for name in scenario_names(folder)]


def _scenario(name: str, folder: Path) -> dict[str, Any]:
    try:
        scenario = load_scenario(name, folder=folder)
    except LoadTestError as error:
        return {"name": name, "description": str(error), "parameters": [], "load": "", "fields": {}}
    return {
        "name": name,
        "description": scenario.description,
        "parameters": [{"name": one.name, "value": one.value, "text": one.description} for one in parameters(scenario)],
        "load": _load(scenario.load, scenario.requests),
        "fields": _fields(scenario.load, scenario.requests),
    }


def _load(load: DefaultLoad, requests: int | None) -> str:
    """The load that the file names, in words."""
    if load.concurrency is not None:
        text = f"{load.concurrency} user{'s' if load.concurrency > 1 else ''}"
    else:
        text = f"{load.requests_per_second:g} sessions a second"
    return f"{text}, {requests} sessions" if requests else f"{text}, {load.duration_seconds:g} s"


def _fields(load: DefaultLoad, requests: int | None) -> dict[str, str]:
    """The same load as the start form's fields take it; empty clears one."""
    number = "{:g}".format
    return {
        "user_count": str(load.concurrency or 1),
        "rate": number(load.requests_per_second) if load.requests_per_second else "",
        "arrivals": "poisson",
        "requests": str(requests) if requests else "",
        "duration": "" if requests else number(load.duration_seconds),
        "warmup": "" if requests else number(load.warmup_seconds),
    }
