"""The parts of the page: rows in; out come texts, tables, pictures and charts as the template lays them out.

A part without rows becomes a sentence that says so: the template shows `note` where there is no `figure`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import altair as alt
import polars as pl
from markupsafe import Markup

from reports import charts, sentences, words
from reports.questions import IMAGES_PER_NEURON
from reports.words import count, loss, name, number, p_value, share, signed

Rows = Mapping[str, pl.DataFrame]
Row = dict[str, Any]
Column = tuple[str, str, Callable[[Any], str]]  # key of the row, heading, how a value reads

WHOLE = 400  # characters of a name in a table: all that anyone should need, not a megabyte
HERO_NEURONS, HERO_IMAGES = 3, 4
MANY_RESULTS = 6  # from here on a sentence a split, not a sentence an edit
DRAWN_RESULTS = 24
LARGEST_THUMBNAIL = 64 * 1024  # bytes; 64 × 64 pixels in colour are at most 12 KiB


@dataclass(frozen=True)
class Table:
    """Headings with whether they stand over numbers, and rows of cells that are ready to be shown."""

    columns: list[tuple[str, bool]]
    rows: list[list[str]]


@dataclass(frozen=True)
class Figure:
    """A chart, and the sentence that stands for it where it cannot be seen."""

    chart: alt.LayerChart
    alternative: str
    heading: Markup | None = None
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A thumbnail with what is said of it; source is None where the image could not be read."""

    source: str | None
    alternative: str
    caption: str
    mistaken_for: str | None = None


def table(rows: list[Row], columns: list[Column]) -> Table:
    """Cells as text; columns that hold nothing in any row are left out."""
    used = [column for column in columns if any(row[column[0]] is not None for row in rows)]
    headings = [(heading, read is not whole) for _, heading, read in used]
    return Table(headings, [[read(row[key]) for key, _, read in used] for row in rows])


def whole(text: Any) -> Markup:
    """A user's text in a cell."""
    return name(text, WHOLE)


def analysed(rows: Rows) -> list[tuple[str, Markup]]:
    """What was analysed, term by term."""
    [summary] = rows["summary"].to_dicts()
    reasons = [f"{count(row['images'])} {words.plain(row['reason'])}" for row in rows["left_out"].to_dicts()]
    left_out = f" ({words.several(reasons)})" if reasons else ""
    network = Markup("{}, architecture {}").format(name(summary["network"]), name(summary["architecture"]))
    if summary["weights"]:
        network += Markup(", weights {}").format(name(summary["weights"]))
    if summary["parent"]:
        network += Markup("; an edit of {}").format(name(summary["parent"]))
    parts = [
        ("Network", network),
        ("Images", Markup("{} of {}, split {}; {} left out{}").format(
            count(summary["images"]), name(summary["dataset"]), name(summary["probing_split"]),
            count(summary["images_left_out"]), left_out)),
        ("CLIP that made the labels", Markup("{}, weights {}").format(
            name(summary["clip"]), name(summary["clip_weights"]))),
        ("Concepts", Markup("{} of the set {}").format(count(summary["concepts"]), name(summary["concept_set"]))),
        ("Scorer", Markup("{} over the {} most activating images of a neuron").format(
            name(summary["scorer"]), count(summary["top_k"]))),
        ("Interpretable", sentences.rule(summary)),
        ("Labelled on", Markup("{:%d %B %Y, %H:%M}").format(summary["created_at"])),
    ]  # fmt: skip
    return parts


def accuracies(rows: Rows) -> Table | None:
    """How often each network is right, per split."""
    found = rows["accuracies"].to_dicts()
    columns: list[Column] = [
        ("network", "Network", whole),
        ("dataset", "Dataset", whole),
        ("split", "Split", whole),
        ("images", "Images", count),
        ("correct", "Right", count),
        ("accuracy", "Share right", share),
        ("loss", "Mean loss, nats", loss),
    ]
    return table(found, columns) if found else None


