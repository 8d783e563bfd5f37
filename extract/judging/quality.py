"""Judge the labels of a warehouse on images that played no part in them: rows of label_measures.

for unit in run(warehouse): ...     # one unit per layer that is labelled and not judged yet

halves: the label that one half of the probing images gives a neuron is judged on the other, and the reverse; the
measures are averaged (extract/scoring/halves.py). A split: the label of all probing images is judged on the images of
that split. The threshold of f1 and iou is chosen on the images that gave the label. Reads activations and embeddings;
runs no network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from dissectdb.extract.judging.measures import (
    LEAST_IMAGES,
    RANGES,
    Estimate,
    Sample,
    Truth,
    interval,
    mean_of,
    presence,
)
from dissectdb.extract.scoring import robustness
from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.evidence import Evidence, read_evidence
from dissectdb.extract.scoring.labels import settings_of
from dissectdb.extract.scoring.stored_layers import StoredLayer, read_layers
from dissectdb.extract.threads import in_order

if TYPE_CHECKING:
    from dissectdb.extract.warehouse_protocol import Row, Store, Unit

log = logging.getLogger("dissectdb")

READS = ("neuron_labels", "dissected_neurons", "mapped_classes", "unjudged_layers")  # views that must be built
HALVES = "halves"
NEURONS_AT_ONCE = 256
VALUES_AT_ONCE = 8_000_000  # activations that a thread holds, and sorts, at a time
THREADS = 2  # sorting runs beside what holds Python's lock; more threads would wait for it


def run(warehouse: Store) -> Iterator[Unit]:
    """Yield the missing rows of label_measures with their ledger, one unit for each layer and what it is judged on."""
    rows = warehouse.rows("select * from dissections").to_dicts()
    query = "select dissection_id, judged_on, layer_id from unjudged_layers order by all"
    for (dissection_id, judged_on), missing in warehouse.rows(query).group_by(
        "dissection_id", "judged_on", maintain_order=True
    ):
        [row] = [row for row in rows if row["dissection_id"] == dissection_id]
        yield from judge_layers(warehouse, row, str(judged_on), missing["layer_id"].to_list())


def tell_unmeasured(warehouse: Store, dissection_ids: Sequence[int]) -> None:
    """Warn of images on which no label of a dissection could be measured."""
    rows = warehouse.rows(
        """
        select dissection_id, judged_on, max(images) as images from label_measures
        where dissection_id in (select unnest($ids))
        group by all having count(ap) = 0 order by all
        """,
        {"ids": list(dissection_ids)},
    )
    for dissection_id, judged_on, images in rows.iter_rows():
        where = "each half of the probing images" if judged_on == HALVES else f"the {judged_on} images ({images:,})"
        log.warning(
            f"no label of dissection {dissection_id} could be judged on {where}: a concept is judged on at least "
            f"{LEAST_IMAGES} images with it and {LEAST_IMAGES} without it; its measures are NULL there"
        )


def judge_layers(warehouse: Store, row: Row, judged_on: str, ids: Sequence[int]) -> Iterator[Unit]:
    """Yield the units of some layers of a dissection."""
    evidence = read_evidence(warehouse, row)
    references = references_of(warehouse, row, evidence)
    if judged_on == HALVES and not evidence.halves.smaller:
        log.warning(
            f"all probing images of dissection {row['dissection_id']} are of one group, so none can judge the labels "
            "that the others give; name another split in [judge], or give the images smaller groups"
        )
        yield {"judged_layers": [ledger(row, layer_id, judged_on, 0) for layer_id in ids]}
        return
    if judged_on != HALVES:
        other = row | {"split_id": other_split(warehouse, row, judged_on)}
        other_evidence = read_evidence(warehouse, other)
        other_references = references_of(warehouse, other, other_evidence)
    for layer in read_layers(warehouse, row):
        if layer.layer_id not in ids or not layer.has_activations():
            continue
        labels = stored_labels(row, layer, evidence)
        if judged_on == HALVES:
            images, cases, same = halves_of(row, layer, evidence, references, labels)
        else:
            on_split = replace(layer, split_id=other["split_id"], image_ids=other_evidence.image_ids, lists={})
            if not on_split.has_activations():
                continue
            images = [Images(layer, references, slice(None)), Images(on_split, other_references, slice(None))]
            cases, same = [Case(labels, 0, 1)], None
        yield judged_unit(row, evidence, labels, images, cases, judged_on=judged_on, same_halves=same)
        ids = [layer_id for layer_id in ids if layer_id != layer.layer_id]
    for layer_id in ids:  # without a live neuron, or without activations
        yield {"judged_layers": [ledger(row, layer_id, judged_on, 0)]}


def other_split(warehouse: Store, row: Row, name: str) -> int:
    """The id of the split of this name of a dissection's dataset."""
    query = """
        select split_id from splits
        where split = $name and dataset_id = (select dataset_id from splits where split_id = $split)
    """
    return int(warehouse.rows(query, {"name": name, "split": row["split_id"]}).item())


# ---------------------------------------------------------------- what the labels are compared with


