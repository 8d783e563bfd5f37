"""What torch adds to a dissection: scores past the size for views, and the null that its p is read from.

for unit in run(warehouse, device): ...     # one unit a dissection, for those of its layers that have none yet

Reads the rows that extraction left and the views top_activations and dissected_neurons, runs no network. A layer that
is added to a study later gets the same rows as one that was there from the start, and the others keep theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract.scoring import correlation, likelihood, nulls, robustness, scorers, spread_nulls, tails
from dissectdb.extract.scoring.likelihood import Lists
from dissectdb.extract.scoring.nulls import Null
from dissectdb.extract.scoring.problem import pieces
from dissectdb.extract.scoring.scorers import Scores, Settings
from dissectdb.extract.scoring.stored_layers import StoredLayer, read_layers

log = logging.getLogger("dissectdb")

READS = ("dissected_neurons", "top_activations")  # views that must be built
_OF_LAYERS = "dissection_id = $dissection and layer_id in (select unnest($layers))"
_OF_NEURONS = """
    dissection_id = $dissection
    and neuron_id in (select neuron_id from neurons where layer_id in (select unnest($layers)))
"""
COMPUTED = {  # table → which of its rows belong to some layers of a dissection
    "labelled_layers": _OF_LAYERS,
    "null_quantiles": _OF_LAYERS,
    "null_samples": _OF_LAYERS,
    "kernel_scores": _OF_NEURONS,
    "label_checks": _OF_NEURONS,
}
IMAGES_AT_ONCE = 16384  # whose embeddings are read at a time
LARGEST_TABLE = 2e8  # images × concepts that the test within classes may hold
REASONS = {  # of the view unlabelled_neurons, in words
    "dead": "dead (one value on all images)",
    "too few images": "firing on too few images (min_images = {min_images})",
    "ties": "tied (more images are equally high than the list holds; cos and pearson look at all images)",
    "no best concept": "without a best concept (all have the same score, or none has one)",
}


@dataclass(frozen=True)
class Evidence:
    """The CLIP side of a dissection, in the order of image and concept ids. images (N, D), concepts (C, D)."""

    image_ids: np.ndarray
    images: Tensor
    concept_ids: np.ndarray
    concepts: Tensor
    classes: np.ndarray | None  # (N,) numbers; None: an image has no class


def outstanding(warehouse: Any) -> pl.DataFrame:
    """The dissections of which a layer has no labels yet."""
    return warehouse.rows(
        """
        select * from dissections
        where dissection_id in (select dissection_id from unlabelled_layers)
        order by dissection_id
        """
    )


def run(warehouse: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield what each outstanding dissection lacks, as one unit.

    A layer is labelled in one piece: where more or fewer of its neurons count than were labelled, all of it is labelled
    anew, because the prior is over all its neurons.
    """
    rows = outstanding(warehouse).to_dicts()
    layer_ids = {row["dissection_id"]: unlabelled_layers(warehouse, row["dissection_id"]) for row in rows}
    for dissection_id, ids in layer_ids.items():
        warehouse.discard(COMPUTED, {"dissection": dissection_id, "layers": ids})
    for row in rows:
        ids = layer_ids[row["dissection_id"]]
        layers = [layer for layer in read_layers(warehouse, row) if layer.layer_id in ids]
        unit = label(row, read_evidence(warehouse, row), layers, device) if layers else {}
        yield unit | {"labelled_layers": _ledger(row, layers, ids)}


def tell_unlabelled(warehouse: Any, dissection_ids: Sequence[int]) -> None:
    """Log one line for each dissection in which neurons took no label: how many, and why."""
    rows = warehouse.rows(
        """
        select
            unlabelled_neurons.dissection_id, unlabelled_neurons.scorer, dissection_summary.concept_set,
            unlabelled_neurons.reason, unlabelled_neurons.min_images, count(*) as neurons
        from unlabelled_neurons
        inner join dissection_summary on unlabelled_neurons.dissection_id = dissection_summary.dissection_id
        where unlabelled_neurons.dissection_id in (select unnest($ids)) group by all order by 1, neurons desc, reason
        """,
        {"ids": list(dissection_ids)},
    )
    for key, reasons in rows.group_by("dissection_id", "scorer", "concept_set", maintain_order=True):
        number, scorer, concept_set = key
        count = f"{reasons['neurons'].sum():,}"
        why = ", ".join(f"{row['neurons']:,} {REASONS[row['reason']].format(**row)}" for row in reasons.to_dicts())
        log.info(
            f"neurons without a label by {scorer} with {concept_set}: {count}, of which {why}; to see them: "
            f"select * from unlabelled_neurons where dissection_id = {number}"
        )


