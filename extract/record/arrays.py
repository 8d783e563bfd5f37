"""The plan of a study of arrays: activations and embeddings that were computed elsewhere, instead of a network.

plan = make_plan(study)   # reads the file's header, writes nothing

It fills the same tables and ledger as a network's plan. The file's content is in the fingerprint of all its rows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from dissectdb.extract import concepts, fingerprints
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.models import classes, devices, recipes
from dissectdb.extract.models.clip import ClipIdentity
from dissectdb.extract.models.grids import Grid
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.models.networks import NetworkIdentity
from dissectdb.extract.models.preprocessing import Part
from dissectdb.extract.record import catalog
from dissectdb.extract.record.arrays_file import (
    CONCEPTS,
    IMAGES,
    LAYER,
    PREDICTED,
    Arrays,
    open_arrays,
    shape_text,
)
from dissectdb.extract.record.arrays_images import SPLIT, PicturedSource, RowsSource
from dissectdb.extract.record.arrays_sparse import sparse_tables
from dissectdb.extract.record.blocks import (
    OF_LAYERS,
    Block,
    MissingBlock,
    ModelIds,
    embeddings_table,
    layer_tables,
    lists,
)
from dissectdb.extract.record.catalog import ProbingSet
from dissectdb.extract.record.maps import BestMaps
from dissectdb.extract.record.plan import Plan, Step
from dissectdb.extract.record.targets import Target
from dissectdb.extract.study import ArraysStudy, StudyError
from dissectdb.extract.study.class_names import meet
from dissectdb.extract.warehouse_protocol import Store, TableRows

log = logging.getLogger("dissectdb")


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
        """What to compute; predictions only if the file has them, and only for splits that have images."""
        none = () if PREDICTED in self.arrays.shapes else ("predictions",)
        pictured = isinstance(self.source, PicturedSource)
        targets = [target for target in super().targets() if target.kind not in none]
        return targets if pictured else [target for target in targets if target.split == SPLIT]

    def steps(self, warehouse: Store) -> list[Step]:
        """As of every plan. Raises StudyError also if the rows do not fit the images that the warehouse has."""
        dataset_id = warehouse.find("datasets", self.probing_set.fingerprint)
        if isinstance(self.source, PicturedSource) and dataset_id is not None:
            self.source.refuse_stored(warehouse, dataset_id)
        return super().steps(warehouse)

    def block_tables(
        self, missing: Sequence[MissingBlock], ids: ModelIds, count: Callable[[int], None]
    ) -> Iterator[Iterable[TableRows]]:
        """For each block the rows of its targets. An array is read only when the writer reaches it."""
        best = self.best_maps(missing, ids)
        for block, targets, _ in missing:
            count(len(block.images))
            yield tables(self.arrays, block, targets, ids, best)

    @property
    def maps_device(self) -> torch.device:
        """They are read from the file in memory."""
        return torch.device("cpu")

    def seen_part(self, width: int, height: int) -> Part | None:
        settings = self.study.arrays.input
        return None if settings is None else recipes.of_input(settings).seen_part(width, height)


def make_plan(study: ArraysStudy) -> ArraysPlan:
    """Open the file and read the concepts; writes nothing. Raises StudyError."""
    device = devices.prepare(study)
    [settings] = study.concept_sets
    listed = concepts.load(settings.source)
    arrays, source = _open(study)
    planned = catalog.plan_concepts(settings, listed, source.classes or arrays.classes)
    classes_of = planned.classes_of
    rows = arrays.shapes[CONCEPTS][0]
    if rows not in (len(classes_of), listed.entries):
        raise StudyError(
            f"concept set {settings.name} has {len(classes_of)} concepts, "
            f"{CONCEPTS} is {shape_text(arrays.shapes[CONCEPTS])}: it must have one row per concept"
        )
    directions = arrays.directions(CONCEPTS, range(rows))
    if rows == listed.entries:  # a row for each word of the list, repeats included
        directions = directions[list(listed.kept)]
    if arrays.sparse:
        log.info(
            f"{arrays.path.name} has sparse layers ({', '.join(arrays.sparse)}): only the top images and the sums of "
            "each neuron are kept, as with --activations none"
        )
    return ArraysPlan(
        study=study,
        source=source,
        probing_set=_probing_set(study, source.fingerprint()),
        network=_network(arrays, study),
        taps=[_tap(arrays, layer, units, study.arrays.pooling) for layer, units in arrays.layers().items()],
        clip=_clip(arrays, dict(zip(classes_of, directions, strict=True))),
        concept_sets=[planned],
        device=device,
        arrays=arrays,
        keep_activations=not arrays.sparse,
    )


def _open(study: ArraysStudy) -> tuple[Arrays, PicturedSource | RowsSource]:
    """The file, and the images that its rows are of. Raises StudyError."""
    path, names, grid = study.arrays.path, study.arrays.classes, study.arrays.grid
    if study.dataset is None:
        arrays = open_arrays(path, names, grid=grid)
        return arrays, RowsSource(arrays)
    pictures = open_source(study.dataset)
    spelled = meet(names, pictures.classes)  # a class takes the dataset's spelling
    arrays = open_arrays(path, [spelled.get(name, name) for name in names], pictures.classes, grid)
    if PREDICTED in arrays.shapes:
        classes.warn(arrays.classes, pictures.classes)
    return arrays, PicturedSource(arrays, pictures)


def _probing_set(study: ArraysStudy, fingerprint: str) -> ProbingSet:
    if study.dataset is not None:
        return ProbingSet.of(study.dataset, fingerprint)
    path = study.arrays.path
    return ProbingSet(name=path.stem, origin=str(path), probing_split=SPLIT, fingerprint=fingerprint)


def _tap(arrays: Arrays, layer: str, units: int, pooling: str) -> Tap:
    if not arrays.has_places(layer):
        return Tap(layer, units, "none", 0, 1)
    assert arrays.grid is not None, "the file was checked"
    return Tap(layer, units, pooling, 0, 2, grid=Grid(*arrays.grid) if math.prod(arrays.grid) > 1 else None)


def _network(arrays: Arrays, study: ArraysStudy) -> ArraysNetwork:
    classes = arrays.classes if PREDICTED in arrays.shapes else ()
    settings = study.arrays.input
    seen = [] if settings is None else [recipes.of_input(settings).as_json()]
    return ArraysNetwork(
        name=study.arrays.name,
        architecture="arrays",
        weights=str(arrays.path),
        classes=classes,
        fingerprint=fingerprints.of_values("arrays", arrays.fingerprint, classes, *seen),
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


def tables(
    arrays: Arrays, block: Block, targets: Sequence[Target], ids: ModelIds, best: Mapping[str, BestMaps]
) -> Iterator[TableRows]:
    """The rows of a block. The position of an image is its row in the arrays. best: as of blocks.compute."""
    rows = [image.position for image in block.images]
    for layer in dict.fromkeys(target.name for target in targets if target.kind in OF_LAYERS):
        if arrays.has_places(layer):
            kinds = {target.kind for target in targets if target.name == layer}
            own = best[layer] if "activation_maps" in kinds else None
            values = _pooled(arrays, layer, rows, block, ids.layer(layer).tap.pooling, own)
            if "activations" in kinds:
                yield from layer_tables(values, block, ids.layer(layer).first_neuron)
            if own:
                yield from own.take(block.split_id, block.number)
    for target in targets:
        if target.kind in OF_LAYERS and arrays.has_places(target.name):
            continue
        if target.name in arrays.sparse and target.kind == "activations":
            yield from sparse_tables(arrays.sparse[target.name], rows, block, ids.layer(target.name).first_neuron)
        elif target.kind == "activations":
            values = arrays.floats(LAYER + target.name, rows)
            yield from layer_tables(values, block, ids.layer(target.name).first_neuron)
        elif target.kind == "image_embeddings":
            yield target.kind, embeddings_table(block, ids.clip_id, arrays.directions(IMAGES, rows))
        else:
            outputs = np.array(arrays.numbers(PREDICTED, rows))
            yield target.kind, _predictions(block, ids.network_id, arrays.classes, outputs)


def _pooled(
    arrays: Arrays, layer: str, rows: Sequence[int], block: Block, pooling: str, best: BestMaps | None
) -> np.ndarray:
    """A layer with places, pooled to (image, unit); its maps are shown to `best`. It is read some rows at a time."""
    image_ids, parts, first = block.image_ids(), [], 0
    for part in arrays.maps(layer, rows):
        maps, last = torch.from_numpy(part), first + len(part)
        parts.append(maps.amax((2, 3)) if pooling == "max" else maps.mean((2, 3)))
        if best:
            best.keep(best.search(maps, parts[-1], image_ids[first:last], block.first + np.arange(first, last)))
        first = last
    return torch.cat(parts).numpy()


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
