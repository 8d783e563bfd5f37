"""What the warehouse holds, and its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dissectdb.reports import charts
from dissectdb.reports.words import plain, share
from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.charts import placed

NOTHING = "Nothing has been dissected yet; run: dissectdb extract STUDY"
INTERPRETABLE: charts.Measures = {"proportion_interpretable": ("interpretable", charts.BLUE, [1, 0], "circle")}


def shown(asked: Asked) -> dict[str, Any]:
    """The dissection of the pages. Raises NotThere if there is none, or not the one that the address names."""
    found = asked.records("shown")
    if found:
        return found[0]
    known = [str(row["dissection_id"]) for row in asked.records("dissections")]
    if not known or asked.dissection is None:
        raise NotThere(NOTHING)
    raise NotThere(f"There is no dissection {asked.dissection}; the warehouse has {', '.join(known)}")


def overview(asked: Asked) -> Mapping[str, Any]:
    """The finding, the numbers behind it, and where to go on."""
    summary = shown(asked)
    layers = asked.records("layers")
    tested = [row for row in layers if row["num_interpretable"] is not None]
    most = max((row["proportion_interpretable"] or 0 for row in tested), default=0)
    return {
        "summary": summary,
        "layers": layers,
        "neurons": sum(row["neurons"] for row in tested),
        "untested": sum(row["neurons"] for row in layers) - sum(row["neurons"] for row in tested),
        "interpretable": sum(row["num_interpretable"] for row in tested),
        "best": [row for row in tested if row["proportion_interpretable"] == most] if most else [],
        "accuracies": asked.records("accuracies"),
        "common": asked.records("common_concepts"),
        "strongest": asked.records("strongest"),
        "dissections": asked.records("dissections"),
    }


def layers(asked: Asked) -> Mapping[str, Any]:
    """Every layer: how much of it is interpretable, and how often its labels are right."""
    summary = shown(asked)
    rows = asked.rows("layers")
    figures = []
    if len(rows) > 1:
        for place, measures in (("interpretable", INTERPRETABLE), ("accuracies", charts.ACCURACIES)):
            if not any(rows[column].null_count() < len(rows) for column in measures):
                continue
            said = [
                f"{plain(row['layer'])} " + ", ".join(f"{of[0]} {share(row[key])}" for key, of in measures.items())
                for row in rows.head(60).to_dicts()
            ]
            figures.append(placed(place, charts.layer_depth(rows, measures), "; ".join(said)))
    return {"summary": summary, "layers": rows.to_dicts(), "charts": figures}
