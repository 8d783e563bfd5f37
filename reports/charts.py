"""The charts: frames in, Altair charts out.

layer_depth(layers, RULES)     # one line per measure, over the layers from the image to the output
concept_bars(concepts)         # one bar per concept, longest first

Colours, fonts and sizes are those of theme.py. Text of users is only ever data, never a field name or an expression, so
an axis is sorted by a number beside the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import altair as alt
import polars as pl

from dissectdb.reports.theme import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SMALL,
    styled,
)
from dissectdb.reports.words import count, number, plain, share

ABOVE: dict[str, Any] = {  # the title of an axis of names stands above the names, where it takes no width
    "titleAngle": 0, "titleAlign": "right", "titleAnchor": "end", "titleX": -6, "titleY": -6, "titleBaseline": "bottom",
}  # fmt: skip
NAMED = 20  # pixels above a chart with such a title
Measures = dict[str, tuple[str, str, list[int], str]]
# column → name, colour, dashes and shape: three ways to tell the lines apart
RULES: Measures = {
    "share_calibrated": ("calibrated", BLUE, [1, 0], "circle"),
    "share_above_tau": ("above τ", ORANGE, [2, 3], "diamond"),
}
ACCURACIES: Measures = {
    "interpretable_accuracy": ("interpretable", GREEN, [1, 0], "triangle-up"),
    "overall_accuracy": ("all", GREY, [6, 3], "square"),
    "uninterpretable_accuracy": ("others", ORANGE, [2, 3], "diamond"),
}


def layer_depth(layers: pl.DataFrame, measures: Measures, of: str = "share") -> alt.LayerChart:
    """Shares over the depth of the network: what the two rules accept, or how often labels are right.

    of: what the shares are of, as the title of the y axis.
    """
    base, by_measure = shares_by_layer(layers, measures, of)
    base = base.encode(color=by_measure(alt.Color, 1))
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=by_measure(alt.StrokeDash, 2))
    marks = base.mark_point(size=52, filled=True, opacity=1).encode(shape=by_measure(alt.Shape, 3))
    return styled(alt.layer(lines, marks), height=230)


def shares_by_layer(
    layers: pl.DataFrame, measures: Mapping[str, tuple[Any, ...]], of: str
) -> tuple[alt.Chart, Callable[[Any, int], Any]]:
    """A chart of shares over the layers without marks, and a function that makes a channel per measure.

    measures: column → its name, then how it is drawn. of: what the shares are of.
    by_measure(alt.Color, 1) takes the colour from position 1.
    """
    names = pl.DataFrame({"measure": list(measures), "name": [measure[0] for measure in measures.values()]})
    points = (
        _in_order(layers)
        .unpivot(on=list(measures), index=["layer", "order"], variable_name="measure", value_name="share")
        .filter(pl.col("share").is_not_null())
        .join(names, on="measure", how="left", maintain_order="left")
    )
    drawn = [measure for column, measure in measures.items() if column in points["measure"]]
    legend = alt.Legend(title=None, orient="top", columns=3, labelLimit=240, symbolStrokeWidth=0)
    base = alt.Chart(points).encode(
        x=alt.X("layer:N", sort=alt.EncodingSortField("order", op="min"))
        .title("layer, from the image to the output")
        .axis(labelAngle=-40, labelLimit=90, labelOverlap="greedy"),
        y=alt.Y("share:Q").title(of).axis(format=".0%").scale(domain=[0, 1]),
        tooltip=[
            alt.Tooltip("layer:N"),
            alt.Tooltip("name:N", title="measure"),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )

    def by_measure(channel: Any, position: int) -> Any:
        scale = {"domain": [measure[0] for measure in drawn], "range": [measure[position] for measure in drawn]}
        return channel("name:N", legend=legend).scale(**scale)

    return base, by_measure


def concept_bars(concepts: pl.DataFrame) -> alt.LayerChart:
    """How many right neurons carry each concept: columns concept, neurons, share."""
    labels = [f"{share(part)}  ·  {count(neurons)}" for part, neurons in concepts.select("share", "neurons").rows()]
    rows = _in_order(concepts).with_columns(label=pl.Series(labels, dtype=pl.String))
    is_long = pl.col("share") >= 0.6 * max(
        rows["share"]
    )  # its text is inside the bar, because a phone has no space beside it
    base = alt.Chart().encode(
        y=_names_in_order("concept", 165),
        x=alt.X("share:Q")
        .title("share of the right neurons")
        .axis(format=".0%", tickCount=5)
        .scale(domain=[0, 1.2 * max(rows["share"])], nice=False),
        tooltip=[
            alt.Tooltip("concept:N"),
            alt.Tooltip("neurons:Q", format=","),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    bars = base.mark_bar(color=BLUE, cornerRadiusEnd=2, height={"band": 0.72})
    beside = base.mark_text(align="left", dx=5, color=INK, fontSize=SMALL).encode(text="label:N")
    inside = base.mark_text(align="right", dx=-6, color=PAPER, fontSize=SMALL).encode(text="label:N")
    layers = [bars, beside.transform_filter("!datum.is_long"), inside.transform_filter("datum.is_long")]
    return styled(alt.layer(*layers, data=rows.with_columns(is_long=is_long)), height=21 * len(rows), top=NAMED)


def class_concepts(concepts: pl.DataFrame, highest: float) -> alt.LayerChart:
    """Behind one class's correct predictions: columns concept, images, share, low, high; x ends at `highest`."""
    base = alt.Chart(_in_order(concepts)).encode(
        y=_names_in_order("concept", 150, extent=150),  # as wide in every class, so that the dots compare
        tooltip=[
            alt.Tooltip("concept:N"),
            alt.Tooltip("images:Q", format=","),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("low:Q", format=".1%"),
            alt.Tooltip("high:Q", format=".1%"),
            alt.Tooltip("lift:Q", format=".2f"),
        ],
    )
    axis = (
        alt.X("low:Q")
        .title("share of its right images")
        .axis(format=".0%", tickCount=3)
        .scale(domain=[0, 1.04 * highest], nice=False)
    )
    intervals = base.mark_rule(color=BLUE, strokeWidth=3, opacity=0.4).encode(x=axis, x2="high:Q")
    dots = base.mark_circle(color=BLUE, size=55, opacity=1).encode(x=alt.X("share:Q"))
    return styled(intervals + dots, height=20 * len(concepts), top=NAMED)