def layers(rows: Rows) -> dict[str, Any]:
    """The layer table, and its charts where there is a depth to draw."""
    found = rows["layers"].to_dicts()
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("neurons", "Neurons", count),
        ("num_calibrated", "Calibrated", count),
        ("share_calibrated", "Share", share),
        ("num_above_tau", "Above τ", count),
        ("share_above_tau", "Share", share),
        ("overall_accuracy", "Label right, all", share),
        ("interpretable_accuracy", "… interpretable", share),
        ("uninterpretable_accuracy", "… others", share),
        ("mean_similarity", "Mean similarity", number),
        ("num_dead", "Dead", count),
    ]
    figures, note = [], None
    if not found:
        note = "No layer has been labelled yet."
    elif len(found) == 1:
        note = "One layer was looked at, so there is no depth to draw."
    else:
        figures = [
            _depth_figure(rows["layers"], charts.RULES, "Neurons that each rule accepts"),
            _depth_figure(rows["layers"], charts.ACCURACIES, "How often labels are right"),
        ]
    figures = [figure for figure in figures if figure]
    return {"table": table(found, columns) if found else None, "figures": figures, "note": note}


def _depth_figure(frame: pl.DataFrame, measures: charts.Measures, heading: str) -> Figure | None:
    """Lines over the layers; None where no layer has any of the measures."""
    drawn = {column: measure[0] for column, measure in measures.items() if frame[column].null_count() < len(frame)}
    if not drawn:
        return None
    said = [
        f"{words.plain(row['layer'])} "
        + ", ".join(f"{called} {share(row[column])}" for column, called in drawn.items())
        for row in frame.head(60).to_dicts()
    ]
    return Figure(
        charts.layer_depth(frame, measures),
        f"{heading}: lines over {len(frame)} layers from the image to the output. {'; '.join(said)}.",
        Markup(heading),
    )


def trust(rows: Rows) -> dict[str, Any]:
    """What the labels that chance does not explain withstand, layer by layer."""
    found = rows["layers"].to_dicts()
    if not found:
        return {"note": "No layer has been labelled yet."}
    if not sentences.is_tested(found):
        return {"note": "These labels were held against nothing: no null was drawn for this dissection."}
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("neurons", "Neurons", count),
        ("num_calibrated", "Calibrated", count),
        ("num_agreeing", "… halves agree", count),
        ("num_within_class", "… beyond the class", count),
        ("num_robust", "Robust: all three", count),
        ("share_robust", "Share", share),
        ("bootstrap_share", "Same label in resamples", share),
    ]
    return {"table": table(found, columns), "sentence": sentences.robustness(found)}


def concepts_by_neuron(rows: Rows) -> dict[str, Any]:
    """The concept bars of the layer with most interpretable neurons."""
    found = rows["concepts_by_neuron"].to_dicts()
    if not found:
        return {"note": "No neuron of this layer has a label that the true classes of its best images confirm."}
    first = found[0]
    columns: list[Column] = [
        ("concept", "Concept", whole),
        ("neurons", "Right neurons", count),
        ("share", "Share", share),
    ]
    part = {"layer": name(first["layer"]), "num_neurons": first["num_neurons"], "table": table(found, columns)}
    part["more"] = first["num_concepts"] - len(found)
    if len(found) == 1:
        text = "All right neurons of this layer ({}) carry one concept, {}."
        return part | {"note": Markup(text).format(count(first["num_neurons"]), name(first["concept"]))}
    said = [f"{words.plain(row['concept'])} {share(row['share'])}" for row in found]
    alternative = f"Bars, longest first, of {len(found)} concepts: {', '.join(said)}."
    return part | {"figure": Figure(charts.concept_bars(rows["concepts_by_neuron"]), alternative)}


