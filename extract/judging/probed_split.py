"""Where labels are judged: a network's activations on the images of a split, and a CLIP.

probed = open_probed_split(warehouse, plan)     # of a study that was extracted
probed.layers, probed.outputs(probed.layers[-1]), probed.classes_of("Smile")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from dissectdb.extract.judging.pair_scores import Probe
from dissectdb.extract.judging.rivals import JudgedLayer
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.scoring.evidence import read_embeddings, read_images
from dissectdb.extract.scoring.halves import group_numbers
from dissectdb.extract.scoring.stored_layers import StoredLayer
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import loose_key
from dissectdb.extract.warehouse_protocol import Store

SAME_PREDICTION = 0.999  # of the images, for which the largest unit of an output layer is the predicted class


@dataclass(frozen=True)
class ProbedSplit:
    """Where labels are judged: a network's activations on a split, and a CLIP."""

    warehouse: Store
    plan: Plan
    network_id: int
    split_id: int
    clip_id: int
    templates: tuple[str, ...]

    @cached_property
    def layers(self) -> list[JudgedLayer]:
        """The layers with activations of all images of the split, nearest the image first."""
        rows = self.warehouse.rows(
            """
            select layer_id, named_layers.layer, module, min(neuron_id) as first_neuron, count(*) as neurons
            from named_layers inner join neurons using (layer_id)
            where network_id = $network and layer_id in (
                select layer_id from finished_extractions where split_id = $split and target = 'activations'
            )
            group by layer_id, named_layers.layer, module, position order by position, layer_id
            """,
            {"network": self.network_id, "split": self.split_id},
        )
        return [JudgedLayer(*row) for row in rows.rows()]

    @cached_property
    def images(self) -> pl.DataFrame:
        """image_id, class and image_group of the images that judge, in order."""
        return read_images(self.warehouse, self.split_id)

    @cached_property
    def probe(self) -> Probe:
        """Their embeddings and classes."""
        ids = self.images["image_id"].to_numpy()
        embeddings = read_embeddings(self.warehouse, self.clip_id, ids)
        return Probe(embeddings, self._classes[1], group_numbers(self.images["image_group"].to_list()))

    @property
    def class_names(self) -> list[str]:
        """The classes of these images; empty if an image has none."""
        return self._classes[0]

    @cached_property
    def _classes(self) -> tuple[list[str], np.ndarray | None]:
        if self.images["class"].null_count():
            return [], None
        names, numbers = np.unique(self.images["class"].to_numpy(), return_inverse=True)
        return names.tolist(), numbers

    @cached_property
    def classes_by_key(self) -> dict[str, set[str]]:
        """folded text → the classes that it stands for: a class of that name, else those of the study's concept."""
        found: dict[str, set[str]] = {}
        for planned in self.plan.concept_sets:
            for concept, names in planned.classes_of.items():
                if known := set(names) & set(self.class_names):
                    found.setdefault(fold(concept), set()).update(known)
        return found | {fold(name): {name} for name in self.class_names}

    def classes_of(self, text: str) -> set[str]:
        """The classes of the images that a label stands for; empty if unknown."""
        return self.classes_by_key.get(fold(text), set())

    def stored(self, layer: JudgedLayer) -> StoredLayer:
        """The layer, to read activations from."""
        lengths = np.zeros(layer.neurons, np.int64)
        ids = self.images["image_id"].to_numpy()
        return StoredLayer(
            self.warehouse, layer.layer_id, self.split_id, layer.first_neuron, lengths > 0, lengths, lengths, ids
        )

    def outputs(self, layer: JudgedLayer) -> tuple[str, ...]:
        """The name of each unit if the layer is the network's output, else nothing.

        It is if it has a unit for each class, and its largest unit is the predicted class.
        """
        names = tuple(self.plan.network.classes)
        if layer.neurons != len(names):
            return ()
        rows = self.warehouse.rows(
            """
            select image_id, predictions.class from predictions inner join images using (image_id)
            where network_id = $network and split_id = $split and defect is null order by image_id
            """,
            {"network": self.network_id, "split": self.split_id},
        )
        if len(rows) != len(self.images):
            return ()
        largest = self.stored(layer).block(0, layer.neurons).argmax(axis=1)
        return names if (np.array(names)[largest] == rows["class"].to_numpy()).mean() >= SAME_PREDICTION else ()


def fold(text: str) -> str:
    """A key that is equal for texts that differ only in case, spaces and punctuation."""
    return "".join(letter for letter in loose_key(text) if letter.isalnum()) or text


def open_probed_split(warehouse: Store, plan: Plan) -> ProbedSplit:
    """The network, images and CLIP of a study. Raises StudyError if the study is not extracted."""
    dissection_ids = plan.dissection_ids(warehouse)
    if len(dissection_ids) < len(plan.dissections()):
        raise StudyError("this study has not been extracted as it stands; run: dissectdb extract STUDY")
    [row] = warehouse.rows(
        """
        select network_id, split_id, clip_id, templates
        from dissections inner join concept_sets using (concept_set_id) where dissection_id = $id
        """,
        {"id": dissection_ids[-1]},
    ).to_dicts()
    split_id = _judging_split(warehouse, plan, row["split_id"])
    probed = ProbedSplit(warehouse, plan, row["network_id"], split_id, row["clip_id"], tuple(row["templates"]))
    if not probed.layers:
        raise StudyError("no layer has activations of all images that judge; run: dissectdb extract STUDY")
    kept = warehouse.rows(
        "select neuron_id from activations where neuron_id in (select unnest($first)) group by neuron_id",
        {"first": [layer.first_neuron for layer in probed.layers]},
    )
    if len(kept) < len(probed.layers):
        raise StudyError(
            "labels are judged on every activation, which --activations none did not keep, and a sparse layer "
            "of arrays neither; extract with them"
        )
    return probed


def _judging_split(warehouse: Store, plan: Plan, probing_split: int) -> int:
    """The id of the study's judge.split, else of the probing split."""
    if plan.study.judge is None or plan.study.judge.split is None:
        return probing_split
    rows = warehouse.rows(
        """
        select split_id from splits
        where split = $split and dataset_id in (select dataset_id from splits where split_id = $probing)
        """,
        {"split": plan.study.judge.split, "probing": probing_split},
    )
    return int(rows["split_id"][0])
