"""Run one block of images through the network and CLIP, and return the results as Arrow tables.

for table, rows in compute(block, batches, targets, replicas, ids, device, count): ...

Activations are neuron-major: the values of one neuron in one block are contiguous in the file. They are transposed and
summed up on the device, and copied from a GPU once per block. Tables are made while the writer reads them, a few
hundred neurons at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from dissectdb.extract.models import hooks, streams
from dissectdb.extract.models.clip import Clip
from dissectdb.extract.models.memory import run_halving_on_oom
from dissectdb.extract.models.networks import Network
from dissectdb.extract.models.preprocessing import Pixels, to_device
from dissectdb.extract.record.catalog import EnteredLayer
from dissectdb.extract.record.maps import BestMaps, Found
from dissectdb.extract.record.summaries import Summary, sum_up, summary_tables
from dissectdb.extract.record.targets import Target
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import TableRows

ACTIVATIONS = pa.schema([("neuron_id", pa.int32()), ("image_id", pa.int32()), ("value", pa.float32())])
BLOCK = 4096  # images in one transaction, unless the models are too slow: see block_sizes.py
NEURONS_AT_ONCE = 256
OF_LAYERS = ("activations", "activation_maps")  # kinds of targets
IGNORED = -100  # the true class of an image whose class is not an output


class ProbingImage(NamedTuple):
    """A sound image in the warehouse. class_name: None if the dataset has no classes."""

    image_id: int
    position: int
    path: str | None
    class_name: str | None


@dataclass(frozen=True)
class Block:
    """Consecutive sound images of a split. first: the index of its first image among those of the split."""

    number: int
    images: Sequence[ProbingImage]
    split_id: int = 0  # used only for the sums of activations, as the next two only for maps
    first: int = 0
    images_in_split: int = 0

    def image_ids(self) -> np.ndarray:
        """The ids of its images, in order."""
        return np.fromiter((image.image_id for image in self.images), np.int32, len(self.images))


class MissingBlock(NamedTuple):
    """A block with the targets that it lacks, and the id of each target's extraction."""

    block: Block
    targets: Sequence[Target]
    extraction_ids: Sequence[int]


@dataclass(frozen=True)
class ModelIds:
    """The ids in the warehouse of the probed network, of CLIP and of the recorded layers."""

    network_id: int
    clip_id: int
    layers: Sequence[EnteredLayer] = ()

    def layer(self, name: str) -> EnteredLayer:
        """The layer whose tap has this name."""
        return next(layer for layer in self.layers if layer.tap.name == name)

    def layer_of(self, neuron_id: int) -> str:
        """The name of the layer that a neuron is in."""
        units = ((layer.first_neuron, layer) for layer in self.layers)
        return next(layer.tap.name for first, layer in units if first <= neuron_id < first + layer.tap.units)

    def of(self, target: Target) -> dict[str, int]:
        """The id columns of a target's row in `extractions`."""
        if target.kind == "image_embeddings":
            return {"clip_id": self.clip_id}
        layer = {"layer_id": self.layer(target.name).layer_id} if target.kind in OF_LAYERS else {}
        return {"network_id": self.network_id, **layer}


@dataclass(frozen=True)
class Models:
    """The probed network and CLIP."""

    network: Network
    clip: Clip


def replicas(models: Models, device: torch.device) -> list[Models]:
    """The models and copies of them, one for each batch that is computed at a time. No copies if one is impossible."""
    network, clip = models.network, models.clip
    pairs = zip(
        streams.replicas(network.model, network.answer.run, network.recipe.shape, device),
        streams.replicas(clip.model, clip.encode, clip.recipe.shape, device),
        strict=False,
    )
    copies = (Models(replace(network, model=first), replace(clip, model=second)) for first, second in pairs)
    return [models, *copies]


