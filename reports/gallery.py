"""The gallery: every neuron with its label and how far to believe it; the strongest with pictures and histograms.

data(rows, budget) is what gallery.js makes cards of: columns of numbers, names once each, a picture once each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from dissectdb.reports.parts import encoded
from dissectdb.reports.words import plain

NEURONS = 12_000  # cards of one page; the strongest of each layer come first
PICTURED, PICTURED_OF_LAYER = 480, 1500  # of them with pictures, as far as the budget reaches
IMAGES_PER_NEURON = 8
BUDGET = 8_000_000  # bytes of thumbnails in the page

# The strongest neurons of each layer take turns, so that no layer is without pictures. Dead and sparse ones come last.
_PLACES = """
    placed as (

        select
            neuron_concepts.*,
            layer_summary.position,
            row_number() over (
                partition by neuron_concepts.layer
                order by
                    neuron_concepts.dead, neuron_concepts.sparse, neuron_concepts.calibrated desc,
                    neuron_concepts.z desc nulls last,
                    neuron_concepts.similarity desc nulls last, neuron_concepts.unit
            ) as place_in_layer
        from neuron_concepts
        inner join layer_summary on neuron_concepts.layer = layer_summary.layer
        {where}

    )
"""
_ORDER = "dead, sparse, place_in_layer, position desc, layer"

_TEMPLATES: dict[str, str] = {
    # class: the true class of most of the neuron's best images.
    "gallery": f"""
        with {{places}},

        counted_classes as (

            select layer, unit, true_class, count(*) as images
            from top_images
            where rank <= {IMAGES_PER_NEURON} and true_class is not null
            group by layer, unit, true_class

        ),

        classes as (

            select layer, unit, true_class as class
            from counted_classes
            qualify row_number() over (partition by layer, unit order by images desc, true_class) = 1

        )

        select
            placed.network,
            placed.layer,
            placed.unit,
            placed.concept,
            placed.runner_up,
            placed.similarity,
            placed.z,
            placed.q,
            placed.z_within_class,
            placed.split_half_agrees,
            placed.bootstrap_share,
            neuron_accuracies.accuracy,
            classes.class,
            placed.calibrated,
            placed.interpretable,
            robust_labels.layer is not null as robust,
            placed.dead,
            placed.sparse
        from placed
        left join neuron_accuracies
            on placed.layer = neuron_accuracies.layer and placed.unit = neuron_accuracies.unit
        left join robust_labels on placed.layer = robust_labels.layer and placed.unit = robust_labels.unit
        left join classes on placed.layer = classes.layer and placed.unit = classes.unit
        order by {", ".join("placed." + each for each in _ORDER.split(", "))}
        limit {NEURONS}
    """,
    "gallery_images": f"""
        with {{places}},

        strongest as (

            select layer, unit, row_number() over (order by {_ORDER}) as place
            from placed
            order by place
            limit {{pictured}}

        )

        select
            strongest.layer,
            strongest.unit,
            named_neurons.neuron_id,
            top_images.rank,
            top_images.image_id,
            top_images.value,
            top_images.true_class,
            top_images.predicted_class,
            top_images.is_correct,
            images.thumbnail
        from strongest
        cross join shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        inner join named_neurons
            on
                dissections.network_id = named_neurons.network_id
                and strongest.layer = named_neurons.layer
                and strongest.unit = named_neurons.unit
        inner join top_images on strongest.layer = top_images.layer and strongest.unit = top_images.unit
        inner join images on top_images.image_id = images.image_id
        where top_images.rank <= {IMAGES_PER_NEURON}
        order by strongest.place, top_images.rank
    """,
}
QUESTIONS = {name: text.format(places=_PLACES.format(where=""), pictured=PICTURED) for name, text in _TEMPLATES.items()}
_OF_LAYER = _PLACES.format(where="where neuron_concepts.layer = $layer")
OF_LAYER = {name: text.format(places=_OF_LAYER, pictured=PICTURED_OF_LAYER) for name, text in _TEMPLATES.items()}

# The ids stand in the text: DuckDB then reads the activations of these neurons only.
HISTOGRAMS = """
    with of_classes as (

        select
            layer,
            unit,
            class,
            min(min(low)) over (partition by layer, unit) as low,
            max(max(high)) over (partition by layer, unit) as high,
            list(low order by low) as lows,
            list(images order by low) as images
        from activation_histograms
        where neuron_id in ({neuron_ids})
        group by layer, unit, class
        qualify
            row_number() over (
                partition by layer, unit
                order by sum(images * low) / sum(images) desc, class
            ) <= {classes}

    )

    select *
    from of_classes
    order by layer, unit, class
