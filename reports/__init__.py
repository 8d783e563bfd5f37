"""Rows in, HTML out; knows no database.

In a notebook, each chart of the report for an open warehouse, or for anything with a method rows(query):

with Warehouse("warehouse.duckdb", read_only=True) as warehouse:
    reports.layer_chart(warehouse)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt


def layer_chart(warehouse: Any) -> alt.TopLevelMixin:
    """The share of interpretable neurons by both rules, over the layers."""
    return _chart(warehouse, "layers-1")


def accuracy_chart(warehouse: Any) -> alt.TopLevelMixin:
    """How often labels are right, over the layers."""
    return _chart(warehouse, "layers-2")


def concept_chart(warehouse: Any) -> alt.TopLevelMixin:
    """How many right neurons carry each concept."""
    return _chart(warehouse, "by-neuron")


def concept_matrix_chart(warehouse: Any) -> alt.TopLevelMixin:
    """Concepts behind correct predictions, by class."""
    return _chart(warehouse, "concept-matrix")


def confusion_chart(warehouse: Any) -> alt.TopLevelMixin:
    """The confusion matrix of the network on the probing set."""
    return _chart(warehouse, "confusion")


def edit_chart(warehouse: Any) -> alt.TopLevelMixin:
    """What each edit changed, with intervals."""
    return _chart(warehouse, "edits")


def sweep_chart(warehouse: Any) -> alt.TopLevelMixin:
    """The sweep as a heat map, the chosen edit framed."""
    return _chart(warehouse, "edited-sweep")


def charts_of(warehouse: Any) -> dict[str, alt.TopLevelMixin]:
    """Every chart of the report, by name."""
    from dissectdb.reports import export, page

    return {name: export.finished(figure.chart) for name, figure in export.figures(page.ask(warehouse.rows)).items()}


def _chart(warehouse: Any, name: str) -> alt.TopLevelMixin:
    """One chart. Raises ValueError where the warehouse has nothing to draw in it."""
    found = charts_of(warehouse)
    if name not in found:
        raise ValueError(f"this warehouse has nothing for the chart {name}; it has {', '.join(found) or 'none'}")
    return found[name]
