"""What torch adds to a dissection: scores past the size for views, and the null that its p is read from.

for unit in run(warehouse, device): ...     # one unit per dissection, for those of its layers that have no labels yet

Reads the rows of an extraction and the views top_activations and dissected_neurons; runs no network. A layer that is
added to a study later gets the same rows as one that was there from the start, and the other layers keep theirs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import torch

from dissectdb.extract.scoring import class_null, robustness, several_words, tails
from dissectdb.extract.scoring.correlation import to_presence
from dissectdb.extract.scoring.evidence import Evidence, read_evidence
from dissectdb.extract.scoring.nulls import Null, NullProblem, scored_groups
from dissectdb.extract.scoring.one_per_group import LEAST_GROUPS, OnePerGroup, one_of_each
from dissectdb.extract.scoring.problem import Layer, Scores, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.scoring.stored_layers import StoredLayer, read_layers
from dissectdb.extract.scoring.within_class import ImageClasses
from dissectdb.extract.study import STORED_IMAGES

if TYPE_CHECKING:
    from dissectdb.extract.warehouse_protocol import Row, Store
from dissectdb.progress import REPEATED

log = logging.getLogger("dissectdb")

READS = ("dissected_neurons", "top_activations")  # views that must be built
_OF_LAYERS = "dissection_id = $dissection and layer_id in (select unnest($layers))"
_OF_NEURONS = """
    dissection_id = $dissection
    and neuron_id in (select neuron_id from neurons where layer_id in (select unnest($layers)))
