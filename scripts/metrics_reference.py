"""Writes docs/reference/metrics.md: every metric by source, every recorded series and every alert.

Run it (``python scripts/metrics_reference.py``) after a change to prometheus/, tests/captures/, grafana/ or the load
test's exporter; tests/unit/prometheus/test_metrics_reference.py compares. Names, types, labels and help texts are those
of real answers of /metrics; what a recorded series means is written here, since PromQL does not say it.
"""

import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from prometheus_client.metrics_core import Metric  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from prometheus import rules as rules_source  # noqa: E402
from tests.unit.prometheus.test_metrics_exist import (  # noqa: E402
    CAPTURES,
    ONLY_WITH,
    RULES,
    expressions,
    loadtest_metrics,
    named,
)
from vllmstack.render.targets import WINDOWS  # noqa: E402

PAGE = ROOT / "docs/reference/metrics.md"
GATEWAY_SOURCE = ROOT / "docker/gateway/lua/metrics.lua"

UNITS = (
    (r"_timestamp_seconds$", "s since 1970"),
    (r"_tokens_per_second$", "tokens/s"),
    (r"_requests_per_second$", "requests/s"),
    (r"_seconds(_total)?$", "s"),
    (r"_bytes(_per_gpu)?(_total)?$", "B"),
    (r"_(ratio|perc)$", "0 to 1"),
    (r"_celsius$", "°C"),
    (r"_watts$", "W"),
    (r"_joules_total$", "J"),
    (r"_hertz$", "Hz"),
    (r"_flops_per_gpu_total$", "FLOP"),
    (r"_cores$", "cores"),
    (r"_load1$", "processes"),
    (r"mm_cache_\w+$", "items"),
    (r"(tokens(_\w+)?|prefix_cache_\w+)$", "tokens"),
    (r"_info$", "1"),
    (r"_(state|up|valid|throttled|answers|takes_requests|available)$", "0 or 1"),
    (r"_(num_preemptions|params_n)$", "of a request"),
    (r"(_requests(_\w+)?|_success_total|_in_flight|_sheds_total|_retries_total|_mirrored_total)$", "requests"),
)
"""By the end of the name, the first that fits; what fits none is a count of what the text says."""

MOST_LABELS = 12
CONTAINER = {"service", "model", "replica"}

SPECULATIVE = {
    "vllm:spec_decode_num_drafts_total": "Number of spec decoding drafts. (With speculative decoding alone.)",
    "vllm:spec_decode_num_draft_tokens_total": "Number of draft tokens. (The same.)",
    "vllm:spec_decode_num_accepted_tokens_total": "Number of accepted tokens. (The same.)",
    "vllm:spec_decode_num_accepted_tokens_per_pos_total": "Accepted tokens per draft position. (The same.)",
}
"""vLLM's own words (vllm/v1/spec_decode/metrics.py): no capture is of an engine that speculates."""

OWN = {
    "up": "gauge, of each target: 1 if its last scrape succeeded",
    "ALERTS": "gauge: 1 while an alert is `pending` or `firing` (`alertstate`), with the alert's labels",
}