@dataclass
class _Outputs:
    """The results of the network and CLIP for the batches of a block so far."""

    activations: dict[str, Tensor] = field(default_factory=dict)  # layer → (unit, image), on the device
    layers: dict[str, tuple[np.ndarray, Summary | None]] = field(default_factory=dict)  # after the last batch
    parts: dict[str, dict[int, Tensor]] = field(default_factory=dict)  # kind → first image → (image, …), on the CPU

    def keep(self, kind: str, first: int, values: Tensor) -> None:
        """Keep the values of a batch. A batch that is run again, after it ran out of memory, replaces the first try."""
        self.parts.setdefault(kind, {})[first] = values.float().cpu()

    def leave_device(self) -> None:
        """Move the activations to arrays (image, unit), neuron-major in memory. A GPU computes their sums first."""
        for layer, values in self.activations.items():
            summary = sum_up(values.T) if values.device.type == "cuda" else None
            self.layers[layer] = values.cpu().numpy().T, summary
        self.activations.clear()

    def all(self, kind: str) -> Tensor:
        """(image, …) of the whole block."""
        return torch.cat([part for _, part in sorted(self.parts[kind].items())])


def compute(
    block: Block,
    batches: Iterator[Pixels],
    targets: Sequence[Target],
    replicas: Sequence[Models],
    ids: ModelIds,
    device: torch.device,
    count: Callable[[int], None],
    best: Mapping[str, BestMaps] = MappingProxyType({}),
) -> Iterator[TableRows]:
    """Run the block's images now; return its (table, rows) pairs, which are made when they are read.

    batches: the block's decoded images, in order. targets: what to compute. replicas: the models, one copy for each
    batch that is computed at a time. count: called with the number of images done. best: the maps of the targets'
    layers, of this and earlier blocks.
    Raises StudyError, naming layer and image, if a layer or the logits are not finite.
    """
    kinds = {target.kind for target in targets}
    layers = [ids.layer(target.name) for target in targets if target.kind == "activations"]
    mapped = {target.name: best[target.name] for target in targets if target.kind == "activation_maps"}
    taps = [ids.layer(name).tap for name in dict.fromkeys([*(layer.tap.name for layer in layers), *mapped])]
    image_ids = block.image_ids()
    outputs = _Outputs(
        {layer.tap.name: torch.empty((layer.tap.units, len(block.images)), device=device) for layer in layers}
    )

    def run(models: Models, pixels: Pixels, first: int) -> None:
        batch = block.images[first : first + len(pixels)]
        pixels = to_device(pixels, device)  # once, for both models
        found: list[tuple[BestMaps, Found]] = []
        if kinds - {"image_embeddings"}:
            ordinals = block.first + first + np.arange(len(batch))

            def look(tap: hooks.Tap, maps: Tensor, values: Tensor) -> None:
                if tap.name in mapped:
                    own, ids_of_batch = mapped[tap.name], image_ids[first : first + len(batch)]
                    found.append((own, own.search(maps[: len(batch)], values[: len(batch)], ids_of_batch, ordinals)))

            _run_network(models.network, layers, taps, look, pixels, batch, first, outputs, device)
        if "image_embeddings" in kinds:
            embeddings = models.clip.embed_images(models.clip.recipe.apply(pixels, device))
            _refuse_non_finite(embeddings, "the image embedding", batch)
            outputs.keep("embeddings", first, embeddings)
        for own, of_batch in found:  # at the end, because a batch that runs out of memory is run again
            own.keep(of_batch)

    def work(models: Models, pixels: Pixels, first: int) -> None:
        run_halving_on_oom(lambda part, start: run(models, part, first + start), pixels, "image")

    for done in streams.run(work, batches, len(block.images), replicas):
        count(done)
    outputs.leave_device()
    map_tables = [table for own in mapped.values() for table in own.take(block.split_id, block.number)]
    return chain(_tables(block, layers, kinds, outputs, replicas[0], ids), map_tables)


def _run_network(
    network: Network,
    layers: Sequence[EnteredLayer],
    taps: Sequence[hooks.Tap],
    look: hooks.Look,
    pixels: Pixels,
    batch: Sequence[ProbingImage],
    first: int,
    outputs: _Outputs,
    device: torch.device,
) -> None:
    with torch.inference_mode(), hooks.record(network.model, taps, look) as seen:
        logits = network.logits(network.recipe.apply(pixels, device))
    for layer in layers:
        values = seen[layer.tap.name][: len(batch)]
        _refuse_non_finite(values, f"layer {layer.tap.name}", batch)
        outputs.activations[layer.tap.name][:, first : first + len(batch)] = values.T
    if network.classes:
        _refuse_non_finite(logits, "the logits", batch)
        outputs.keep("logits", first, logits)


