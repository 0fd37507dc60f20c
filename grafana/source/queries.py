"""PromQL for panels: what is selected, rates of counters, quantiles and means of histograms."""

from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

MODELS = '{model=~"$model"}'
"""Recorded series of the level `model`."""
REPLICAS = '{model=~"$model", replica=~"$replica"}'
"""Recorded series of the level `replica`."""
ENGINES = '{job="engines", model=~"$model", replica=~"$replica"}'
GATEWAY = '{job="gateway", model=~"$model"}'
GATEWAY_REPLICAS = '{job="gateway", model=~"$model", replica=~"$replica"}'
GPUS = '{job="gpu", gpu=~"$gpu"}'
CONTAINERS = '{job="containers", model=~"$model|", replica=~"$replica|"}'
"""The empty alternative: what is no engine has neither label."""
HOST = '{job="host"}'
LOADTEST = '{job="loadtest", scenario=~"$scenario", model=~"$model"}'
LOADTEST_RUN = '{job="loadtest"}'
"""What is counted for a run as a whole."""
FIRING = '{alertstate="firing", model=~"$model|", replica=~"$replica|"}'

TARGET = "{{model}} {{quantile}} target"
"""Legend of a deployment's limits; graphs draw what ends so as a dashed line."""


def where(selector: str, *matchers: str) -> str:
    """The selector with further matchers."""
    return f"{selector[:-1]}, {', '.join(matchers)}}}"


def rate(metric: str, selector: str, by: str = "") -> str:
    """Sum of a counter's rates; ``by`` names the labels that are left."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{selector}[$__rate_interval]))"


def increase(metric: str, selector: str, by: str = "") -> str:
    """How often it happened since the point before: for what is rare."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (increase({metric}{selector}[$__rate_interval]))"


def or_zero(expression: str) -> str:
    """A counter that never counted has no series: 0 for each model of which there is none."""
    return f"{expression} or on (model) 0 * sum by (model) (vllmstack_gateway_requests_in_flight{GATEWAY})"


def quantile(value: float, histogram: str, by: str = "", selector: str = ENGINES) -> str:
    """Quantile of the buckets, summed before it is taken."""
    return f"histogram_quantile({value:g}, {buckets(histogram, by, selector)})"


def buckets(histogram: str, by: str = "", selector: str = ENGINES) -> str:
    return rate(f"{histogram}_bucket", selector, f"{by}, le" if by else "le")


def mean(histogram: str, by: str = "", selector: str = ENGINES) -> str:
    """Sum over count: exact, other than a quantile."""
    return f"{rate(f'{histogram}_sum', selector, by)} / {rate(f'{histogram}_count', selector, by)}"


def query(expression: str, legend: str) -> Dataquery:
    return Dataquery().expr(expression).legend_format(legend).range().datasource(SOURCE)


def heat(histogram: str, selector: str = ENGINES) -> Dataquery:
    """The buckets themselves, for a heatmap."""
    return query(buckets(histogram, selector=selector), "{{le}}").format(PromQueryFormat.HEATMAP)


def percentiles(histogram: str, by: str = "model", selector: str = ENGINES) -> list[Dataquery]:
    """p50, p95 and p99 of each."""
    label = by.rsplit(", ", maxsplit=1)[-1]
    return [
        query(quantile(value, histogram, by, selector), f"{{{{{label}}}}} {name}")
        for name, value in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    ]


def mean_and_high(histogram: str, by: str = "model", selector: str = ENGINES) -> list[Dataquery]:
    """Mean, p95 and p99: no median where the first bucket is wider than what is usual."""
    label = by.rsplit(", ", maxsplit=1)[-1]
    first = query(mean(histogram, by, selector), f"{{{{{label}}}}} mean")
    return [first, *percentiles(histogram, by, selector)[1:]]


def target(latency: str) -> Dataquery:
    """The deployment's limits for a latency, if it has any."""
    return query(f"model:target_{latency}_seconds:limit{MODELS}", TARGET)


def burn(window: str) -> str:
    """How many times faster than allowed the error budget is used up, by model and target (`slo`)."""
    return f"model:slo_bad:ratio_rate{window}{MODELS} / model:slo_budget:ratio{MODELS}"
