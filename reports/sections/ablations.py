"""The section on causes: how much each class needs the neurons of a concept, and single neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from dissectdb.reports import charts, words
from dissectdb.reports.parts import Column, Figure, table, whole
from dissectdb.reports.words import count, cut, name, number, p_value


def causes(rows: Mapping[str, pl.DataFrame]) -> dict[str, Any] | None:
    """How much each class needs the neurons of a concept or single ones; None if no neuron was silenced."""
    concepts, neurons = rows["concept_effects"], rows["neuron_effects"].to_dicts()
    part: dict[str, Any] = {"concepts": None, "neurons": None}
    if len(concepts):
        records = concepts.to_dicts()
        strongest = sorted(records, key=lambda row: row["excess"] or 0, reverse=True)[:6]
        largest = max(records, key=lambda row: abs(row["delta_loss"]))
        phrases = [
            f"{words.plain(row['class'])} without {words.plain(row['concept'])} {row['delta_loss']:+.2f}"
            for row in strongest
        ]
        columns: list[Column] = [
            ("class", "Class", whole),
            ("concept", "Silenced", whole),
            ("neurons", "Neurons", count),
            ("delta_accuracy", "Change of share right", lambda value: words.points(value) + " points"),
            ("delta_loss", "of loss, nats", number),
            ("random_delta_loss", "… random neurons", number),
            ("excess", "Excess, sd", number),
            ("p", "p", p_value),
        ]
        part["concepts"] = {
            "figure": Figure(
                charts.heat_map(concepts, x="class", y="concept", value="delta_loss", read=_change),
                "effects-of-concepts",
                f"Without {cut(largest['concept'])} the loss of {cut(largest['class'])} changes most: "
                f"{_change(largest['delta_loss'])} nats",
                f"Heat map of the change of loss by silenced concept and class. Strongest: {', '.join(phrases)}.",
            ),
            "table": table(records, columns),
            "layer": name(records[0]["layer"]),
            "split": name(records[0]["split"]),
        }
    if neurons:
        columns = [
            ("layer", "Layer", whole),
            ("unit", "Unit", count),
            ("concept", "Label", whole),
            ("class", "Class", whole),
            ("delta_accuracy", "Change of share right", lambda value: words.points(value) + " points"),
            ("delta_loss", "of loss, nats", number),
            ("loss_low", "95 % from", number),
            ("loss_high", "to", number),
            ("flips", "Images that change", count),
        ]
        part["neurons"] = table(neurons, columns)
    return part if part["concepts"] or part["neurons"] else None


def _change(value: float) -> str:
    """A change as +0.17 or −0.05; 0 if it would round to zero."""
    return f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else "0"