def unlabelled_layers(warehouse: Any, dissection_id: int) -> list[int]:
    """The layer_ids of a dissection that have no labels yet."""
    query = "select layer_id from unlabelled_layers where dissection_id = $id order by layer_id"
    return warehouse.rows(query, {"id": dissection_id})["layer_id"].to_list()


def _ledger(row: dict[str, Any], layers: Sequence[StoredLayer], ids: Sequence[int]) -> pa.Table:
    """Rows of labelled_layers; those without a live neuron are in it too, because nothing more is computed of them."""
    counts = {layer.layer_id: int((~layer.dead).sum()) for layer in layers}
    groups = {layer.layer_id: sum(scored_groups(layer)) for layer in layers}
    return _table(
        row,
        len(ids),
        layer_id=np.array(ids, np.int32),
        neurons=np.array([counts.get(layer_id, 0) for layer_id in ids], np.int32),
        null_groups=np.array([groups.get(layer_id, 0) for layer_id in ids], np.int64),
    )


def label(
    row: dict[str, Any], evidence: Evidence, layers: Sequence[StoredLayer], device: torch.device
) -> dict[str, Any]:
    """A unit for one dissection: its null, and its scores where the kernel gives them."""
    settings = settings_of(row)
    null = draw_null(settings, evidence, layers, row["null_draws"], row["seed"])
    unit = {"null_quantiles": quantile_table(row, layers, null)}
    if settings.scorer == "rank_reorder":
        unit["null_samples"] = sample_table(row, layers, evidence, null)
    within = within_classes(settings, evidence)
    scored, checked = [], []
    kernel = row["engine"] == "kernel"
    for place, layer in enumerate(layers):
        keep = row["kept_concepts"] if kernel else 1
        scores = scorers.score_layer(settings, layer, evidence.images, evidence.concepts, keep=keep, device=device)
        if kernel:
            z = z_of_scores(settings, layer, place, scores, null, len(evidence.image_ids))
            scored.append(score_table(row, layer, evidence, scores, z))
        checked.append(check_table(row, layer, evidence, settings, within, scores.concepts[:, 0]))
        layer.lists.clear()
    unit["label_checks"] = pa.concat_tables(checked)
    return unit | ({"kernel_scores": pa.concat_tables(scored)} if kernel else {})


def settings_of(row: dict[str, Any]) -> Settings:
    """The scorer's hyper-parameters in a row of `dissections`."""
    names = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in row.items() if name in names})


def draw_null(settings: Settings, evidence: Evidence, layers: Sequence[StoredLayer], draws: int, seed: int) -> Null:
    """What the labels of unrelated neurons come to in each layer, for this scorer."""
    with torch.inference_mode():
        if settings.scorer in ("soft_wpmi", "wpmi"):
            lists = [prior_lists(settings, layer) for layer in layers]
            asked = [scored_groups(layer) or [settings.top_k] for layer in layers]
            return nulls.likelihood_null(settings, lists, asked, evidence.images, evidence.concepts, draws, seed)
        if settings.scorer == "rank_reorder":
            return nulls.reorder_null(settings, layers, evidence.images, evidence.concepts, draws, seed)
        if settings.scorer == "cos_cubed":
            null = nulls.cubed_null(settings, layers, evidence.images, evidence.concepts, draws, seed)
        else:
            ratios = [_ratio(settings, layer) for layer in layers]
            null = nulls.linear_null(settings, ratios, evidence.images, evidence.concepts, draws, seed)
        spread_nulls.spread_labels(settings, layers, null, evidence.images, evidence.concepts, draws, seed)
        return null


def prior_lists(settings: Settings, layer: StoredLayer) -> Lists:
    """The best images of the neurons that the prior is the mean over."""
    every = np.arange(layer.neurons)
    return Lists.of(settings, layer, every if settings.include_dead else every[~layer.dead])


