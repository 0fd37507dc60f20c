"""What stands behind a report: environment and configuration, how to repeat it, and what each number means."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.report import wording
from loadtest.report.document import Block, Cell, Code, Columns, Fold, Section, Table, table
from loadtest.report.measures import ERRORS, GOODPUT, LATENCIES, OUTPUT_TOKENS, REQUESTS
from loadtest.results import Environment, LoadKind, ModelFacts, RunResult


def environment(run: RunResult) -> list[Block]:
    """Where and with what it was measured."""
    found = run.environment
    rows = [[name, value] for name, value in facts(found).items()]
    half = (len(rows) + 1) // 2
    blocks: list[Block] = [Columns([table(("", ""), rows[:half]), table(("", ""), rows[half:])])]
    blocks += [Fold(f"vLLM's options of {model.name}", [Code(_json(model.options))]) for model in found.models]
    if run.scenario_text:
        blocks.append(Fold(f"scenario {run.scenario}", [Code(_json(run.scenario_text))]))
    return blocks


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False, default=str)


def facts(found: Environment) -> dict[str, str]:
    """Each fact by its name, without vLLM's options; what is not known is left out."""
    named = {
        "deployment": found.deployment,
        "address": found.url,
        "clone": found.git,
        **{f"version of {name}": version for name, version in found.versions.items()},
        **{f"client's {name}": value for name, value in found.host.items()},
    }
    for model in found.models:
        named[f"model {model.name}"] = _served(model)
    return {name: value for name, value in named.items() if value}


def _served(model: ModelFacts) -> str:
    gpus = f"{model.gpus_per_replica} × {model.gpu}" if model.gpu else "CPU"
    text = f"{wording.plural(model.replicas, 'replica')} on {gpus}" + (" each" if model.replicas > 1 else "")
    if model.weights_bytes:
        text += f", {wording.number(model.weights_bytes / 1e9)} GB of weights"
    return text


def environment_differences(runs: Sequence[RunResult]) -> list[tuple[str, list[str]]]:
    """Facts and vLLM options that are not the same in all runs, with each run's value."""
    everything = [
        facts(run.environment)
        | {
            f"{model.name}: {name.replace('_', '-')}": json.dumps(value, default=str)
            for model in run.environment.models
            for name, value in model.options.items()
        }
        for run in runs
    ]
    names = dict.fromkeys(name for one in everything for name in one)
    values = [(name, [one.get(name, wording.NOTHING) for one in everything]) for name in names]
    return [(name, row) for name, row in values if len(set(row)) > 1]


_NOT_IN_A_RESULT = {"ramp": "--until-rate", "steps": "--steps", "trace": "--trace"}


def repeat_command(run: RunResult, parameters: Mapping[str, str] | None = None) -> str:
    """The command line that measures the same again; ``parameters`` are those that differ from the scenario's file."""
    load = run.load
    words = ["vllmstack", "load", "--scenario", run.scenario]
    models = {series.model for series in run.series} or {model.name for model in run.environment.models}
    if len(models) == 1:
        words += ["--model", *models]
    if load.kind is LoadKind.CLOSED:
        words += ["--concurrency", str(load.concurrency)]
    elif load.rate is not None:
        words += ["--rate", f"{load.rate:g}"]
    if load.arrivals and load.arrivals != "poisson":
        words += ["--arrivals", load.arrivals]
    if load.burstiness is not None:
        words += ["--burstiness", f"{load.burstiness:g}"]
    if option := _NOT_IN_A_RESULT.get(load.arrivals):
        words += [option, "…"]
    if load.requests is not None:
        words += ["--requests", str(load.requests)]
    else:
        words += ["--duration", f"{run.duration_seconds:g}"]
    if run.warmup_seconds:
        words += ["--warmup", f"{run.warmup_seconds:g}"]
    if run.client.processes > 1:
        words += ["--processes", str(run.client.processes)]
    if parameters:
        words += ["--parameters", " ".join(f"{name}={value}" for name, value in parameters.items())]
    return shlex.join([*words, "--seed", str(run.seed)]).replace("'…'", "…")


def meanings() -> Section:
    """What each number means, for whoever reads such a report for the first time."""
    rows: list[list[Cell | str]] = [
        [one.title, one.meaning] for one in (OUTPUT_TOKENS, REQUESTS, *LATENCIES, GOODPUT, ERRORS)
    ]
    rows += [
        ["p50, p95, p99", "The value that 50, 95 or 99 of 100 do not exceed; within 0.5 % of the exact one."],
        [
            "95 % interval",
            "Holds the true value with 95 % probability. Over three repeats or more it holds what differs from run to "
            "run; of one run, only what varies inside it.",
        ],
        ["Window", "What is measured: requests due after the warm-up and before the drain, followed to their end."],
        ["Concurrency", "Closed loop: so many users, each sends its next request when it has its answer."],
        ["Rate", "Open loop: requests are due by a schedule made before, whatever the server does."],
        ["Knee", "The load after which waiting grows faster than throughput (Kneedle: Satopää and others, 2011)."],
        ["INVALID", "The client, the load or the counts were wrong: the numbers say nothing about the server."],
    ]
    return Section("What each number means", [_wide(rows)])


def _wide(rows: Sequence[Sequence[Cell | str]]) -> Table:
    return table(("", ""), rows)