class Reference(Protocol):
    """The truth of concepts in the images of a split."""

    def truth(self, concepts: np.ndarray) -> Truth:
        """The truth of some concepts, by their positions in the set, in all images."""

    def knows(self, concepts: np.ndarray) -> np.ndarray:
        """Whether there is a truth of each concept."""


@dataclass(frozen=True)
class ClipPresence:
    """What a CLIP sees. z is over all images of the evidence."""

    evidence: Evidence

    def truth(self, concepts: np.ndarray) -> Truth:
        """The presence of some concepts."""
        vectors = self.evidence.concepts.numpy()[concepts]
        return Truth.of_presence(presence(self.evidence.images.numpy() @ vectors.T))

    def knows(self, concepts: np.ndarray) -> np.ndarray:
        """True for each concept."""
        return np.ones(len(concepts), bool)


@dataclass(frozen=True)
class TrueClass:
    """Numbers of the classes of the images (N,), and the classes that each concept stands for, mapped (C, classes)."""

    classes: np.ndarray
    mapped: np.ndarray

    def truth(self, concepts: np.ndarray) -> Truth:
        """Whether the class of an image is one of those of a concept."""
        return Truth.of_classes(self.mapped[concepts].T[self.classes])

    def knows(self, concepts: np.ndarray) -> np.ndarray:
        """Whether each concept stands for a class of the images."""
        return self.mapped[concepts].any(axis=1)


def references_of(warehouse: Store, row: Row, evidence: Evidence) -> dict[str, Reference]:
    """clip: the CLIP of a dissection. other clip: that of judge_clips, if there is one for the images.

    class: the true classes, if every image has one and a concept stands for one.
    """
    found: dict[str, Reference] = {"clip": ClipPresence(evidence)}
    judges = warehouse.rows(
        "select clip_id from judge_clips where dissection_id = $dissection and split_id = $split",
        {"dissection": row["dissection_id"], "split": row["split_id"]},
    )
    for clip_id in judges["clip_id"]:
        found["other clip"] = ClipPresence(read_evidence(warehouse, row | {"clip_id": clip_id}))
    if evidence.classes is not None and (mapped := class_map(warehouse, row)).any():
        found["class"] = TrueClass(evidence.classes, mapped)
    return found


def class_map(warehouse: Store, row: Row) -> np.ndarray:
    """Which classes of the images each concept of a dissection stands for (C, classes), both in their order."""
    rows = warehouse.rows(
        """
        select concepts.position, names.class, mapped_classes.class is not null as mapped
        from concepts
        cross join (select distinct class from images where split_id = $split and defect is null) as names
        left join mapped_classes
            on concepts.concept_id = mapped_classes.concept_id and names.class = mapped_classes.class
        where concepts.concept_set_id = $concepts
        """,
        {"split": row["split_id"], "concepts": row["concept_set_id"]},
    )
    rows = rows.sort("position", "class")
    return rows["mapped"].to_numpy().reshape(rows["position"].n_unique(), -1)


# ---------------------------------------------------------------- judging


class Images(NamedTuple):
    """Some images of a split: a layer over the split, the references of its images, and which of them."""

    layer: StoredLayer
    references: Mapping[str, Reference]
    part: np.ndarray | slice


class Case(NamedTuple):
    """Labels (K,), -1 for none, and the numbers of the images that gave them and of those that judge them."""

    labels: np.ndarray
    given_by: int
    judged_on: int


def halves_of(
    row: Row, layer: StoredLayer, evidence: Evidence, references: Mapping[str, Reference], labels: np.ndarray
) -> tuple[list[Images], list[Case], np.ndarray]:
    """Both halves of the images with the labels that each gives, and how many of the two are `labels` (K,)."""
    first, second, is_untested = robustness.half_labels(
        settings_of(row), layer, evidence.images, evidence.concepts, evidence.halves
    )
    layer.lists.clear()
    given = [np.where(is_untested, -1, half) for half in (first, second)]
    images = [Images(layer, references, half) for half in evidence.halves]
    cases = [Case(given[0], 0, 1), Case(given[1], 1, 0)]
    return images, cases, np.sum([half == labels for half in given], axis=0)


def stored_labels(row: Row, layer: StoredLayer, evidence: Evidence) -> np.ndarray:
    """The label (K,) of each neuron of a layer, as the position of its concept; -1 for none."""
    rows = layer.warehouse.rows(
        """
        select neuron_id, concept_id from neuron_labels
        where dissection_id = $dissection and layer_id = $layer and concept_id is not null
        """,
        {"dissection": row["dissection_id"], "layer": layer.layer_id},
    )
    order = np.argsort(evidence.concept_ids)
    labels = np.full(layer.neurons, -1)
    places = np.searchsorted(evidence.concept_ids, rows["concept_id"].to_numpy(), sorter=order)
    labels[rows["neuron_id"].to_numpy() - layer.first_neuron] = order[places]
    return labels


class Judged(NamedTuple):
    """Measures of some neurons (K,), the share of images with the concept (K,), and how many images there were."""

    estimates: dict[str, Estimate]
    share: np.ndarray
    images: int