def scored_groups(layer: StoredLayer) -> list[int]:
    """The different null_group of the neurons that take a label."""
    return [] if layer.groups is None else np.unique(layer.groups[~layer.dead]).tolist()


def _ratio(settings: Settings, layer: StoredLayer) -> np.ndarray:
    """Of live neurons, the mean of what is multiplied in units of its standard deviation; 0 where there is none."""
    if settings.scorer == "pearson":
        return np.zeros(1)
    spread = layer.spread
    live = nulls.is_whole(layer) & (spread.sd > 0)
    return spread.mean[live] / spread.sd[live] if live.any() else np.zeros(1)


def z_of_scores(
    settings: Settings, layer: StoredLayer, place: int, scores: Scores, null: Null, images: int
) -> np.ndarray:
    """z (K, keep) of kept scores, from the same moments as the views'; NaN where there is no score."""
    found, values = scores.concepts, np.where(scores.concepts >= 0, scores.similarities, np.nan)
    if settings.scorer == "pearson":
        return values * images**0.5
    if settings.scorer in ("soft_wpmi", "wpmi", "rank_reorder"):
        z = np.full(found.shape, np.nan)
        for group, known in null.moments[place].items():
            rows = ~layer.dead if layer.groups is None else ~layer.dead & (layer.groups == group)
            mine, prior = found[rows], 0.0
            if settings.scorer != "rank_reorder":
                _, constant = likelihood._tilts(settings, group)
                prior = settings.prior_weight * known.prior[mine] - (1 - settings.prior_weight) * constant
            z[rows] = (values[rows] + prior - known.mean[mine]) / known.sd[mine]
        return z
    [known, *_] = null.moments[place].values()
    spread = layer.cube_spread if settings.scorer == "cos_cubed" else layer.spread
    mean, sd = spread.mean[:, None], np.where(spread.sd > 0, spread.sd, np.nan)[:, None]
    least = correlation.MIN_NORM if settings.scorer == "cos_cubed" else 0.0
    norm = np.maximum(np.hypot(mean, sd) * images**0.5, least)
    other = np.maximum(np.hypot(known.mean, known.sd) * images**0.5, least)[found]
    product = values * norm * other / images  # mean of the products
    return (product - mean * known.mean[found]) / (sd * known.sd[found]) * (images - 1) ** 0.5


# ---------------------------------------------------------------- rows


def read_evidence(warehouse: Any, row: dict[str, Any]) -> Evidence:
    """The embeddings of the probing images and of the concepts, and the classes of the images."""
    images = warehouse.rows(
        "select image_id, class from images where split_id = $split and defect is null order by image_id",
        {"split": row["split_id"]},
    )
    ids = images["image_id"].to_numpy()
    concepts = warehouse.rows(
        """
        select concepts.concept_id, embedding from concepts
        inner join concept_embeddings on concepts.concept_id = concept_embeddings.concept_id
        where clip_id = $clip and concept_set_id = $concepts order by position
        """,
        {"clip": row["clip_id"], "concepts": row["concept_set_id"]},
    )
    classes = None
    if images["class"].null_count() == 0:
        classes = np.unique(images["class"].to_numpy(), return_inverse=True)[1]
    return Evidence(
        ids,
        read_embeddings(warehouse, row["clip_id"], ids),
        concepts["concept_id"].to_numpy(),
        torch.tensor(_matrix(concepts)),
        classes,
    )


def read_embeddings(warehouse: Any, clip_id: int, ids: np.ndarray) -> Tensor:
    """The embeddings (image, D) of images with these ids, which rise; some at a time, so that they are held once."""
    found: np.ndarray | None = None
    for some in pieces(len(ids), IMAGES_AT_ONCE):
        few = ids[some]
        # A range of ids: joining and sorting rows that carry embeddings takes four times as long.
        rows = warehouse.rows(
            """
            select image_id, embedding from image_embeddings
            where clip_id = $clip and image_id >= $first and image_id <= $last
            """,
            {"clip": clip_id, "first": int(few[0]), "last": int(few[-1])},
        )
        order = rows["image_id"].arg_sort().to_numpy()
        order = order[np.searchsorted(rows["image_id"].to_numpy(), few, sorter=order)]
        matrix = _matrix(rows)
        if found is None:
            found = np.empty((len(ids), matrix.shape[1]), np.float32)
        np.take(matrix, order, axis=0, out=found[some], mode="clip")
    assert found is not None, "a dissection has images"
    return torch.from_numpy(found)


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    """The embeddings (row, D), float32."""
    return rows["embedding"].explode().to_numpy().reshape(len(rows), -1).astype(np.float32, copy=False)


