"""Every panel of the dashboards on a stack under load, and the client's numbers beside Prometheus'."""

import datetime
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from grafana.source.needs import LATENCY_TARGETS, need
from loadtest.clock.histogram import Histogram
from loadtest.errors import EXIT_INVALID, EXIT_MET
from loadtest.results import RunResult, load
from tests.stack.conftest import Stack
from tests.stack.monitoring import Monitoring

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
WITHOUT_A_GPU = ("stack", "model", "engine", "gateway", "load-test")
"""Dashboards that must show something here; of the fifth, what is not a GPU's is asked for too."""
HAS = {LATENCY_TARGETS, "API keys"}
"""Of what a panel may need, what this stack has."""

SECONDS = 60
REQUESTS = "vllm:request_success_total"
TOKENS = "vllm:generation_tokens_total"
TTFT = "vllm:time_to_first_token_seconds"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One load test, and when it ran."""

    monitoring: Monitoring
    run: RunResult
    before: float
    """Unix seconds, before the first request."""
    after: float
    """After the last one, and a scrape later."""


@pytest.fixture(scope="module")
def measured(stack: Stack) -> Measured:
    """Prompts of all lengths, and so many at a time that a median waits 0.7 s for its first token.

    What lies between the engine's clock and the client's took 5 to 33 ms here, which the engines do not count: little
    beside that, and more than 5 % of a median of 0.2 s at times. The engines' buckets are a quarter second wide up to
    one second; in the next, up to 2.5 s, medians were read that were 15 to 22 % off.
    """
    folder = stack.clone.folder / "results" / "dashboards"
    done = stack.clone.vllmstack(
        *("load", "--model", "smoke", "--scenario", "completion", "--concurrency", "30", "--duration", str(SECONDS)),
        *("--warmup", "0", "--no-calibration", "--parameters", "prompt_tokens=50-1900"),
        *("--parameters", "completion_tokens=8", "--result", str(folder)),
        seconds=600,
        check=False,
    )
    assert done.returncode in (EXIT_MET, EXIT_INVALID), done.stdout + done.stderr
    time.sleep(3)
    run = load(folder)
    # By then the first request, which only looks whether the server answers, has ended.
    before = datetime.datetime.fromisoformat(run.started_at).timestamp()
    return Measured(monitoring=Monitoring(stack=stack), run=run, before=before, after=time.time())


def panels(board: str) -> Iterator[tuple[str, str]]:
    """Title with legend, and query with its variables filled in, of what must not be empty here."""
    for panel in json.loads((FOLDER / f"{board}.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            reason = need(panel["title"], target["legendFormat"])
            if reason is None or reason in HAS:
                yield f"{panel['title']}: {target['legendFormat']}", filled(target["expr"])


def filled(expression: str) -> str:
    """With everything chosen, and a rate interval of a minute."""
    return re.sub(r"\$(model|replica|gpu|scenario)\b", ".+", expression.replace("$__rate_interval", "1m"))


@pytest.mark.parametrize("board", [*WITHOUT_A_GPU, "gpu-and-host"])
def test_every_panel_has_data(measured: Measured, board: str) -> None:
    queries = dict(panels(board))

    # While it ran: what measures is no target any more once it has ended.
    results = measured.monitoring.queries(queries, at=measured.before + SECONDS * 0.9)

    assert len(queries) >= 10
    assert [name for name, samples in results.items() if not samples] == []


def grown(measured: Measured, expression: str) -> float:
    """By how much a sum of counters grew over the load test."""
    monitoring = measured.monitoring
    return monitoring.value(expression, at=measured.after) - monitoring.value(expression, at=measured.before)


def test_clients_and_prometheus_agree(measured: Measured, figures: list[str]) -> None:
    whole = measured.run.whole
    ttft = Histogram.of(measured.run.total.latencies.ttft)
    engines = 'job="engines", model="smoke"'
    seconds = round(measured.after - measured.before)
    buckets = f"sum by (le) (increase({TTFT}_bucket{{{engines}}}[{seconds}s]))"
    pairs = {
        "requests": (whole.ok, grown(measured, f"sum({REQUESTS}{{{engines}}})")),
        "output tokens": (whole.completion_tokens, grown(measured, f"sum({TOKENS}{{{engines}}})")),
        "TTFT p50": (
            ttft.quantile(0.5),
            measured.monitoring.value(f"histogram_quantile(0.5, {buckets})", at=measured.after),
        ),
    }
    figures += [f"{name}: client {ours:.4g}, Prometheus {theirs:.4g}" for name, (ours, theirs) in pairs.items()]
    # At a bucket's end nothing is interpolated: what is left is what the engines do not count.
    within = grown(measured, f'sum({TTFT}_bucket{{{engines}, le="0.5"}})') / pairs["requests"][1]
    figures.append(f"TTFT where theirs is 0.5 s: client {ttft.quantile(within):.4g}")

    for name, (ours, theirs) in pairs.items():
        assert theirs == pytest.approx(ours, rel=0.05), name
