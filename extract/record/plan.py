"""The plan of an extraction: everything that a study names, with fingerprints, and which parts are stale.

plan = extraction.make_plan(study)   # loads the models, writes nothing
print(plan.steps(warehouse))         # what is stale, with images, rows and bytes

A target is stale if no finished extraction has its fingerprint. The fingerprint covers images, weights, preprocessing,
layer, pooling and EXTRACTION_VERSION.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dissectdb.extract.images.scan import ALL, Source
from dissectdb.extract.models import classes, hooks
from dissectdb.extract.models.clip import ClipIdentity
from dissectdb.extract.models.networks import NetworkIdentity
from dissectdb.extract.models.preprocessing import Part
from dissectdb.extract.record import blocks, catalog, dissections, maps
from dissectdb.extract.record.blocks import MissingBlock, ModelIds
from dissectdb.extract.record.catalog import PlannedConcepts, ProbingSet
from dissectdb.extract.record.concept_notes import note_new_concepts
from dissectdb.extract.record.ledger import images_done
from dissectdb.extract.record.targets import Target
from dissectdb.extract.study import STORED_IMAGES, Dissection, Study, StudyError
from dissectdb.extract.study.scorers import SCORERS, Size
from dissectdb.extract.warehouse_protocol import Store, TableRows

log = logging.getLogger("dissectdb")

SHOWN_LAYERS = 3
# Bytes in the file for one row: an activation with its ids; a map; an embedding; a prediction, whose probabilities are
# extra.
MAP_BYTES = 80
ACTIVATION_BYTES, EMBEDDING_BYTES, PREDICTION_BYTES, PROBABILITY_BYTES = 4.4, 2048, 16, 4
SCAN_MEGABYTES = 2e-3  # of one image's row, mostly its thumbnail


@dataclass(frozen=True)
class Step:
    """One line of what an extraction would do."""

    step: str
    images: int
    rows: int
    megabytes: float


class PlannedDissection(NamedTuple):
    """A dissection of a study with its fingerprint."""

    settings: Dissection
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study's images, network, CLIP and concepts. Its two kinds are NetworkPlan and ArraysPlan.

    taps: the layers to record. shard: (i, n) for the blocks whose number modulo n is i. keep_activations: False stores
    only the summaries of activations. with_maps: False leaves out the activation maps.
    """

    study: Study
    source: Source
    probing_set: ProbingSet
    network: NetworkIdentity
    taps: Sequence[hooks.Tap]
    clip: ClipIdentity
    concept_sets: Sequence[PlannedConcepts]
    device: torch.device
    shard: tuple[int, int] = (0, 1)
    keep_activations: bool = True
    with_maps: bool = True

    def block_tables(
        self, missing: Sequence[MissingBlock], ids: ModelIds, count: Callable[[int], None]
    ) -> Iterator[Iterable[TableRows]]:
        """For each block of a split the rows of its targets. A block is computed when it is taken.

        count: called with the number of images of the block that are done.
        """
        raise NotImplementedError

    def best_maps(self, missing: Sequence[MissingBlock], ids: ModelIds) -> dict[str, maps.BestMaps]:
        """For each layer whose maps are missing, what collects them over these blocks of a split; by the tap's name."""
        names = {target.name for _, targets, _ in missing for target in targets if target.kind == "activation_maps"}
        images = max((block.images_in_split or len(block.images) for block, *_ in missing), default=0)
        layers = [layer for layer in ids.layers if layer.tap.name in names]
        return {
            layer.tap.name: maps.BestMaps(
                layer.tap, layer.first_neuron, self.study.map_images, images, self.maps_device
            )
            for layer in layers
        }

    @property
    def maps_device(self) -> torch.device:
        """Where the maps are when they are cut out."""
        return self.device

    def seen_part(self, width: int, height: int) -> Part | None:
        """Which part of an image of this size the network sees; None if that is unknown."""
        return None

    def targets(self) -> list[Target]:
        """Everything to compute for the study, each target over one split."""
        probing = self.probing_set.probing_split
        outputs, map_images = len(self.network.classes), self.study.map_images if self.with_maps else 0
        splits = [probing, *(split for split in catalog.SPLITS if split != probing and probing != ALL)]
        judge = self.study.judge
        recorded = [probing, *([judge.split] if judge and judge.split else [])]
        return [
            *(
                Target("activations", tap.name, split, catalog.layer_fingerprint(self.network, tap), tap.units)
                for split in recorded
                for tap in self.taps
            ),
            *(
                Target(
                    "activation_maps",
                    tap.name,
                    probing,
                    maps.fingerprint(catalog.layer_fingerprint(self.network, tap), tap, map_images),
                    tap.units,
                )
                for tap in self.taps
                if map_images and tap.grid
            ),
            *(Target("image_embeddings", self.clip.name, split, self.clip.fingerprint, 1) for split in recorded),
            *(
                Target("predictions", self.network.name, split, self.network.fingerprint, outputs)
                for split in splits
                if outputs  # not of a network without a classifier
            ),
        ]

    def dissections(self) -> list[PlannedDissection]:
        """The study's dissections with their fingerprints."""
        set_fingerprints = {planned.settings.name: planned.fingerprint for planned in self.concept_sets}
        return [
            PlannedDissection(
                settings,
                dissections.fingerprint(
                    settings,
                    self.network.fingerprint,
                    self.probing_set.fingerprint,
                    self.probing_set.probing_split,
                    self.clip.fingerprint,
                    set_fingerprints[settings.concepts],
                ),
            )
            for settings in self.study.dissections
        ]

    def dissection_id(self, warehouse: Store) -> int | None:
        """The id of the study's last dissection, which reports and edits use; None if it is not in the warehouse."""
        return warehouse.find("dissections", self.dissections()[-1].fingerprint)

    def dissection_ids(self, warehouse: Store) -> list[int]:
        """The ids of those of the study's dissections that the warehouse has, in the order of the study."""
        ids = (warehouse.find("dissections", fingerprint) for _, fingerprint in self.dissections())
        return [dissection_id for dissection_id in ids if dissection_id is not None]

    def is_done(self, warehouse: Store) -> bool:
        """Whether nothing is stale. Does not read images that the warehouse lacks: they are stale."""
        return warehouse.find("datasets", self.probing_set.fingerprint) is not None and not self.steps(warehouse)

    def steps(self, warehouse: Store) -> list[Step]:
        """What is not done yet; empty if nothing is stale. Raises StudyError if there are too few images."""
        dataset_id = warehouse.find("datasets", self.probing_set.fingerprint)
        if dataset_id is None:
            counts = self._scan()
            steps = [Step("scan the images", counts.total(), counts.total(), counts.total() * SCAN_MEGABYTES)]
        else:
            counts, steps = catalog.sound_counts(warehouse, dataset_id), []
        refuse_too_few(self, counts)
        if self.dissections():  # not if a CLIP only judges
            log.info(labelling(self, counts))
        note_new_concepts(warehouse, self.clip, self.concept_sets)
        target_steps = (self._target_step(warehouse, target, counts[target.split]) for target in self.targets())
        concept_steps = (self._concept_step(warehouse, planned) for planned in self.concept_sets)
        dissection_steps = (self._dissection_step(warehouse, planned) for planned in self.dissections())
        return [*steps, *filter(None, (*target_steps, *concept_steps, *dissection_steps))]

    def _scan(self) -> Counter[str]:
        """The number of sound images of each split, from the files."""
        images = Counter((image.split, image.class_name) for image in self.source.scan() if image.defect is None)
        classes.warn_of_splits(images)
        counts = Counter({split: 0 for split, _ in images})
        for (split, _), images_of_class in images.items():
            counts[split] += images_of_class
        return counts

    def _target_step(self, warehouse: Store, target: Target, images: int) -> Step | None:
        if (left := images - images_done(warehouse, target.fingerprint(self.probing_set.fingerprint))) == 0:
            return None
        rows = left
        if target.kind == "activations":  # or the top images of each block
            kept = left if self.keep_activations else min(left, STORED_IMAGES * -(-left // blocks.BLOCK))
            rows = kept * target.values_per_image
        elif target.kind == "activation_maps":
            rows = min(left, self.study.map_images) * target.values_per_image
        row_bytes = {
            "activations": ACTIVATION_BYTES,
            "activation_maps": MAP_BYTES,
            "image_embeddings": EMBEDDING_BYTES,
            "predictions": PREDICTION_BYTES + PROBABILITY_BYTES * target.values_per_image,
        }[target.kind]
        return Step(f"{target.kind.replace('_', ' ')} {target.name} {target.split}", left, rows, rows * row_bytes / 1e6)

    def _concept_step(self, warehouse: Store, planned: PlannedConcepts) -> Step | None:
        set_id = warehouse.find("concept_sets", planned.fingerprint)
        clip_id = warehouse.find("clips", self.clip.fingerprint)
        missing = len(planned.classes_of)
        if set_id is not None and clip_id is not None:
            missing = len(catalog.concepts_without_embedding(warehouse, clip_id, set_id))
        return Step(f"embed concepts {planned.settings.name}", 0, missing, 0.0) if missing else None

    def _dissection_step(self, warehouse: Store, planned: PlannedDissection) -> Step | None:
        scorer, concepts = planned.settings.scorer, planned.settings.concepts
        dissection_id = warehouse.find("dissections", planned.fingerprint)
        if dissection_id is None:
            return Step(f"dissect by {scorer} with {concepts}", 0, 1, 0.0)
        if names := self._unlabelled_layers(warehouse, dissection_id):
            return Step(f"label {_some(names)} by {scorer} with {concepts}", 0, len(names), 0.0)
        if names := self._unjudged_layers(warehouse, dissection_id):
            return Step(f"judge the labels of {_some(names)} by {scorer} with {concepts}", 0, len(names), 0.0)
        return None

    def _unlabelled_layers(self, warehouse: Store, dissection_id: int) -> list[str]:
        """Layers without labels of a dissection: the study's, and those that another study recorded for it."""
        query = "select layer_id from labelled_layers where dissection_id = $id"
        labelled = set(warehouse.rows(query, {"id": dissection_id})["layer_id"])
        ids = {tap.name: warehouse.find("layers", catalog.layer_fingerprint(self.network, tap)) for tap in self.taps}
        rows = warehouse.rows(
            """
            select named_layers.layer_id, layer from unlabelled_layers
            inner join named_layers on unlabelled_layers.layer_id = named_layers.layer_id
            where dissection_id = $id order by position, layer
            """,
            {"id": dissection_id},
        )
        unlabelled: dict[int, str] = dict(rows.iter_rows())
        of_other_studies = [layer for layer_id, layer in unlabelled.items() if layer_id not in ids.values()]
        return [
            *(name for name, layer_id in ids.items() if layer_id not in labelled or layer_id in unlabelled),
            *of_other_studies,
        ]

    def _unjudged_layers(self, warehouse: Store, dissection_id: int) -> list[str]:
        """Layers of a dissection with labels that were not judged."""
        rows = warehouse.rows(
            """
            select distinct layer, position from unjudged_layers
            inner join named_layers on unjudged_layers.layer_id = named_layers.layer_id
            where dissection_id = $id order by position, layer
            """,
            {"id": dissection_id},
        )
        return rows["layer"].to_list()

    def sized_dissections(self, counts: Counter[str]) -> list[tuple[Dissection, str, Size]]:
        """Each dissection with its fingerprint and its size. counts: sound images of each split."""
        concepts_in = {planned.settings.name: len(planned.classes_of) for planned in self.concept_sets}
        images, neurons = counts[self.probing_set.probing_split], sum(tap.units for tap in self.taps)
        return [
            (settings, fingerprint, Size(images, neurons, concepts_in[settings.concepts]))
            for settings, fingerprint in self.dissections()
        ]


def _some(names: Sequence[str]) -> str:
    """The first names, and … for the rest."""
    return ", ".join([*names[:SHOWN_LAYERS], *(["…"] if len(names) > SHOWN_LAYERS else [])])


def labelling(plan: Plan, counts: Counter[str]) -> str:
    """A sentence on which images label the neurons, and which do not."""
    probing = plan.probing_set.probing_split
    counts_of_others = [
        f"{counts[split]:,} of {split}" for split in catalog.SPLITS if split != probing and counts[split]
    ]
    rest = f"; {' and '.join(counts_of_others)} do not" if counts_of_others else ""
    return f"{counts[probing]:,} images of {probing} label the neurons{rest}"


def refuse_too_few(plan: Plan, counts: Counter[str]) -> None:
    """Raises StudyError, before anything is computed, if there are too few images for a scorer."""
    split, judge = plan.probing_set.probing_split, plan.study.judge
    if judge and judge.split and not counts[judge.split]:
        raise StudyError(f"judge.split = {judge.split!r}: the dataset has no sound image in it; take [judge] out")
    for settings in plan.study.dissections:
        declared = SCORERS[settings.scorer]
        if not plan.keep_activations and declared.reads_activations:
            alternatives = " or ".join(name for name, scorer in SCORERS.items() if not scorer.reads_activations)
            raise StudyError(
                f"{settings.scorer} reads every activation, which --activations none does not keep, and a sparse layer "
                f"of arrays neither; use {alternatives}, or keep them"
            )
        if counts[split] < settings.top_k:
            raise StudyError(
                f"the probing split {split} has {counts[split]} sound images, fewer than top_k = {settings.top_k}; "
                "add images, choose another dataset.probing_split or lower top_k"
            )
        half = counts[split] // 2  # the label must be found in each half of the images too
        if declared.permutes and declared.list_images and declared.list_images(settings, half) < 2:
            raise StudyError(
                f"{settings.scorer} sorts rank_fraction = {settings.rank_fraction} of {half} images, a half of the "
                f"probing split {split}, which is fewer than two; add images or raise rank_fraction"
            )
