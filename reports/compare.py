"""The page that compares two dissections, A and B: which labels moved, which layers changed, who is right more often.

write(ask(warehouse.rows, "soft_wpmi", "cos"), Path("compare.html"))    # by id or by name

They may differ in network, probing images, CLIP, concepts or scorer. Neurons of a network and of its edits are matched
by layer and unit, labels by their text. Different networks are compared by the concepts that are their labels. A part
that has nothing to compare is a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from dissectdb.output import save
from dissectdb.reports import charts, page, theme, words
from dissectdb.reports import compare_sentences as told
from dissectdb.reports.parts import Column, Figure, Row, flips, table, whole
from dissectdb.reports.questions import Ask, load
from dissectdb.reports.words import count, loss, name, number, p_value, share, signed

__all__ = ["QUESTIONS", "ask", "chosen", "render", "write"]

Rows = Mapping[str, pl.DataFrame]
QUESTIONS = load("compare")
# The most rows that moves.sql, neurons.sql, words.sql and flips.sql (of either kind) return.
MOVES, NEURONS, CONCEPTS, FLIPS = 40, 50, 60, 12
DRAWN_CONCEPTS = 12  # a side of the heat map
CHOICES = 20  # dissections that an error message lists


class NoSuchDissection(ValueError):
    """No dissection has this id or name; the message lists those that exist."""

    exit_code = 2


def chosen(dissections: pl.DataFrame, name: str) -> int:
    """The id of the dissection with this id or name; the newest if several have the name.

    dissections: the rows of the view dissection_summary. name: an id, or the name of a network, CLIP, scorer or concept
    set, or "dataset split". Raises NoSuchDissection.
    """
    rows = dissections.sort("dissection_id").to_dicts()
    if not rows:
        raise NoSuchDissection("there is no dissection to compare; make one with dissectdb extract STUDY")
    matches = [row for row in rows if str(row["dissection_id"]) == name]
    matches = matches or [row for row in rows if name in _names(row)]
    if not matches:
        choices = [f"{row['dissection_id']} ({', '.join(map(words.plain, _names(row)))})" for row in rows[-CHOICES:]]
        more = f" and {len(rows) - CHOICES} older ones" if len(rows) > CHOICES else ""
        raise NoSuchDissection(f"no dissection is {words.plain(name)!r}; there is {', '.join(choices)}{more}")
    return matches[-1]["dissection_id"]


def _names(row: Row) -> list[str]:
    split = f"{row['dataset']} {row['probing_split']}"
    return [row["network"], split, row["clip"], row["concept_set"], row["scorer"]]


def ask(answer: Ask, a: int | str, b: int | str) -> dict[str, pl.DataFrame]:
    """The rows that the page needs of two dissections; a, b: ids, or names as chosen() takes them."""
    summary = answer("select * from dissection_summary")
    ids = {side: chosen(summary, name) if isinstance(name, str) else name for side, name in (("a", a), ("b", b))}
    return {name: question.ask(answer, ids) for name, question in QUESTIONS.items()}


def render(rows: Rows, *, title: str = "", generated_at: datetime | None = None) -> str:
    """The page as HTML. rows: the answers to QUESTIONS. Raises KeyError naming what is missing."""
    if missing := [name for name in QUESTIONS if name not in rows]:
        raise KeyError(f"no rows for {', '.join(missing)}; the comparison needs {', '.join(QUESTIONS)}")
    ids = {row["side"].lower(): row["dissection_id"] for row in rows["sides"].to_dicts()}
    texts = {name: question.with_values(**ids) for name, question in QUESTIONS.items()}  # to paste into dissectdb query
    parts = content(rows)
    title = title or told.title(rows["sides"].to_dicts())
    return page.lay_out("compare.html.jinja", parts, rows, texts, title=title, generated_at=generated_at)


def write(rows: Rows, path: Path, *, title: str = "", generated_at: datetime | None = None) -> None:
    """Write the page to a file, whole or not at all. generated_at: by default now."""
    save(render(rows, title=title, generated_at=generated_at or datetime.now()).encode(), path)


def content(rows: Rows) -> dict[str, Any]:
    """The variables of the template. Without two different dissections, only a headline that says so."""
    sides = rows["sides"].to_dicts()
    if len(sides) < 2:
        both = "A and B are the same dissection" if sides else "These dissections are not in the warehouse"
        return {"compared": None, "headline": f"Nothing to compare: {both}"}
    if sides[0]["origin_id"] != sides[1]["origin_id"]:
        return _different_networks(rows, sides)
    [totals] = rows["totals"].to_dicts()
    return {
        "compared": told.compared(*sides),
        "headline": told.headline(sides[0], totals),
        "words": None,
        "sentences": [
            told.differences(*sides),
            *told.labels(sides[0], totals),
            *told.layer_that_changed_most(sides[0], rows["layers"].to_dicts()),
            *told.calibrated(sides[0], totals),
            *told.unmatched(rows["unmatched"].to_dicts()),
            *told.right(sides, rows["accuracies"].to_dicts()),
        ],
        "sides": [told.described(*sides), told.described(*reversed(sides))],
        "layers": _layers(rows["layers"]),
        "moves": _moves(rows["moves"], sides[0], totals),
        "neurons": _neurons(rows["neurons"].to_dicts(), sides[0]),
        "accuracies": _accuracies(sides, rows["accuracies"].to_dicts()),
        "flips": _flips(rows["flips"].to_dicts()),
        "is_edit": any(row["parent"] is not None for row in sides),
    }


def _different_networks(rows: Rows, sides: list[Row]) -> dict[str, Any]:
    """The variables of the template for two networks of which neither is an edit of the other: nothing by unit."""
    records = rows["words"].to_dicts()
    columns: list[Column] = [
        ("concept", "Concept", whole),
        ("neurons", "Neurons in A", count),
        ("layer", "Most in layer", whole),
        ("share", "Share of it", share),
        ("other_neurons", "Neurons in B", count),
        ("other_layer", "Most in layer", whole),
        ("other_share", "Share of it", share),
    ]
    by_unit = {"note": told.NOT_BY_UNIT}
    return {
        "compared": told.compared(*sides),
        "headline": told.headline_of_words(records),
        "sentences": [
            told.differences(*sides),
            *told.of_words(records),
            *told.right(sides, rows["accuracies"].to_dicts()),
        ],
        "sides": [told.described(*sides), told.described(*reversed(sides))],
        "words": {
            "table": table(records, columns) if records else None,
            "concepts": records[0]["num_concepts"] if records else 0,
            "shown": CONCEPTS,
        },
        "layers": by_unit,
        "moves": by_unit,
        "neurons": by_unit,
        "accuracies": _accuracies(sides, rows["accuracies"].to_dicts()),
        "flips": _flips(rows["flips"].to_dicts()),
        "is_edit": any(row["parent"] is not None for row in sides),
    }  # fmt: skip


def _layers(frame: pl.DataFrame) -> dict[str, Any]:
    if frame.is_empty():
        return {"note": "No layer is in both, so there is none to compare."}
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("neurons", "Neurons", count),
        ("num_labelled", "Labelled in both", count),
        ("num_same_label", "Same label", count),
        ("share_same", "Share", share),
        ("same_by_chance", "By chance", number),
        ("chance_sd", "± sd", number),
        ("kappa", "κ", number),
        ("share_calibrated", "Calibrated, A", share),
        ("other_share_calibrated", "B", share),
        ("num_calibrated_in_both", "both", count),
        ("num_calibrated_same", "… same label", count),
        ("num_interpretable", "Interpretable, A", count),
        ("other_num_interpretable", "B", count),
    ]
    records = frame.to_dicts()
    drawn = [column for column in MEASURES if frame[column].null_count() < len(frame)]
    if len(frame) == 1:
        return {"table": table(records, columns), "note": "One layer is in both, so there is no depth to draw."}
    if not drawn:
        return {"table": table(records, columns), "note": "No layer has labels in both, so there is nothing to draw."}
    phrases = [
        f"{words.plain(row['layer'])} {', '.join(f'{MEASURES[key][0]} {share(row[key])}' for key in drawn)}"
        for row in records[:60]
    ]
    alternative = f"Shares over {len(records)} layers from the image to the output. {'; '.join(phrases)}."
    return {
        "table": table(records, columns),
        "figure": Figure(depth(frame), "same-labels-by-layer", _depth_title(records), alternative),
    }


def _depth_title(records: list[Row]) -> str:
    """The layers with most and with fewest equal labels."""
    known = sorted((row for row in records if row["share_same"] is not None), key=lambda row: row["share_same"])
    if not known:
        return "No layer has labels in both"
    few, most = known[0], known[-1]
    if few["share_same"] == most["share_same"]:
        return f"{share(most['share_same'])} of the labels are the same in every layer"
    return (
        f"{share(most['share_same'])} of the labels of {words.cut(most['layer'])} are the same, "
        f"{share(few['share_same'])} of those of {words.cut(few['layer'])}"
    )


# column → name, colour and shape
MEASURES = {
    "share_same": ("same label", theme.BLUE, "circle"),
    "share_calibrated": ("calibrated in A", theme.ORANGE, "diamond"),
    "other_share_calibrated": ("calibrated in B", theme.GREEN, "triangle-up"),
}


def depth(layers: pl.DataFrame) -> alt.LayerChart:
    """Over the layers: the share with the same label as a line, the calibrated share before and after as dots."""
    base, by_measure = charts.shares_by_layer(layers.select("layer", *MEASURES), MEASURES, "share of neurons")
    line = base.transform_filter("datum.measure === 'share_same'").mark_line(strokeWidth=2, color=theme.BLUE)
    # A grey line joins the two dots of a layer.
    connections = (
        base.transform_filter("datum.measure !== 'share_same'")
        .mark_line(strokeWidth=1.5, color=theme.LINES)
        .encode(detail="layer:N")
    )
    dots = base.mark_point(size=52, filled=True, opacity=1).encode(
        color=by_measure(alt.Color, 1), shape=by_measure(alt.Shape, 2)
    )
    return theme.styled(alt.layer(connections, line, dots), height=230)


def _moves(frame: pl.DataFrame, a: Row, totals: Row) -> dict[str, Any]:
    if frame.is_empty():
        if not a["concepts_in_common"]:
            return {"note": told.NO_CONCEPT_IN_COMMON}
        kept = totals["num_labelled"]
        return {"note": "Every neuron with a label in both keeps it." if kept else "No neuron has a label in both."}
    columns: list[Column] = [
        ("concept", "Concept in A", whole),
        ("other_concept", "Concept in B", whole),
        ("neurons", "Neurons", count),
        ("share", "Share of those that moved", share),
        ("num_calibrated", "Calibrated in both", count),
    ]
    records = frame.to_dicts()
    ends = ((key, frame.group_by(key, maintain_order=True).agg(pl.col("neurons").sum())) for key in frame.columns[:2])
    largest = {key: end.sort("neurons", descending=True, maintain_order=True)[key].head(DRAWN_CONCEPTS)
               for key, end in ends}  # fmt: skip
    cells = frame.filter(pl.all_horizontal(pl.col(key).is_in(kept.to_list()) for key, kept in largest.items()))
    figure = None
    if len(cells) > 1:
        named = cells.rename({"concept": "concept in A", "other_concept": "concept in B"})
        phrases = [f"{words.plain(row['concept'])} to {words.plain(row['other_concept'])} {count(row['neurons'])}"
                for row in records[:8]]  # fmt: skip
        figure = Figure(
            charts.heat_map(named, x="concept in B", y="concept in A", value="neurons", read=count),
            "labels-that-moved",
            f"The commonest move, from {words.cut(records[0]['concept'])} to {words.cut(records[0]['other_concept'])}: "
            f"{words.plural(records[0]['neurons'], 'neuron', 'neurons')}",
            f"Neurons by their concept in A (row) and in B (column). Largest of {len(cells)} cells: "
            f"{', '.join(phrases)}.",
        )
    return {
        "table": table(records, columns), "figure": figure, "shown": MOVES,
        "neurons": records[0]["num_moved"], "moves": records[0]["num_moves"],
    }  # fmt: skip


def _neurons(records: list[Row], a: Row) -> dict[str, Any]:
    if not records:
        if not a["concepts_in_common"]:
            return {"note": told.NO_CONCEPT_IN_COMMON}
        return {"note": "No neuron with a label in both changed it."}
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("unit", "Unit", count),
        ("concept", "Label in A", whole),
        ("other_concept", "Label in B", whole),
        ("z", "z in A", number),
        ("other_z", "in B", number),
        ("q", "q in A", p_value),
        ("other_q", "in B", p_value),
        ("similarity", "Similarity in A", number),
        ("other_similarity", "in B", number),
    ]
    return {"table": table(records, columns), "shown": NEURONS, "neurons": records[0]["num_moved"]}


def _accuracies(sides: list[Row], records: list[Row]) -> dict[str, Any]:
    if sides[0]["network_id"] == sides[1]["network_id"]:
        return {"note": "Both dissect the same network, so its predictions are the same."}
    if not records:
        return {"note": "Who is right is unknown: no image with predictions of both networks is of a class of both."}
    columns: list[Column] = [
        ("dataset", "Dataset", whole),
        ("split", "Split", whole),
        ("images", "Images", count),
        ("correct", "Right, A", count),
        ("other_correct", "B", count),
        ("accuracy", "Share right, A", share),
        ("other_accuracy", "B", share),
        ("loss", "Mean loss, A", loss),
        ("other_loss", "B", loss),
        ("gained", "Gained", count),
        ("lost", "Lost", count),
        ("difference", "Difference", signed),
        ("changed", "Other class", count),
        ("p_mcnemar", "p", p_value),
    ]
    return {"table": table(records, columns)}


def _flips(records: list[Row]) -> dict[str, Any] | None:
    """The images that only B gets right, and those that only A gets right."""
    if not records:
        return None
    groups = flips(records, ("class_of_a", "A says"), ("class_of_b", "B says"))
    return {
        "groups": groups,
        "split": name(records[0]["split"]),
        "dataset": name(records[0]["dataset"]),
        "shown": FLIPS,
    }