def quantile_table(row: dict[str, Any], layers: Sequence[StoredLayer], null: Null) -> pa.Table:
    """Rows of null_quantiles."""
    tables = []
    for layer, of_layer in zip(layers, null.labels, strict=True):
        for group in scored_groups(layer):
            z, p = tails.steps(of_layer[group], row["null_draws"])
            tables.append(_table(row, len(z), **_of_group(len(z), layer, group), z=z, p=p))
    return pa.concat_tables(tables)


def _of_group(count: int, layer: StoredLayer, group: int) -> dict[str, np.ndarray]:
    return {
        "layer_id": np.full(count, layer.layer_id, np.int32),
        "null_group": np.full(count, group, np.int32),
    }


def sample_table(row: dict[str, Any], layers: Sequence[StoredLayer], evidence: Evidence, null: Null) -> pa.Table:
    """Rows of null_samples."""
    tables = []
    for layer, moments in zip(layers, null.moments, strict=True):
        for group, found in moments.items():
            known = np.isfinite(found.mean)
            columns = {"concept_id": evidence.concept_ids[known], "mean": found.mean[known], "sd": found.sd[known]}
            tables.append(_table(row, known.sum(), **_of_group(known.sum(), layer, group), **columns))
    return pa.concat_tables(tables)


def score_table(row: dict[str, Any], layer: StoredLayer, evidence: Evidence, scores: Scores, z: np.ndarray) -> pa.Table:
    """Rows of kernel_scores for one layer."""
    neurons = np.repeat(np.arange(layer.neurons, dtype=np.int32) + layer.first_neuron, scores.concepts.shape[1])
    there = scores.concepts.ravel() >= 0
    return _table(
        row,
        there.sum(),
        neuron_id=neurons[there],
        concept_id=evidence.concept_ids[scores.concepts.ravel()[there]],
        similarity=scores.similarities.ravel()[there],
        z=pa.array(z.ravel()[there], mask=~np.isfinite(z.ravel()[there])),
    )


def within_classes(settings: Settings, evidence: Evidence) -> robustness.WithinClass | None:
    """The test within classes, where images have classes and it fits into memory."""
    if evidence.classes is None or evidence.images.shape[0] * len(evidence.concepts) > LARGEST_TABLE:
        return None
    return robustness.WithinClass(settings, evidence.images, evidence.concepts, evidence.classes)


def check_table(
    row: dict[str, Any],
    layer: StoredLayer,
    evidence: Evidence,
    settings: Settings,
    within: robustness.WithinClass | None,
    labels: np.ndarray,
) -> pa.Table:
    """Rows of label_checks: one for each neuron with a label."""
    there = labels >= 0
    images, concepts = evidence.images, evidence.concepts
    z = np.full(len(labels), np.nan) if within is None else within.z(layer, labels)
    agrees = robustness.split_half(settings, layer, images, concepts)
    share = np.full(len(labels), np.nan)
    if row["bootstraps"]:
        share = robustness.bootstrap(settings, layer, images, concepts, labels, row["bootstraps"], row["seed"])
    return _table(
        row,
        there.sum(),
        neuron_id=np.flatnonzero(there).astype(np.int32) + layer.first_neuron,
        concept_id=evidence.concept_ids[labels[there]],
        z_within_class=pa.array(z[there], mask=np.isnan(z[there])),
        split_half_agrees=pa.array(agrees[there] == 1, mask=np.isnan(agrees[there])),
        bootstrap_share=pa.array(share[there], mask=np.isnan(share[there])),
    )


def _table(row: dict[str, Any], count: int, **columns: Any) -> pa.Table:
    return pa.table({"dissection_id": np.full(count, row["dissection_id"], np.int32), **columns})
