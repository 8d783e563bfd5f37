"""The look of every page and chart, in one place: colours, fonts, sizes.

BLUE, ORANGE                                   # "var(--c1, #0b62a4)": the page's colour, else this value
styled(chart, height=110)                      # a chart of the page
standalone(chart, "Smile leads in lin1")       # the same for a file or a notebook: fixed colours, its title in it

Colours differ in lightness as well as in hue (after Okabe and Ito), so that they hold for every reader and in grey
print. Charts name them as variables of the page's style sheet, so that they follow light mode, dark mode and print.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any, cast

import altair as alt

# name → in light mode, in dark mode, in print
COLOURS = {
    "paper": ("#ffffff", "#14181e", "#ffffff"),
    "panel": ("#f5f7f9", "#1c222a", "#f5f7f9"),
    "ink": ("#1c2430", "#e6eaef", "#000000"),
    "muted": ("#5b6675", "#a3adba", "#444444"),
    "line": ("#d9dee5", "#333c47", "#cccccc"),
    "faint": ("#a9b3bf", "#5a6573", "#999999"),
    "c1": ("#0b62a4", "#62aef0", "#0b62a4"),
    "c2": ("#b84f06", "#f0a05a", "#b84f06"),
    "c3": ("#57606a", "#b3bcc7", "#57606a"),
    "c4": ("#00795c", "#3fc6a0", "#00795c"),
}


def colour(name: str) -> str:
    """A colour of the page, with its value in light mode for places without a page."""
    return f"var(--{name}, {COLOURS[name][0]})"


PAPER, INK, MUTED, LINES, FAINT = map(colour, ("paper", "ink", "muted", "line", "faint"))
BLUE, ORANGE, GREY, GREEN = map(colour, ("c1", "c2", "c3", "c4"))

# The last families cover the scripts that the first ones lack, as far as they are installed.
FAMILIES = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', 'Noto Sans', "
    "'Noto Sans CJK SC', 'Noto Sans Arabic', 'Noto Sans Hebrew', 'Noto Sans Devanagari', 'Noto Sans Thai', "
    "'DejaVu Sans', sans-serif"
)
TEXT, SMALL = 12, 11  # pixels
WIDTH = 480  # pixels of a chart without a page
TITLE, TITLE_LETTERS = 14, 62  # pixels; letters of a line of a title at WIDTH

CONFIG: dict[str, Any] = {
    "aria": False,  # the element that holds a chart describes it in words
    "background": "transparent",
    "font": FAMILIES,
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "gridColor": LINES,
        "domainColor": LINES,
        "tickColor": LINES,
        "labelFontSize": TEXT,
        "titleFontSize": TEXT,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "axisX": {"grid": True},
    "legend": {"labelColor": INK, "labelFontSize": TEXT, "symbolSize": 70},
}
_VARIABLE = re.compile(r"var\(--[a-z0-9]+, (#[0-9a-f]{6})\)")


def style_sheet() -> str:
    """The colours as variables of a style sheet: light, dark and print."""
    light, dark, print_ = (
        "; ".join(f"--{name}: {values[mode]}" for name, values in COLOURS.items()) for mode in range(3)
    )
    return (
        f":root {{ color-scheme: light dark; --font: {FAMILIES}; {light}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark}; }} }}\n"
        f"@media print {{ :root {{ {print_}; }} }}\n"
    )


def styled(chart: alt.LayerChart | alt.FacetChart, height: int, top: int = 4) -> alt.LayerChart:
    """The chart as wide as the element that holds it, with the page's font and colours and no background."""
    finished = chart.properties(
        width="container",
        height=height,
        autosize={"type": "fit-x", "contains": "padding"},
        padding={"left": 2, "top": top, "right": 14, "bottom": 4},  # the last label of an axis reaches beyond it
        config=CONFIG,
    )
    return cast("alt.LayerChart", finished)


def standalone(chart: alt.TopLevelMixin, title: str, subtitle: str = "", width: int = WIDTH) -> alt.TopLevelMixin:
    """A copy of a chart with its title, the colours of light mode, a margin and a fixed width in pixels."""
    specification = json.loads(_VARIABLE.sub(r"\1", json.dumps(chart.to_dict())))
    top = specification.get("padding", {}).get("top", 0)
    specification |= {
        "width": width,
        "background": COLOURS["paper"][0],
        "padding": {"left": 12, "top": 12, "right": 20, "bottom": 12},
        "title": {
            "text": textwrap.wrap(title, TITLE_LETTERS * width // WIDTH),
            "subtitle": textwrap.wrap(subtitle, TITLE_LETTERS * width // WIDTH) if subtitle else [],
            "anchor": "start",
            "frame": "bounds",
            "fontSize": TITLE,
            "subtitleFontSize": SMALL,
            "subtitleColor": COLOURS["muted"][0],
            "offset": 10 + top,
        },
    }
    return alt.Chart.from_dict(specification)
