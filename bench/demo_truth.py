"""How often is a neuron's label the concept that its activation separates best? Measured on faces with known concepts.

python -m bench.demo_truth demo/warehouse.duckdb     # made by `dissectdb extract studies/demo.toml`
python -m bench.demo_truth warehouse.duckdb --seed 0 --images 6000

For each of the demo's faces it is known which of 25 concepts are present. For every live neuron and concept, the area
under the ROC curve (AUC) measures how well the neuron's activation tells images with the concept from images without.
A label is right if its AUC is the highest of all concepts. Every dissection in the warehouse gets its rows, so that a
study with several [[dissections]] compares scorers. All are limited by CLIP: if its embeddings do not show a concept,
no scorer can find it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from bench.made import percent, show
from dissectdb.extract.demo import faces
from dissectdb.warehouse import Warehouse

FEWEST = 20  # images with a concept, and without, for its AUC to count
HEAD = ("scorer", "layer", "live", "right", "mean AUC", "best AUC", "calibrated", "right of them", "mean AUC of them")


def concept_aucs(activations: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """AUC (neuron, concept) of activations (image, neuron) for truth (image, concept); NaN for rare concepts."""
    images, shown = len(truth), truth.sum(axis=0)
    enough = (shown >= FEWEST) & (images - shown >= FEWEST)
    ranks = np.stack([average_ranks(column) for column in activations.T])
    sums = ranks @ truth.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = (sums - shown * (shown + 1) / 2) / (shown * (images - shown))
    return np.where(enough, areas, np.nan)


def average_ranks(column: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values get the mean of their ranks."""
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def read_activations(warehouse: Warehouse, split_id: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neuron ids, positions of the images in the dataset, activations (image, neuron)."""
    rows = warehouse.rows(
        """
        select neuron_id, position, value from activations
        inner join images on activations.image_id = images.image_id
        where split_id = $split and defect is null order by neuron_id, position
        """,
        {"split": split_id},
    )
    neurons, positions = rows["neuron_id"].unique().sort().to_numpy(), rows["position"].unique().sort().to_numpy()
    return neurons, positions, rows["value"].to_numpy().reshape(len(neurons), len(positions)).T


def labelled(warehouse: Warehouse) -> pl.DataFrame:
    """The label of each live neuron in each dissection, by name."""
    return warehouse.rows(
        """
        select dissection_id, scorer, layer, layers.position, neuron_id, concept, neuron_labels.calibrated
        from neuron_labels
        inner join dissections using (dissection_id)
        inner join layers on neuron_labels.layer_id = layers.layer_id
        inner join concepts on neuron_labels.concept_id = concepts.concept_id
        where not neuron_labels.dead
        order by dissection_id, layers.position, neuron_id
        """
    )


def judge_labels(rows: pl.DataFrame, neurons: np.ndarray, areas: np.ndarray) -> pl.DataFrame:
    """The rows with three more columns: the label's AUC, the neuron's highest AUC, and whether the two are equal."""
    place = np.searchsorted(neurons, rows["neuron_id"].to_numpy())
    concept = np.array([faces.CONCEPTS.index(name) for name in rows["concept"]])
    mine, best = areas[place, concept], np.nanmax(areas[place], axis=1)
    return rows.with_columns(auc=pl.Series(mine), best=pl.Series(best), right=pl.Series(mine == best))


def summary(rows: pl.DataFrame) -> Iterator[tuple[object, ...]]:
    """One row per scorer and layer, and one per scorer for all layers."""
    for (_, scorer), of_scorer in rows.group_by(["dissection_id", "scorer"], maintain_order=True):
        groups = [*of_scorer.group_by("layer", maintain_order=True), (("all",), of_scorer)]
        for (layer,), group in groups:
            believed = group.filter("calibrated")
            yield (
                scorer, layer, len(group), _mean(group["right"], percent), _mean(group["auc"]), _mean(group["best"]),
                len(believed), _mean(believed["right"], percent), _mean(believed["auc"]),
            )  # fmt: skip


def _mean(values: pl.Series, how: Callable[[float], str] = "{:.3f}".format) -> str:
    known = values.cast(pl.Float64).drop_nans()
    return how(float(known.to_numpy().mean())) if len(known) else "–"


def by_chance(areas: np.ndarray) -> str:
    """A sentence on how many labels would be right if they were random, or all the same."""
    known = ~np.isnan(areas).all(axis=0)
    commonest = np.bincount(np.nanargmax(areas, axis=1)).max() / len(areas)
    return f"A random label is right for {percent(1 / known.sum())}, the commonest concept for {percent(commonest)}."


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo_truth", description=__doc__.split("\n")[0])
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("--images", type=int, default=6000, help="dataset.images of the study")
    parser.add_argument("--seed", type=int, default=0, help="dataset.seed of the study")
    options = parser.parse_args()
    with Warehouse(options.warehouse, read_only=True) as warehouse:
        rows = labelled(warehouse)
        [split] = warehouse.rows("select distinct split_id from dissections")["split_id"]
        neurons, positions, activations = read_activations(warehouse, split)
    truth = faces.draw(options.images, options.seed).truth[positions]
    areas = concept_aucs(activations, truth)
    title = f"Labels of {len(positions):,} drawn faces against their truth"
    show(title, HEAD, summary(judge_labels(rows, neurons, areas)))
    print(f"\n{by_chance(areas)}")


if __name__ == "__main__":
    main()