def similarity_histogram(bars: pl.DataFrame, tau: float, lowest: float, highest: float) -> alt.LayerChart:
    """A histogram of the similarity of one layer's labels, with τ as a line: columns low, high, neurons."""
    span = highest - lowest
    is_near = lowest - span <= tau <= highest + span  # a τ far away would leave no space for the bars
    ends = [min(lowest, tau), max(highest, tau)] if is_near else [lowest, highest]
    colour = alt.condition("datum.above", alt.value(BLUE), alt.value(FAINT))
    x = alt.X("low:Q", bin="binned").title("score of the label").axis(tickCount=5).scale(domain=ends, nice=False)
    y = alt.Y("neurons:Q").title("neurons").axis(tickCount=3, format="~s", tickMinStep=1)
    counts = (
        alt.Chart(_rounded(bars.with_columns(above=pl.col("low") >= tau)))
        .mark_bar(binSpacing=1)
        .encode(
            x=x,
            x2="high:Q",
            y=y.scale(domain=[0, 1.25 * max(bars["neurons"])], nice=False),  # space for the name τ
            color=colour,
            tooltip=[
                alt.Tooltip("low:Q", title="similarity from", format=".3g"),
                alt.Tooltip("high:Q", title="to", format=".3g"),
                alt.Tooltip("neurons:Q", format=","),
            ],
        )
    )
    return styled(alt.layer(counts, *_threshold(tau, ends, is_near)), height=110)


def _threshold(tau: float, ends: list[float], is_near: bool) -> list[alt.Chart]:
    """τ as a line with its name. If τ is far outside, only its name, at the end of the axis where it lies."""
    is_right = tau > ends[0] + 0.7 * (ends[1] - ends[0])
    text = f"τ = {number(tau)}"
    if not is_near:
        text = f"{text} →" if is_right else f"← {text}"
    base = alt.Chart(pl.DataFrame({"tau": [min(max(tau, ends[0]), ends[1])], "text": [text]})).encode(x="tau:Q")
    align: Literal["right", "left"] = "right" if is_right else "left"
    shift = -5 if is_right else 5
    label = base.mark_text(align=align, dx=shift, color=ORANGE, baseline="top").encode(y=alt.value(2), text="text:N")
    return [base.mark_rule(color=ORANGE, strokeWidth=2), label] if is_near else [label]