def concepts_by_prediction(rows: Rows) -> dict[str, Any]:
    """For each class, the concepts behind its correct predictions."""
    frame = rows["concepts_by_prediction"]
    if frame.is_empty():
        return {"note": "No image was both classified correctly and spoken for by an interpretable neuron."}
    [summary] = rows["summary"].to_dicts()
    if summary["concepts"] == 1:
        return {"note": "With one concept, the same stands behind every prediction."}
    columns: list[Column] = [
        ("class", "Class", whole),
        ("concept", "Concept", whole),
        ("images", "Right images", count),
        ("share", "Share", share),
        ("low", "95 % from", share),
        ("high", "to", share),
        ("lift", "Lift over wrong images", number),
    ]
    highest = max(frame["high"])
    of_classes = frame.partition_by("class", maintain_order=True)
    figures = [_class_figure(of_class, highest) for of_class in of_classes]
    classes = rows["classes"].to_dicts()
    return {
        "layer": name(frame["layer"][0]),
        "figures": figures,
        "table": table(frame.to_dicts(), columns),
        "more": classes[0]["num_classes"] - len(figures),
    }


def _class_figure(frame: pl.DataFrame, highest: float) -> Figure:
    found = frame.to_dicts()
    said = [f"{words.plain(row['concept'])} {share(row['share'])}" for row in found]
    return Figure(
        charts.class_concepts(frame, highest),
        f"Dots with intervals, class {words.plain(found[0]['class'])}: {', '.join(said)}.",
        name(found[0]["class"], 40),
        f"{words.plural(found[0]['correct'], 'right image', 'right images')}",
    )


def similarities(rows: Rows) -> dict[str, Any]:
    """One histogram a layer, on one x axis."""
    frame = rows["similarities"]
    if frame.is_empty():
        return {"note": "No neuron has a label, so there is no similarity to draw."}
    [summary] = rows["summary"].to_dicts()
    lowest, highest = frame["low"].min(), frame["high"].max()
    if highest - lowest < 1e-6:
        return {"note": f"Every label has the same similarity, {number(lowest)}, so there is nothing to draw."}
    figures = []
    for bars in frame.partition_by("position", "layer", maintain_order=True):
        layer, neurons = bars["layer"][0], int(bars["neurons"].sum())
        alternative = (
            f"Histogram of {count(neurons)} neurons of {words.plain(layer)} over similarity, "
            f"from {number(bars['low'].min())} to {number(bars['high'].max())}; τ is {number(summary['tau'])}."
        )
        chart = charts.similarity_histogram(bars, summary["tau"], lowest, highest)
        figures.append(Figure(chart, alternative, name(layer, 40), words.plural(neurons, "neuron", "neurons")))
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("low", "Similarity from", number),
        ("high", "to", number),
        ("neurons", "Neurons", count),
    ]
    more = rows["layers"].height - len(figures)
    return {"figures": figures, "table": table(frame.to_dicts(), columns), "more": more}


def neurons(rows: Rows) -> list[Row]:
    """The strongest neurons, each with its best images."""
    found = rows["top_neurons"].to_dicts()
    cards = []
    for _, group in groupby(found, key=lambda row: (row["layer"], row["unit"])):
        images = list(group)[:IMAGES_PER_NEURON]
        cards.append(images[0] | {"pictures": [_top_picture(row) for row in images]})
    return cards


def hero(cards: list[Row]) -> list[Row]:
    """A few neurons for the top of the page, of different concepts where there are such."""
    firsts = {card["concept"]: card for card in reversed(cards)}  # the strongest of each concept
    chosen = [card for card in cards if firsts[card["concept"]] is card]
    chosen += [card for card in cards if card not in chosen]
    return [card | {"pictures": card["pictures"][:HERO_IMAGES]} for card in chosen[:HERO_NEURONS]]


def _top_picture(row: Row) -> Picture:
    truth, predicted = row["true_class"], row["predicted_class"]
    caption = words.plain(truth) if truth is not None else f"image {row['image_id']}"
    said = f"true class {words.plain(truth)}, predicted {words.plain(predicted)}"
    wrong = truth is not None and predicted is not None and truth != predicted
    return Picture(
        _data_uri(row["thumbnail"]),
        f"Image {row['image_id']}: {said}, activation {number(row['value'])}",
        caption,
        words.plain(predicted) if wrong else None,
    )


