"""The page of judged labels: how well each method's labels describe the neurons of each layer, beside the others.

write(ask(warehouse.rows), Path("judge.html"))
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from dissectdb.output import save
from dissectdb.reports import charts, page, theme
from dissectdb.reports.judge_sentences import Standing, by_clip, compared, fit, lacks_class
from dissectdb.reports.parts import Column, Figure, Row, table, whole
from dissectdb.reports.questions import Ask, load
from dissectdb.reports.words import count, cut, number, plain, share, slug

QUESTIONS = load("judge")
WHICH: list[Column] = [("method", "Labels", whole), ("by", "Truth", whole)]
MEASURES: list[Column] = [
    ("neurons", "Neurons", count),
    ("measured", "Measured", count),
    ("pearson", "Pearson", number),
    ("pearson_interval", "95 %", whole),
    ("random_pearson", "random", number),
    ("shuffled_pearson", "shuffled", number),
    ("ap_corrected", "AP, corrected", number),
    ("auc", "AUC", number),
    ("share_believed", "q ≤ 0.05", share),
    ("random_believed", "of random", share),
]
MORE: list[Column] = [
    ("labels", "Different labels", count),
    ("most_sharing", "Share one", count),
    ("f1", "F1", number),
    ("iou", "IoU", number),
    ("names_output", "Name the output", share),
    ("output_similarity", "Like its name", number),
]
OWN = "none"  # the control of a method's own labels
SHOWN = 60  # rows of a table of differences
REFERENCES = {"clip": "by CLIP", "class": "by class", "output": "by name"}


def ask(answer: Ask, methods: Collection[str] = ()) -> dict[str, pl.DataFrame]:
    """The rows that the page needs, of these methods and of the study's own labels. methods: if empty, all."""
    rows = {name: question.ask(answer) for name, question in QUESTIONS.items()}
    if not methods:
        return rows
    summary = rows["summary"].filter(pl.col("of_study") | pl.col("method").is_in(list(methods)))
    shown = summary["method"].implode()
    of_shown = pl.col("method").is_in(shown) & pl.col("other_method").is_in(shown)
    return {"summary": summary} | {name: rows[name].filter(of_shown) for name in ("differences", "pairs")}


def write(rows: Mapping[str, pl.DataFrame], path: Path, *, generated_at: datetime | None = None) -> None:
    """Write the page to a file, whole or not at all. generated_at: by default now."""
    save(render(rows, generated_at=generated_at or datetime.now()).encode(), path)


def render(rows: Mapping[str, pl.DataFrame], *, generated_at: datetime | None = None) -> str:
    """The page as HTML. rows: the answers to QUESTIONS."""
    texts = {name: question.sql for name, question in QUESTIONS.items()}
    parts = content(rows)
    judge = parts["judge"]
    title = f"Labels judged on {plain(judge['network'])} and {plain(judge['dataset'])}" if judge else "Labels judged"
    return page.lay_out("judge.html.jinja", parts, rows, texts, title=title, generated_at=generated_at)


