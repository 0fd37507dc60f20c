"""Source of ``rules/latency.yml`` and ``rules/slo.yml``: the same few expressions for each latency, level and window.

``python prometheus/rules.py`` writes the files; a test compares them with what this module makes. The other files of
``rules/`` are written by hand; vllmstack/render/targets.py makes ``targets.yml`` from each deployment's targets.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vllmstack.render.targets import WINDOWS

RULES = Path(__file__).parent / "rules"

HEADER = "# Written by prometheus/rules.py: change it there.\n"

LATENCIES = {
    "time_to_first_token_seconds": "TTFT",
    "request_time_per_output_token_seconds": "TPOT: one mean a request",
    "inter_token_latency_seconds": "ITL: each gap",
    "request_queue_time_seconds": "waiting in the engine",
    "request_prefill_time_seconds": "from the first schedule to the first token",
    "request_decode_time_seconds": "from the first token to the last",
    "e2e_request_latency_seconds": "the whole request",
}
LEVELS = {"replica": "model, replica", "model": "model", "stack": ""}
"""Labels that are left, by level. A quantile is taken of summed buckets: one of quantiles would be wrong."""

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

BURNS = {
    "fast": ("page", "5m", "1h", 14.4, "2m"),
    "slow": ("page", "30m", "6h", 6.0, "15m"),
    "lasting": ("warn", "6h", "3d", 1.0, "1h"),
}
"""Severity, short and long window, times the budget of 30 days, and how long: https://sre.google/workbook/alerting-on-slos/.
The short window is why an alert ends soon after its cause."""

SLOS = {
    "ttft": ("TtftTargetMissed", "too many requests wait longer for the first token than the deployment's target"),
    "tpot": ("TpotTargetMissed", "too many requests get their tokens more slowly than the deployment's target"),
    "errors": ("ErrorTargetMissed", "too many requests fail with the stack's own errors"),
    "availability": ("AvailabilityTargetMissed", "too much time without a replica that serves"),
}

RUNBOOKS = "docs/runbooks"

# pint is told that goodput may be one evaluation behind what it is made of.
HEADS = {"latency.yml": HEADER, "slo.yml": HEADER + "# pint file/disable rule/dependency\n"}

Rule = dict[str, Any]


def latency_rules() -> dict[str, Any]:
    """Summed buckets of each latency at each level, and their quantiles."""
    groups = []
    for metric, meaning in LATENCIES.items():
        rules: list[Rule] = []
        for level, labels in LEVELS.items():
            buckets = f"{level}:{metric}_bucket:rate5m"
            below = {"model": "replica", "stack": "model"}.get(level)
            source = f"{below}:{metric}_bucket:rate5m" if below else f'rate(vllm:{metric}_bucket{{job="engines"}}[5m])'
            rules.append({"record": buckets, "expr": f"sum by ({', '.join(filter(None, (labels, 'le')))}) ({source})"})
            rules += [
                {"record": f"{level}:{metric}:{name}_rate5m", "expr": f"histogram_quantile({value:g}, {buckets})"}
                for name, value in QUANTILES.items()
            ]
        groups.append({"name": f"latency, {meaning}", "rules": rules})
    return {"groups": groups}


def slo_rules() -> dict[str, Any]:
    """What share of requests and of time is bad, how much may be, and the alerts on both."""
    groups = [{"name": f"slo, {window}", "rules": [*_bad(window)]} for window in WINDOWS]
    groups.append({"name": "slo", "rules": [*_limits(), *_goodput()]})
    groups += [{"name": f"missed {slo}", "rules": [*_alerts(slo)]} for slo in SLOS]
    return {"groups": groups}


def _bad(window: str) -> Iterator[Rule]:
    requests = f'rate(vllmstack_gateway_requests_total{{job="gateway", model!="none"}}[{window}])'
    failed = requests.replace("}", ', code=~"5.."}')
    yield {
        "record": f"model:slo_bad:ratio_rate{window}",
        # A status that never occurred has no series.
        "expr": f"(sum by (model) ({failed}) or 0 * sum by (model) ({requests})) / sum by (model) ({requests})",
        "labels": {"slo": "errors"},
    }
    yield {
        "record": f"model:slo_bad:ratio_rate{window}",
        "expr": f'1 - avg by (model) (avg_over_time(vllmstack_gateway_model_available{{job="gateway"}}[{window}]))',
        "labels": {"slo": "availability"},
    }


def _limits() -> Iterator[Rule]:
    """The share that is alerted on. A large budget cannot burn 14 times as fast as it may: halfway to all is enough."""
    for speed, (_, _, _, factor, _) in BURNS.items():
        times, halfway = f"{factor:g} * model:slo_budget:ratio", "(1 + model:slo_budget:ratio) / 2"
        yield {"record": f"model:slo_{speed}_burn:limit", "expr": f"({times} < {halfway}) or {halfway}"}


def _goodput() -> Iterator[Rule]:
    # Which requests miss which target is not known of histograms: at worst each misses only one.
    bad = 'sum by (model) (model:slo_bad:ratio_rate5m{slo=~"ttft|tpot"})'
    yield {"record": "model:goodput:ratio_rate5m", "expr": f"clamp_min(1 - {bad}, 0)"}


def _alerts(slo: str) -> Iterator[Rule]:
    name, what = SLOS[slo]
    selector = f'{{slo="{slo}"}}'
    for speed, (severity, short, long, factor, lasting) in BURNS.items():
        limit = f"on (model, slo) model:slo_{speed}_burn:limit{selector}"
        yield {
            "alert": name,
            "expr": (
                f"model:slo_bad:ratio_rate{long}{selector}\n> {limit}\n"
                f"and on (model, slo)\nmodel:slo_bad:ratio_rate{short}{selector}\n> {limit}\n"
            ),
            "for": lasting,
            "labels": {"severity": severity, "burn": speed},
            "annotations": {
                "summary": f"{{{{ $labels.model }}}}: {what}",
                "description": (
                    f"{{{{ $value | humanizePercentage }}}} of the last {long}, and the last {short} are no better: "
                    f"the budget of 30 days is used up {factor:g} times as fast as it may be."
                ),
                "runbook_url": f"{RUNBOOKS}/{name}.md",
            },
        }


class _Text(yaml.SafeDumper):
    """Expressions of several lines as such, and lists indented as in the files written by hand."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Text.add_representer(str, _text)

FILES = {"latency.yml": latency_rules, "slo.yml": slo_rules}


def render(name: str) -> str:
    """The committed text of a file."""
    return HEADS[name] + yaml.dump(FILES[name](), Dumper=_Text, sort_keys=False, width=110)


def main(output: Path = RULES) -> None:
    """Writes the files."""
    for name in FILES:
        (output / name).write_text(render(name))


if __name__ == "__main__":
    main()