"""
CLASSES = 12  # of a neuron's histogram: those that activate it most
BARS = 20  # of activation_histograms
_NUMBERS = {"similarity": 3, "z": 3, "q": 2, "z_within_class": 3, "bootstrap_share": 2, "accuracy": 2}  # digits kept
_NAMES = ("layer", "concept", "runner_up", "class")
_FLAGS = (
    "calibrated",
    "robust",
    "interpretable",
    "dead",
    "sparse",
    "split_half_agrees",
)  # a bit each, then: whether halves exist


def ask(answer: Callable[..., pl.DataFrame], layer: str | None = None) -> dict[str, pl.DataFrame]:
    """The rows that data() reads, of one layer or of all. answer: a query's rows, as Warehouse.rows."""
    if layer is None:
        rows = {name: answer(question) for name, question in QUESTIONS.items()}
    else:
        rows = {name: answer(question, {"layer": layer}) for name, question in OF_LAYER.items()}
    neurons = rows["gallery_images"]["neuron_id"].unique().sort().to_list()
    rows["gallery_histograms"] = answer(
        HISTOGRAMS.format(neuron_ids=", ".join(map(str, neurons or [-1])), classes=CLASSES)
    )
    return rows


def data(rows: Mapping[str, pl.DataFrame], budget: int = BUDGET) -> dict[str, Any]:
    """What gallery.js reads; budget: bytes that the thumbnails of the page may take, as they stand in it."""
    frame = rows["gallery"]
    number = {key: place for place, key in enumerate(frame.select("layer", "unit").rows())}
    pictures, images = _pictures(rows["gallery_images"], number, budget)
    found: dict[str, Any] = {
        "network": plain(frame["network"][0]) if len(frame) else "",
        "unit": frame["unit"].to_list(),
        "pictures": pictures,
        "images": images,
        "histograms": _histograms(rows["gallery_histograms"], number, pictures),
    }
    for column in _NAMES:
        names, places = _once_each(frame[column])
        found[column] = {"names": names, "of": places}
    for column, digits in _NUMBERS.items():
        values = frame[column].round_sig_figs(digits)
        if column == "q":  # the page says «< 0.001», so one digit is enough to sort by
            values = pl.select(pl.when(values < 0.001).then(values.round_sig_figs(1)).otherwise(values)).to_series()
        found[column] = values.to_list() if values.null_count() < len(values) else []
    bits = [pl.col(column).fill_null(False).cast(pl.Int64) * 2**bit for bit, column in enumerate(_FLAGS)]
    halved = pl.col("split_half_agrees").is_not_null().cast(pl.Int64) * 2 ** len(_FLAGS)
    found["flags"] = frame.select(pl.sum_horizontal(*bits, halved)).to_series().to_list()
    return found


def _once_each(column: pl.Series) -> tuple[list[str], list[int | None]]:
    """The different texts, and for each row which of them it is."""
    names = column.drop_nulls().unique(maintain_order=True).to_list()
    places = {text: place for place, text in enumerate(names)}
    return [plain(text) for text in names], [places.get(text) for text in column.to_list()]


def _pictures(
    frame: pl.DataFrame, number: Mapping[tuple[str, int], int], budget: int
) -> tuple[dict[int, list[list[Any]]], dict[int, list[Any]]]:
    """[image id, activation] by neuron, and [true class, predicted class, PNG in base 64 or None, wrong] by image."""
    pictures: dict[int, list[list[Any]]] = {}
    images: dict[int, list[Any]] = {}
    for of_neuron in frame.partition_by("layer", "unit", maintain_order=True):
        new = {}
        for row in of_neuron.to_dicts():
            if row["image_id"] not in images:
                classes = [None if row[key] is None else plain(row[key]) for key in ("true_class", "predicted_class")]
                new[row["image_id"]] = [*classes, encoded(row["thumbnail"]), row["is_correct"] is False]
        budget -= sum(len(image[2] or "") for image in new.values())
        if budget < 0:
            break
        images |= new
        values = of_neuron.select("image_id", pl.col("value").round_sig_figs(4)).rows()
        pictures[number[of_neuron["layer"][0], of_neuron["unit"][0]]] = [list(pair) for pair in values]
    return pictures, images


def _histograms(
    frame: pl.DataFrame, number: Mapping[tuple[str, int], int], pictures: Mapping[int, Any]
) -> dict[int, dict[str, Any]]:
    """By neuron: its lowest and highest activation and, class by class, the images in each of BARS bars."""
    found: dict[int, dict[str, Any]] = {}
    for (layer, unit), of_neuron in frame.group_by("layer", "unit", maintain_order=True):
        place = number.get((layer, unit))
        if place not in pictures:
            continue
        lowest, highest = of_neuron["low"].min(), of_neuron["high"].max()
        classes = []
        for row in of_neuron.to_dicts():
            bars = [0] * BARS
            for low, images in zip(row["lows"], row["images"], strict=True):
                bars[min(BARS - 1, round((low - lowest) / max(highest - lowest, 1e-30) * BARS))] += images
            classes.append([None if row["class"] is None else plain(row["class"]), bars])
        found[place] = {"low": float(f"{lowest:.3g}"), "high": float(f"{highest:.3g}"), "classes": classes}
    return found