def edit_differences(results: pl.DataFrame, of: str) -> alt.LayerChart:
    """The change by each edit, per split, with zero as a line: columns row, difference, low, high.

    of: what a row is of, as the title of the y axis.
    """
    # If a run was stopped, its intervals are missing: low and high are NULL.
    widest = 1.15 * max(results.select(pl.max_horizontal(pl.col("difference", "low", "high").abs())).to_series())
    base = alt.Chart(_in_order(results)).encode(
        y=_names_in_order("row", 190, title=of),
        tooltip=[
            alt.Tooltip("row:N", title=of),
            alt.Tooltip("difference:Q", format="+.2%"),
            alt.Tooltip("low:Q", format="+.2%"),
            alt.Tooltip("high:Q", format="+.2%"),
        ],
    )
    axis = (
        alt.X("low:Q")
        .title("difference of the share of right predictions, after − before")
        .axis(labelExpr="datum.value === 0 ? '0' : format(datum.value, '+.2~%')", tickCount=5)
        .scale(domain=[-(widest or 0.01), widest or 0.01], nice=False)
    )
    intervals = base.mark_rule(color=BLUE, strokeWidth=3, opacity=0.4).encode(x=axis, x2="high:Q")
    dots = base.mark_circle(color=BLUE, size=70, opacity=1).encode(x=alt.X("difference:Q"))
    zero = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=ORANGE, strokeWidth=2).encode(x="zero:Q")
    return styled(alt.layer(zero, intervals, dots), height=30 * len(results) + 10, top=NAMED)


def heat_map(
    cells: pl.DataFrame,
    *,
    x: str,
    y: str,
    value: str,
    read: Callable[[Any], str],
    outlined: str | None = None,
    columns: Sequence[str] = (),
) -> alt.LayerChart:
    """A heat map, darker the further a value is from 0, and orange below 0; `read` writes the values.

    Cells come in the order of the rows. Names on both axes come in the same order on both, so that a confusion matrix
    has its diagonal. outlined: a column of booleans, true for cells with a frame. columns: the names on the x axis in
    order, if it differs from the order of the rows.
    """
    largest = max(1e-12, *cells[value].abs().to_list())
    rows = cells.select(
        pl.col(x).map_elements(plain, return_dtype=pl.String).alias("x"),
        pl.col(y).map_elements(plain, return_dtype=pl.String).alias("y"),
        pl.col(value).map_elements(read, return_dtype=pl.String).alias("text"),
        pl.col(value).alias("value"),
        (pl.col(value).abs() / largest).alias("strength"),
        (pl.col(outlined) if outlined else pl.lit(False)).alias("outlined"),
    ).with_row_index("order")
    down, across = rows["y"].n_unique(), rows["x"].n_unique()
    in_order = alt.EncodingSortField("order", op="min")
    lines, across_names = (rows[axis].unique(maintain_order=True).to_list() for axis in ("y", "x"))
    shared = [name for name in lines if name in across_names]
    both = [*shared, *(name for name in across_names if name not in shared)] if shared else in_order
    if columns:
        both = [plain(column) for column in columns]
    axis: dict[str, Any] = {"labelLimit": 170, "ticks": False, "domain": False, "grid": False}
    base = alt.Chart(rows).encode(
        x=alt.X("x:N", sort=both).title(words(x)).axis(labelAngle=-40 if across > 4 else 0, **axis),
        y=alt.Y("y:N", sort=in_order).title(words(y)).axis(**axis),
        tooltip=[
            alt.Tooltip("y:N", title=words(y)),
            alt.Tooltip("x:N", title=words(x)),
            alt.Tooltip("value:Q", title=words(value), format=",.4~g"),
        ],
    )
    frame = alt.condition("datum.outlined", alt.value(INK), alt.value("transparent"))
    boxes = base.mark_rect(strokeWidth=2.5, cornerRadius=2).encode(
        color=alt.condition("datum.value < 0", alt.value(ORANGE), alt.value(BLUE)),
        fillOpacity=alt.Opacity("strength:Q", legend=None).scale(domain=[0, 1], range=[0.03, 0.6]),
        stroke=frame,
    )
    texts = base.mark_text(color=INK, fontSize=11 if across <= 10 else 9).encode(text="text:N")
    return styled(alt.layer(boxes, texts), height=max(26 * down, 60))


def words(column: str) -> str:
    """The name of a column as a title."""
    return column.replace("_", " ")


