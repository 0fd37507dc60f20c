"""Shapes of panels, their units, colours and thresholds."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.builders.heatmap import CellValues, HeatmapColorOptions, HeatmapTooltip, YAxisConfig
from grafana_foundation_sdk.builders.heatmap import Panel as Heatmap
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as Timeline
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DashboardSpecialValueMapOptions,
    DynamicConfigValue,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale

from grafana.source.queries import SOURCE

Panel = Stat | Timeseries | Heatmap | Timeline

SECONDS = "s"
TOKENS = "suffix: tok"
TOKENS_PER_SECOND = "suffix: tok/s"
TOKENS_PER_JOULE = "suffix: tok/J"
REQUESTS_PER_SECOND = "reqps"
RATIO = "percentunit"
COUNT = "short"
TIMES = "suffix:×"
PER_SECOND = "cps"
BYTES = "bytes"
BYTES_PER_SECOND = "Bps"
FLOPS = "flops"
WATTS = "watt"
WATT_HOURS = "watth"
CELSIUS = "celsius"
HERTZ = "hertz"

GREEN, YELLOW, RED, NEUTRAL = "green", "yellow", "red", "text"


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
    return panel.targets(numbered(queries))


def several(panel: Stat) -> Stat:
    """Numbers side by side, without courses: there is no room."""
    return panel.orientation(VizOrientation.AUTO).graph_mode(BigValueGraphMode.NONE)


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
        .override_by_regexp("/ (target|limit)$/", dashed())
    )
    return panel.targets(numbered(queries))


def stacked(panel: Timeseries) -> Timeseries:
    """Parts of a whole, one on top of the other."""
    return panel.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)


def limited(panel: Timeseries, *limits: tuple[float, str], below: str = GREEN) -> Timeseries:
    """With a dashed line for each threshold."""
    dashes = GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    return panel.thresholds(steps(below, *limits)).thresholds_style(dashes)


def heatmap(title: str, description: str, unit: str, histogram: Dataquery, width: int = 8) -> Heatmap:
    """How values are spread over a Prometheus histogram's own buckets; a cell is a rate."""
    return (
        Heatmap()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(PER_SECOND)
        .span(width)
        .height(8)
        .calculate(False)
        .color(
            HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .fill("dark-orange")
            .steps(64)
            .reverse(False)
        )
        .y_axis(YAxisConfig().unit(unit))
        .cell_values(CellValues().unit(PER_SECOND))
        .tooltip(HeatmapTooltip().mode(TooltipDisplayMode.SINGLE).y_histogram(True).show_color_scale(True))
        .targets(numbered([histogram]))
    )


def timeline(
    title: str, description: str, states: Mapping[int, tuple[str, str]], queries: Sequence[Dataquery], width: int = 8
) -> Timeline:
    """One bar for each series; a value's text and colour are in ``states``."""
    results = {
        str(value): ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(states.items())
    }
    return (
        Timeline()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(COUNT)
        .span(width)
        .height(8)
        .mappings([ValueMap(options=results)])
        .merge_values(True)
        .show_value(VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(70)
        .legend(
            VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        )
        .no_value("none")
        .targets(numbered(queries))
    )


def opens(panel: Stat, board: str) -> Stat:
    """With a link to the dashboard that tells more, for the same time and variables."""
    url = f"/d/vllmstack-{board}?${{__url_time_range}}&${{__all_variables}}"
    return panel.links([DashboardLink("What it is made of").type(DashboardLinkType.LINK).url(url)])


def numbered(queries: Sequence[Dataquery]) -> list[Dataquery]:
    """Queries of one panel are A, B, C …"""
    return [one.ref_id(chr(ord("A") + number)) for number, one in enumerate(queries)]


def steps(first: str, *further: tuple[float, str]) -> ThresholdsConfig:
    """Colours: the first from minus infinity, each further one from its value."""
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=None, color=first), *(Threshold(value=value, color=color) for value, color in further)])
    )


def dashed() -> list[DynamicConfigValue]:
    """A limit beside what it limits."""
    return [
        DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
        DynamicConfigValue(id_val="custom.fillOpacity", value=0),
        DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": RED}),
    ]


def no_traffic() -> SpecialValueMap:
    """A ratio or quantile of no requests is NaN."""
    return SpecialValueMap(
        options=DashboardSpecialValueMapOptions(
            match=SpecialValueMatch.NULL_AND_NAN, result=ValueMappingResult(text="no traffic", color=NEUTRAL)
        )
    )
