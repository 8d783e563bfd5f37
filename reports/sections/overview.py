"""The main sections of the page: rows in; texts, tables, pictures and charts for the template out.

A section without rows becomes a sentence that says so: the template shows `note` if there is no `figure`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import polars as pl
from markupsafe import Markup

from dissectdb.reports import charts, sentences, words
from dissectdb.reports.parts import Column, Figure, Picture, Row, Table, data_uri, table, whole
from dissectdb.reports.words import count, loss, name, number, share

Rows = Mapping[str, pl.DataFrame]
HERO_NEURONS, HERO_IMAGES = 3, 4
OF_TOP_IMAGES = " over the {} most activating images of a neuron"
IMAGES_OF_SCORERS = {
    **dict.fromkeys(("soft_wpmi", "wpmi"), OF_TOP_IMAGES),
    **dict.fromkeys(("cos", "cos_cubed", "pearson", "presence"), " over all images"),
}


def analysed(rows: Rows) -> list[tuple[str, Markup]]:
    """What was analysed: pairs of a term and its text."""
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
        ("Scorer", name(summary["scorer"]) + IMAGES_OF_SCORERS.get(summary["scorer"], "").format(
            count(summary["top_k"]))),
        ("Interpretable", sentences.rule(summary)),
        ("Labelled on", Markup("{:%d %B %Y, %H:%M}").format(summary["created_at"])),
    ]  # fmt: skip
    if files := [f"{count(row['files'])} {words.plain(row['reason'])}" for row in rows["files_left_out"].to_dicts()]:
        parts.insert(2, ("Files that are not among the images", Markup("{}").format(words.several(files))))
    return parts


def accuracies(rows: Rows) -> Table | None:
    """The table of how often each network is right, per split; None if there are no predictions."""
    records = [
        row
        | {key: words.UNKNOWN for key in ("correct", "accuracy") if row[key] is None}
        | {"num_unknown": row["num_unknown"] or None}
        for row in rows["accuracies"].to_dicts()
    ]
    columns: list[Column] = [
        ("network", "Network", whole),
        ("dataset", "Dataset", whole),
        ("split", "Split", whole),
        ("images", "Images", count),
        ("correct", "Right", words.or_unknown(count)),
        ("accuracy", "Share right", words.or_unknown(share)),
        ("loss", "Mean loss, nats", loss),
        ("num_unknown", "Other images", count),
    ]
    return table(records, columns) if records else None


def layers(rows: Rows) -> dict[str, Any]:
    """The table of layers, and its charts if there are two layers or more."""
    records = rows["layers"].to_dicts()
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
        ("num_sparse", "Too sparse", count),
    ]
    figures, note = [], None
    if not records:
        note = "No layer has been labelled yet."
    elif len(records) == 1:
        note = "One layer was looked at, so there is no depth to draw."
    else:
        figures = [
            _depth_figure(rows["layers"], charts.RULES, "Neurons that each rule accepts"),
            _depth_figure(rows["layers"], charts.ACCURACIES, "How often labels are right"),
        ]
    if sentences.are_labels_unknown(records):
        note = f"{note} {sentences.LABELS_UNKNOWN}" if note else sentences.LABELS_UNKNOWN
    figures = [figure for figure in figures if figure]
    return {"table": table(records, columns) if records else None, "figures": figures, "note": note}


def _depth_figure(frame: pl.DataFrame, measures: charts.Measures, heading: str) -> Figure | None:
    """Lines over the layers; None if no layer has any of the measures."""
    drawn = {column: measure[0] for column, measure in measures.items() if frame[column].null_count() < len(frame)}
    if not drawn:
        return None
    phrases = [
        f"{words.plain(row['layer'])} "
        + ", ".join(f"{called} {share(row[column])}" for column, called in drawn.items())
        for row in frame.head(60).to_dicts()
    ]
    return Figure(
        charts.layer_depth(frame, measures),
        f"{heading}: lines over {len(frame)} layers from the image to the output. {'; '.join(phrases)}.",
        Markup(heading),
    )


def trust(rows: Rows) -> dict[str, Any]:
    """How many labels pass the tests beside chance, layer by layer."""
    records = rows["layers"].to_dicts()
    if not records:
        return {"note": "No layer has been labelled yet."}
    if not sentences.is_tested(records):
        return {"note": "These labels were held against nothing: no null was drawn for this dissection."}
    tests = sentences.tests_run(records)
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("neurons", "Neurons", count),
        ("num_calibrated", "Calibrated", count),
        ("num_agreeing", "… halves agree", count),
        ("num_within_class", "… beyond the class", count),
        ("num_robust", "Robust: all three" if len(tests) == 2 else "Robust: both", count),
        ("share_robust", "Share", share),
        ("bootstrap_share", "Same label in resamples", share),
        ("judged_by_clip", "Judged by CLIP", number),
        ("judged_by_other_clip", "… by another CLIP", number),
        ("judged_by_class", "… by class", number),
    ]
    # Without this, a test that was not run would look like a test that no label passed.
    columns = [column for column in columns if any(row[column[0]] is not None for row in records)]
    [summary] = rows["summary"].to_dicts()
    return {
        "table": table(records, columns),
        "sentence": sentences.robustness(summary, records),
        "tests": tests,
        "is_judged": any(row["judged_by_clip"] is not None for row in records),
        "is_judged_by_other_clip": any(row["judged_by_other_clip"] is not None for row in records),
        "is_judged_by_class": any(row["judged_by_class"] is not None for row in records),
    }


def explained(rows: Rows) -> Table | None:
    """The table of how much words explain of each layer, beside the control networks; None if it is not known."""
    records = [row for row in rows["explained"].to_dicts() if row["explained"] is not None]
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("control", "Weights", whole),
        ("neurons", "Neurons", count),
        ("share_calibrated", "Calibrated", share),
        ("explained", "Explained by a word", number),
        ("explained_by_others", "… of another neuron", number),
        ("explainable", "By CLIP as a whole", number),
        ("share_unexplained", "By no word", share),
    ]
    if {row["control"] for row in records} == {"trained"}:
        columns = [column for column in columns if column[0] != "control"]
    return table(records, columns) if records else None


def similarities(rows: Rows) -> dict[str, Any]:
    """One histogram of similarity per layer, all on the same x axis."""
    frame = rows["similarities"]
    if frame.is_empty():
        return {"note": "No neuron has a label, so there is no similarity to draw."}
    [summary] = rows["summary"].to_dicts()
    lowest, highest = _ends(frame)
    if highest - lowest < 1e-6:
        return {"note": f"Every label has the same similarity, {number(lowest)}, so there is nothing to draw."}
    figures = []
    for bars in frame.partition_by("position", "layer", maintain_order=True):
        layer, neurons = bars["layer"][0], int(bars["neurons"].sum())
        first, last = _ends(bars)
        alternative = (
            f"Histogram of {count(neurons)} neurons of {words.plain(layer)} over similarity, "
            f"from {number(first)} to {number(last)}; τ is {number(summary['tau'])}."
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


def _ends(bars: pl.DataFrame) -> tuple[float, float]:
    """Where the first bar of a histogram starts and the last one ends."""
    first, last = bars.select(pl.min("low"), pl.max("high")).row(0)
    return first, last


def confusion(rows: Rows) -> dict[str, Any]:
    """The confusion matrix, as shares of each true class."""
    frame = rows["confusion"]
    if frame.is_empty():
        return {"note": "No image has both a true class and a prediction, so nothing can be confused."}
    mistakes = frame.filter(~pl.col("is_correct")).sort("share", descending=True)
    phrases = [
        f"{words.plain(row['true_class'])} taken for {words.plain(row['predicted_class'])} {share(row['share'])}"
        for row in mistakes.head(6).to_dicts()
    ]
    columns: list[Column] = [
        ("true_class", "True class", whole),
        ("predicted_class", "Predicted class", whole),
        ("images", "Images", count),
        ("share", "Share of the true class", share),
    ]
    judged = frame["is_correct"].null_count() < len(frame)
    commonest = (", ".join(phrases) or "none") if judged else "unknown, since no true class is an output of the network"
    return {
        "figure": Figure(
            charts.heat_map(frame, x="predicted_class", y="true_class", value="share", read=words.percent),
            f"Confusion matrix. Commonest mistakes: {commonest}.",
        ),
        "table": table(frame.to_dicts(), columns),
    }


def calibration(rows: Rows) -> dict[str, Any] | None:
    """The z of the labels beside what chance alone gives, layer by layer; None if no null was drawn."""
    frame = rows["calibration"]
    if frame.is_empty():
        return None
    quantiles = {row["layer"]: row for row in rows["null_limits"].to_dicts()}
    figures = []
    for bars in frame.partition_by("position", "layer", maintain_order=True):
        layer, neurons = bars["layer"][0], int(bars["neurons"].sum())
        limits = [(quantiles[layer][key], text) for key, text in (("z_05", "5 %"), ("z_01", "1 %"))]
        first, last = _ends(bars)
        shown = [(z, text) for z, text in limits if z is not None and first <= z <= last]
        marks = pl.DataFrame(shown, schema={"z": pl.Float64, "name": pl.String}, orient="row")
        phrases = [f"{text} of unrelated neurons reach {number(z)}" for z, text in limits if z is not None]
        alternative = (
            f"Histogram of the z of {count(neurons)} labels of {words.plain(layer)}, from {number(first)} to "
            f"{number(last)}, with a line of what chance alone gives; {', '.join(phrases)}."
        )
        heading = words.plural(neurons, "neuron", "neurons")
        figures.append(Figure(charts.calibration(bars, marks), alternative, name(layer, 40), heading))
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("low", "z from", number),
        ("high", "to", number),
        ("neurons", "Neurons", count),
        ("expected", "By chance", number),
    ]
    return {"figures": figures, "table": table(frame.to_dicts(), columns)}


def provenance(rows: Rows) -> list[tuple[str, str]]:
    """Device, precision and versions of the passes, the seed, and the fingerprint of each input."""
    passes = rows["passes"]
    devices, precisions = (", ".join(_different(passes[key])) or "–" for key in ("device", "precision"))
    versions = re.sub(r'[{}"]', "", "; ".join(_different(passes["versions"])) or "–")
    parts = []
    for row in rows["provenance"].to_dicts():
        parts += [("Passes", f"{devices}, {precisions}"), ("Seed", str(row["seed"]))]
        parts.append(("Versions", words.plain(versions)))
        kinds = ("dataset", "network", "clip", "concept_set", "dissection")
        parts += [(f"Fingerprint of the {words.plain(kind).replace('_', ' ')}", row[kind]) for kind in kinds]
    return parts


def _different(column: pl.Series) -> list[str]:
    return column.drop_nulls().unique().sort().to_list()


def neurons(rows: Rows) -> list[Row]:
    """The strongest neurons, each with its best images."""
    records = rows["top_neurons"].to_dicts()
    cards = []
    for _, group in groupby(records, key=lambda row: (row["layer"], row["unit"])):
        images = list(group)
        cards.append(images[0] | {"pictures": [_top_picture(row) for row in images]})
    return cards


def hero(cards: list[Row]) -> list[Row]:
    """A few neurons for the top of the page, of different concepts if possible."""
    firsts = {card["concept"]: card for card in reversed(cards)}  # the strongest of each concept
    chosen = [card for card in cards if firsts[card["concept"]] is card]
    chosen += [card for card in cards if card not in chosen]
    return [card | {"pictures": card["pictures"][:HERO_IMAGES]} for card in chosen[:HERO_NEURONS]]


def _top_picture(row: Row) -> Picture:
    truth, predicted = row["true_class"], row["predicted_class"]
    caption = words.plain(truth) if truth is not None else f"image {row['image_id']}"
    classes = f"true class {words.plain(truth)}, predicted {words.plain(predicted)}"
    return Picture(
        data_uri(row["thumbnail"]),
        f"Image {row['image_id']}: {classes}, activation {number(row['value'])}",
        caption,
        words.plain(predicted) if row["is_correct"] is False else None,
    )


def examples(rows: Rows) -> dict[str, Any]:
    """Predictions with their images, class by class."""
    records = rows["examples"].to_dicts()
    counts = {row["class"]: row for row in rows["classes"].to_dicts()}
    groups = []
    for class_name, of_class in groupby(records, key=lambda row: row["class"]):
        kinds: dict[str, list[Picture]] = {"right": [], "wrong": [], "unknown": []}
        for row in of_class:
            kinds[row["kind"]].append(_example_picture(row))
        groups.append({"class": class_name, "counts": counts.get(class_name), "kinds": kinds})
    more = records[0]["num_classes"] - len(groups) if records else 0
    all_right = bool(counts) and all(row["correct"] == row["images"] for row in counts.values())
    is_judged = any(row["correct"] is not None for row in counts.values())
    return {
        "groups": groups, "more": more, "all_right": all_right, "has_truth": bool(counts), "is_judged": is_judged,
    }  # fmt: skip


def _example_picture(row: Row) -> Picture:
    predicted, truth = words.plain(row["predicted_class"]), row["true_class"]
    known = "" if truth is None else f", true class {words.plain(truth)}"
    is_named = row["kind"] == "unknown" and truth is not None  # otherwise its group, or the wrong class, names it
    return Picture(
        data_uri(row["thumbnail"]),
        f"Image {row['image_id']}{known}: predicted {predicted} with confidence {share(row['confidence'])}",
        f"{predicted} {share(row['confidence'])}" if is_named else share(row["confidence"]),
        predicted if row["kind"] == "wrong" else None,
    )