"""
COMPUTED = {  # table → which of its rows belong to the labels of some layers of a dissection
    "labelled_layers": _OF_LAYERS,
    "null_quantiles": _OF_LAYERS,
    "null_samples": _OF_LAYERS,
    "kernel_scores": _OF_NEURONS,
    "label_checks": _OF_NEURONS,
    "judged_layers": _OF_LAYERS,
    "label_measures": _OF_NEURONS,
    "label_words": _OF_NEURONS,
    "label_reach": _OF_NEURONS,
}
VERSION = 1  # of the formulas of all that COMPUTED holds; raised here and in unlabelled_layers if a result changes
OF_VERSION = 10**12  # how much of null_groups one version is: more than any sum of groups
MIN_IMAGES_FOR_WORDS = 50  # in each half
LARGEST_TABLE = 2e8  # images × concepts that the test within classes, and the words that explain a neuron, may hold
REASONS = {  # of the view unlabelled_neurons, in words
    "dead": "dead (one value on all images)",
    "too few images": "firing on too few images (min_images = {min_images})",
    "ties": "tied (more images are equally high than the list holds; cos and pearson look at all images)",
    "no best concept": "without a best concept (all have the same score, or none has one)",
}


class Tests(NamedTuple):
    """p, z_within_class and p_within of the labels of a layer (K,); NaN where there is none."""

    p: np.ndarray
    z_within: np.ndarray
    p_within: np.ndarray


def outstanding(warehouse: Store) -> pl.DataFrame:
    """The dissections with a layer that has no labels yet."""
    return warehouse.rows(
        """
        select * from dissections
        where dissection_id in (select dissection_id from unlabelled_layers)
        order by dissection_id
        """
    )


def run(warehouse: Store, device: torch.device) -> Iterator[dict[str, object]]:
    """Yield the missing rows of each outstanding dissection, as one unit.

    A layer is labelled as a whole. If the neurons that count are not those that were labelled, the layer is labelled
    anew, because the prior is over all its neurons.
    """
    rows = outstanding(warehouse).to_dicts()
    layer_ids = {row["dissection_id"]: unlabelled_layers(warehouse, row["dissection_id"]) for row in rows}
    for dissection_id, ids in layer_ids.items():
        warehouse.discard(COMPUTED, {"dissection": dissection_id, "layers": ids})
    for row in rows:
        ids = layer_ids[row["dissection_id"]]
        layers = [layer for layer in read_layers(warehouse, row) if layer.layer_id in ids]
        evidence = read_evidence(warehouse, row)
        unit = label(row, evidence, layers, device) if layers else {}
        yield unit | {"labelled_layers": _ledger(row, layers, ids)}


def tell_unlabelled(warehouse: Store, dissection_ids: Sequence[int]) -> None:
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
            f"select * from unlabelled_neurons where dissection_id = {number}",
            extra={REPEATED: True},
        )


def unlabelled_layers(warehouse: Store, dissection_id: int) -> list[int]:
    """The layer_ids of a dissection that have no labels yet."""
    query = "select layer_id from unlabelled_layers where dissection_id = $id order by layer_id"
    return warehouse.rows(query, {"id": dissection_id})["layer_id"].to_list()


def label(row: Row, evidence: Evidence, layers: Sequence[StoredLayer], device: torch.device) -> dict[str, object]:
    """A unit for one row of `dissections`: its null, and its scores if its engine is the kernel."""
    settings, kernel = settings_of(row), row["engine"] == "kernel"
    null = draw_null(settings, evidence, layers, row["null_draws"], row["seed"])
    chosen = one_of_each(evidence.groups, row["seed"])
    apart = None if chosen is None else one_per_group(row, settings, evidence, chosen, layers)
    unit = {"null_quantiles": quantile_table(row, layers, null)} if chosen is None else {}
    if SCORERS[settings.scorer].stores_moments:
        unit["null_samples"] = sample_table(row, layers, evidence, null)
    classes = image_classes(settings, evidence)
    classes_apart = None if apart is None else image_classes(apart.settings, apart.evidence)
    columns = word_columns(evidence)
    scored, checked, explained, untold = [], [], [], 0
    for place, layer in enumerate(layers):
        keep = row["kept_concepts"] if kernel else 1
        scores = score_layer(settings, layer, evidence.images, evidence.concepts, keep=keep, device=device)
        if kernel:
            scored.append(score_table(row, layer, evidence, scores, z_of_scores(settings, layer, place, scores, null)))
        positions = scores.concepts[:, 0]
        if chosen is None:
            tests = tests_of_images(row, layer, classes, positions)
        else:
            tests = tests_of_groups(apart, place, layer, classes, classes_apart, positions, device)
        checked.append(check_table(row, layer, evidence, settings, positions, tests))
        untold += untold_halves(layer, checked[-1])
        if columns is not None and layer.has_activations():
            explained.append(word_tables(row, layer, evidence, several_words.find_words(columns, layer, positions)))
        layer.lists.clear()
    if untold and evidence.halves.smaller >= settings.min_images:
        log.warning(
            f"{untold:,} labels of dissection {row['dissection_id']} are not tested on halves of the images: their "
            f"{STORED_IMAGES} stored images hold too few of a half, and activations are not kept"
        )
    unit["label_checks"] = pa.concat_tables(checked)
    if explained:
        unit["label_words"], unit["label_reach"] = map(pa.concat_tables, zip(*explained, strict=True))
    return unit | ({"kernel_scores": pa.concat_tables(scored)} if kernel else {})


def settings_of(row: Row) -> Settings:
    """The scorer's hyper-parameters in a row of `dissections`."""
    names = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in row.items() if name in names})


def draw_null(settings: Settings, evidence: Evidence, layers: Sequence[Layer], draws: int, seed: int) -> Null:
    """The labels of unrelated neurons in each layer, by this scorer."""
    with torch.inference_mode():
        problem = NullProblem(settings, layers, evidence.images, evidence.concepts, draws, seed)
        return SCORERS[settings.scorer].null(problem)


def z_of_scores(settings: Settings, layer: Layer, place: int, scores: Scores, null: Null) -> np.ndarray:
    """z (K, keep) of the scores of the layer at this place in the null; NaN where there is no score."""
    return SCORERS[settings.scorer].z(settings, layer, scores, null.moments[place])


def one_per_group(
    row: Row, settings: Settings, evidence: Evidence, chosen: np.ndarray, layers: Sequence[StoredLayer]
) -> OnePerGroup | None:
    """The test of labels on the chosen images, one of each group; None, and said, if there are too few groups."""
    if len(chosen) >= LEAST_GROUPS:
        return OnePerGroup.of(settings, evidence, chosen, layers, row["null_draws"], row["seed"])
    log.warning(
        f"the probing images of dissection {row['dissection_id']} are of {len(chosen)} groups; p and q are computed "
        f"from one image of each and need {LEAST_GROUPS}, so they are NULL"
    )
    return None


