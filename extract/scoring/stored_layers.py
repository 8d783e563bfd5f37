"""The layers of a dissection in a warehouse, read when a scorer or its null needs them.

for layer in read_layers(warehouse, dissection_row): layer.top(100, 0, layer.neurons)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.problem import Spread
from dissectdb.extract.study import STORED_IMAGES

if TYPE_CHECKING:
    from dissectdb.extract.warehouse_protocol import Row, Store

NEURONS_AT_ONCE = 256  # whose cubes are computed at a time


@dataclass
class StoredLayer:
    """A Layer (problem.py) in a warehouse. Its neurons are first_neuron, first_neuron + 1, …"""

    warehouse: Store
    layer_id: int
    split_id: int
    first_neuron: int
    dead: np.ndarray  # or sparse
    lengths: np.ndarray
    groups: np.ndarray
    image_ids: np.ndarray
    lists: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # of all neurons, by their length

    @property
    def neurons(self) -> int:
        """How many neurons the layer has."""
        return len(self.dead)

    @property
    def images(self) -> int:
        """How many probing images there are."""
        return len(self.image_ids)

    def has_activations(self) -> bool:
        """Whether the activations on these images are stored; a run may keep only top images and sums of neurons."""
        query = (
            "select count(*) from activations where neuron_id = $neuron and image_id >= $first and image_id <= $last"
        )
        first, last = int(self.image_ids[0]), int(self.image_ids[-1])
        stored = self.warehouse.rows(query, {"neuron": self.first_neuron, "first": first, "last": last}).item()
        return bool(stored >= self.images)

    def top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most activating images of neurons first … last - 1: indices (n, k), values (n, k), highest first."""
        if k > min(STORED_IMAGES, self.images):
            return topk.top_lists(self.block(first, last), k)
        if (first, last) != (0, self.neurons):
            return self._stored_top(k, first, last)
        if k not in self.lists:  # the scorer, its null and each check read the same list
            self.lists[k] = self._stored_top(k, first, last)
        return self.lists[k]

    def _stored_top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.warehouse.rows(
            """
            select image_id, value from top_activations
            where split_id = $split and neuron_id >= $first and neuron_id < $last and rank <= $k
            order by neuron_id, rank
            """,
            {"split": self.split_id, "first": self.first_neuron + first, "last": self.first_neuron + last, "k": k},
        )
        shape = (last - first, k)
        indices = self._image_indices[rows["image_id"].to_numpy() - self.image_ids[0]]
        return indices.reshape(shape), rows["value"].to_numpy().reshape(shape)

    @cached_property
    def _image_indices(self) -> np.ndarray:
        """The index of each image by its id less the first id; the number of images for those of other splits."""
        indices = np.full(self.image_ids[-1] - self.image_ids[0] + 1, self.images)
        indices[self.image_ids - self.image_ids[0]] = np.arange(self.images)
        return indices

    def block(self, first: int, last: int) -> np.ndarray:
        """Activations (N, n) of neurons first … last - 1."""
        return np.ascontiguousarray(self.rows(first, last).T)

    def rows(self, first: int, last: int) -> np.ndarray:
        """Activations (n, N) of neurons first … last - 1: each neuron's are contiguous."""
        rows = self.warehouse.rows(
            """
            select neuron_id, image_id, value from activations
            where neuron_id >= $first and neuron_id < $last and image_id >= $from and image_id <= $to
            """,
            {
                "first": self.first_neuron + first,
                "last": self.first_neuron + last,
                "from": int(self.image_ids[0]),
                "to": int(self.image_ids[-1]),
            },
        )
        # Put in order here: sorting them takes the database six times as long. They lie block by block of images, and
        # in a block neuron by neuron, so that most of it is copying.
        neuron_ids, image_ids, values = (rows[name].to_numpy() for name in ("neuron_id", "image_id", "value"))
        ordered = np.empty((last - first, self.images + 1), np.float32)  # the last column: images of other splits
        ends = (np.flatnonzero(neuron_ids[1:] != neuron_ids[:-1]) + 1).tolist()
        ids = image_ids[:0]
        columns: slice | np.ndarray = slice(0)
        for start, end in pairwise([0, *ends, len(values)]):
            if not np.array_equal(ids, image_ids[start:end]):
                ids = image_ids[start:end]
                columns = _as_slice(self._image_indices[ids - np.int32(self.image_ids[0])])
            ordered[neuron_ids[start] - self.first_neuron - first, columns] = values[start:end]
        return ordered[:, :-1]

    @cached_property
    def lowest(self) -> np.ndarray:
        """The lowest activation of each neuron (K,)."""
        return self._statistics["lowest"].to_numpy()

    @cached_property
    def spread(self) -> Spread:
        """Mean and standard deviation of the activations of each neuron."""
        return Spread(self._statistics["mean"].to_numpy(), self._statistics["sd"].to_numpy())

    @cached_property
    def fired(self) -> np.ndarray:
        """How many images each neuron (K,) fires on; 256 means 256 or more."""
        return self._statistics["images_fired"].to_numpy()

    @cached_property
    def _statistics(self) -> pl.DataFrame:
        return self.warehouse.rows(
            """
            select mean, sd, lowest, images_fired from neuron_statistics
            where split_id = $split and neuron_id >= $first and neuron_id < $last order by neuron_id
            """,
            {"split": self.split_id, "first": self.first_neuron, "last": self.first_neuron + self.neurons},
        )

    @cached_property
    def cube_spread(self) -> Spread:
        """Mean and standard deviation of the centred, cubed activations of each neuron."""
        means, sds = np.empty(self.neurons), np.empty(self.neurons)
        for neurons in slices(self.neurons, NEURONS_AT_ONCE):
            block = torch.from_numpy(self.block(neurons.start, neurons.stop)).double()
            block -= block.mean(dim=0)
            cubes = block.square().mul_(block)
            sds[neurons], means[neurons] = (part.numpy() for part in torch.std_mean(cubes, dim=0, correction=0))
        return Spread(means, sds)


def _as_slice(indices: np.ndarray) -> slice | np.ndarray:
    """Indices as a slice if they are consecutive: copying is then ten times as fast."""
    is_consecutive = (np.diff(indices) == 1).all()
    return slice(int(indices[0]), int(indices[-1]) + 1) if is_consecutive else indices


def read_layers(warehouse: Store, row: Row) -> list[StoredLayer]:
    """The layers of a dissection that have a neuron which takes a label, nearest the image first."""
    neurons = warehouse.rows(
        """
        select layer_id, neuron_id, dead or sparse as dead, list_images, null_group
        from dissected_neurons where dissection_id = $id order by neuron_id
        """,
        {"id": row["dissection_id"]},
    )
    images = warehouse.rows(
        "select image_id from images where split_id = $split and defect is null order by image_id",
        {"split": row["split_id"]},
    )["image_id"].to_numpy()
    return [
        StoredLayer(
            warehouse,
            layer_id,
            row["split_id"],
            group["neuron_id"][0],
            group["dead"].to_numpy(),
            group["list_images"].cast(pl.Int64).to_numpy(),
            group["null_group"].cast(pl.Int64).to_numpy(),
            images,
        )
        for (layer_id,), group in neurons.group_by("layer_id", maintain_order=True)
        if not group["dead"].all()
    ]
