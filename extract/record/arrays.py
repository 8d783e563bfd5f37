"""The plan of a study of arrays: activations and embeddings that were computed elsewhere, instead of a network.

plan = make_plan(study)   # reads the file's header, writes nothing

It fills the same tables and ledger as a network's plan. The file's content is in the fingerprint of all its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from dissectdb.extract import concepts, fingerprints
from dissectdb.extract.images.scan import Image, Source
from dissectdb.extract.models import classes, devices
from dissectdb.extract.models.clip import ClipIdentity
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.models.networks import NetworkIdentity
from dissectdb.extract.record import catalog
from dissectdb.extract.record.arrays_file import (
    CLASS,
    CONCEPTS,
    IMAGES,
    LAYER,
    PREDICTED,
    Arrays,
    open_arrays,
    shape_text,
    slices,
)
from dissectdb.extract.record.blocks import Block, MissingBlock, ModelIds, embeddings_table, layer_tables, lists
from dissectdb.extract.record.catalog import ProbingSet
from dissectdb.extract.record.plan import Plan
from dissectdb.extract.record.targets import Target
from dissectdb.extract.study import ArraysStudy, StudyError
from dissectdb.extract.warehouse_protocol import TableRows

SPLIT = "train"  # all images are in it


class ArraysSource(Source):
    """Images that are known only by their embeddings. arrays: the open file."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.name = arrays, str(arrays.path)
        self.classes = arrays.classes if CLASS in arrays.shapes else ()

    def fingerprint(self) -> str:
        return fingerprints.of_values("arrays", self.arrays.fingerprint, self.classes)

    def scan(self) -> Iterator[Image]:
        for start, stop in slices(self.arrays.count):
            rows = self.arrays.directions(IMAGES, start, stop)
            numbers = self.arrays.numbers(CLASS, start, stop) if self.classes else []
            for row, position in enumerate(range(start, stop)):
                class_name = self.classes[numbers[row]] if self.classes else None
                # Two images may have the same embedding, so the position is hashed too.
                digest = hashlib.sha256(rows[row].tobytes() + position.to_bytes(8, "little")).hexdigest()
                yield Image(position, f"row {position}", SPLIT, class_name, digest, None, None, None, None)


@dataclass(frozen=True, kw_only=True)
class ArraysNetwork(NetworkIdentity):
    """A network that is known only by the outputs of its layers."""

    layers: Sequence[str]

    def modules(self) -> Mapping[str, nn.Module | None]:
        return dict.fromkeys(self.layers)


@dataclass(frozen=True, kw_only=True)
class ArraysClip(ClipIdentity):
    """A CLIP that is known only by its embeddings. embeddings: concept → (dimension,) of unit length."""

    embeddings: Mapping[str, np.ndarray]

    def embed_concepts(self, concepts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """(concept, dimension) of unit length, from the file. Templates are ignored."""
        return torch.from_numpy(np.stack([self.embeddings[concept] for concept in concepts]))


@dataclass(frozen=True, kw_only=True)
class ArraysPlan(Plan):
    """The plan of a study of arrays, with the fingerprints of its parts."""

    study: ArraysStudy
    network: ArraysNetwork
    clip: ArraysClip
    arrays: Arrays

    def targets(self) -> list[Target]:
        """What to compute; predictions only if the file has them."""
        splits = {SPLIT} if PREDICTED in self.arrays.shapes else set()
        return [target for target in super().targets() if target.kind != "predictions" or target.split in splits]

    def block_tables(
        self, missing: Sequence[MissingBlock], ids: ModelIds, count: Callable[[int], None]
    ) -> Iterator[Iterable[TableRows]]:
        """For each block the rows of its targets. An array is read only when the writer reaches it."""
        for block, targets, _ in missing:
            count(len(block.images))
            yield tables(self.arrays, block, targets, ids)


def make_plan(study: ArraysStudy) -> ArraysPlan:
    """Open the file and read the concepts; writes nothing. Raises StudyError."""
    device = devices.prepare(study)
    [settings] = study.concept_sets
    listed = concepts.load(settings.source)
    arrays = open_arrays(study.arrays.path, study.arrays.classes)
    classes_of = classes.as_in_dataset(listed.classes_of, arrays.classes)
    rows = arrays.shapes[CONCEPTS][0]
    if rows not in (len(classes_of), listed.entries):
        raise StudyError(
            f"concept set {settings.name} has {len(classes_of)} concepts, "
            f"{CONCEPTS} is {shape_text(arrays.shapes[CONCEPTS])}: it must have one row per concept"
        )
    directions = arrays.directions(CONCEPTS, 0, rows)
    if rows == listed.entries:  # a row for each word of the list, repeats included
        directions = directions[list(listed.kept)]
    source = ArraysSource(arrays)
    path = study.arrays.path
    return ArraysPlan(
        study=study,
        source=source,
        probing_set=ProbingSet(name=path.stem, origin=str(path), probing_split=SPLIT, fingerprint=source.fingerprint()),
        network=_network(arrays, study.arrays.name),
        taps=[Tap(layer, units, "none", 0, 1) for layer, units in arrays.layers().items()],
        clip=_clip(arrays, dict(zip(classes_of, directions, strict=True))),
        concept_sets=[catalog.plan_concepts(settings, classes_of)],
        device=device,
        arrays=arrays,
    )


def _network(arrays: Arrays, name: str) -> ArraysNetwork:
    classes = arrays.classes if PREDICTED in arrays.shapes else ()
    return ArraysNetwork(
        name=name,
        architecture="arrays",
        weights=str(arrays.path),
        classes=classes,
        fingerprint=fingerprints.of_values("arrays", arrays.fingerprint, classes),
        layers=tuple(arrays.layers()),
    )


def _clip(arrays: Arrays, embeddings: Mapping[str, np.ndarray]) -> ArraysClip:
    return ArraysClip(
        name="arrays",
        weights=arrays.path.name,
        logit_scale=1.0,
        logit_bias=None,
        fingerprint=fingerprints.of_values("arrays", arrays.fingerprint),
        precision="float32",
        embeddings=embeddings,
    )


# ---------------------------------------------------------------- rows


def tables(arrays: Arrays, block: Block, targets: Sequence[Target], ids: ModelIds) -> Iterator[TableRows]:
    """The rows of a block. All images are sound, so an image's position is its row in the arrays."""
    first, last = block.images[0].position, block.images[-1].position + 1
    for target in targets:
        if target.kind == "activations":
            values = arrays.floats(LAYER + target.name, first, last)
            yield from layer_tables(values, block, ids.layer(target.name).first_neuron)
        elif target.kind == "image_embeddings":
            yield target.kind, embeddings_table(block, ids.clip_id, arrays.directions(IMAGES, first, last))
        else:
            outputs = np.array(arrays.numbers(PREDICTED, first, last))
            yield target.kind, _predictions(block, ids.network_id, arrays.classes, outputs)


def _predictions(block: Block, network_id: int, classes: Sequence[str], outputs: np.ndarray) -> pa.Table:
    """Rows of `predictions`. The file has no probabilities: confidence is 1 and loss is NULL."""
    probabilities = np.zeros((len(outputs), len(classes)), np.float32)
    probabilities[np.arange(len(outputs)), outputs] = 1
    return pa.table(
        {
            "network_id": np.full(len(outputs), network_id, np.int32),
            "image_id": block.image_ids(),
            "class": [classes[output] for output in outputs],
            "confidence": np.ones(len(outputs), np.float32),
            "loss": pa.nulls(len(outputs), pa.float32()),
            "probabilities": lists(probabilities),
        }
    )