def tests_of_images(row: Row, layer: Layer, classes: ImageClasses | None, labels: np.ndarray) -> Tests:
    """The tests of labels (K,) of images without groups; p is looked up in the null, by the views."""
    p, z, p_within = np.full((3, len(labels)), np.nan)
    if classes is not None:
        z, p_within = class_null.within_classes(classes, layer, labels, row["null_draws"], row["seed"])
    return Tests(p, z, p_within)


def tests_of_groups(
    apart: OnePerGroup | None,
    place: int,
    layer: Layer,
    classes: ImageClasses | None,
    classes_apart: ImageClasses | None,
    labels: np.ndarray,
    device: torch.device,
) -> Tests:
    """The tests of labels (K,) of images in groups. p and p_within are of one image of each group, z is of all."""
    p, z, p_within = np.full((3, len(labels)), np.nan)
    if apart is not None:
        p = apart.p(place, labels, device)
        if classes_apart is not None:
            p_within = apart.p_within(place, labels, classes_apart)
    if apart is not None and classes is not None and not np.isnan(p_within).all():
        z = class_null.z_of_labels(classes, layer, labels, apart.seed)
    return Tests(p, z, p_within)


def image_classes(settings: Settings, evidence: Evidence) -> ImageClasses | None:
    """The classes for the test within classes; None if images have no classes or the test does not fit into memory."""
    if evidence.classes is None or evidence.images.shape[0] * len(evidence.concepts) > LARGEST_TABLE:
        return None
    return ImageClasses(settings, evidence.images, evidence.concepts, evidence.classes)


def word_columns(evidence: Evidence) -> several_words.WordColumns | None:
    """What may explain neurons; None if there are too few images for halves or the presences do not fit into memory."""
    count = len(evidence.images)
    if evidence.halves.smaller < MIN_IMAGES_FOR_WORDS or count * len(evidence.concepts) > LARGEST_TABLE:
        return None
    return several_words.WordColumns.of(
        to_presence(evidence.images @ evidence.concepts.T), evidence.images, evidence.halves
    )


# ---------------------------------------------------------------- rows


def quantile_table(row: Row, layers: Sequence[StoredLayer], null: Null) -> pa.Table:
    """Rows of null_quantiles."""
    tables = []
    for layer, of_layer in zip(layers, null.labels, strict=True):
        for group in scored_groups(layer):
            z, p = tails.steps(of_layer[group], row["null_draws"])
            tables.append(_table(row, len(z), **_group_columns(len(z), layer, group), z=z, p=p))
    return pa.concat_tables(tables)


def _group_columns(count: int, layer: StoredLayer, group: int) -> dict[str, np.ndarray]:
    return {
        "layer_id": np.full(count, layer.layer_id, np.int32),
        "null_group": np.full(count, group, np.int32),
    }


def sample_table(row: Row, layers: Sequence[StoredLayer], evidence: Evidence, null: Null) -> pa.Table:
    """Rows of null_samples."""
    tables = []
    for layer, of_layer in zip(layers, null.moments, strict=True):
        for group, moments in of_layer.items():
            finite = np.isfinite(moments.mean)
            count = int(finite.sum())
            columns = {"concept_id": evidence.concept_ids[finite], "mean": moments.mean[finite]}
            columns["sd"] = moments.sd[finite]
            tables.append(_table(row, count, **_group_columns(count, layer, group), **columns))
    return pa.concat_tables(tables)


def score_table(row: Row, layer: StoredLayer, evidence: Evidence, scores: Scores, z: np.ndarray) -> pa.Table:
    """Rows of kernel_scores for one layer."""
    neurons = np.repeat(np.arange(layer.neurons, dtype=np.int32) + layer.first_neuron, scores.concepts.shape[1])
    scored = scores.concepts.ravel() >= 0
    return _table(
        row,
        scored.sum(),
        neuron_id=neurons[scored],
        concept_id=evidence.concept_ids[scores.concepts.ravel()[scored]],
        similarity=scores.similarities.ravel()[scored],
        z=pa.array(z.ravel()[scored], mask=~np.isfinite(z.ravel()[scored])),
    )