MEANINGS = {
    "model:replicas_expected:count": "Replicas that the deployment has.",
    "model:replicas_serving:sum": "Replicas that the gateway would send a request to.",
    "model:gateway_requests:rate5m": "Requests a second that ended at the gateway, of any status.",
    "model:gateway_errors:ratio_rate5m": "Share of these that ended with 5xx.",
    "stack:gateway_errors:ratio_rate5m": "The same over all models.",
    "model:queued_requests:sum": "Requests that wait at the gateway, of both priorities.",
    "model:sheds:rate2m": "Requests a second that the gateway refused, over 2 minutes.",
    "replica:prompt_tokens:rate5m": "Prompt tokens a second.",
    "model:prompt_tokens:rate5m": "Prompt tokens a second.",
    "replica:generation_tokens:rate5m": "Output tokens a second.",
    "model:generation_tokens:rate5m": "Output tokens a second.",
    "stack:generation_tokens:rate5m": "Output tokens a second.",
    "replica:kv_cache_usage:max": "KV cache in use, of the fullest data-parallel rank: 0 to 1.",
    "model:kv_cache_usage:max": "KV cache in use, of the fullest replica: 0 to 1.",
    "replica:preemptions:rate5m": "Preemptions a second.",
    "replica:prefix_cache_hits:ratio_rate5m": "Share of prompt tokens that were found in the prefix cache.",
    "model:prefix_cache_hits:ratio_rate5m": "Share of prompt tokens that were found in the prefix cache.",
    "stack:gpu_power_watts:sum": "Power of all GPUs of the host, W.",
    "model:gpu_power_watts:sum": "Power of the GPUs that the model's replicas have, W.",
    "stack:tokens_per_joule:ratio_rate5m": "Output tokens a joule that the GPUs drew.",
    "model:tokens_per_joule:ratio_rate5m": "Output tokens a joule that the model's GPUs drew.",
    "model:slo_bad:ratio_rateWINDOW": "Share of requests that missed the target `slo` (`ttft`, `tpot`, `errors`), or "
    "of time without a replica (`availability`).",
    "model:slo_budget:ratio": "Share that may: what the target's percentile leaves over.",
    "model:slo_fast_burn:limit": "`model:slo_bad:ratio_rate1h` and `…5m` above it page: 14.4 times the budget.",
    "model:slo_slow_burn:limit": "`model:slo_bad:ratio_rate6h` and `…30m` above it page: 6 times the budget.",
    "model:slo_lasting_burn:limit": "`model:slo_bad:ratio_rate3d` and `…6h` above it warn: the budget itself.",
    "model:goodput:ratio_rate5m": "Share of requests within the TTFT and the TPOT target, at least.",
    "model:target_ttft_seconds:limit": "The loosest TTFT limit of the model's targets, by percentile, s.",
    "model:target_tpot_seconds:limit": "The same of TPOT.",
    "model:target_itl_seconds:limit": "The same of ITL.",
    "model:target_e2e_seconds:limit": "The same of the whole request.",
    "replica:gpu:info": "1 for each GPU that the replica has.",
    "replica:gpu_peak_flops:limit": "What one of its GPUs computes at most, FLOP/s, in the planner's table.",
    "replica:gpu_peak_bytes:limit": "What one of its GPUs reads and writes at most, B/s, in the planner's table.",
}
"""Of recorded series. Those of latencies are made of a table (prometheus/rules.py), and so are their rows here."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One job of prometheus.yml."""

    job: str
    title: str
    about: str
    wanted: Callable[[str], bool]


def used() -> set[str]:
    """What rules, dashboards and commands name."""
    return {metric for _, expression in expressions() for metric in named(expression)[0]}


def sources() -> list[Source]:
    """In the order of the page."""
    in_use = used()
    return [
        Source(
            job="engines",
            title="Engines",
            about="vLLM's own; each replica is asked at port 8000. `model` (the name that clients use) and `replica` "
            "(its Compose service) are added by Prometheus, `_created` series are dropped. What Python and the API "
            "server count of themselves is stored too, and not listed.",
            wanted=lambda name: name.startswith("vllm:") and not name.endswith("_created"),
        ),
        Source(
            job="gateway",
            title="Gateway",
            about="Port 9113 of the gateway. Counts are of all its workers; a reload keeps them, a new container "
            "starts at 0. `model` and `replica` are `none` where a request had none.",
            wanted=lambda _: True,
        ),
        Source(
            job="gpu",
            title="GPUs",
            about="NVML's, by `docker/exporters/gpu_exporter.py`: all GPUs of the host. `gpu` is the index that "
            "`nvidia-smi` shows. What a GPU does not support has no samples.",
            wanted=lambda name: name.startswith("vllmstack_"),
        ),
        Source(
            job="containers",
            title="Containers",
            about="The kernel's, by `docker/exporters/container_exporter.py`: of the stack's containers by `service`; "
            "`model` and `replica` are empty for what is no engine.",
            wanted=lambda name: name.startswith("vllmstack_"),
        ),
        Source(
            job="host",
            title="Host",
            about="The node exporter's; here those that rules and dashboards use.",
            wanted=in_use.__contains__,
        ),
        Source(
            job="loadtest",
            title="Load test",
            about="The client's own view, while one measures: port 9464 of `loadtest` or `loadtest-run`. A new run "
            "starts its counters from zero.",
            wanted=lambda name: name.startswith("vllmstack_"),
        ),
        Source(
            job="prometheus",
            title="Prometheus itself",
            about="Those that rules use.",
            wanted=in_use.__contains__,
        ),
        Source(job="alertmanager", title="Alertmanager", about="Those that rules use.", wanted=in_use.__contains__),
    ]


