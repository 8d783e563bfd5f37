"""The list of neurons, and one neuron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dissectdb.reports.regions import control, drawn, region_of
from dissectdb.reports.words import number, plain
from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.charts import histograms
from dissectdb.serve.pages.images import called, source
from dissectdb.serve.pages.overview import shown

SIZE = 50  # neurons on a page
IMAGES = 24  # pictures of a neuron
SORTS = {
    "place": "strongest of each layer",
    "z": "z",
    "q": "q",
    "similarity": "score",
    "margin": "margin",
    "quality": "quality on other images",
    "concept": "label",
    "layer": "layer",
    "unit": "unit",
}
FALLING = ("z", "similarity", "margin", "quality")  # the highest first, unless the address says otherwise
STATES = {
    "any": "all",
    "believed": "interpretable",
    "robust": "robust",
    "unsure": "not interpretable",
    "unlabelled": "without a label",
    "dead": "dead",
}


def list_of_neurons(asked: Asked) -> Mapping[str, Any]:
    """One page of the neurons that meet a filter."""
    summary = shown(asked)
    sort, page = asked.choice("sort", SORTS), asked.number("page") or 1
    falls = {"up": False, "down": True}.get(asked.choice("order", ("", "up", "down")), sort in FALLING)
    values = {
        "module": asked.exact("layer") or None,
        "concept": asked.exact("concept") or None,
        "text": asked.text("text", 200),
        "state": asked.choice("state", STATES),
        "most_q": asked.real("q"),
        "sort": sort,
        "falls": falls,
        "first": (page - 1) * SIZE,
        "size": SIZE,
    }
    rows = asked.records("neurons", **values)
    if not rows and page > 1:  # beyond the last page, where no row says how many there are
        page, values["first"] = 1, 0
        rows = asked.records("neurons", **values)
    found = rows[0]["found"] if rows else 0
    return {
        "summary": summary,
        "layers": asked.records("layers"),
        "rows": rows,
        "found": found,
        "page": page,
        "pages": max(1, -(-found // SIZE)),
        "first": (page - 1) * SIZE + 1,
        "sorts": SORTS,
        "states": STATES,
        "chosen": values | {"order": "down" if falls else "up"},
    }


def neuron(asked: Asked) -> Mapping[str, Any]:
    """One neuron: pictures, scores, tests, activations by class, silencing, and the neurons near it."""
    summary = shown(asked)
    module, unit = asked.exact("layer"), asked.number("unit")
    if module is None or unit is None:
        raise NotThere("The address of a neuron names its layer and its unit: /neuron?layer=conv1&unit=0")
    label = asked.one("neuron", _absent(asked, module, unit), module=module, unit=unit)
    has = asked.one("neuron_has", _absent(asked, module, unit), neuron=label["neuron_id"])
    bars = asked.records("neuron_bars", neuron=label["neuron_id"]) if has["activations"] else []
    drawings, lowest, highest = histograms(bars)
    near = asked.number("near") == 1
    images = _images(asked, label["neuron_id"])
    mapped = sum(row["drawing"] is not None for row in images)
    return {
        "summary": summary,
        "label": label,
        "sure": how_sure(label),
        "images": images,
        "mapped": mapped,
        "looks": control("look") if mapped else None,
        "scores": asked.records("neuron_scores", neuron=label["neuron_id"]),
        "histograms": drawings,
        "lowest": lowest,
        "highest": highest,
        "silenced": asked.records("neuron_silenced", module=module, unit=unit) if has["effects"] else [],
        "same_label": (
            asked.records("near_by_label", module=module, unit=unit, label=label["concept"]) if label["concept"] else []
        ),
        "near": near,
        "correlated": asked.records("near_by_correlation", neuron=label["neuron_id"], module=module) if near else [],
    }


def _images(asked: Asked, neuron: int) -> list[dict[str, Any]]:
    """The best images of a neuron, each with its file, its texts and, if it has a map, the region drawn in it."""
    found = []
    places = {row["image_id"]: row for row in asked.records("neuron_regions", neuron=neuron, most=IMAGES)}
    for row in asked.records("neuron_images", neuron=neuron, most=IMAGES):
        place = places[row["image_id"]]
        row |= {"path": place["path"], "called": called(place)}
        row["said"] = (
            f"{row['called']}, place {row['rank']}: true class {plain(row['true_class'])}, "
            f"predicted {plain(row['predicted_class'])}, activation {number(row['value'])}"
        )
        region = region_of(place)
        row["drawing"] = drawn(region, source(row["image_id"]), row["said"]) if region else None
        found.append(row)
    return found


def _absent(asked: Asked, module: str, unit: int) -> str:
    sizes = {row["layer"]: row["neurons"] for row in asked.records("layers")}
    if module not in sizes:
        return (
            f"There is no layer {plain(module)[:200]}; there are {', '.join(plain(name) for name in list(sizes)[:40])}"
        )
    return f"{plain(module)} has no unit {unit}; it has {sizes[module]:,}, from 0"


def how_sure(label: Mapping[str, Any]) -> str:
    """How sure a label is, in a few words."""
    if label["dead"]:
        return "dead: it gives every image the same value"
    if label["tied"]:
        return "no label: its highest values are equal on too many images"
    if label["sparse"]:
        return f"fires on {label['images_fired']:,} images, too few for a label"
    if label["concept"] is None:
        return "no label: every concept has the same score"
    if label.get("tests"):
        return "robust: it passes every test that was run"
    if label["q"] is None:
        return "not tested: no null was drawn"
    return "more than chance" if label["calibrated"] else "could be chance"
