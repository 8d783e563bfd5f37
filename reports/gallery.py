"""The gallery: every neuron with its label and the tests of it; the strongest with pictures and histograms.

data(rows, budget) is what gallery.js turns into cards: columns of numbers, with each name and each picture stored once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from dissectdb.reports import regions
from dissectdb.reports.parts import LARGE, SMALL, encoded, image_name
from dissectdb.reports.questions import Ask, load
from dissectdb.reports.sentences import BELIEFS
from dissectdb.reports.words import cut, plain

QUESTIONS = load("gallery")
PICTURED, PICTURED_OF_LAYER = 480, 1500  # neurons with pictures, on the page and on a layer's page, within the budget
BUDGET = 8_000_000  # bytes of thumbnails in the page
BARS = 20  # of activation_histograms
_NUMBERS = {"similarity": 3, "z": 3, "q": 2, "z_within_class": 3, "bootstrap_share": 2, "accuracy": 2}  # digits kept
_NUMBERS |= {"judged_ap": 2, "judged_ap_low": 2, "judged_ap_high": 2}
_NAMES = ("layer", "concept", "runner_up", "class", "judged_by", "words", "reach")
_TERMS = {  # column → the word of the glossary that a card's number is explained by
    "similarity": "score", "z": "z", "q": "q", "z_within_class": "beyond the class",
    "split_half_agrees": "halves agree", "bootstrap_share": "resamples", "judged_ap": "judged", "words": "together",
    "accuracy": "right",
}  # fmt: skip
_FLAGS = (
    "calibrated",
    "robust",
    "interpretable",
    "dead",
    "sparse",
    "tied",
    "split_half_agrees",
)  # a bit each, then: whether halves exist


def ask(answer: Ask, layer: str | None = None) -> dict[str, pl.DataFrame]:
    """The rows that data() reads, of one layer or of all."""
    values = _values(layer)
    rows = {name: QUESTIONS[name].ask(answer, values) for name in ("gallery", "gallery_images")}
    # No neuron has the id -1; an empty list would not be SQL.
    neuron_ids = rows["gallery_images"]["neuron_id"].unique().sort().to_list() or [-1]
    rows["gallery_histograms"] = answer(QUESTIONS["gallery_histograms"].with_values(neuron_ids=neuron_ids))
    return rows


def texts(layer: str | None = None) -> dict[str, str]:
    """The SQL that stands on the page behind the gallery, with its values."""
    return {"gallery": QUESTIONS["gallery"].with_values(**_values(layer))}


def _values(layer: str | None) -> dict[str, Any]:
    return {"layer": layer, "pictured": PICTURED if layer is None else PICTURED_OF_LAYER}


def data(rows: Mapping[str, pl.DataFrame], budget: int = BUDGET) -> dict[str, Any]:
    """The data that gallery.js reads. budget: bytes of the page for thumbnails, in base 64."""
    frame = rows["gallery"]
    number = {neuron: index for index, neuron in enumerate(frame.select("layer", "unit").rows())}
    pictures, images = _pictures(rows["gallery_images"], number, budget, LARGE)
    if (
        len(pictures) < rows["gallery_images"].select("layer", "unit").n_unique()
    ):  # not all fit: more are better than large
        pictures, images = _pictures(rows["gallery_images"], number, budget, SMALL)
    columns: dict[str, Any] = {
        "network": plain(frame["network"][0]) if len(frame) else "",
        "unit": frame["unit"].to_list(),
        "pictures": pictures,
        "images": images,
        **_regions(rows["gallery_images"], number, pictures),
        "histograms": _histograms(rows["gallery_histograms"], number, pictures),
        "beliefs": BELIEFS,
        "terms": [word for column, word in _TERMS.items() if frame[column].null_count() < len(frame)],
        "example": _example(frame),
    }
    for column in _NAMES:
        names, indices = _encoded_names(frame[column])
        columns[column] = {"names": names, "of": indices}
    for column, digits in _NUMBERS.items():
        values = frame[column].round_sig_figs(digits)
        if column == "q":  # the page writes «< 0.001», so one digit is enough to sort by
            values = pl.select(pl.when(values < 0.001).then(values.round_sig_figs(1)).otherwise(values)).to_series()
        columns[column] = values.to_list() if values.null_count() < len(values) else []
    bits = [pl.col(column).fill_null(False).cast(pl.Int64) * 2**bit for bit, column in enumerate(_FLAGS)]
    halved = pl.col("split_half_agrees").is_not_null().cast(pl.Int64) * 2 ** len(_FLAGS)
    columns["flags"] = frame.select(pl.sum_horizontal(*bits, halved)).to_series().to_list()
    return columns


def _example(frame: pl.DataFrame) -> str:
    """What one may search for: a layer and a label."""
    labelled = frame.filter(pl.col("concept").is_not_null())
    return f"{cut(labelled['layer'][0], 20)} {cut(labelled['concept'][0], 20)}".lower() if len(labelled) else "unit 12"


def _encoded_names(column: pl.Series) -> tuple[list[str], list[int | None]]:
    """The distinct texts, and for each row the index of its text."""
    names = column.drop_nulls().unique(maintain_order=True).to_list()
    indices = {text: index for index, text in enumerate(names)}
    return [plain(text) for text in names], [indices.get(text) for text in column.to_list()]


def _pictures(
    frame: pl.DataFrame, number: Mapping[tuple[str, int], int], budget: int, side: int
) -> tuple[dict[int, list[list[Any]]], dict[int, list[Any]]]:
    """[image id, activation] by neuron; [true class, predicted class, picture in base 64, wrong, name] by image.

    side: pixels of a picture, at most. Neurons whose pictures the budget does not cover have none.
    """
    pictures: dict[int, list[list[Any]]] = {}
    images: dict[int, list[Any]] = {}
    for of_neuron in frame.partition_by("layer", "unit", maintain_order=True):
        new: dict[int, list[Any]] = {}
        for row in of_neuron.to_dicts():
            if row["image_id"] not in images:
                classes = [None if row[key] is None else plain(row[key]) for key in ("true_class", "predicted_class")]
                new[row["image_id"]] = [
                    *classes, encoded(row["thumbnail"], side), row["is_correct"] is False, image_name(row)
                ]  # fmt: skip
        budget -= sum(len(image[2] or "") for image in new.values())
        if budget < 0:
            break
        images |= new
        values = of_neuron.select("image_id", pl.col("value").round_sig_figs(4)).rows()
        pictures[number[of_neuron["layer"][0], of_neuron["unit"][0]]] = [list(pair) for pair in values]
    return pictures, images


def _regions(frame: pl.DataFrame, number: Mapping[tuple[str, int], int], pictures: Mapping[int, Any]) -> dict[str, Any]:
    """regions: by neuron, image id → [index of its frame, path, scale, left, top]; frames: width, height, cells.

    Neurons without pictures, and images without a map or without a picture, have none.
    """
    frames: dict[tuple[int, int, str], int] = {}
    by_neuron: dict[int, dict[int, list[Any]]] = {}
    for row in frame.filter(pl.col("cells").is_not_null(), pl.col("thumbnail").is_not_null()).iter_rows(named=True):
        neuron, region = number[row["layer"], row["unit"]], regions.region_of(row)
        if neuron in pictures and region is not None:
            placed = frames.setdefault((region.width, region.height, region.cells), len(frames))
            by_neuron.setdefault(neuron, {})[row["image_id"]] = [placed, region.loops, *region.zoom]
    return {"regions": by_neuron, "frames": [list(placed) for placed in frames], "everything": regions.EVERYTHING}


def _histograms(
    frame: pl.DataFrame, number: Mapping[tuple[str, int], int], pictures: Mapping[int, Any]
) -> dict[int, dict[str, Any]]:
    """By neuron: its lowest and highest activation and, class by class, the images in each of BARS bars."""
    histograms: dict[int, dict[str, Any]] = {}
    for of_neuron in frame.partition_by("layer", "unit", maintain_order=True):
        neuron = number.get((of_neuron["layer"][0], of_neuron["unit"][0]))
        if neuron is None or neuron not in pictures:
            continue
        lowest, highest = of_neuron["lowest"][0], of_neuron["highest"][0]
        width = max(highest - lowest, 1e-30)
        classes = []
        for of_class in of_neuron.partition_by("class", maintain_order=True):
            bars = [0] * BARS
            for low, images in of_class.select("low", "images").rows():
                bars[min(BARS - 1, round((low - lowest) / width * BARS))] += images
            name = of_class["class"][0]
            classes.append([None if name is None else plain(name), bars])
        histograms[neuron] = {"low": float(f"{lowest:.3g}"), "high": float(f"{highest:.3g}"), "classes": classes}
    return histograms
