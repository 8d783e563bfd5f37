"""Reports: rows in, HTML out, without access to a database.

In a notebook, each chart of the report from an open warehouse, or from anything with its method rows:

with Warehouse("warehouse.duckdb", read_only=True) as warehouse:
    reports.layer_chart(warehouse)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import altair as alt

    from dissectdb.reports.questions import Store


def layer_chart(warehouse: Store) -> alt.TopLevelMixin:
    """The share of interpretable neurons by both rules, over the layers."""
    return _chart(warehouse, "believed-labels-by-layer")


def accuracy_chart(warehouse: Store) -> alt.TopLevelMixin:
    """How often labels are right, over the layers."""
    return _chart(warehouse, "right-labels-by-layer")


def concept_chart(warehouse: Store) -> alt.TopLevelMixin:
    """How many right neurons carry each concept."""
    return _chart(warehouse, "concepts-of-right-neurons")


def concept_matrix_chart(warehouse: Store) -> alt.TopLevelMixin:
    """Concepts behind correct predictions, by class."""
    return _chart(warehouse, "concepts-by-class")


def confusion_chart(warehouse: Store) -> alt.TopLevelMixin:
    """The confusion matrix of the network on the probing set."""
    return _chart(warehouse, "confusion-of-classes")


def edit_chart(warehouse: Store) -> alt.TopLevelMixin:
    """The change of accuracy by each edit, with intervals."""
    return _chart(warehouse, "edits")


def sweep_chart(warehouse: Store) -> alt.TopLevelMixin:
    """The sweep over τ and factor as a heat map, with a frame around the chosen edit."""
    return _chart(warehouse, "edits-by-tau-and-factor")


def charts_of(warehouse: Store) -> dict[str, alt.TopLevelMixin]:
    """Every chart of the report, by name."""
    from dissectdb.reports import export, page

    return export.charts_of(page.ask(warehouse.rows))


def _chart(warehouse: Store, name: str) -> alt.TopLevelMixin:
    """One chart. Raises ValueError if the warehouse holds nothing to draw in it."""
    charts = charts_of(warehouse)
    if name not in charts:
        raise ValueError(f"this warehouse has no data for the chart {name}; it has {', '.join(charts) or 'none'}")
    return charts[name]
