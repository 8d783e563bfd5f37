"""The labels, and one concept: its neurons, its classes, and what its silencing does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.pages.overview import shown


def list_of_concepts(asked: Asked) -> Mapping[str, Any]:
    """Every label, with how many neurons carry it."""
    rows = asked.records("concepts", text=asked.text("text", 200))
    return {
        "summary": shown(asked),
        "rows": rows,
        "text": asked.text("text", 200) or "",
        "found": rows[0]["found"] if rows else 0,
    }


def concept(asked: Asked) -> Mapping[str, Any]:
    """One concept. A name that labels no neuron has a page too, which says so."""
    summary = shown(asked)
    name = asked.exact("name")
    if not name:
        raise NotThere("The address of a concept names it: /concept?name=Smile")
    has = asked.one("concept_has", f"There is no concept {name[:200]} in this dissection", concept=name)
    layers = asked.records("concept_layers", concept=name)
    believed = [row["num_interpretable"] for row in layers]
    return {
        "summary": summary,
        "concept": name,
        "layers": layers,
        "most": max((row["neurons"] for row in layers), default=0),
        "carried": sum(row["neurons"] for row in layers),
        "believed": None if None in believed else sum(believed),
        "neurons": asked.records("concept_neurons", concept=name),
        "near": asked.records("concept_near_classes", concept=name),
        "classes": asked.records("concept_classes", concept=name) if has["images"] else [],
        "silenced": asked.records("concept_silenced", concept=name) if has["effects"] else [],
    }
