"""What commands show of a warehouse at their end: tables of answers, what they found, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dissectdb.commands import tables
from dissectdb.commands.screen import put
from dissectdb.commands.stages import warnings
from dissectdb.reports.judge_sentences import FEW_OF_CLASS, OTHER_Q, by_clip, compared, lacks_class, reached
from dissectdb.reports.questions import load
from dissectdb.reports.sentences import controls_that_are_the_edit
from dissectdb.reports.words import share

TOO_FEW_IMAGES = "no label could be measured: each half of the images needs 20 with the concept and 20 without it"
LAYERS = 8  # that sentences speak of, one by one
# Columns that are NULL if the images or labels have no true class to compare with; such a NULL is shown as "unknown".
# The accuracy of a layer's interpretable neurons is not among them: it is also NULL if the layer has none.
UNKNOWN = dict.fromkeys(("correct", "accuracy", "loss", "overall_accuracy"), "unknown")

_SQL = {name: question.sql for name, question in load("terminal").items()}

# What commands show at their end: title of the table → query.
AFTER_EXTRACT = {
    "Images": _SQL["images_by_split"],
    "How often the network is right": _SQL["accuracies_of_shown"],
    "Layers": _SQL["layers"],
    "A few neurons": _SQL["strongest_neurons"],
}
FOUND = {"commonest": _SQL["commonest_labels"]}  # what only a sentence says
EDIT = {"edit": _SQL["edit"], "results": _SQL["edit_results"], "controls": _SQL["edit_controls"]}
AFTER_EFFECTS = {
    "Concepts that a class needs most: its loss when their neurons are silent, beside random neurons": _SQL[
        "concepts_needed"
    ],
    "Single neurons that a class needs most": _SQL["neurons_needed"],
}
STATUS = {
    "Tables": _SQL["tables"],
    "Networks": _SQL["networks"],
    "Dissections": _SQL["dissections"],
    "Left out": _SQL["left_out"],
    "Unfinished extractions": _SQL["unfinished_extractions"],
}


def public_views() -> pl.DataFrame:
    """The views that users query, each with the sentence that says what a row of it is."""
    from dissectdb.warehouse.view_files import load_views

    views = sorted((view.name, view.title) for view in load_views() if view.public)
    return pl.DataFrame(views, schema=["view", "one row is"], orient="row")


def show_answers(answers: Mapping[str, pl.DataFrame]) -> None:
    """Print the answers to questions, by title, as tables. A column without a value and an empty table are left out."""
    for title, rows in answers.items():
        if len(rows):
            known = [name for name in rows.columns if name in UNKNOWN or rows[name].null_count() < len(rows)]
            tables.show(rows.select(known), title=title, nulls=UNKNOWN)


# ---------------------------------------------------------------- what was found


def found_labels(answers: Mapping[str, pl.DataFrame]) -> list[str]:
    """What an extraction found: how many neurons are labelled, by which concepts, how often the network is right.

    answers: to AFTER_EXTRACT and FOUND.
    """
    layers, commonest = answers["Layers"], answers["commonest"].to_dicts()
    tested, others = layers.drop_nulls("num_interpretable"), layers.filter(pl.col("num_interpretable").is_null())
    neurons, labelled = (sum(tested[column].to_list()) for column in ("neurons", "num_interpretable"))
    untested = sum(others["neurons"].to_list())
    of_all = f" ({share(labelled / neurons)})" if neurons else ""
    sentences = [f"{labelled:,} of {neurons:,} neurons are interpretable{of_all}"] if neurons or not untested else []
    if untested:
        sentences.append(f"not tested against chance: {untested:,} {'more ' if neurons else ''}neurons, without a null")
    if commonest:
        names = ", ".join(f"{row['concept']} ({row['neurons']:,})" for row in commonest)
        sentences.append(f"their commonest labels: {names}")
    accuracies = answers["How often the network is right"].drop_nulls("accuracy").to_dicts()
    if accuracies:
        by_split = ", ".join(f"{share(row['accuracy'])} of {row['split']}" for row in accuracies)
        sentences.append(f"the network is right on {by_split}")
    elif len(answers["How often the network is right"]):
        sentences.append("how often the network is right is unknown")
    return sentences


def found_effects(answers: Mapping[str, pl.DataFrame]) -> list[str]:
    """What silencing found: the class that needs a concept most. answers: to AFTER_EFFECTS."""
    concepts, neurons = (rows.to_dicts() for rows in answers.values())
    sentences = []
    if concepts:
        row = max(concepts, key=lambda row: row["delta_loss"] - (row["random_delta_loss"] or 0))
        random = row["random_delta_loss"]
        beside = "" if random is None else f", and by {random:+.2g} without as many random ones"
        chance = "" if row["p"] is None else f" (p = {row['p']:.2g})"
        sentences.append(
            f"the class {row['class']} needs {row['concept']} most: without its {row['neurons']:,} neurons of "
            f"{row['layer']} the loss of the class changes by {row['delta_loss']:+.2g}{beside}{chance}"
        )
    if neurons:
        row = max(neurons, key=lambda row: row["delta_loss"])
        label = row["concept"] or "no label"
        sentences.append(f"of single neurons, {row['class']} needs {row['layer']} {row['unit']} most ({label})")
    return sentences or ["no class needs any of these neurons"]


def found_judgements(summary: pl.DataFrame, pairs: pl.DataFrame) -> list[str]:
    """What judging found, per layer: what the only method reaches, or the best if there is one.

    summary, pairs: the answers to the questions of judge.
    """
    sentences = []
    differences = pairs.to_dicts()
    for (layer, _, split), rows in summary.group_by("layer", "dataset", "split", maintain_order=True):
        methods = by_clip(rows.to_dicts())
        standing = compared(methods, [row for row in differences if row["layer"] == layer])
        if not methods:
            found = TOO_FEW_IMAGES
        elif len(methods) == 1:
            found = f"{methods[0]['method']}: {reached(methods[0])}"
        elif standing.best:
            found = f"{standing.best['method']} fits best of {len(methods)}; {reached(standing.best)}"
        else:
            found = standing.why_none()
        sentences.append(f"{layer}, {split}: {found}")
    left = len(sentences) - LAYERS
    shown = sentences if left <= 0 else [*sentences[:LAYERS], f"… and {left:,} more layers"]
    return [*shown, OTHER_Q] if summary["within_classes"].any() else shown


def show_found(sentences: Sequence[str]) -> None:
    """Print what a run found, with the number of its warnings."""
    count = warnings()
    put()
    put("Found", "bold")
    for sentence in sentences:
        put(sentence, indent=2)
    if count:
        put(f"{'1 warning' if count == 1 else f'{count:,} warnings'}, printed while it ran", "yellow", indent=2)


# ---------------------------------------------------------------- edits and judged labels


def show_edit(answers: Mapping[str, pl.DataFrame], checkpoint: Path) -> None:
    """Print what a chosen edit did: its numbers, its controls, and one sentence per split on whether it helped."""
    [edit] = answers["edit"].to_dicts()
    results = answers["results"]
    parent = f", itself an edit of {edit['parent']}" if edit["parent"] else ""
    title = f"Edit {edit['name']} of {edit['network']}{parent}, layer {edit['layer']}"
    tables.show(results.drop("verdict", "is_probing_set", "edits_tried"), title=title)
    tables.show(answers["controls"], title="Beside its controls: right images more or fewer than before", empty="none")
    copies = answers["controls"].filter(pl.col("percentile").is_null())["control"].to_list()
    if nothing := controls_that_are_the_edit(copies, edit["layer"]):
        put()
        put(nothing)
    put()
    for row in results.to_dicts():
        put(verdict(row))
    put()
    print(f"checkpoint: {checkpoint}")


def show_judged(summary: pl.DataFrame, pairs: pl.DataFrame) -> None:
    """Print one table per layer: each method with the means of its measures, and the correlation of its controls."""
    kept = (
        "method", "reference", "neurons", "measured", "labels", "share_believed", "random_believed", "pearson",
        "pearson_low", "pearson_high", "random_pearson", "shuffled_pearson", "ap_corrected", "auc", "f1", "iou",
        "most_sharing", "names_output", "output_similarity",
    )  # fmt: skip
    for (layer, dataset, split), rows in summary.group_by("layer", "dataset", "split", maintain_order=True):
        known = [name for name in kept if rows[name].null_count() < len(rows)]
        tables.show(rows.select(known), title=f"Labels of {layer}, on {split} images of {dataset}")
    if summary["measured"].sum() == 0:
        put(TOO_FEW_IMAGES)
        return
    if lacks_class(summary.to_dicts()):
        put(FEW_OF_CLASS, "dim")
    if sentences := found_judgements(summary, pairs):
        show_found(sentences)


def verdict(row: Mapping[str, Any]) -> str:
    """One line on whether an edit helped on a split."""
    percentile = "" if row["percentile"] is None else f", {ordinal(100 * row['percentile'])} percentile of random edits"
    tried = row["edits_tried"]
    chosen = f" (the best of {tried:,} tried: p corrected {row['p_corrected']:.2g})" if tried > 1 else ""
    same_images = "; the labels were made on these very images" if row["is_probing_set"] else ""
    return (
        f"{row['split']}: {row['gained']:,} gained and {row['lost']:,} lost of {row['images']:,}, "
        f"p = {row['p_mcnemar']:.2g}{percentile}{chosen}: {row['verdict']}{same_images}"
    )


def ordinal(number: float) -> str:
    """A number in words of rank: 41st, 12th."""
    whole = round(number)
    ending = "th" if whole // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"
