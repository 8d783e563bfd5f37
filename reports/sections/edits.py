"""The section on edits: what was scaled, how the edit compares with others, and which images it changed.

It shows the edit that was chosen last. If none was chosen, it shows the newest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

import polars as pl
from markupsafe import Markup

from dissectdb.reports import charts, sentences, words
from dissectdb.reports.parts import Column, Figure, Row, flips, table, whole
from dissectdb.reports.words import count, cut, loss, name, number, p_value, share, signed, slug

Rows = Mapping[str, pl.DataFrame]

MANY_RESULTS = 6  # from this many results on, one sentence per split instead of one per edit
DRAWN_RESULTS = 24


def edits(rows: Rows) -> dict[str, Any] | None:
    """What the edits did: in sentences, as intervals around zero, and as a table; None if none was measured."""
    records = rows["edits"].to_dicts()
    if not records:
        return None
    columns: list[Column] = [
        ("edit", "Edit", whole),
        ("layer", "Layer", whole),
        ("rule", "Rule", whole),
        ("tau", "τ", number),
        ("factor", "Factor", number),
        ("split", "Split", whole),
        ("images", "Images", count),
        ("correct_before", "Right before", count),
        ("correct_after", "after", count),
        ("accuracy_before", "Share before", share),
        ("accuracy_after", "after", share),
        ("loss_before", "Loss before", loss),
        ("loss_after", "after", loss),
        ("gained", "Gained", count),
        ("lost", "Lost", count),
        ("p_mcnemar", "p", p_value),
        ("p_corrected", "p corrected", p_value),
    ]
    chosen = [row for row in records if row["chosen_on"]]
    many = len(records) > MANY_RESULTS
    paragraphs: list[dict[str, Any]] = [
        {"head": _edit_head(of_edit[0]), "texts": [sentences.edit_change(row) for row in of_edit]}
        for of_edit in _by_edit(chosen if many else records)
    ]
    if many:
        paragraphs.append({"head": None, "texts": sentences.many_edits(records)})
    more = records[0]["num_results"] - len(records)
    return {
        "sentences": paragraphs,
        "figure": _edit_figure(chosen if many and chosen else records),
        "table": table(records, columns),
        "more": more,
    }


def _by_edit(records: list[Row]) -> list[list[Row]]:
    return [list(of_edit) for _, of_edit in groupby(records, key=lambda row: row["edit_id"])]


def _edit_head(row: Row) -> Markup:
    factor = "" if row["factor"] is None else f", factor {number(row['factor'])}"
    tau = "" if row["tau"] is None else f", τ = {number(row['tau'])}"
    chosen = Markup(", chosen on {}").format(name(row["chosen_on"])) if row["chosen_on"] else ""
    text = Markup("{}: weights of {}, rule {}{}{}{}")
    return text.format(name(row["edit"]), name(row["layer"]), name(row["rule"]), tau, factor, chosen)


def _edit_figure(records: list[Row]) -> Figure:
    shown = records[:DRAWN_RESULTS]
    several = len({row["edit_id"] for row in shown}) > 1  # their names may be the same
    drawn = [
        {
            "row": f"{words.plain(row['edit'])[:60]} · {words.plain(row['split'])[:60]} (edit {row['edit_id']})"
            if several
            else words.plain(row["split"])[:60],
            "difference": row["accuracy_after"] - row["accuracy_before"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in shown
    ]
    phrases = [f"{words.plain(row['split'])} {signed(row['gained'] - row['lost'])} right images" for row in shown]
    return Figure(
        charts.edit_differences(
            pl.DataFrame(drawn, schema_overrides={"low": pl.Float64, "high": pl.Float64}),
            "edit" if several else "split",
        ),
        "edits",
        _edits_title(shown),
        f"Differences with their 95 % intervals around zero, {len(shown)} of {len(records)} results: "
        f"{', '.join(phrases)}.",
    )


def _edits_title(shown: list[Row]) -> str:
    """The verdict on the last split of one edit; of several edits, how many results are more than chance."""
    if len({row["edit_id"] for row in shown}) == 1:
        said = sentences.verdict(shown[-1])
        return f"{said[0].upper()}{said[1:]} on {cut(shown[-1]['split'])} images"
    beyond = sum(row["verdict"] in ("helped", "harmed") for row in shown)
    return f"Chance does not explain {beyond} of {words.plural(len(shown), 'result', 'results')} of edits"


def edited(rows: Rows) -> dict[str, Any]:
    """What was scaled, the controls, the sweep, the confusion matrices and the images that changed sides."""
    return {
        "scaled": _scaled(rows["scaled"].to_dicts()),
        "controls": _controls(rows["controls"], ", ".join(rows["scaled"]["layer"].to_list())),
        "sweep": _sweep(rows["sweep"]),
        "confusion": _confusion(rows["edit_confusion"]),
        "flips": flips(rows["flips"].to_dicts(), ("class_before", "before"), ("class_after", "after")),
    }


def _scaled(records: list[Row]) -> list[Markup]:
    phrases = []
    for row in records:
        kept = row["neurons"] - row["up"] - row["down"]
        parts = []
        if row["up"]:
            parts.append(f"{words.plural(row['up'], 'neuron', 'neurons')} up to {number(row['highest'])} times")
        if row["silenced"]:
            parts.append(f"{words.plural(row['silenced'], 'neuron', 'neurons')} silenced")
        if row["down"] > row["silenced"]:
            least = "to less" if row["silenced"] else f"down to {number(row['lowest'])} times"
            parts.append(f"{words.plural(row['down'] - row['silenced'], 'neuron', 'neurons')} {least}")
        if kept:
            parts.append(f"{words.plural(kept, 'neuron', 'neurons')} left as they are")
        phrases.append(Markup("Weights of {}: {}.").format(name(row["layer"]), words.several(parts)))
    return phrases


def _controls(frame: pl.DataFrame, layers: str) -> dict[str, Any] | None:
    if frame.is_empty():
        return None
    copies, frame = frame.filter(~pl.col("compares")), frame.filter("compares")
    figures = []
    for of_split in frame.partition_by("split_id", maintain_order=True):
        edit, draws = of_split["difference_of_edit"][0], int(of_split["draws"].sum())
        phrases = [
            f"{kind}: {count(int(rows['draws'].sum()))} draws from {signed(min(rows['difference'].to_list()))} to "
            f"{signed(max(rows['difference'].to_list()))}"
            for (kind,), rows in of_split.group_by("control", maintain_order=True)
        ]
        as_good = int(of_split.filter(pl.col("difference") >= edit)["draws"].sum())
        split = of_split["split"][0]
        better = words.plural(draws, "control does", "controls do")
        figures.append(
            Figure(
                charts.controls(of_split, edit),
                slug("controls-of-edit", split),
                f"{cut(split)}: {count(as_good)} of {better} at least as well as the edit ({signed(edit)})",
                f"Dots of {count(draws)} controls by their change of right images; the edit at {signed(edit)}. "
                f"{'; '.join(phrases)}.",
            )
        )
    columns: list[Column] = [
        ("split", "Split", whole),
        ("control", "Control", whole),
        ("difference", "Change of right images", signed),
        ("draws", "Draws", count),
    ]
    return {
        "nothing": sentences.controls_that_are_the_edit(copies["control"].to_list(), layers),
        "figures": figures,
        "table": table(frame.to_dicts(), columns),
    }


def _sweep(frame: pl.DataFrame) -> dict[str, Any] | None:
    if frame.select("tau", "factor").n_unique() < 2:
        return None
    records = frame.to_dicts()
    best = max(records, key=lambda row: row["difference"])
    alternative = (
        f"Heat map of {count(len(records))} edits on {words.plain(records[0]['split'])} images by τ and factor: "
        f"change of right images, from {signed(min(row['difference'] for row in records))} to "
        f"{signed(best['difference'])} (τ {number(best['tau'])}, factor {number(best['factor'])})."
    )
    texts = frame.with_columns(
        pl.col("tau").map_elements(number, return_dtype=pl.String).alias("τ"),
        pl.col("factor").map_elements(number, return_dtype=pl.String).alias("factor of the weights"),
    )
    chart = charts.heat_map(
        texts, x="factor of the weights", y="τ", value="difference", read=signed, outlined="is_chosen"
    )
    columns: list[Column] = [
        ("tau", "τ", number),
        ("factor", "Factor", number),
        ("split", "Split", whole),
        ("difference", "Change of right images", signed),
    ]
    title = (
        f"The best of {count(len(records))} edits changes {signed(best['difference'])} right images of "
        f"{cut(records[0]['split'])}: τ = {number(best['tau'])}, factor {number(best['factor'])}"
    )
    figure = Figure(chart, "edits-by-tau-and-factor", title, alternative)
    return {"figure": figure, "table": table(records, columns), "split": name(records[0]["split"])}


def _confusion(frame: pl.DataFrame) -> dict[str, Any] | None:
    if frame.is_empty():
        return None
    parts = [("images_before", "before", count), ("images_after", "after", count), ("change", "change", signed)]
    figures = []
    for column, heading, read in parts:
        moved = [
            f"{words.plain(row['true_class'])} as {words.plain(row['predicted_class'])} {read(row[column])}"
            for row in frame.sort(pl.col(column).abs(), descending=True).head(8).to_dicts()
        ]
        figures.append(
            Figure(
                charts.heat_map(frame, x="predicted_class", y="true_class", value=column, read=read),
                slug("confusion-of-edit", heading),
                _confusion_title(frame, column, heading, read),
                f"Confusion matrix, {heading}. Largest cells of {len(frame)}: {', '.join(moved)}.",
            )
        )
    columns: list[Column] = [
        ("true_class", "True class", whole),
        ("predicted_class", "Predicted class", whole),
        ("images_before", "Images before", count),
        ("images_after", "after", count),
        ("change", "Change", signed),
    ]
    return {"figures": figures, "table": table(frame.to_dicts(), columns), "split": name(frame["split"][0])}


def _confusion_title(frame: pl.DataFrame, column: str, heading: str, read: Callable[[Any], str]) -> str:
    """The commonest mistake before or after the edit, or the largest change."""
    cells = frame if heading == "change" else frame.filter(pl.col("true_class") != pl.col("predicted_class"))
    largest = max(cells.to_dicts(), key=lambda row: abs(row[column]), default=None)
    if largest is None or not largest[column]:
        return "No image moves to another class" if heading == "change" else f"No mistake {heading}"
    pair = f"{cut(largest['true_class'])} as {cut(largest['predicted_class'])}, {read(largest[column])} images"
    return f"Largest change: {pair}" if heading == "change" else f"Commonest mistake {heading}: {pair}"