def _refuse_non_finite(values: Tensor, what: str, batch: Sequence[ProbingImage]) -> None:
    sound = torch.isfinite(values).flatten(1).all(1)
    if not sound.all():
        image = batch[int((~sound).nonzero()[0])]
        raise StudyError(
            f"{what} is NaN or infinite for image {image.position} ({image.path}); "
            "the network or its input range is not what its weights expect"
        )


def _tables(
    block: Block,
    layers: Sequence[EnteredLayer],
    kinds: Collection[str],
    outputs: _Outputs,
    models: Models,
    ids: ModelIds,
) -> Iterator[TableRows]:
    for layer in layers:
        values, summary = outputs.layers.pop(layer.tap.name)
        yield from layer_tables(values, block, layer.first_neuron, summary)
    if "predictions" in kinds:
        yield "predictions", predictions_table(block, ids.network_id, models.network.classes, outputs.all("logits"))
    if "image_embeddings" in kinds:
        yield "image_embeddings", embeddings_table(block, ids.clip_id, outputs.all("embeddings").numpy())


def layer_tables(
    values: np.ndarray, block: Block, first_neuron: int, summary: Summary | None = None
) -> Iterator[TableRows]:
    """The rows of a layer's activations (image, unit) and of their sums. summary: the sums, if they are known."""
    image_ids = block.image_ids()
    batches = activation_batches(values, image_ids, first_neuron)
    yield "activations", pa.RecordBatchReader.from_batches(ACTIVATIONS, batches)
    yield from summary_tables(summary or sum_up(values), image_ids, first_neuron, block.split_id, block.number)


def activation_batches(values: np.ndarray, image_ids: np.ndarray, first_neuron: int) -> Iterator[pa.RecordBatch]:
    """(image, unit) → rows, neuron after neuron."""
    for start in range(0, values.shape[1], NEURONS_AT_ONCE):
        neuron_values = np.ascontiguousarray(values[:, start : start + NEURONS_AT_ONCE].T)
        neurons = len(neuron_values)
        neuron_ids = np.arange(first_neuron + start, first_neuron + start + neurons, dtype=np.int32)
        columns = [np.repeat(neuron_ids, len(image_ids)), np.tile(image_ids, neurons), neuron_values.ravel()]
        yield pa.record_batch([pa.array(column) for column in columns], schema=ACTIVATIONS)


def embeddings_table(block: Block, clip_id: int, embeddings: np.ndarray) -> pa.Table:
    """Rows of `image_embeddings` for embeddings (image, dimension)."""
    image_ids = block.image_ids()
    return pa.table(
        {
            "clip_id": np.full(len(image_ids), clip_id, np.int32),
            "image_id": image_ids,
            "embedding": lists(embeddings),
        }
    )


def predictions_table(block: Block, network_id: int, classes: Sequence[str], logits: Tensor) -> pa.Table:
    """Rows of `predictions`, one per image, for logits (image, class); columns as in outcomes, and probabilities."""
    image_ids = block.image_ids()
    return pa.table(
        {
            "network_id": np.full(len(image_ids), network_id, np.int32),
            "image_id": image_ids,
            **outcomes(block.images, classes, logits),
            "probabilities": lists(logits.double().softmax(1).float().numpy()),
        }
    )


def outcomes(images: Sequence[ProbingImage], classes: Sequence[str], logits: Tensor) -> dict[str, object]:
    """The columns class, confidence and loss, from logits (row, class). The rows are the images, once or repeated.

    class: of the largest logit; confidence: its probability; loss: cross-entropy in nats, NULL if the true class is
    not an output.
    """
    outputs: dict[str | None, int] = {name: output for output, name in enumerate(classes)}
    truth = torch.tensor([outputs.get(image.class_name, IGNORED) for image in images])
    truth = truth.repeat(len(logits) // len(images))
    confidence, best = logits.double().softmax(1).max(1)
    losses = F.cross_entropy(logits.double(), truth, reduction="none", ignore_index=IGNORED)
    return {
        "class": pa.DictionaryArray.from_arrays(pa.array(best.int().numpy()), pa.array(list(classes), pa.string())),
        "confidence": confidence.float().numpy(),
        "loss": pa.array(losses.float().numpy(), mask=(truth == IGNORED).numpy()),
    }


def lists(rows: np.ndarray) -> pa.ListArray:
    """(row, number) as an Arrow column of lists. Makes no Python object per number."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(rows).ravel())
