"""Runs that show one limit, and what is found in them."""

from typing import Any

from loadtest.report.finding import Finding
from loadtest.report.limits import findings
from loadtest.results import EngineDelta, Environment, ModelFacts, RunResult
from tests.unit.loadtest.runs import make_run

H200 = {"gpu": "NVIDIA H200", "gpus_per_replica": 1}


def engine(**changes: Any) -> EngineDelta:
    """An engine in which nobody waits; ``times`` replaces means of its histograms."""
    times = {"ttft": 0.05, "queue": 0.001, "prefill": 0.045, "decode": 0.5, "itl": 0.005, "e2e": 0.55}
    times |= changes.pop("times", {})
    values: dict[str, Any] = {
        "replica": "engine-smoke-1",
        "model": "smoke",
        "requests": 200,
        "prompt_tokens": 40_000,
        "generation_tokens": 20_000,
        "prefix_queries": 40_000,
        "mean_seconds": times,
        "peak_running": 4,
        "peak_kv_cache_ratio": 0.2,
    }
    return EngineDelta(**{**values, **changes})


def run_with(*engines: EngineDelta, facts: dict[str, Any] | None = None, **changes: Any) -> RunResult:
    """A run of these engines; ``facts`` are of the one model."""
    model = ModelFacts(**{"name": "smoke", "replicas": len(engines), **H200, **(facts or {})})
    values: dict[str, Any] = {"requests": 60, "duration": 20, **changes}
    return make_run(engines=list(engines), environment=Environment(models=[model]), **values)


def found(*runs: RunResult) -> dict[str, Finding]:
    """Findings by the limit that they name."""
    return {finding.limit: finding for finding in findings(runs)}


def text(finding: Finding) -> str:
    """All that it says."""
    return "\n".join((finding.limit, *finding.evidence, *finding.advice))
