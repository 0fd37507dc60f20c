"""Measures at one load after the other until the highest that meets the targets is known."""

from pathlib import Path

from loadtest.check import Echo, Job, run_target
from loadtest.options import RunOptions
from loadtest.verdict.capacity import MAXIMUM_RUNS, Capacity, bounded, find_capacity
from loadtest.verdict.capacity_outputs import write_capacity
from loadtest.verdict.numbers import quantity
from loadtest.verdict.targets import TargetVerdict, judge
from vllmstack.deployment.model import Target, TargetLoad


def capacity(
    job: Job, *, base: RunOptions, folder: Path, low: float, high: float | None = None, precision: float = 0.05,
    max_runs: int = MAXIMUM_RUNS, by_concurrency: bool = False, echo: Echo = lambda _: None,
) -> Capacity:  # fmt: skip
    """Searches the highest rate (requests a second), or concurrency, at which the job's limits hold.

    Throughput limits are left out: they say nothing about too high a load. Writes capacity.json into ``folder``,
    beside the runs.

    Raises:
        LoadTestError: the target limits throughput only, or a run could not start.
    """
    bounded(job.target)
    number = 0

    def judged(amount: float) -> TargetVerdict:
        nonlocal number
        number += 1
        load = TargetLoad(concurrency=int(amount)) if by_concurrency else TargetLoad(requests_per_second=amount)
        probe = Job(model=job.model, target=_at(job.target, load))
        run = run_target(probe, base=base, folder=folder / f"{number:02}-{probe.folder}", number=number, echo=echo)
        verdict = judge(probe.target, [run], job.model)
        echo(f"{load_text(amount, by_concurrency=by_concurrency)}: {verdict.verdict}; {', '.join(verdict.reasons)}")
        return verdict

    found = find_capacity(judged, low=low, high=high, precision=precision, max_runs=max_runs, whole=by_concurrency)
    write_capacity(found, folder)
    return found


def load_text(amount: float, *, by_concurrency: bool) -> str:
    """The load, for people."""
    return f"concurrency {amount:g}" if by_concurrency else quantity(amount, "req/s")


def _at(target: Target, load: TargetLoad) -> Target:
    return target.model_copy(update={"load": load, "requests_per_second": None, "output_tokens_per_second": None})
