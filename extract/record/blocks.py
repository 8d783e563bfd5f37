"""One block of images through the networks, and out as Arrow tables.

for table, rows in compute(block, batches, targets, users, device, count): ...

Activations are neuron-major, so that one neuron of one block is one run of the file. They are turned, and summed up,
where the network ran, and leave a GPU once a block; the tables are made as the writer asks for them, a few hundred
neurons at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from dissectdb.extract.models import hooks, streams
from dissectdb.extract.models.clip import Clip
from dissectdb.extract.models.memory import in_parts
from dissectdb.extract.models.networks import Network
from dissectdb.extract.models.preprocessing import Pixels, to_device
from dissectdb.extract.record.catalog import EnteredLayer
from dissectdb.extract.record.summaries import Summary, sum_up, summary_tables
from dissectdb.extract.study import StudyError

ACTIVATIONS = pa.schema([("neuron_id", pa.int32()), ("image_id", pa.int32()), ("value", pa.float32())])
NEURONS_AT_ONCE = 256


class ProbingImage(NamedTuple):
    """A sound image as the warehouse knows it. class_name: None where the dataset has no classes."""

    image_id: int
    position: int
    path: str | None
    class_name: str | None


@dataclass(frozen=True)
class Block:
    """Consecutive sound images of a split."""

    number: int
    images: Sequence[ProbingImage]
    split_id: int = 0  # as long as nothing is summed up

    def image_ids(self) -> np.ndarray:
        """The ids of its images, in order."""
        return np.fromiter((image.image_id for image in self.images), np.int32, len(self.images))


@dataclass(frozen=True)
class Networks:
    """The probed network with its ids in the warehouse."""

    network: Network
    network_id: int
    layers: Sequence[EnteredLayer] = ()

    def layer(self, name: str) -> EnteredLayer:
        """The entered layer of this name."""
        return next(layer for layer in self.layers if layer.tap.name == name)

    def layer_of(self, neuron_id: int) -> str:
        """The name of the layer that a neuron is of."""
        units = ((layer.first_neuron, layer) for layer in self.layers)
        return next(layer.tap.name for first, layer in units if first <= neuron_id < first + layer.tap.units)


@dataclass(frozen=True)
class Clips:
    """The CLIP with its id in the warehouse."""

    clip: Clip
    clip_id: int


Users = tuple[Networks, Clips | None]


def in_streams(users: tuple[Networks, Clips], device: torch.device) -> list[Users]:
    """The networks, once for each batch that is computed at a time; only once where one of them cannot be copied."""
    by_network, by_clip = users
    network, clip = by_network.network, by_clip.clip

    pairs = zip(
        streams.twins(network.model, network.answer.run, network.recipe.shape, device),
        streams.twins(clip.model, clip.encode, clip.recipe.shape, device),
        strict=False,
    )
    return [
        users,
        *(
            (
                replace(by_network, network=replace(network, model=one)),
                replace(by_clip, clip=replace(clip, model=other)),
            )
            for one, other in pairs
        ),
    ]


@dataclass
class _Outputs:
    """What the networks said of a block so far, batch by batch."""

    activations: dict[str, Tensor] = field(default_factory=dict)  # layer → (unit, image), on the device
    layers: dict[str, tuple[np.ndarray, Summary | None]] = field(default_factory=dict)  # after the last batch
    parts: dict[str, dict[int, Tensor]] = field(default_factory=dict)  # what → first image → (image, …), on the CPU

    def keep(self, what: str, done: int, values: Tensor) -> None:
        """Some images more; a part that is run again after it ran out of memory takes the place of the first."""
        self.parts.setdefault(what, {})[done] = values.float().cpu()

    def leave_device(self) -> None:
        """Turn the activations into arrays (image, unit), neuron-major in memory; a GPU sums them up before."""
        for layer, values in self.activations.items():
            summary = sum_up(values.T) if values.device.type == "cuda" else None
            self.layers[layer] = values.cpu().numpy().T, summary
        self.activations.clear()

    def all(self, what: str) -> Tensor:
        """(image, …) of the whole block."""
        return torch.cat([part for _, part in sorted(self.parts[what].items())])


def compute(
    block: Block,
    batches: Iterator[Pixels],
    targets: Sequence[Any],
    streams_of: Sequence[Users],
    device: torch.device,
    count: Callable[[int], None],
) -> Iterator[tuple[str, Any]]:
    """Run the block's images now; return its (table, rows) pairs, made when they are asked for.

    batches: decoded images, exactly the block's, in its order. targets: what of the block is wanted. streams_of: the
    networks, once for each batch that is computed at a time. count: called with the images done.
    Raises StudyError where a layer or the logits are not finite, naming layer and image.
    """
    users = streams_of[0]
    kinds = {target.kind for target in targets}
    by_network = users[0]
    layers = [by_network.layer(target.name) for target in targets if target.kind == "activations"]
    outputs = _Outputs(
        {layer.tap.name: torch.empty((layer.tap.units, len(block.images)), device=device) for layer in layers}
    )

    def run(users: Users, pixels: Pixels, place: int) -> None:
        by_network, by_clip = users
        batch = block.images[place : place + len(pixels)]
        pixels = to_device(pixels, device)  # once, for both networks
        if kinds & {"activations", "predictions"}:
            _run_network(by_network.network, layers, pixels, batch, place, outputs, device)
        if "image_embeddings" in kinds and by_clip is not None:
            embeddings = by_clip.clip.embed_images(by_clip.clip.recipe.apply(pixels, device))
            _refuse_non_finite(embeddings, "the image embedding", batch)
            outputs.keep("embeddings", place, embeddings)

    def work(users: Users, pixels: Pixels, place: int) -> None:
        in_parts(lambda part, first: run(users, part, place + first), pixels, "image")

    for done in streams.run(work, batches, len(block.images), streams_of):
        count(done)
    outputs.leave_device()
    return _tables(block, layers, kinds, outputs, users)


def _run_network(
    network: Network,
    layers: Sequence[EnteredLayer],
    pixels: Pixels,
    batch: Sequence[ProbingImage],
    done: int,
    outputs: _Outputs,
    device: torch.device,
) -> None:
    with torch.inference_mode(), hooks.record(network.model, [layer.tap for layer in layers]) as seen:
        logits = network.logits(network.recipe.apply(pixels, device))
    for layer in layers:
        values = seen[layer.tap.name][: len(batch)]
        _refuse_non_finite(values, f"layer {layer.tap.name}", batch)
        outputs.activations[layer.tap.name][:, done : done + len(batch)] = values.T
    _refuse_non_finite(logits, "the logits", batch)
    outputs.keep("logits", done, logits)


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
    kinds: set[str],
    outputs: _Outputs,
    users: tuple[Networks, Clips | None],
) -> Iterator[tuple[str, Any]]:
    by_network, by_clip = users
    image_ids = block.image_ids()
    for layer in layers:
        values, summary = outputs.layers.pop(layer.tap.name)
        yield from layer_tables(values, block, layer.first_neuron, summary)
    if "predictions" in kinds:
        yield "predictions", predictions_table(block, by_network, outputs.all("logits"), image_ids)
    if "image_embeddings" in kinds and by_clip is not None:
        embeddings = outputs.all("embeddings").numpy()
        columns = {
            "clip_id": np.full(len(image_ids), by_clip.clip_id, np.int32),
            "image_id": image_ids,
            "embedding": lists(embeddings),
        }
        yield "image_embeddings", pa.table(columns)


def layer_tables(
    values: np.ndarray, block: Block, first_neuron: int, summary: Summary | None = None
) -> Iterator[tuple[str, Any]]:
    """What is written of a layer's activations (image, unit). summary: what they come to, if that is known already."""
    image_ids = block.image_ids()
    batches = activation_batches(values, image_ids, first_neuron)
    yield "activations", pa.RecordBatchReader.from_batches(ACTIVATIONS, batches)
    yield from summary_tables(summary or sum_up(values), image_ids, first_neuron, block.split_id, block.number)


