"""Which of a scenario's parameters a run had changed."""

from pathlib import Path

from loadtest.errors import LoadTestError
from loadtest.results import RunResult
from loadtest.workload.parameters import parameters
from loadtest.workload.scenario import Scenario, load_scenario

SCENARIOS = Path(__file__).parents[1] / "scenarios"


def changed_parameters(run: RunResult, scenarios: Path = SCENARIOS) -> dict[str, str]:
    """Names and values that are not as in the scenario's file today; none if the file is gone or another by now."""
    try:
        now = load_scenario(run.scenario, folder=scenarios)
        then = Scenario.model_validate(run.scenario_text)
    except (LoadTestError, ValueError):
        return {}
    standing = {one.name: one.value for one in parameters(now)}
    return {one.name: one.value for one in parameters(then) if one.value and standing.get(one.name) != one.value}
