"""Environment, and the command that measures the same again."""

from loadtest.report.background import environment_differences, repeat_command
from loadtest.report.repeating import SCENARIOS, changed_parameters
from loadtest.results import Environment, Load, LoadKind, ModelFacts
from loadtest.workload.scenario import load_scenario
from tests.unit.loadtest.runs import make_run


def test_a_closed_loop_is_repeated_with_its_seed_and_times() -> None:
    assert repeat_command(make_run(concurrency=16, seed=3)) == (
        "vllmstack load --scenario chat --model smoke --concurrency 16 --duration 30 --warmup 5 --seed 3"
    )


def test_bursts_parameters_and_processes_are_repeated() -> None:
    load = Load(kind=LoadKind.OPEN, rate=2.5, arrivals="gamma", burstiness=0.5)
    run = make_run(rate=2.5, load=load)
    run.client.processes = 4

    assert repeat_command(run, {"prompt_tokens": "50-250"}) == (
        "vllmstack load --scenario chat --model smoke --rate 2.5 --arrivals gamma --burstiness 0.5 --duration 30 "
        "--warmup 5 --processes 4 --parameters prompt_tokens=50-250 --seed 0"
    )


def test_what_a_result_does_not_hold_is_left_open() -> None:
    run = make_run(load=Load(kind=LoadKind.OPEN, arrivals="trace"))

    assert "--arrivals trace --trace … " in repeat_command(run)


def test_a_number_of_requests_replaces_the_duration() -> None:
    run = make_run(load=Load(kind=LoadKind.CLOSED, concurrency=2, requests=100), warmup_seconds=0)

    assert "--requests 100 --seed" in repeat_command(run)
    assert "--duration" not in repeat_command(run)


def test_parameters_that_differ_from_the_scenarios_file_are_found() -> None:
    chat = load_scenario("chat", folder=SCENARIOS)
    changed = chat.with_parameters({"completion_tokens": "64"})
    run = make_run(scenario_text=changed.model_dump(mode="json", exclude_none=True))
    plain = make_run(scenario_text=chat.model_dump(mode="json", exclude_none=True))

    assert changed_parameters(run, SCENARIOS) == {"completion_tokens": "64"}
    assert changed_parameters(plain, SCENARIOS) == {}


def test_a_scenario_that_is_gone_changes_nothing() -> None:
    assert changed_parameters(make_run(scenario="gone"), SCENARIOS) == {}


def test_only_what_differs_between_environments_is_listed() -> None:
    def run(version: str, utilization: float) -> Environment:
        model = ModelFacts(name="smoke", options={"gpu_memory_utilization": utilization, "dtype": "auto"})
        return Environment(versions={"vllm": version, "python": "3.11"}, models=[model])

    differ = environment_differences(
        [make_run(environment=run("0.31.0", 0.9)), make_run(environment=run("0.32.0", 0.8))]
    )

    assert differ == [
        ("version of vllm", ["0.31.0", "0.32.0"]),
        ("smoke: gpu-memory-utilization", ["0.9", "0.8"]),
    ]
