"""What all dashboards share: variables, links to the others, marks of alerts and changes, the order of rows."""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.source.queries import FIRING, SOURCE
from grafana.source.shapes import Panel, Stat


def dashboard(
    name: str,
    question: str,
    top: Sequence[Stat],
    rows: Mapping[str, Sequence[Panel]],
    *,
    variables: Sequence[QueryVariable] = (),
) -> Dashboard:
    """Numbers that answer the question, and below them, under headings, what they come from."""
    board = (
        Dashboard(f"vllmstack / {name}")
        .uid(f"vllmstack-{name.lower().replace(' ', '-')}")
        .description(question)
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
        .annotation(alerts())
        .annotation(changes())
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(label_variable("model", 'label_values(up{job="engines"}, model)'))
        .with_variable(label_variable("replica", 'label_values(up{job="engines", model=~"$model"}, replica)'))
    )
    for variable in variables:
        board.with_variable(variable)
    for number in top:
        board.with_panel(number)
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


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
        .all_value(".+")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def alerts() -> AnnotationQuery:
    """Where an alert fires; from its first to its last moment."""
    return (
        annotation("Alerts", f"ALERTS{FIRING}", color="red")
        .title_format("{{alertname}}")
        .text_format("{{model}} {{replica}}")
        .tag_keys("severity")
    )


def changes() -> AnnotationQuery:
    """`up`, `apply` and `restart`. The sample's value is their time: in seconds, and Grafana's are milliseconds."""
    return (
        annotation("Changes", '1000 * vllmstack_change_timestamp_seconds{job="containers"}', color="blue")
        .title_format("vllmstack {{verb}}")
        .tag_keys("verb")
        .use_value_for_time(True)
    )


def annotation(name: str, expression: str, *, color: str) -> AnnotationQuery:
    """Marks on all graphs of a dashboard."""
    target = Dataquery().ref_id("Anno").expr(expression).legend_format(name).range().datasource(SOURCE)
    return AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(color).target(target)
