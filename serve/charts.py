"""Charts for a page: specifications of Vega-Lite that explorer.js draws, and bars that need no script.

placed([("layers-1", chart, "what it shows")])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dissectdb.reports.theme import CONFIG, MUTED
from dissectdb.reports.words import plain


@dataclass(frozen=True)
class Placed:
    """A chart on a page: the id of its element, its specification, and the sentence for readers who cannot see it."""

    id: str
    specification: dict[str, Any]
    alternative: str


def placed(place: str, chart: Any, alternative: str) -> Placed:
    """A chart of altair for the element with the id `place`."""
    specification = chart.to_dict()
    for key in ("$schema", "config"):  # an address that is never fetched; the page holds one config for all
        specification.pop(key, None)
    return Placed(place, specification, alternative)


def config() -> dict[str, Any]:
    """The look of every chart."""
    return CONFIG


@dataclass(frozen=True)
class Histogram:
    """Bars of one class: its name, and of each of them the left edge and height in per cent of the drawing."""

    name: str
    mean: float
    bars: list[tuple[float, float]]


def histograms(rows: Sequence[dict[str, Any]]) -> tuple[list[Histogram], float, float]:
    """The rows of neuron_bars as drawings, class by class, and the range of the axis.

    Heights are shares of the class's largest bar: classes differ in size, and their shapes are compared.
    """
    if not rows:
        return [], 0.0, 0.0
    lowest, highest = rows[0]["lowest"], rows[0]["highest"]
    width = max(highest - lowest, 1e-30)
    by_class: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        by_class.setdefault(row["class"], []).append(row)
    drawings = []
    for name, bars in by_class.items():
        largest = max(row["images"] for row in bars)
        edges = [
            (round(100 * (row["low"] - lowest) / width, 2), round(100 * row["images"] / largest, 1)) for row in bars
        ]
        drawings.append(Histogram("no class" if name is None else plain(name), bars[0]["class_mean"], edges))
    return drawings, lowest, highest


def chosen(kind: str, x: str, y: str | None, rows: list[dict[str, Any]], is_number: dict[str, bool]) -> dict[str, Any]:
    """A chart of the rows of a query: bars, a line or points of y over x, or a histogram of x."""

    def channel(column: str) -> dict[str, Any]:
        kind = "quantitative" if is_number[column] else "nominal"
        return {"field": column, "type": kind, "title": plain(column), "sort": None}

    # A name with a dot or a bracket would be read as a path into the row.
    names = {column: f"c{place}" for place, column in enumerate(is_number)}
    values = [{names[column]: row[column] for column in names} for row in rows]
    encoding: dict[str, Any] = {"x": channel(x) | {"field": names[x]}}
    if kind == "histogram":
        encoding["x"]["bin"] = {"maxbins": 40}
        encoding["y"] = {"aggregate": "count", "type": "quantitative", "title": "rows"}
    else:
        encoding["y"] = channel(y or x) | {"field": names[y or x]}
    mark = {"bars": "bar", "line": "line", "points": "point", "histogram": "bar"}[kind]
    return {
        "data": {"values": values},
        "mark": {"type": mark, "color": "var(--c1)", "tooltip": True},
        "encoding": encoding,
        "width": "container",
        "height": 280,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": {"axis": {"labelColor": MUTED}},
    }
