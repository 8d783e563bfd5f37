"""Edits, one edit, and the images whose class it changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dissectdb.reports.sentences import controls_that_are_the_edit
from dissectdb.serve.asked import Asked, NotThere

SIZE = 48  # images on a page
KINDS = {"all": "all", "gained": "right only after", "lost": "right only before", "other": "wrong before and after"}


def list_of_edits(asked: Asked) -> Mapping[str, Any]:
    """Every edit that was measured, with its result on each split."""
    return {"rows": asked.records("edits")}


def edit(asked: Asked) -> Mapping[str, Any]:
    """One edit: its results, its controls, and the images whose class it changed."""
    number = asked.number("id")
    if number is None:
        raise NotThere("The address of an edit names its id: /edit?id=1")
    results = asked.records("edit", edit_id=number)
    if not results:
        raise NotThere(f"There is no measured edit {number}; the page Edits lists those that there are")
    page, kind = asked.number("page") or 1, asked.choice("kind", KINDS)
    values = {"edit_id": number, "kind": None if kind == "all" else kind, "size": SIZE}
    flips = asked.records("flips", first=(page - 1) * SIZE, **values)
    if not flips and page > 1:
        page, flips = 1, asked.records("flips", first=0, **values)
    controls = asked.records("edit_controls", edit_id=number)
    copies = (row["control"] for row in controls if row["percentile"] is None)
    return {
        "edit": results[0],
        "results": results,
        "controls": controls,
        "nothing": controls_that_are_the_edit(copies, results[0]["layer"]),
        "classes": asked.records("edit_classes", edit_id=number),
        "flips": flips,
        "found": flips[0]["found"] if flips else 0,
        "page": page,
        "pages": max(1, -(-(flips[0]["found"] if flips else 0) // SIZE)),
        "kinds": KINDS,
        "kind": kind,
    }
