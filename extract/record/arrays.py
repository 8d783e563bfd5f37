"""Arrays instead of a network: activations and embeddings that were computed elsewhere.

plan = make_plan(study)                          # reads the file's header, writes nothing
warehouse.load(run(plan, warehouse, jobs.enter(plan, warehouse)))   # the same rows and ledger as of a network

The file is described in studies/arrays.toml. It is read in slices of a block's rows, one layer at a time, so that
memory does not grow with the number of images. Its content is the identity of everything that comes from it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dissectdb.did_you_mean import choices
from dissectdb.extract import concepts, fingerprints, study
from dissectdb.extract.images import sources
from dissectdb.extract.models import classes, clip, devices, networks
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.record import catalog, ledger, passes
from dissectdb.extract.record.blocks import Block, Clips, Networks, layer_tables, lists
from dissectdb.extract.study import Study, StudyError

SPLIT = "train"  # the only one
LAYER = "layer/"
IMAGES, CONCEPTS, CLASS, PREDICTED = "image_embedding", "concept_embedding", "class", "predicted"
FLOATS = ("F16", "BF16", "F32", "F64")
WHOLES = ("I8", "I16", "I32", "I64", "U8")
MOST_CLASSES = 100_000
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Arrays:
    """An open file of arrays whose keys, types and shapes are right. classes: names of the numbers in it."""

    path: Path
    handle: Any
    shapes: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.shapes[IMAGES][0]

    def layers(self) -> dict[str, int]:
        """Layer → its units, in the order of the names, where 2 comes before 10."""
        keys = sorted((key for key in self.shapes if key.startswith(LAYER)), key=_natural)
        return {key.removeprefix(LAYER): self.shapes[key][1] for key in keys}

    def floats(self, key: str, start: int, stop: int) -> np.ndarray:
        """Rows as float32. Raises StudyError for one that is not finite."""
        rows = self.handle.get_slice(key)[start:stop].float()
        self._refuse(key, start, ~torch.isfinite(rows).all(1), "is NaN or infinite, or too large for float32,")
        return rows.numpy()

    def directions(self, key: str, start: int, stop: int) -> np.ndarray:
        """Rows as float32 of unit length. Raises StudyError for one that has no direction."""
        rows = self.handle.get_slice(key)[start:stop].double()
        self._refuse(key, start, ~torch.isfinite(rows).all(1), "is NaN or infinite")
        norms = rows.norm(dim=1, keepdim=True)
        self._refuse(key, start, ~((norms > 0) & torch.isfinite(norms))[:, 0], "has no direction: it is all zeros")
        return (rows / norms).float().numpy()

    def numbers(self, key: str, start: int, stop: int) -> list[int]:
        """Whole numbers."""
        return self.handle.get_slice(key)[start:stop].tolist()

    def _refuse(self, key: str, start: int, bad: Tensor, what: str) -> None:
        if bad.any():
            kind = f"layer {key.removeprefix(LAYER)}" if key.startswith(LAYER) else key
            raise StudyError(f"{self.path}: {kind} {what} in row {start + int(bad.nonzero()[0])}")


def open_arrays(path: Path, classes: Sequence[str] = ()) -> Arrays:
    """Open a file and look at everything in it that is small. Raises StudyError."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file of arrays")
    try:
        handle = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{path}: not a readable safetensors file: {error}") from error
    arrays = Arrays(path, handle, {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()})  # noqa: SIM118
    _check_keys(arrays)
    for key in arrays.shapes:
        _check_type(arrays, key)
    _check_shapes(arrays)
    names = _class_names(arrays, tuple(classes))
    return Arrays(path, handle, arrays.shapes, names, fingerprints.of_file(path))


def _check_keys(arrays: Arrays) -> None:
    known = (IMAGES, CONCEPTS, CLASS, PREDICTED)
    there = sorted(arrays.shapes, key=_natural)
    for key in (IMAGES, CONCEPTS):
        if key not in arrays.shapes:
            raise StudyError(f"{arrays.path}: there is no {key}; {choices(key, there)}")
    if not any(key.startswith(LAYER) for key in arrays.shapes):
        raise StudyError(f"{arrays.path}: there is no layer/<name>; {choices(LAYER, there)}")
    if strange := [key for key in arrays.shapes if key not in known and not key.startswith(LAYER)]:
        raise StudyError(
            f"{arrays.path}: {strange[0]} is none of {', '.join(known)}, layer/<name>; {choices(strange[0], there)}"
        )


def _check_type(arrays: Arrays, key: str) -> None:
    allowed, axes = (WHOLES, 1) if key in (CLASS, PREDICTED) else (FLOATS, 2)
    kind, shape = arrays.handle.get_slice(key).get_dtype(), arrays.shapes[key]
    if kind not in allowed:
        raise StudyError(f"{arrays.path}: {key} is of type {kind}; it must be one of {', '.join(allowed)}")
    if len(shape) != axes or 0 in shape:
        raise StudyError(f"{arrays.path}: {key} is {_by(shape)}; it must have {axes} axes, none of them empty")


