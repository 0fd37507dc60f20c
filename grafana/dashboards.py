"""Source of ``dashboards/*.json``: one function a panel, one a dashboard.

``python grafana/dashboards.py`` writes the files; a test compares them with what this module makes.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard as DashboardModel,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DashboardSpecialValueMapOptions,
    DynamicConfigValue,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

OUTPUT = Path(__file__).parent / "dashboards"

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ENGINES = '{job="engines", model=~"$model", replica=~"$replica"}'
GATEWAY = '{job="gateway", model=~"$model"}'
GATEWAY_REPLICAS = '{job="gateway", model=~"$model", replica=~"$replica"}'
GATEWAY_ERRORS = '{job="gateway", model=~"$model", code=~"5.."}'

SECONDS = "s"
TOKENS_PER_SECOND = "suffix: tok/s"
REQUESTS_PER_SECOND = "reqps"
RATIO = "percentunit"
COUNT = "short"
PER_SECOND = "cps"

GREEN, YELLOW, RED, NEUTRAL = "green", "yellow", "red", "text"


# Queries


def rate(metric: str, selector: str, by: str = "") -> str:
    """Sum of a counter's rates; ``by`` names the labels that are left."""
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} (rate({metric}{selector}[$__rate_interval]))"


def quantile(value: float, histogram: str, by: str = "") -> str:
    """Quantile of the engines' buckets, summed before it is taken."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({value:g}, {rate(f'{histogram}_bucket', ENGINES, labels)})"


def query(expression: str, legend: str) -> Dataquery:
    return Dataquery().expr(expression).legend_format(legend).datasource(SOURCE)


def percentiles(histogram: str) -> list[Dataquery]:
    """p50, p95 and p99 of each model."""
    return [
        query(quantile(value, histogram, "model"), f"{{{{model}}}} {name}")
        for name, value in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    ]


# Shapes of panels


def stat(title: str, description: str, unit: str, queries: Sequence[Dataquery], width: int = 4) -> Stat:
    """One number of the top row, with its course behind it."""
    panel = (
        Stat()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .orientation(VizOrientation.VERTICAL)
        # The last value even where it is none: an old number would hide that nothing answers.
        .reduce_options(ReduceDataOptions().calcs(["last"]))
        .thresholds(steps(NEUTRAL))
        .mappings([no_traffic()])
        .no_value("no data")
    )
    return panel.targets(list(queries))


def graph(title: str, description: str, unit: str, queries: Sequence[Dataquery], width: int = 8) -> Timeseries:
    """A course over time, from zero, with a table of last and highest values."""
    panel = (
        Timeseries()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .fill_opacity(8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    return panel.targets(list(queries))


def steps(first: str, *further: tuple[float, str]) -> ThresholdsConfig:
    """Colours: the first from minus infinity, each further one from its value."""
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=None, color=first), *(Threshold(value=value, color=color) for value, color in further)])
    )


def no_traffic() -> SpecialValueMap:
    """A ratio or quantile of no requests is NaN."""
    return SpecialValueMap(
        options=DashboardSpecialValueMapOptions(
            match=SpecialValueMatch.NULL_AND_NAN, result=ValueMappingResult(text="no traffic", color=NEUTRAL)
        )
    )


# Top row: are users served?


def replicas_up() -> Stat:
    # Expected: what Prometheus was told to scrape. Up: what the gateway would send a request to; no gateway, none.
    expected = f"count(up{ENGINES})"
    up = f"(sum(vllmstack_gateway_replica_answers{GATEWAY_REPLICAS}) or vector(0))"
    panel = stat(
        "Replicas up / expected",
        "Replicas that answer the gateway's health check, those that the deployment asks for, and the difference.",
        COUNT,
        [query(up, "up"), query(expected, "expected"), query(f"{expected} - {up}", "missing")],
        width=5,
    )
    red_from_one = steps(GREEN, (1, RED)).build()
    return (
        panel.orientation(VizOrientation.AUTO)
        .graph_mode(BigValueGraphMode.NONE)
        .override_by_name("missing", [DynamicConfigValue(id_val="thresholds", value=red_from_one)])
    )


def requests_now() -> Stat:
    return stat(
        "Requests",
        "Requests that the gateway answered a second, whatever the answer was.",
        REQUESTS_PER_SECOND,
        [query(rate("vllmstack_gateway_requests_total", GATEWAY), "requests")],
        width=3,
    )


def error_ratio() -> Stat:
    errors = rate("vllmstack_gateway_requests_total", GATEWAY_ERRORS)
    requests = rate("vllmstack_gateway_requests_total", GATEWAY)
    return stat(
        "Error ratio",
        "Share of requests that the gateway answered with a 5xx status: the stack's own failures, not the clients'.",
        RATIO,
        # A status that never occurred has no series, and no errors must read 0.
        [query(f"({errors} or vector(0)) / {requests}", "errors")],
    ).thresholds(steps(GREEN, (0.001, YELLOW), (0.01, RED)))


def ttft_now() -> Stat:
    return stat(
        "TTFT p95",
        "Time to first token that 95 % of requests stay under, over all selected replicas.",
        SECONDS,
        [query(quantile(0.95, "vllm:time_to_first_token_seconds"), "p95")],
    )


def tpot_now() -> Stat:
    return stat(
        "TPOT p95",
        "Mean time per output token after the first that 95 % of requests stay under, over all selected replicas.",
        SECONDS,
        [query(quantile(0.95, "vllm:request_time_per_output_token_seconds"), "p95")],
    )


def output_tokens_now() -> Stat:
    return stat(
        "Output tokens",
        "Tokens that the selected replicas generate a second, together.",
        TOKENS_PER_SECOND,
        [query(rate("vllm:generation_tokens_total", ENGINES), "output")],
    ).decimals(0)


# What users feel


def ttft() -> Timeseries:
    return graph(
        "Time to first token",
        "From a request's arrival at the engine to its first token: queue and prefill.",
        SECONDS,
        percentiles("vllm:time_to_first_token_seconds"),
        width=12,
    )


def tpot() -> Timeseries:
    return graph(
        "Time per output token",
        "A request's mean time per token after the first; percentiles below 10 ms, the first bucket, are guesses.",
        SECONDS,
        percentiles("vllm:request_time_per_output_token_seconds"),
        width=12,
    )


def itl() -> Timeseries:
    return graph(
        "Inter-token latency",
        "Time between two tokens in a row: a p99 far above the p50 means text that stutters.",
        SECONDS,
        percentiles("vllm:inter_token_latency_seconds"),
        width=12,
    )


def end_to_end() -> Timeseries:
    return graph(
        "Whole request",
        "From a request's arrival at the engine to its last token: the longer the answers, the longer it is.",
        SECONDS,
        percentiles("vllm:e2e_request_latency_seconds"),
        width=12,
    )


# Traffic


def requests_by_status() -> Timeseries:
    return graph(
        "Gateway requests by status",
        "Answers of the gateway a second by HTTP status: 5xx is the stack's failure, 4xx the client's, 429 a limit.",
        REQUESTS_PER_SECOND,
        [query(rate("vllmstack_gateway_requests_total", GATEWAY, "code"), "{{code}}")],
    )


def tokens() -> Timeseries:
    return graph(
        "Tokens in and out",
        "Prompt tokens taken in and tokens generated a second, by model.",
        TOKENS_PER_SECOND,
        [
            query(rate("vllm:prompt_tokens_total", ENGINES, "model"), "{{model}} in"),
            query(rate("vllm:generation_tokens_total", ENGINES, "model"), "{{model}} out"),
        ],
    )


def output_tokens_by_replica() -> Timeseries:
    return graph(
        "Output tokens by replica",
        "Tokens that each replica generates a second: replicas of one model far apart mean that load is spread badly.",
        TOKENS_PER_SECOND,
        [query(rate("vllm:generation_tokens_total", ENGINES, "model, replica"), "{{replica}}")],
    )


# Engines


def running_and_waiting() -> Timeseries:
    return graph(
        "Running and waiting requests",
        "Requests in each replica's batch and in its queue: a queue that stays means the replica is full.",
        COUNT,
        [
            query(f"sum by (model, replica) (vllm:num_requests_running{ENGINES})", "{{replica}} running"),
            query(f"sum by (model, replica) (vllm:num_requests_waiting{ENGINES})", "{{replica}} waiting"),
        ],
    )


def kv_cache_use() -> Timeseries:
    return (
        graph(
            "KV cache use",
            "Share of each replica's KV cache that running requests fill: at 100 % requests wait or are preempted.",
            RATIO,
            [query(f"max by (model, replica) (vllm:kv_cache_usage_perc{ENGINES})", "{{replica}}")],
        )
        .max(1)
        .thresholds(steps(GREEN, (0.9, YELLOW), (0.98, RED)))
    )


def queue_time() -> Timeseries:
    histogram = "vllm:request_queue_time_seconds"
    mean = f"{rate(f'{histogram}_sum', ENGINES, 'model')} / {rate(f'{histogram}_count', ENGINES, 'model')}"
    # No p50: vLLM's first bucket ends at 0.3 s, and a quantile within it reads 0.15 s for a queue that is empty.
    return graph(
        "Queue time",
        "How long requests wait in the engine; percentiles below 0.3 s, the first bucket, are guesses.",
        SECONDS,
        [
            query(mean, "{{model}} mean"),
            query(quantile(0.95, histogram, "model"), "{{model}} p95"),
            query(quantile(0.99, histogram, "model"), "{{model}} p99"),
        ],
    )


def prefix_hit_rate() -> Timeseries:
    hits = rate("vllm:prefix_cache_hits_total", ENGINES, "model, replica")
    queries = rate("vllm:prefix_cache_queries_total", ENGINES, "model, replica")
    return graph(
        "Prefix cache hit rate",
        "Share of prompt tokens whose KV blocks were found in the cache, so that they needed no prefill.",
        RATIO,
        [query(f"{hits} / {queries}", "{{replica}}")],
        width=12,
    ).max(1)


def preemptions() -> Timeseries:
    return graph(
        "Preemptions",
        "Requests a second that lost their KV cache to others and start again: any at all means too little KV cache.",
        PER_SECOND,
        [query(rate("vllm:num_preemptions_total", ENGINES, "model, replica"), "{{replica}}")],
        width=12,
    )


# Dashboards


def dashboard(name: str, description: str) -> Dashboard:
    """What all dashboards share: variables, links to the others, time range."""
    return (
        Dashboard(f"vllmstack / {name}")
        .uid(f"vllmstack-{name.lower()}")
        .description(description)
        .tags(["vllmstack"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .link(
            DashboardLink("vllmstack")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["vllmstack"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(label_variable("model", 'label_values(up{job="engines"}, model)'))
        .with_variable(label_variable("replica", 'label_values(up{job="engines", model=~"$model"}, replica)'))
    )


def label_variable(name: str, values: str) -> QueryVariable:
    """A choice of one, some or all of a label's values."""
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(values)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def stack() -> Dashboard:
    board = dashboard("Stack", "Are users served, and if not, is it the gateway, the queue or the engines?")
    for top in (replicas_up(), requests_now(), error_ratio(), ttft_now(), tpot_now(), output_tokens_now()):
        board.with_panel(top)
    rows: dict[str, list[Timeseries]] = {
        "What users feel": [ttft(), tpot(), itl(), end_to_end()],
        "Traffic": [requests_by_status(), tokens(), output_tokens_by_replica()],
        "Engines": [running_and_waiting(), kv_cache_use(), queue_time(), prefix_hit_rate(), preemptions()],
    }
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


DASHBOARDS = {"stack.json": stack}


def render(board: DashboardModel) -> str:
    """The committed text: panels are numbered in their order, since the SDK leaves that to Grafana."""
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    return json.dumps(board, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main(output: Path = OUTPUT) -> None:
    for name, make in DASHBOARDS.items():
        (output / name).write_text(render(make().build()))
        sys.stdout.write(f"{output / name}\n")


if __name__ == "__main__":
    main()