def metrics_text() -> str:
    """The whole page."""
    found = sources()
    about = (
        "By source, which is the label `job`; every series has `instance` too. A histogram is stored as `…_bucket` "
        "(with `le`), `…_sum` and `…_count`. Where no unit is given, it is a count. "
        "[How to ask](../runbooks/README.md#asking-prometheus): in Grafana's Explore, or by `docker compose exec`."
    )
    parts = [
        "<!-- Made by scripts/metrics_reference.py; help texts are the sources' own. -->\n# Metrics\n",
        _wrapped(about),
        _contents(found),
    ]
    parts += [_section(one) for one in found]
    parts += [_own(), _recorded(), _alerts()]
    return "\n".join(parts)


def main(page: Path = PAGE) -> None:
    """Writes the page."""
    page.write_text(metrics_text(), "utf-8")


def _contents(found: Sequence[Source]) -> str:
    rows = [(f"[{one.title}](#{_anchor(one.title)})", f"`{one.job}`") for one in found]
    further = (("Prometheus' own", "each"), ("Recorded series", "–"), ("Alerts", "–"))
    rows += [(f"[{title}](#{_anchor(title)})", job) for title, job in further]
    return _table(("what", "job"), rows)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _section(source: Source) -> str:
    rows = [row for name, family in _families(source) if source.wanted(name) for row in _rows(name, family)]
    if source.job == "engines":
        rows += [
            (f"`{name}`", "counter", unit(name), _labels({"engine", "model_name"} | ONLY_WITH[name]), text)
            for name, text in SPECULATIVE.items()
        ]
    return f"## {source.title}\n\n{_wrapped(source.about)}\n" + _table(("metric", "type", "unit", "labels", ""), rows)


def _families(source: Source) -> Iterator[tuple[str, Metric]]:
    """Families with the name that Prometheus stores; the parser takes `_total` off a counter's."""
    text = loadtest_metrics() if source.job == "loadtest" else CAPTURES[source.job].read_text()
    for family in text_string_to_metric_families(text):
        yield family.name + ("_total" if family.type == "counter" else ""), family


def _rows(name: str, family: Metric) -> Iterator[tuple[str, str, str, str, str]]:
    labels = {label for sample in family.samples for label in sample.labels} - {"le"}
    labels |= _counted_by(name) | ONLY_WITH.get(name, set())
    labels |= CONTAINER if name.startswith("vllmstack_container_") else set()
    yield f"`{name}`", family.type, unit(name), _labels(labels), _cell(family.documentation)


def _counted_by(name: str) -> set[str]:
    """Labels of a counter of the gateway, from its source: what was not counted yet has no samples."""
    short = name.removeprefix("vllmstack_gateway_")
    found = re.search(rf'counter\("{short}", \{{([^}}]*)\}}', GATEWAY_SOURCE.read_text())
    return set(re.findall(r'"(\w+)"', found[1])) if found and short != name else set()


def unit(name: str) -> str:
    """Of a metric's values, by its name; empty for a plain count."""
    return next((word for pattern, word in UNITS if re.search(pattern, name)), "")


def _own() -> str:
    rows = [(f"`{name}`", _labels(ONLY_WITH.get(name, ())), text) for name, text in OWN.items()]
    return "## Prometheus' own\n\n" + _table(("series", "labels", ""), rows)