def check_table(
    row: Row,
    layer: StoredLayer,
    evidence: Evidence,
    settings: Settings,
    labels: np.ndarray,
    tests: Tests,
) -> pa.Table:
    """Rows of label_checks: one for each neuron with a label. labels: (K,) positions of concepts, -1 for none."""
    labelled = labels >= 0
    images, concepts = evidence.images, evidence.concepts
    p, z, p_within = (values[labelled] for values in tests)
    agrees = robustness.split_half(settings, layer, images, concepts, evidence.halves)
    share = np.full(len(labels), np.nan)
    if row["bootstraps"]:
        share = robustness.bootstrap(
            settings, layer, images, concepts, labels, row["bootstraps"], row["seed"], evidence.groups
        )
    return _table(
        row,
        labelled.sum(),
        neuron_id=np.flatnonzero(labelled).astype(np.int32) + layer.first_neuron,
        concept_id=evidence.concept_ids[labels[labelled]],
        z_within_class=pa.array(z, mask=np.isnan(z)),
        split_half_agrees=pa.array(agrees[labelled] == 1, mask=np.isnan(agrees[labelled])),
        bootstrap_share=pa.array(share[labelled], mask=np.isnan(share[labelled])),
        p_within=pa.array(p_within, mask=np.isnan(p_within)),
        p=pa.array(p, mask=np.isnan(p)),
    )


def untold_halves(layer: StoredLayer, checks: pa.Table) -> int:
    """How many labels the halves do not test because activations are not kept: of neurons with more than are stored."""
    if layer.has_activations():
        return 0
    fires_on_more = layer.fired[checks["neuron_id"].to_numpy() - layer.first_neuron] >= STORED_IMAGES
    return int((fires_on_more & checks["split_half_agrees"].is_null().to_numpy()).sum())


def word_tables(
    row: Row, layer: StoredLayer, evidence: Evidence, found: several_words.Words
) -> tuple[pa.Table, pa.Table]:
    """Rows of label_words and label_reach for one layer."""
    neuron, place = np.nonzero(found.concepts >= 0)
    gains = np.concatenate([np.full((len(found.concepts), 1), np.nan), found.gains.r], axis=1)[neuron, place]
    margins = (
        several_words.Z * np.concatenate([np.zeros((len(found.concepts), 1)), found.gains.error], axis=1)[neuron, place]
    )
    no_gain = np.isnan(gains)
    of_words = _table(
        row,
        len(neuron),
        neuron_id=neuron.astype(np.int32) + layer.first_neuron,
        place=place.astype(np.int32) + 1,
        concept_id=evidence.concept_ids[found.concepts[neuron, place]],
        weight=found.weights[neuron, place],
        gain=pa.array(gains, mask=no_gain),
        gain_low=pa.array(gains - margins, mask=no_gain),
        gain_high=pa.array(gains + margins, mask=no_gain),
    )
    known = (found.concepts[:, 0] >= 0) & ~np.isnan(found.explained.r) & ~np.isnan(found.explainable.r)
    columns = {"neuron_id": np.flatnonzero(known).astype(np.int32) + layer.first_neuron}
    for name, correlation in (("explained", found.explained), ("explainable", found.explainable)):
        r, margin = correlation.r[known], several_words.Z * correlation.error[known]
        columns |= {name: r, f"{name}_low": r - margin, f"{name}_high": r + margin}
    by_other = found.by_other.r[known]
    columns["explained_by_other"] = pa.array(by_other, mask=np.isnan(by_other))
    return of_words, _table(row, known.sum(), **columns)


def _ledger(row: Row, layers: Sequence[StoredLayer], ids: Sequence[int]) -> pa.Table:
    """Rows of labelled_layers; also for layers without a neuron that takes a label, which get no other rows."""
    counts = {layer.layer_id: int((~layer.dead).sum()) for layer in layers}
    groups = {layer.layer_id: sum(scored_groups(layer)) + VERSION * OF_VERSION for layer in layers}
    return _table(
        row,
        len(ids),
        layer_id=np.array(ids, np.int32),
        neurons=np.array([counts.get(layer_id, 0) for layer_id in ids], np.int32),
        null_groups=np.array([groups.get(layer_id, 0) for layer_id in ids], np.int64),
    )


def _table(row: Row, count: int, **columns: object) -> pa.Table:
    return pa.table({"dissection_id": np.full(count, row["dissection_id"], np.int32), **columns})
