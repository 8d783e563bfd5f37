"""The section on concepts: among neurons, behind predictions, by class, and those that mean nearly the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from markupsafe import Markup

from dissectdb.reports import charts, sentences, words
from dissectdb.reports.parts import Column, Figure, table, whole
from dissectdb.reports.words import count, cut, name, number, share, slug

Rows = Mapping[str, pl.DataFrame]


def concepts_by_neuron(rows: Rows) -> dict[str, Any] | None:
    """The bars of concepts of the layer with most interpretable neurons; None if no label is known to be right."""
    records = rows["concepts_by_neuron"].to_dicts()
    if not records or sentences.are_labels_unknown(rows["layers"].to_dicts()):
        return None
    first = records[0]
    columns: list[Column] = [
        ("concept", "Concept", whole),
        ("neurons", "Right neurons", count),
        ("share", "Share", share),
    ]
    part = {"layer": name(first["layer"]), "num_neurons": first["num_neurons"], "table": table(records, columns)}
    part["more"] = first["num_concepts"] - len(records)
    if len(records) == 1:
        text = "All right neurons of this layer ({}) carry one concept, {}."
        return part | {"note": Markup(text).format(count(first["num_neurons"]), name(first["concept"]))}
    tied = records[1]["neurons"] == first["neurons"]
    title = (
        f"{cut(first['concept'])} is {'one of the commonest labels' if tied else 'the commonest label'}: "
        f"{count(first['neurons'])} of the {count(first['num_neurons'])} right neurons of {cut(first['layer'])}"
    )
    phrases = [f"{words.plain(row['concept'])} {share(row['share'])}" for row in records]
    alternative = f"Bars, longest first, of {len(records)} concepts: {', '.join(phrases)}."
    chart = charts.concept_bars(rows["concepts_by_neuron"])
    return part | {"figure": Figure(chart, "concepts-of-right-neurons", title, alternative)}


def concepts_by_prediction(rows: Rows) -> dict[str, Any] | None:
    """For each class, the concepts behind its correct predictions; None if none is known, or there is one concept."""
    frame = rows["concepts_by_prediction"]
    [summary] = rows["summary"].to_dicts()
    unknown = rows["classes"]["correct"].null_count() == rows["classes"].height
    if unknown or frame.is_empty() or summary["concepts"] == 1:
        return None
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
    records = frame.to_dicts()
    phrases = [f"{words.plain(row['concept'])} {share(row['share'])}" for row in records]
    first = records[0]
    images = words.plural(first["correct"], "right image", "right images")
    return Figure(
        charts.class_concepts(frame, highest),
        slug("concepts-behind", first["class"]),
        f"{cut(first['class'])}: {cut(first['concept'])} spoke for {share(first['share'])} of {images}",
        f"Dots with intervals, class {words.plain(first['class'])}: {', '.join(phrases)}.",
    )


def concept_matrix(rows: Rows) -> dict[str, Any] | None:
    """The matrix of concepts and classes; None if there are fewer than two of either."""
    frame = rows["concept_matrix"]
    if frame["class"].n_unique() < 2 or frame["concept"].n_unique() < 2:
        return None
    in_dataset = frame.sort("position", "class", nulls_last=True).unique("class", maintain_order=True)
    strongest = frame.sort("share", descending=True).head(8).to_dicts()
    phrases = [
        f"{words.plain(row['concept'])} for {words.plain(row['class'])} {share(row['share'])}" for row in strongest
    ]
    columns: list[Column] = [
        ("concept", "Concept", whole),
        ("class", "Class", whole),
        ("images", "Right images", count),
        ("share", "Share", share),
    ]
    return {
        "figure": Figure(
            charts.heat_map(
                frame, x="class", y="concept", value="share", read=words.percent, columns=in_dataset["class"].to_list()
            ),
            "concepts-by-class",
            f"{cut(strongest[0]['concept'])} speaks for {share(strongest[0]['share'])} of the right images of "
            f"{cut(strongest[0]['class'])}, the largest share",
            f"Heat map of concepts by class. Strongest: {', '.join(phrases)}.",
        ),
        "table": table(frame.to_dicts(), columns),
    }


def concept_groups(rows: Rows) -> dict[str, Any] | None:
    """Which labels mean nearly the same, in sentences; None if no two do."""
    frame = rows["concept_groups"]
    if frame.is_empty():
        return None
    phrases = []
    for of_leader in frame.partition_by("leader", maintain_order=True):
        others = [row for row in of_leader.to_dicts() if row["concept"] != row["leader"]]
        parts = [Markup("{} ({})").format(name(row["concept"]), number(row["correlation"])) for row in others]
        phrases.append(Markup("{}: {}").format(name(of_leader["leader"][0]), Markup(", ").join(parts)))
    columns: list[Column] = [
        ("leader", "Group", whole),
        ("concept", "Concept", whole),
        ("correlation", "Correlation", number),
        ("neurons", "Neurons", count),
    ]
    return {"said": phrases, "table": table(frame.to_dicts(), columns)}
