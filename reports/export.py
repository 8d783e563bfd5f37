"""The charts of the report without the report: as files for papers, and in notebooks.

save_charts(rows, Path("charts"))        # each as SVG, PNG and JSON (Vega-Lite), named after what it shows
charts_of(rows)["confusion-of-classes"]  # with its title, fixed colours and width, because no page surrounds it
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from dissectdb.output import save
from dissectdb.reports import theme
from dissectdb.reports.page import content
from dissectdb.reports.parts import Figure
from dissectdb.reports.words import several

LOG = logging.getLogger(__name__)
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs", "Mn")  # categories of Unicode; marks are drawn with their letter
MOST_LETTERS = 1000  # that are looked up in the fonts; a set of concepts in Chinese has a few hundred


def charts_of(rows: Mapping[str, pl.DataFrame]) -> dict[str, alt.TopLevelMixin]:
    """Every chart of the page by name, each with its title, and below it the network and the dataset."""
    parts = content(rows, 0)
    subtitle = parts["title"] if parts["summary"] else ""
    named: dict[str, alt.TopLevelMixin] = {}
    for figure in _figures(parts):
        name, same = figure.name, 1
        while name in named:  # layers or classes whose names differ only in signs that no file name has
            same += 1
            name = f"{figure.name}-{same}"
        named[name] = theme.standalone(figure.chart, figure.title, subtitle)
    return named


def save_charts(rows: Mapping[str, pl.DataFrame], folder: Path) -> list[str]:
    """Write every chart as SVG, PNG (twice the size) and Vega-Lite JSON into a folder; returns their names.

    If no font of this machine has a letter, the PNG shows a box in its place, and a warning says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named, letters = charts_of(rows), set[str]()
    for name, chart in named.items():
        specification = chart.to_json()
        letters |= set(json.dumps(json.loads(specification), ensure_ascii=False))
        save(specification.encode(), folder / f"{name}.json")
        save(vl_convert.vegalite_to_svg(specification).encode(), folder / f"{name}.svg")
        save(vl_convert.vegalite_to_png(specification, scale=2), folder / f"{name}.png")
    if missing := without_font(letters):
        scripts = sorted({unicodedata.name(letter, "UNKNOWN").split()[0].title() for letter in missing})
        LOG.warning(
            "%s: no font of this machine has %s (%s), so the PNG files show boxes; install a font that has them, such "
            "as Noto (Debian: fonts-noto-core, fonts-noto-cjk). The SVG files take the fonts of whoever opens them",
            folder, several([*missing[:8], *(["…"] if len(missing) > 8 else [])]), ", ".join(scripts),
        )  # fmt: skip
    return list(named)


def without_font(letters: Iterable[str]) -> list[str]:
    """The letters that no font of this machine has: they are drawn like one that no font can have."""
    foreign = sorted(
        letter for letter in letters if ord(letter) > 0x24F and unicodedata.category(letter) not in INVISIBLE
    )
    if not foreign:
        return []
    box = _drawn("\U0010fffd")
    return [letter for letter in foreign[:MOST_LETTERS] if _drawn(letter) == box]


def _drawn(letter: str) -> bytes:
    text = f'<text x="5" y="30" font-size="20" font-family="{theme.FAMILIES}">{letter}</text>'
    return vl_convert.svg_to_png(f'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40">{text}</svg>')


def _figures(part: Any) -> Iterator[Figure]:
    """The figures among the variables of the page, wherever they are."""
    if isinstance(part, Figure):
        yield part
    elif isinstance(part, dict | list):
        for value in part.values() if isinstance(part, dict) else part:
            yield from _figures(value)
