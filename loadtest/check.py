"""Measures what a deployment's targets ask, repeat by repeat, and judges it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.coordination.preparation import SCENARIOS
from loadtest.errors import LoadTestError
from loadtest.options import RunOptions
from loadtest.results import RunResult
from loadtest.run import measure
from loadtest.stack import StackFacts
from loadtest.verdict.limits import limits_of
from loadtest.verdict.outputs import write_outputs
from loadtest.verdict.profiles import profile
from loadtest.verdict.targets import TargetVerdict, judge
from loadtest.workload.scenario import load_scenario
from vllmstack.deployment.model import Target, TargetLoad
from vllmstack.errors import Problem

Echo = Callable[[str], None]

REPEATS = 3
"""The fewest from which an interval over repeats can be made."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One target of one model."""

    model: str
    target: Target

    @property
    def folder(self) -> str:
        """A name for the folder of its runs."""
        load = self.target.load
        amount = f"c{load.concurrency}" if load.concurrency else f"r{load.requests_per_second:g}"
        return re.sub(r"[^\w.-]+", "-", f"{self.model}-{self.target.scenario}-{amount}")


def jobs(stack: StackFacts, *, model: str | None = None, scenario: str | None = None) -> list[Job]:
    """The targets that the deployment sets, narrowed down.

    Raises:
        LoadTestError: none is left, or the model is unknown.
    """
    models = [stack.model(model)] if model else stack.models
    every = [Job(model=served.name, target=target) for served in models for target in served.targets]
    if scenario:
        load_scenario(scenario, folder=SCENARIOS)
    chosen = [job for job in every if scenario in (None, job.target.scenario)]
    if not chosen:
        of = f" of the scenario {scenario!r}" if scenario else ""
        have = ", ".join(sorted({job.target.scenario for job in every}))
        hint = f"it has targets of: {have}" if have else "add `targets` to a model, or choose a --profile and a --rate"
        raise LoadTestError(Problem(fact=f"deployment {stack.deployment} sets no target{of}", hint=hint))
    return chosen


def profile_job(
    stack: StackFacts, name: str, *, model: str | None = None, scenario: str | None = None, rate: float | None = None,
    concurrency: int | None = None,
) -> Job:  # fmt: skip
    """A named set of limits at a load.

    Raises:
        LoadTestError: unknown profile, model or scenario, or not just one load.
    """
    if (rate is None) == (concurrency is None):
        fact = "a profile needs one load" if rate is None else "a profile is measured under one load, and there are two"
        raise LoadTestError(Problem(place="--profile", fact=fact, hint="add --rate or --concurrency"))
    load = TargetLoad(requests_per_second=rate, concurrency=concurrency)
    target = profile(name).at(load, scenario=scenario)
    load_scenario(target.scenario, folder=SCENARIOS)
    return Job(model=stack.model(model).name, target=target)


def check(
    chosen: Sequence[Job], *, base: RunOptions, folder: Path, repeats: int = REPEATS, echo: Echo = lambda _: None
) -> list[TargetVerdict]:
    """Measures each job ``repeats`` times; verdicts and files of those done so far survive an interruption.

    Raises:
        LoadTestError: a run could not start.
    """
    verdicts: list[TargetVerdict] = []
    for job in chosen:
        runs = [
            run_target(job, base=base, folder=folder / job.folder / str(number), number=number, echo=echo)
            for number in range(1, repeats + 1)
        ]
        verdicts.append(judge(job.target, runs, job.model))
        write_outputs(verdicts, folder)
    return verdicts


def run_target(job: Job, *, base: RunOptions, folder: Path, number: int, echo: Echo) -> RunResult:
    """One repeat; each asks something else, so that no cache knows its prompts."""
    load = job.target.load
    scenario = load_scenario(job.target.scenario, folder=SCENARIOS)
    options = base.model_copy(
        update={
            "scenario": job.target.scenario,
            "model": job.model,
            "concurrency": load.concurrency,
            "rate": load.requests_per_second,
            "limits": limits_of(job.target),
            "seed": base.seed + number,
            "result": str(folder),
        }
    )
    if scenario.requests is not None and base.requests is None:
        # So many requests are the whole run: what an engine does for the first time is done by one before it.
        options = options.model_copy(update={"duration_seconds": None, "warmup_seconds": 0.0})
        if number == 1:
            echo(f"{job.folder}: warming up")
            warming = {"result": str(folder.parent / "warmup"), "seed": base.seed, "calibrate": False}
            measure(options.model_copy(update=warming))
    return measure(options, echo=lambda text: echo(f"{job.folder} {number}: {text}"))