def _data_uri(thumbnail: bytes | None) -> str | None:
    if not thumbnail or len(thumbnail) > LARGEST_THUMBNAIL:
        return None
    return f"data:image/png;base64,{base64.b64encode(thumbnail).decode()}"


def examples(rows: Rows) -> dict[str, Any]:
    """Predictions with their images, class by class."""
    found = rows["examples"].to_dicts()
    counts = {row["class"]: row for row in rows["classes"].to_dicts()}
    groups = []
    for class_name, of_class in groupby(found, key=lambda row: row["class"]):
        kinds: dict[str, list[Picture]] = {"right": [], "wrong": [], "unknown": []}
        for row in of_class:
            kinds[row["kind"]].append(_example_picture(row))
        groups.append({"class": class_name, "counts": counts.get(class_name), "kinds": kinds})
    more = found[0]["num_classes"] - len(groups) if found else 0
    all_right = bool(counts) and all(row["correct"] == row["images"] for row in counts.values())
    return {"groups": groups, "more": more, "all_right": all_right, "has_truth": bool(counts)}


def _example_picture(row: Row) -> Picture:
    predicted = words.plain(row["predicted_class"])
    known = "" if row["kind"] == "unknown" else f", true class {words.plain(row['class'])}"
    return Picture(
        _data_uri(row["thumbnail"]),
        f"Image {row['image_id']}{known}: predicted {predicted} with confidence {share(row['confidence'])}",
        share(row["confidence"]),
        predicted if row["kind"] == "wrong" else None,
    )


def edits(rows: Rows) -> dict[str, Any]:
    """What the edits did: in words, as intervals around zero, as a table."""
    found = rows["edits"].to_dicts()
    if not found:
        return {"note": "No edit that rests on this dissection has been measured."}
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
    chosen = [row for row in found if row["chosen_on"]]
    many = len(found) > MANY_RESULTS
    said = [
        {"head": _edit_head(of_edit[0]), "texts": [sentences.edit_change(row) for row in of_edit]}
        for of_edit in _by_edit(chosen if many else found)
    ]
    if many:
        said.append({"head": None, "texts": sentences.many_edits(found)})
    more = found[0]["num_results"] - len(found)
    return {"sentences": said, "figure": _edit_figure(found), "table": table(found, columns), "more": more}


def _by_edit(found: list[Row]) -> list[list[Row]]:
    return [list(of_edit) for _, of_edit in groupby(found, key=lambda row: row["edit_id"])]


def _edit_head(row: Row) -> Markup:
    factor = "" if row["factor"] is None else f", factor {number(row['factor'])}"
    tau = "" if row["tau"] is None else f", τ = {number(row['tau'])}"
    chosen = Markup(", chosen on {}").format(name(row["chosen_on"])) if row["chosen_on"] else ""
    text = Markup("{}: weights of {}, rule {}{}{}{}")
    return text.format(name(row["edit"]), name(row["layer"]), name(row["rule"]), tau, factor, chosen)


def _edit_figure(found: list[Row]) -> Figure:
    shown = found[:DRAWN_RESULTS]
    several = len({row["edit_id"] for row in shown}) > 1  # whose names may be alike
    drawn = [
        {
            "row": f"{words.plain(row['edit'])[:60]} · {words.plain(row['split'])[:60]}"
            + (f" (edit {row['edit_id']})" if several else ""),
            "difference": row["accuracy_after"] - row["accuracy_before"],
            "low": row["low"],
            "high": row["high"],
        }
        for row in shown
    ]
    said = [f"{words.plain(row['split'])} {signed(row['gained'] - row['lost'])} images" for row in shown]
    return Figure(
        charts.edit_differences(pl.DataFrame(drawn, schema_overrides={"low": pl.Float64, "high": pl.Float64})),
        f"Differences with their 95 % intervals around zero, {len(shown)} of {len(found)} results: {', '.join(said)}.",
    )