def activation_batches(values: np.ndarray, image_ids: np.ndarray, first_neuron: int) -> Iterator[pa.RecordBatch]:
    """(image, unit) → rows, neuron after neuron."""
    for start in range(0, values.shape[1], NEURONS_AT_ONCE):
        some = np.ascontiguousarray(values[:, start : start + NEURONS_AT_ONCE].T)
        neuron_ids = np.arange(first_neuron + start, first_neuron + start + len(some), dtype=np.int32)
        columns = [np.repeat(neuron_ids, len(image_ids)), np.tile(image_ids, len(some)), some.ravel()]
        yield pa.record_batch([pa.array(column) for column in columns], schema=ACTIVATIONS)


def predictions_table(block: Block, by_network: Networks, logits: Tensor, image_ids: np.ndarray) -> pa.Table:
    """A row an image: class, its probability, cross-entropy where the true class is an output, all probabilities."""
    return pa.table(
        {
            "network_id": np.full(len(image_ids), by_network.network_id, np.int32),
            "image_id": image_ids,
            **outcomes(block.images, by_network.network.classes, logits),
            "probabilities": lists(logits.double().softmax(1).float().numpy()),
        }
    )


def outcomes(images: Sequence[ProbingImage], classes: Sequence[str], logits: Tensor) -> dict[str, Any]:
    """The columns class, confidence and loss of logits (row, class): rows are the images, once or several times over.

    class: of the largest logit; confidence: its probability; loss: cross-entropy in nats, NULL where the true class is
    no output.
    """
    places = {name: place for place, name in enumerate(classes)}
    truth = torch.tensor([places.get(image.class_name, -100) for image in images]).repeat(len(logits) // len(images))
    confidence, best = logits.double().softmax(1).max(1)
    losses = F.cross_entropy(logits.double(), truth, reduction="none", ignore_index=-100)
    return {
        "class": pa.DictionaryArray.from_arrays(pa.array(best.int().numpy()), pa.array(list(classes), pa.string())),
        "confidence": confidence.float().numpy(),
        "loss": pa.array(losses.float().numpy(), mask=(truth == -100).numpy()),
    }


def lists(rows: np.ndarray) -> pa.ListArray:
    """(row, number) as an Arrow column of lists, without a Python object a number."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(rows).ravel())