def controls(draws: pl.DataFrame, edit: int) -> alt.LayerChart:
    """The controls of one edit as dots, and the edit as a line: columns control, difference, draws."""
    differences = draws["difference"].to_list()
    ends = [min(0, edit, *differences), max(0, edit, *differences)]
    margin = 0.06 * max(1, ends[1] - ends[0])
    signs = "datum.value === 0 ? '0' : format(datum.value, '+,d')"
    x = alt.X("difference:Q").title("change of right images").axis(values=whole_ticks(*ends), labelExpr=signs)
    base = alt.Chart(_in_order(draws.select("control", "difference", "draws"))).encode(
        y=_names_in_order("control", 90),
        x=x.scale(domain=[ends[0] - margin, ends[1] + margin], nice=False),
        tooltip=[
            alt.Tooltip("control:N"),
            alt.Tooltip("difference:Q", title="change of right images", format="+,d"),
            alt.Tooltip("draws:Q", format=","),
        ],
    )
    dots = base.mark_circle(color=BLUE, opacity=0.45).encode(
        size=alt.Size("draws:Q", legend=None).scale(range=[14, 160])
    )
    place = alt.Chart(pl.DataFrame({"edit": [edit], "text": ["the edit"]})).encode(x="edit:Q")
    is_right = edit > ends[0] + 0.7 * (ends[1] - ends[0])
    word = place.mark_text(
        align="right" if is_right else "left", dx=-5 if is_right else 5, color=ORANGE, baseline="bottom"
    ).encode(y=alt.value(-2), text="text:N")
    rule = place.mark_rule(color=ORANGE, strokeWidth=2)
    return styled(alt.layer(dots, rule, word), height=30 * draws["control"].n_unique(), top=NAMED)


def whole_ticks(low: int, high: int, most: int = 6) -> list[int]:
    """Whole numbers from low to high in equal steps of 1, 2 or 5 times a power of ten; about `most` of them."""
    steps = (factor * 10**power for power in range(12) for factor in (1, 2, 5))
    step = next(step for step in steps if (high - low) // step <= most)
    return list(range(-(-low // step) * step, high + 1, step))


def calibration(bars: pl.DataFrame, limits: pl.DataFrame) -> alt.LayerChart:
    """The z of a layer's labels as bars, with what chance alone gives and the null's quantiles as lines.

    bars: low, high, neurons, expected; limits: z, name.
    """
    x = alt.X("low:Q", bin="binned").title("z of the label").axis(tickCount=5, format="~s")
    y = alt.Y("neurons:Q").title("neurons").axis(tickCount=3, format="~s", tickMinStep=1)
    highest = 1.25 * max(1, *bars["neurons"].to_list(), *bars["expected"].to_list())
    rounded = _rounded(bars).with_columns(middle=(pl.col("low") + pl.col("high")) / 2)
    base = alt.Chart(rounded).encode(
        tooltip=[
            alt.Tooltip("low:Q", title="z from", format=".3g"),
            alt.Tooltip("high:Q", title="to", format=".3g"),
            alt.Tooltip("neurons:Q", format=","),
            alt.Tooltip("expected:Q", title="by chance", format=",.3~g"),
        ]
    )
    counts = base.mark_bar(binSpacing=1, color=BLUE).encode(
        x=x, x2="high:Q", y=y.scale(domain=[0, highest], nice=False)
    )
    chance = base.mark_line(color=ORANGE, strokeWidth=2, interpolate="step").encode(x="middle:Q", y="expected:Q")
    marks = alt.Chart(limits.with_row_index("place")).encode(
        x="z:Q"
    )  # names below one another, because the lines may be close
    rules = marks.mark_rule(color=MUTED, strokeDash=[3, 3])
    names = marks.mark_text(align="left", dx=3, color=MUTED, baseline="top", fontSize=10).encode(
        y=alt.Y("place:Q", scale=alt.Scale(domain=[0, 9], reverse=True), axis=None), text="name:N"
    )
    return styled(alt.layer(alt.layer(counts, chance, rules), names).resolve_scale(y="independent"), height=110)


def _names_in_order(field: str, limit: int, extent: int = 0, title: str = "") -> alt.Y:
    """A y axis of names in the order of the rows. limit, extent: the most and the least width in pixels."""
    axis = alt.Axis(labelLimit=limit, minExtent=extent, ticks=False, domain=False, labelPadding=6, **ABOVE)
    return alt.Y(f"{field}:N", sort=alt.EncodingSortField("order", op="min"), axis=axis).title(title or field)


def _rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with numbers in six digits: a third of the bytes, and no visible difference."""
    return frame.with_columns(pl.col(pl.Float64).round_sig_figs(6))


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with their number, and text without characters that reverse the text around it."""
    texts = pl.col(pl.String).map_elements(plain, return_dtype=pl.String)
    return frame.with_columns(texts).with_row_index("order")