class Block(NamedTuple):
    """Some neurons of a layer, and by split their activations (n, N)."""

    neurons: slice
    activations: dict[int, np.ndarray]


def read_blocks(images: Sequence[Images]) -> Iterator[Block]:
    """The neurons of a layer, a few at a time."""
    layers = {some.layer.split_id: some.layer for some in images}  # both halves are of one split
    most = max(layer.images for layer in layers.values())
    for neurons in slices(images[0].layer.neurons, max(1, min(NEURONS_AT_ONCE, VALUES_AT_ONCE // most))):
        yield Block(neurons, {split: layer.rows(neurons.start, neurons.stop) for split, layer in layers.items()})


def judge_block(images: Sequence[Images], cases: Sequence[Case], block: Block) -> tuple[slice, dict[str, Judged]]:
    """By reference the measures of some neurons, averaged over the cases, whose judging images do not overlap."""
    labels = [case.labels[block.neurons] for case in cases]
    used = np.unique(np.concatenate(labels))
    used = used[used >= 0]
    splits = {some.layer.split_id: some for some in images}
    samples = [Sample(block.activations[some.layer.split_id].T[some.part]) for some in images]
    found = {}
    for name in set.intersection(*(set(some.references) for some in images)):
        truths = {split: some.references[name].truth(used) for split, some in splits.items()}
        seen = [
            sample.against(truths[some.layer.split_id].of(some.part))
            for sample, some in zip(samples, images, strict=True)
        ]
        of_cases = [
            judge_labels(seen[case.given_by], seen[case.judged_on], _columns(of_case, used))
            for case, of_case in zip(cases, labels, strict=True)
        ]
        found[name] = Judged(
            {measure: mean_of([judged.estimates[measure] for judged in of_cases]) for measure in RANGES},
            np.mean([judged.share for judged in of_cases], axis=0),
            sum(judged.images for judged in of_cases),
        )
    return block.neurons, found


def _columns(labels: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The place of each label among the used ones; -1 for none."""
    return np.where(labels < 0, -1, np.searchsorted(used, labels))


def judge_labels(given_by: Sample, judged_on: Sample, labels: np.ndarray) -> Judged:
    """The measures of a label (K,) for each neuron, a column of the truth of both samples; NaN where it is -1."""
    neurons = np.flatnonzero(labels >= 0)
    concepts = labels[neurons]
    measured = judged_on.measures(neurons, concepts, given_by.best_thresholds(neurons, concepts))

    def spread(values: np.ndarray) -> np.ndarray:
        of_all = np.full(len(labels), np.nan)
        of_all[neurons] = values
        return of_all

    estimates = {name: Estimate(spread(found.value), spread(found.error)) for name, found in measured.items()}
    return Judged(estimates, spread(judged_on.truth.shares[concepts]), judged_on.images)


# ---------------------------------------------------------------- rows


def judged_unit(
    row: Row,
    evidence: Evidence,
    labels: np.ndarray,
    images: Sequence[Images],
    cases: Sequence[Case],
    *,
    judged_on: str,
    same_halves: np.ndarray | None,
) -> Unit:
    """A unit with the rows of label_measures of a layer with these labels (K,), and its entry in judged_layers.

    There is no row by class for a label that stands for no class of the images.
    """
    layer, tables = images[0].layer, []
    work = partial(judge_block, images, cases)
    for neurons, by_reference in in_order(work, read_blocks(images), threads=THREADS, ahead=THREADS):
        for name, judged in by_reference.items():
            known = images[cases[0].judged_on].references[name].knows(np.maximum(labels[neurons], 0))
            chosen = np.flatnonzero((labels[neurons] >= 0) & known)
            columns: dict[str, object] = {
                "dissection_id": np.full(len(chosen), row["dissection_id"], np.int32),
                "neuron_id": (chosen + neurons.start + layer.first_neuron).astype(np.int32),
                "judged_on": pa.array([judged_on] * len(chosen), pa.string()),
                "reference": pa.array([name] * len(chosen), pa.string()),
                "concept_id": evidence.concept_ids[labels[neurons][chosen]],
                "same_halves": pa.nulls(len(chosen), pa.int32())
                if same_halves is None
                else same_halves[neurons][chosen].astype(np.int32),
                "images": np.full(len(chosen), judged.images, np.int32),
                "share": _or_null(judged.share[chosen]),
            }
            for measure, estimate in judged.estimates.items():
                low, high = interval(measure, estimate)
                columns[measure] = _or_null(estimate.value[chosen])
                columns |= {f"{measure}_low": _or_null(low[chosen]), f"{measure}_high": _or_null(high[chosen])}
            tables.append(pa.table(columns))
    entry = ledger(row, layer.layer_id, judged_on, int((labels >= 0).sum()))
    return {"label_measures": pa.concat_tables(tables), "judged_layers": [entry]}


def _or_null(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def ledger(row: Row, layer_id: int, judged_on: str, neurons: int) -> dict[str, object]:
    """A row of judged_layers."""
    return {
        "dissection_id": row["dissection_id"],
        "layer_id": layer_id,
        "judged_on": judged_on,
        "neurons": neurons,
    }
