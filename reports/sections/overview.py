"""The sections on the network, its layers and its labels: rows in; texts, tables, pictures and charts out.

A section that has nothing to show is None or empty, and the template leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import polars as pl
from markupsafe import Markup

from dissectdb.reports import charts, sentences, words
from dissectdb.reports.parts import (
    Column,
    Figure,
    Picture,
    Row,
    Table,
    data_uri,
    image_name,
    table,
    top_picture,
    whole,
)
from dissectdb.reports.words import count, cut, loss, name, number, share, slug

Rows = Mapping[str, pl.DataFrame]
STRONGEST = 6  # neurons on the first screen
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
        ("Files that are not images of it", _listed(
            f"{count(row['files'])} {words.plain(row['reason'])}" for row in rows["files_left_out"].to_dicts())),
        ("Images for the network", _prepared(summary["network_preprocessing"])),
        ("Pooling", _listed(f"{words.plain(row['pooling'])} in {words.plural(row['layers'], 'layer', 'layers')}"
                            for row in rows["poolings"].to_dicts())),
        ("CLIP that made the labels", Markup("{}, weights {}").format(
            name(summary["clip"]), name(summary["clip_weights"]))),
        ("Images for CLIP", _prepared(summary["clip_preprocessing"])),
        ("Concepts", Markup("{} of the set {}").format(count(summary["concepts"]), name(summary["concept_set"]))),
        ("Prompts", _prompts(summary)),
        ("Scorer", name(summary["scorer"]) + IMAGES_OF_SCORERS.get(summary["scorer"], "").format(
            count(summary["top_k"]))),
        ("Interpretable", sentences.rule(summary)),
        ("Labelled on", Markup("{:%d %B %Y, %H:%M}").format(summary["created_at"])),
        ("Computed", _listed(f"on {device} in {precision}" for device, precision in
                             rows["passes"].select("device", "precision").unique().sort("device", "precision").rows())),
        ("Versions", _listed(_different(rows["passes"]["versions"].map_elements(_pairs, return_dtype=pl.String)))),
    ]  # fmt: skip
    return [(term, text) for term, text in parts if text]


def _listed(texts: Iterable[str]) -> Markup:
    """Texts in a row; empty if there are none."""
    return Markup("; ").join(name(text, 400) for text in texts)


def _pairs(text: str) -> str:
    """A JSON object as its keys and values in a row, without those that are empty."""
    pairs = {key: value for key, value in json.loads(text).items() if value not in ([], {}, "", None, False)}
    first = [key for key in ("size", "resize", "interpolation", "mode") if key in pairs]
    keys = [*first, *(key for key in pairs if key not in first)]
    return ", ".join(key if pairs[key] is True else f"{key} {_value(pairs[key])}" for key in keys)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_value, value))
    return number(value) if isinstance(value, float) else words.plain(value)


def _prepared(text: str) -> Markup:
    """How images are prepared, from the JSON of a network or a CLIP."""
    return name(_pairs(text), 400) if text != "{}" else Markup()


def _prompts(summary: Row) -> Markup:
    if summary["clip_preprocessing"] == "{}" and list(summary["templates"]) == ["{}"]:  # as of arrays
        return Markup("unknown, because embeddings were given")
    return Markup(", ").join(Markup("“{}”").format(name(text)) for text in summary["templates"])


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


def layers(rows: Rows) -> dict[str, Any] | None:
    """The table of layers, and its charts if there are two layers or more; None if no layer is labelled."""
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
        ("num_tied", "Tied", count),
    ]
    if not records:
        return None
    note = sentences.LABELS_UNKNOWN if sentences.are_labels_unknown(records) else None
    figures = [_rules_figure(rows["layers"]), _accuracies_figure(rows["layers"])] if len(records) > 1 else []
    return {"table": table(records, columns), "figures": [figure for figure in figures if figure], "note": note}


def _rules_figure(frame: pl.DataFrame) -> Figure | None:
    if not (ends := _ends_of_layers(frame, "share_calibrated")):
        ends = _ends_of_layers(frame, "share_above_tau")
        title = "{} of the labels of {} score above τ, {} of those of {}"
        same = "{} of the labels score above τ in every layer"
    else:
        title = "{} of the labels of {} are more than chance, {} of those of {}"
        same = "{} of the labels of every layer are more than chance"
    return _depth_figure(frame, charts.RULES, "believed-labels-by-layer", "share of neurons", title, same, ends)


def _accuracies_figure(frame: pl.DataFrame) -> Figure | None:
    ends = _ends_of_layers(frame, "overall_accuracy")
    title = "Labels are right for {} of the best images in {}, and for {} in {}"
    same = "Labels are right for {} of the best images in every layer"
    return _depth_figure(frame, charts.ACCURACIES, "right-labels-by-layer", "share of best images", title, same, ends)


def _ends_of_layers(frame: pl.DataFrame, column: str) -> list[Row]:
    """The layers with the largest and the smallest share; empty if it is known of none."""
    known = frame.filter(pl.col(column).is_not_null()).sort(column, "position", descending=True).to_dicts()
    return [{"layer": row["layer"], "share": row[column]} for row in (known[0], known[-1])] if known else []


def _depth_figure(
    frame: pl.DataFrame,
    measures: charts.Measures,
    called: str,
    of: str,
    title: str,
    same: str,
    ends: list[Row],
) -> Figure | None:
    """Lines over the layers; None if no layer has any of the measures. title: of shares that differ; same: of equal."""
    drawn = {column: measure[0] for column, measure in measures.items() if frame[column].null_count() < len(frame)}
    if not drawn or not ends:
        return None
    phrases = [
        f"{words.plain(row['layer'])} "
        + ", ".join(f"{measure} {share(row[column])}" for column, measure in drawn.items())
        for row in frame.head(60).to_dicts()
    ]
    texts = [text for end in ends for text in (share(end["share"]), cut(end["layer"]))]
    return Figure(
        charts.layer_depth(frame, measures, of),
        called,
        (same if ends[0]["share"] == ends[1]["share"] else title).format(*texts),
        f"Lines over {len(frame)} layers from the image to the output. {'; '.join(phrases)}.",
    )


def trust(rows: Rows) -> dict[str, Any] | None:
    """How many labels pass the tests beside chance, layer by layer; None if none was tested."""
    records = rows["layers"].to_dicts()
    if not sentences.is_tested(records):
        return None
    tests = sentences.tests_run(records)
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("neurons", "Neurons", count),
        ("num_calibrated", "Calibrated", count),
        ("num_agreeing", "… halves agree", str),
        ("num_within_class", "… beyond the class", str),
        ("num_robust", "Robust: all three" if len(tests) == 2 else "Robust: both", str),
        ("share_robust", "Share of tested", share),
        ("bootstrap_share", "Same label in resamples", share),
        ("judged_by_clip", "Judged by CLIP", number),
        ("judged_by_other_clip", "… by another CLIP", number),
        ("judged_by_class", "… by class", number),
    ]
    # Without this, a test that was not run would look like a test that no label passed.
    columns = [column for column in columns if any(row[column[0]] is not None for row in records)]
    pairs = {"num_agreeing": "num_halved", "num_within_class": "num_classed", "num_robust": "num_tested"}
    cells = [row | {key: sentences.passed(row, key, tested) for key, tested in pairs.items()} for row in records]
    [summary] = rows["summary"].to_dicts()
    return {
        "table": table(cells, columns),
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


def similarities(rows: Rows) -> dict[str, Any] | None:
    """One histogram of scores per layer, all on the same x axis; None if all scores are the same or there are none."""
    frame = rows["similarities"]
    if frame.is_empty():
        return None
    [summary] = rows["summary"].to_dicts()
    lowest, highest = _ends(frame)
    if highest - lowest < 1e-6:
        return None
    above = {row["layer"]: row["num_above_tau"] for row in rows["layers"].to_dicts()}
    tau = number(summary["tau"])
    figures = []
    for bars in frame.partition_by("position", "layer", maintain_order=True):
        layer, neurons = bars["layer"][0], int(bars["neurons"].sum())
        first, last = _ends(bars)
        labels = words.plural(neurons, "label", "labels")
        figures.append(
            Figure(
                charts.similarity_histogram(bars, summary["tau"], lowest, highest),
                slug("scores-of-labels", layer),
                f"{cut(layer)}: {count(above[layer])} of {labels} score above τ = {tau}",
                f"Histogram of {count(neurons)} neurons of {words.plain(layer)} over the score of their label, "
                f"from {number(first)} to {number(last)}; τ is {tau}.",
            )
        )
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("low", "Score from", number),
        ("high", "to", number),
        ("neurons", "Neurons", count),
    ]
    more = rows["layers"].height - len(figures)
    return {"figures": figures, "table": table(frame.to_dicts(), columns), "more": more}


def _ends(bars: pl.DataFrame) -> tuple[float, float]:
    """Where the first bar of a histogram starts and the last one ends."""
    first, last = bars.select(pl.min("low"), pl.max("high")).row(0)
    return first, last


def confusion(rows: Rows) -> dict[str, Any] | None:
    """The confusion matrix, as shares of each true class; None if no image has a class and a prediction."""
    frame = rows["confusion"]
    if frame.is_empty():
        return None
    judged = frame["is_correct"].null_count() < len(frame)
    mistakes = frame.filter(~pl.col("is_correct") if judged else pl.lit(True)).sort("share", descending=True)
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
    commonest = (", ".join(phrases) or "none") if judged else "unknown, since no true class is an output of the network"
    title = "No image of these classes is taken for another one"
    if len(mistakes):
        first = mistakes.row(0, named=True)
        title = f"{share(first['share'])} of {cut(first['true_class'])} are taken for {cut(first['predicted_class'])}"
        title += ", the commonest mistake" if judged else ""
    return {
        "figure": Figure(
            charts.heat_map(frame, x="predicted_class", y="true_class", value="share", read=words.percent),
            "confusion-of-classes",
            title,
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
    calibrated = {row["layer"]: row["num_calibrated"] for row in rows["layers"].to_dicts()}
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
        beyond = f"{count(calibrated[layer])} of {words.plural(neurons, 'label', 'labels')}"
        title = f"{cut(layer)}: {beyond} {'is' if calibrated[layer] == 1 else 'are'} more than chance"
        figures.append(Figure(charts.calibration(bars, marks), slug("z-of-labels", layer), title, alternative))
    columns: list[Column] = [
        ("layer", "Layer", whole),
        ("low", "z from", number),
        ("high", "to", number),
        ("neurons", "Neurons", count),
        ("expected", "By chance", number),
    ]
    return {"figures": figures, "table": table(frame.to_dicts(), columns)}


def provenance(rows: Rows) -> list[tuple[str, str]]:
    """The seed, and the fingerprint of each input."""
    parts = []
    for row in rows["provenance"].to_dicts():
        kinds = ("dataset", "network", "clip", "concept_set", "dissection")
        parts.append(("Seed", str(row["seed"])))
        parts += [(f"Fingerprint of the {words.plain(kind).replace('_', ' ')}", row[kind]) for kind in kinds]
    return parts


def _different(column: pl.Series) -> list[str]:
    return column.drop_nulls().unique().sort().to_list()


def strongest(rows: Rows) -> list[Row]:
    """A few of the strongest neurons with their best images, of different concepts if possible."""
    records = rows["top_neurons"].to_dicts()
    cards = []
    for _, group in groupby(records, key=lambda row: (row["layer"], row["unit"])):
        images = list(group)
        belief = sentences.belief(images[0])
        cards.append(images[0] | {"belief": belief, "images": images})
    firsts = {card["concept"]: card for card in reversed(cards)}  # the strongest of each concept
    chosen = [card for card in cards if firsts[card["concept"]] is card]
    chosen = (chosen + [card for card in cards if card not in chosen])[:STRONGEST]
    return [card | {"pictures": [top_picture(row) for row in card["images"]]} for card in chosen]


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
        f"{image_name(row)}{known}: predicted {predicted} with confidence {share(row['confidence'])}",
        image_name(row),
        f"{predicted} {share(row['confidence'])}" if is_named else share(row["confidence"]),
        predicted if row["kind"] == "wrong" else None,
    )