def content(rows: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """The variables of the template."""
    summary, differences, pairs = (rows[name].to_dicts() for name in ("summary", "differences", "pairs"))
    keys = list(dict.fromkeys(map(_place, summary)))
    return {
        "judge": summary[0] if summary else None,
        "methods": len({row["method"] for row in summary}),
        "chosen_here": any(row["chosen_here"] for row in summary),
        "layers": [
            _layer(*([row for row in rows if _place(row) == key] for rows in (summary, differences, pairs)))
            for key in keys
        ],
    }


def _place(row: Row) -> tuple[str, str, str]:
    """Where labels are judged: what a section of the page is about."""
    return row["layer"], row["dataset"], row["split"]


def labelled(method: str, control: str) -> str:
    """The name of a method, or of its control."""
    return method if control == OWN else f"{method} ({control})"


def _layer(summary: list[Row], differences: list[Row], pairs: list[Row]) -> dict[str, Any]:
    named = [
        {
            **row,
            "by": REFERENCES[row["reference"]],
            "pearson_interval": _interval(row["pearson_low"], row["pearson_high"]),
        }
        for row in summary
    ]
    drawn = by_clip(named)

    def known(columns: list[Column]) -> Any:
        return table(named, WHICH + [column for column in columns if any(row[column[0]] is not None for row in named)])

    return {
        "name": summary[0]["layer"],
        "dataset": summary[0]["dataset"],
        "split": summary[0]["split"],
        "measures": known(MEASURES),
        "more": known(MORE),
        "within_classes": summary[0]["within_classes"],
        "lacks_class": lacks_class(summary),
        "figure": _figure(summary[0]["layer"], drawn, compared(drawn, pairs)) if drawn else None,
        "differences": _differences(differences),
        "shown": SHOWN,
        "all": len(differences),
    }


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{number(low)} to {number(high)}"


def _differences(records: list[Row]) -> Any:
    columns: list[Column] = [
        ("name", "Labels", whole),
        ("other", "better than", whole),
        ("by", "Truth", whole),
        ("measure", "Measure", whole),
        ("neurons", "Neurons of both", count),
        ("difference", "Difference", number),
        ("interval", "95 %", whole),
        ("sure", "Beyond chance", whole),
    ]
    named = [
        {
            **row,
            "name": row["method"],
            "other": labelled(row["other_method"], row["other_control"]),
            "by": REFERENCES[row["reference"]],
            "measure": charts.words(row["measure"]),
            "interval": _interval(row["low"], row["high"]),
            "sure": "yes" if row["beyond"] else "no",
        }
        for row in records[:SHOWN]
    ]
    return table(named, columns) if named else None


def _figure(layer: str, rows: list[Row], standing: Standing) -> Figure:
    phrases = [f"{plain(row['method'])} {number(row['pearson'])}" for row in rows[:20]]
    if standing.best:
        title = f"{cut(standing.best['method'])} fits the neurons of {cut(layer)} best: {fit(standing.best)}"
    elif len(rows) == 1:
        title = f"{cut(rows[0]['method'])} on {cut(layer)}: {fit(rows[0])}"
    else:
        title = f"{cut(layer)}: {standing.why_none()}"
    drawn = ("method", "pearson", "pearson_low", "pearson_high", "random_pearson", "shuffled_pearson")
    return Figure(
        intervals(pl.DataFrame([{key: row[key] for key in drawn} for row in rows], infer_schema_length=None)),
        slug("judged-labels", layer),
        title,
        f"Mean correlation of neurons of {plain(layer)} with their labels, by CLIP: {', '.join(phrases)}.",
    )


def intervals(means: pl.DataFrame) -> alt.LayerChart:
    """One dot per method with its interval, and a tick for each control: columns as drawn by _figure."""
    rows = means.with_columns(pl.col("method").map_elements(plain, return_dtype=pl.String)).with_row_index("order")
    in_order = alt.EncodingSortField("order", op="min")
    base = alt.Chart(rows).encode(
        y=alt.Y("method:N", sort=in_order).title("labels").axis(labelLimit=220, ticks=False, **charts.ABOVE),
        tooltip=[
            alt.Tooltip("method:N", title="labels"),
            alt.Tooltip("pearson:Q", format=".3f"),
            alt.Tooltip("pearson_low:Q", title="from", format=".3f"),
            alt.Tooltip("pearson_high:Q", title="to", format=".3f"),
            alt.Tooltip("random_pearson:Q", title="random labels", format=".3f"),
            alt.Tooltip("shuffled_pearson:Q", title="shuffled labels", format=".3f"),
        ],
    )
    x = alt.X("pearson_low:Q").title(["mean correlation", "orange: the controls"])
    rules = base.mark_rule(strokeWidth=3, opacity=0.4, color=theme.BLUE).encode(x=x, x2="pearson_high:Q")
    dots = base.mark_circle(size=60, opacity=1, color=theme.BLUE).encode(x="pearson:Q")
    ticks = [
        base.mark_tick(thickness=2, size=14, color=theme.ORANGE).encode(x=f"{control}_pearson:Q")
        for control in ("random", "shuffled")
    ]
    return theme.styled(alt.layer(rules, *ticks, dots), height=24 * len(rows), top=charts.NAMED)