def _recorded() -> str:
    """Series of latencies and windows are one row each: they differ in a word alone."""
    about = (
        "Made by the rules below `prometheus/rules/`, and by those that a deployment's targets and GPUs become "
        "(`.vllmstack/NAME/prometheus/rules/targets.yml`). The level says which labels are left: `replica` has `model` "
        "and `replica`, `model` has `model`, `stack` has none. Braces stand for each of their words."
    )
    rows = []
    for name, labels in recorded_by_row().items():
        meaning = MEANINGS.get(name) or _latency_meaning(name)
        rows.append((f"`{_written_out(name)}`", _labels(labels), meaning))
    return f"## Recorded series\n\n{_wrapped(about)}\n" + _table(("series", "labels", ""), rows)


def recorded_by_row() -> dict[str, set[str]]:
    """Labels of recorded series, by their names with LEVEL, QUANTILE and WINDOW where rules differ in that alone."""
    rows: dict[str, set[str]] = {}
    for rule in RULES:
        if "record" in rule:
            name = row_of(rule["record"])
            level = name.partition(":")[0]
            known = set(filter(None, rules_source.LEVELS.get(level, "").split(", ")))
            rows.setdefault(name, set()).update(known, _further_labels(name), rule.get("labels", {}))
    return rows


def _further_labels(name: str) -> set[str]:
    """Those that a rule keeps of what it is made from."""
    return {"le"} if "_bucket:" in name else {"slo"} if name.startswith("model:slo_") else set()


def row_of(name: str) -> str:
    """The row that a recorded series is in."""
    _, metric, operations = name.split(":")
    if metric.removesuffix("_bucket") in rules_source.LATENCIES:
        return f"LEVEL:{metric}:{re.sub('^p[0-9]+', 'QUANTILE', operations)}"
    return re.sub(r"(?<=^model:slo_bad:ratio_rate)\w+$", "WINDOW", name)


def _written_out(name: str) -> str:
    words: Mapping[str, Iterable[str]] = {
        "LEVEL": rules_source.LEVELS,
        "QUANTILE": rules_source.QUANTILES,
        "WINDOW": WINDOWS,
    }
    for word, each in words.items():
        name = name.replace(word, "{" + ",".join(each) + "}")
    return name


def _latency_meaning(name: str) -> str:
    metric = name.split(":")[1]
    if metric.endswith("_bucket"):
        return f"Buckets a second: {rules_source.LATENCIES[metric.removesuffix('_bucket')]}."
    return f"Quantiles of the summed buckets: {rules_source.LATENCIES[metric]}, s."


def _alerts() -> str:
    about = (
        "`page`: users are served badly or not at all; `warn`: a cause that may become one; `none`: the dead man's "
        "switch. An alert with several severities has one for each speed at which the budget of its target is used up."
    )
    by_name: dict[str, list[dict[str, Any]]] = {}
    for rule in RULES:
        if "alert" in rule:
            by_name.setdefault(rule["alert"], []).append(rule)
    rows = [
        (
            f"[{name}](../runbooks/{name}.md)",
            ", ".join(rule["labels"]["severity"] for rule in rules),
            ", ".join(rule.get("for", "at once") for rule in rules),
            _cell(_in_words(rules[0]["annotations"]["summary"])),
        )
        for name, rules in by_name.items()
    ]
    return f"## Alerts\n\n{_wrapped(about)}\n" + _table(("alert", "severity", "for", "summary"), rows)


def _in_words(template: str) -> str:
    """`{{ $labels.model }}` as MODEL, a GPU's number as N, a value as an ellipsis."""
    optional = r"\{\{ with (\$labels\.\w+) \}\}(.*?)\{\{ end \}\}"
    text = re.sub(optional, lambda found: found[2].replace("{{ . }}", f"{{{{ {found[1]} }}}}"), template)
    text = text.replace("{{ $labels.gpu }}", "N")
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: found[1].upper(), text)
    text = text.replace("{{ $value | humanizePercentage }}", "… %")
    return re.sub(r"\{\{[^}]*\}\}", "…", text)


def _labels(labels: Collection[str]) -> str:
    if len(labels) > MOST_LABELS:
        return f"{len(labels)}: one for each setting"
    return ", ".join(f"`{label}`" for label in sorted(labels))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(headings)} |", f"| {' | '.join('---' for _ in headings)} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
