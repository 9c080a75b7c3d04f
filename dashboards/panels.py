"""The few kinds of panel the dashboard is made of, each with the house's conventions built in."""

from grafana_foundation_sdk.builders import dashboard, nodegraph, prometheus, stat, table, text, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24


def over_time(expr: str, legend: str, ref: str = "A", *, exemplars: bool = False) -> prometheus.Dataquery:
    """A range query; `legend` names each series."""
    query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref).range().datasource(SOURCE)
    return query.exemplar(True) if exemplars else query


def right_now(expr: str, ref: str = "A") -> prometheus.Dataquery:
    """An instant query, one row per series."""
    query = prometheus.Dataquery().expr(expr).legend_format("__auto").ref_id(ref)
    return query.instant().format(PromQueryFormat.TABLE).datasource(SOURCE)


def lines(
    number: int, title: str, description: str, unit: str, *queries: prometheus.Dataquery, width: int = 12
) -> timeseries.Panel:
    """Lines over time, with a legend that sorts and a tooltip over all series."""
    panel = (
        timeseries.Panel()
        .id(number)
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .datasource(SOURCE)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(10)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    for query in queries:
        panel.with_target(query)
    return panel


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    """The same lines on top of one another."""
    return panel.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)


def figure(
    number: int, title: str, description: str, unit: str, expr: str, *, alarming_from: float | None = None
) -> stat.Panel:
    """One number; red from `alarming_from` on."""
    steps = [Threshold(value=None, color="green" if alarming_from is not None else "text")]
    if alarming_from is not None:
        steps.append(Threshold(value=alarming_from, color="red"))
    return (
        stat.Panel()
        .id(number)
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(4)
        .height(4)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(over_time(expr, title))
    )


def rows(
    number: int,
    title: str,
    description: str,
    unit: str,
    expr: str,
    columns: dict[str, str],
    link: dashboard.DashboardLink | None = None,
) -> table.Panel:
    """A table of series right now; `columns` gives each shown label its heading, in order."""
    panel = (
        table.Panel()
        .id(number)
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(COLUMNS)
        .height(9)
        .with_target(right_now(expr))
        .with_transformation(_organised(columns))
    )
    return panel.data_links([link]) if link is not None else panel


def graph(number: int, title: str, description: str, unit: str, edges: str) -> nodegraph.Panel:
    """Services and what goes between them; `edges` gives labels id, source and target."""
    return (
        nodegraph.Panel()
        .id(number)
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .span(COLUMNS)
        .height(14)
        .with_target(right_now(edges, "edges"))
        .with_transformation(
            _organised({"id": "id", "source": "source", "target": "target", "Value": "mainstat"})
        )
    )


def prose(number: int, title: str, description: str, markdown: str) -> text.Panel:
    """A text to read."""
    return (
        text.Panel()
        .id(number)
        .title(title)
        .description(description)
        .span(COLUMNS)
        .height(20)
        .mode(TextMode.MARKDOWN)
        .content(markdown)
    )


def _organised(columns: dict[str, str]) -> DataTransformerConfig:
    return DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True},
            "indexByName": {name: place for place, name in enumerate(columns)},
            "renameByName": columns,
        },
    )
