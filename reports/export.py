"""The charts of the report without the report: as files for papers, and in notebooks.

save_charts(rows, Path("charts"))        # each as SVG, PNG and JSON (Vega-Lite)
finished(chart)                          # with fixed colours and width, because no page surrounds it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from dissectdb.output import save
from dissectdb.reports.page import content
from dissectdb.reports.parts import Figure

WIDTH = 480  # pixels
PAPER = "#ffffff"
_COLOUR = re.compile(r"var\(--[a-z0-9]+, (#[0-9a-f]{6})\)")


def finished(chart: alt.TopLevelMixin, width: int = WIDTH) -> alt.TopLevelMixin:
    """A copy of a chart with the colours of light mode and a fixed width in pixels."""
    specification = json.loads(_COLOUR.sub(r"\1", json.dumps(chart.to_dict())))
    specification |= {"width": width, "background": PAPER}
    return alt.Chart.from_dict(specification)


def figures(rows: Mapping[str, pl.DataFrame]) -> dict[str, Figure]:
    """Every chart of the page by name: its section, and its number there; layers-1, confusion, edited-sweep."""
    return dict(_figures(content(rows), ()))


def save_charts(rows: Mapping[str, pl.DataFrame], folder: Path) -> list[str]:
    """Write every chart as SVG, PNG (twice the size) and Vega-Lite JSON into a folder; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    named = figures(rows)
    for name, figure in named.items():
        specification = finished(figure.chart).to_json()
        save(specification.encode(), folder / f"{name}.json")
        save(vl_convert.vegalite_to_svg(specification).encode(), folder / f"{name}.svg")
        save(vl_convert.vegalite_to_png(specification, scale=2), folder / f"{name}.png")
    return list(named)


def _figures(part: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Figure]]:
    if isinstance(part, Figure):
        yield "-".join(path), part
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from _figures(value, path if key in ("figure", "figures") else (*path, str(key).replace("_", "-")))
    elif isinstance(part, list):
        for number, value in enumerate(part, start=1):
            yield from _figures(value, (*path, str(number)))