def _check_shapes(arrays: Arrays) -> None:
    """As many rows as there are images, and embeddings of one width."""
    expected, width = arrays.shapes[IMAGES]
    for key, shape in arrays.shapes.items():
        said = f"{arrays.path}: {key} is {_by(shape)}, {IMAGES} is {_by(arrays.shapes[IMAGES])}"
        if key != CONCEPTS and shape[0] != expected:
            raise StudyError(f"{said}: both have a row an image")
        if key == CONCEPTS and shape[1] != width:
            raise StudyError(f"{said}: both have the width of the same CLIP")


def _class_names(arrays: Arrays, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes, after a look at every number."""
    keys = [key for key in (CLASS, PREDICTED) if key in arrays.shapes]
    if not keys and names:
        raise StudyError(f"arrays.classes: {arrays.path} has neither class nor predicted that could be named")
    highest, limit = -1, len(names) or MOST_CLASSES
    for key in keys:
        for start, stop in _slices(arrays.count):
            numbers = arrays.numbers(key, start, stop)
            highest = max(highest, *numbers)
            if wrong := [row for row, number in enumerate(numbers, start) if not 0 <= number < limit]:
                value = numbers[wrong[0] - start]
                raise StudyError(f"{arrays.path}: {key} is {value} in row {wrong[0]}; classes go from 0 to {limit - 1}")
    return names or tuple(f"class {number}" for number in range(highest + 1))


def _slices(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, ROWS_AT_ONCE):
        yield start, min(start + ROWS_AT_ONCE, count)


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def _natural(key: str) -> list[tuple[int, str]]:
    """To sort by, so that 2 comes before 10; a number may have more digits than int() takes."""
    parts = ((part, part.lstrip("0")) for part in re.split(r"(\d+)", key))
    return [(len(digits), digits) if part.isdecimal() else (-1, part) for part, digits in parts]


# ---------------------------------------------------------------- what stands for images, network and CLIP


class ArraysSource(sources.Source):
    """Images of which only the embedding is known."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.name = arrays, str(arrays.path)
        self.classes = arrays.classes if CLASS in arrays.shapes else ()

    def fingerprint(self) -> str:
        return fingerprints.of_values("arrays", self.arrays.fingerprint, self.classes)

    def scan(self) -> Iterator[sources.Image]:
        for start, stop in _slices(self.arrays.count):
            rows = self.arrays.directions(IMAGES, start, stop)
            numbers = self.arrays.numbers(CLASS, start, stop) if self.classes else []
            for place, position in enumerate(range(start, stop)):
                class_name = self.classes[numbers[place]] if self.classes else None
                # Two images may look the same to CLIP, so the place counts too.
                digest = hashlib.sha256(rows[place].tobytes() + position.to_bytes(8, "little")).hexdigest()
                yield sources.Image(position, f"row {position}", SPLIT, class_name, digest, None, None, None, None)


class _NoRecipe:
    """What was done to the images is not known."""

    def as_dict(self) -> dict[str, Any]:
        return {}


class _Layers(dict[str, None]):
    """Layers without weights, in the place of a model."""

    def named_modules(self, remove_duplicate: bool = True) -> Mapping[str, None]:
        return self


@dataclass(frozen=True)
class ArraysClip(clip.Clip):
    """A CLIP of which only its embeddings are known."""

    embeddings: Mapping[str, np.ndarray]

    def embed_concepts(self, concepts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """(concept, dimension) of unit length, as the file has them."""
        return torch.from_numpy(np.stack([self.embeddings[concept] for concept in concepts]))


@dataclass(frozen=True)
class ArraysPlan(passes.Plan):
    """A study of arrays with everything in it fingerprinted."""

    arrays: Arrays

    def targets(self) -> list[passes.Target]:
        """Everything in the file: predictions only where there are some."""
        here = {SPLIT} if PREDICTED in self.arrays.shapes else set()
        return [target for target in super().targets() if target.kind != "predictions" or target.split in here]


def make_plan(study: Study) -> ArraysPlan:
    """Open the file and read the concepts; writes nothing. Raises StudyError."""
    assert study.arrays is not None, "the study names a network"
    device = devices.prepare(study)
    [settings] = study.concept_sets
    listed = concepts.load(settings.source)
    arrays = open_arrays(study.arrays.path, study.arrays.classes)
    classes_of = classes.as_in_dataset(listed.classes_of, arrays.classes)
    rows = arrays.shapes[CONCEPTS][0]
    if rows not in (len(classes_of), listed.entries):
        raise StudyError(
            f"concept set {settings.name} has {len(classes_of)} concepts, "
            f"{CONCEPTS} is {_by(arrays.shapes[CONCEPTS])}: a row a concept"
        )
    directions = arrays.directions(CONCEPTS, 0, rows)
    if rows == listed.entries:  # a row for each word of the list, repeats included
        directions = directions[list(listed.kept)]
    source = ArraysSource(arrays)
    return ArraysPlan(
        study=_with_dataset(study),
        source=source,
        dataset=source.fingerprint(),
        network=_network(arrays, study.arrays.name),
        taps=[Tap(layer, units, "none", 0, 1) for layer, units in arrays.layers().items()],
        clip=_clip(arrays, dict(zip(classes_of, directions, strict=True))),
        concept_sets=[(settings, classes_of, catalog.concept_set_fingerprint(settings, classes_of))],
        device=device,
        arrays=arrays,
    )


def _with_dataset(settings: Study) -> Study:
    """The study with the dataset that its file comes to; no study file can name this kind."""
    path = settings.arrays.path
    dataset = study.Dataset.model_construct(name=path.stem, kind="arrays", path=path, probing_split=SPLIT)
    return settings.model_copy(update={"dataset": dataset})


def _network(arrays: Arrays, name: str) -> networks.Network:
    classes = arrays.classes if PREDICTED in arrays.shapes else ()
    fingerprint = fingerprints.of_values("arrays", arrays.fingerprint, classes)
    model: Any = _Layers.fromkeys(arrays.layers())
    return networks.Network(name, "arrays", str(arrays.path), model, classes, _NoRecipe(), fingerprint)


def _clip(arrays: Arrays, embeddings: Mapping[str, np.ndarray]) -> ArraysClip:
    return ArraysClip(
        name="arrays",
        weights=arrays.path.name,
        model=None,
        tokenize=None,
        recipe=_NoRecipe(),
        logit_scale=1.0,
        logit_bias=None,
        fingerprint=fingerprints.of_values("arrays", arrays.fingerprint),
        device=torch.device("cpu"),
        embeddings=embeddings,
        precision="float32",
    )


# ---------------------------------------------------------------- rows


def run(
    plan: ArraysPlan,
    warehouse: Any,
    entered: passes.Entered,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Any:
    """Yield the missing blocks as units; see jobs.run."""
    return passes.run(plan, warehouse, entered, progress, read_blocks)


def read_blocks(
    warehouse: Any,
    plan: ArraysPlan,
    dataset_id: int,
    targets: Sequence[passes.Target],
    users: tuple[Networks, Clips],
    progress: Callable[[int, int], None],
) -> Iterator[Any]:
    """Yield the missing blocks of the targets."""
    for extractions, missing in passes.missing_blocks(warehouse, plan, dataset_id, targets, users):
        total = sum(len(block.images) for block, _ in missing)
        done = 0
        for block, stale in missing:
            started = time.perf_counter()
            tables = block_tables(plan.arrays, block, stale, users)
            ids = [extractions[target] for target in stale]
            yield ledger.with_ledger(plan, tables, block, ids, time.perf_counter() - started)
            done += len(block.images)
            progress(done, total)


def block_tables(
    arrays: Arrays, block: Block, targets: Sequence[passes.Target], users: tuple[Networks, Clips]
) -> Iterator[tuple[str, Any]]:
    """A block's rows, each array read when the writer asks for it. All images are sound: their position is a row."""
    for target in targets:
        if target.kind == "activations":
            values = arrays.floats(LAYER + target.name, *_rows(block))
            yield from layer_tables(values, block, users[0].layer(target.name).first_neuron)
        else:
            yield target.kind, _table(arrays, block, target, users)


def _rows(block: Block) -> tuple[int, int]:
    return block.images[0].position, block.images[-1].position + 1


def _table(arrays: Arrays, block: Block, target: passes.Target, users: tuple[Networks, Clips]) -> pa.Table:
    by_network, by_clip = users
    image_ids, where = block.image_ids(), _rows(block)
    if target.kind == "image_embeddings":
        columns = {"clip_id": np.full(len(image_ids), by_clip.clip_id, np.int32), "image_id": image_ids}
        return pa.table({**columns, "embedding": lists(arrays.directions(IMAGES, *where))})
    said = np.array(arrays.numbers(PREDICTED, *where))
    certain = np.zeros((len(said), len(arrays.classes)), np.float32)
    certain[np.arange(len(said)), said] = 1
    return pa.table(
        {
            "network_id": np.full(len(image_ids), by_network.network_id, np.int32),
            "image_id": image_ids,
            "class": [arrays.classes[place] for place in said],
            "confidence": np.ones(len(said), np.float32),  # how sure the network was is not in the file
            "loss": pa.nulls(len(said), pa.float32()),
            "probabilities": lists(certain),
        }
    )
