"""Where a neuron responds: its activation maps for its best images, as small grids, and a sample of all maps' cells.

best = BestMaps(tap, first_neuron, 16, device)          # of one layer, over the blocks of a split
found = best.search(maps, values, image_ids, ordinals)  # during a forward pass, on the device
best.keep(found)                                        # when the batch is done
best.take(block)                                        # when the block is done: (table, rows) pairs

The 16 best images of a split are among the 16 best of any part of it that they are in. So a map is cut out while its
image is in the network, if the image is among the best that this process has seen. A run that goes on after a kill and
a shard have seen fewer, and write more maps. discard_overtaken deletes those that are not among the best of all.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from dissectdb.extract import fingerprints
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.warehouse_protocol import Store, TableRows

MAX_SIDE = 8  # rows and columns of a grid
SAMPLED = 4096  # cells that are sampled of each neuron, at least, if its maps have so many
TAIL = 100  # one cell in so many is above a neuron's threshold
PLACES_AT_ONCE = 1 << 24  # of full maps that are reduced to grids: 64 MB
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, without their whole part, fall evenly between 0 and 1
NO_IMAGE = torch.iinfo(torch.int64).max


def grid_side(places: int) -> int:
    """How many rows a map of so many has as a grid: at most MAX_SIDE; several whole rows become one if possible."""
    return math.ceil(places / math.ceil(places / MAX_SIDE))


def reduced(maps: Tensor, pooling: str) -> Tensor:
    """Maps (…, row, column) as grids: each cell is the mean of its places, or their maximum, as the layer is pooled."""
    shape = grid_side(maps.shape[-2]), grid_side(maps.shape[-1])
    if shape == tuple(maps.shape[-2:]):
        return maps.float()
    if not maps.numel():
        return maps.new_empty((*maps.shape[:-2], *shape), dtype=torch.float32)
    pool = F.adaptive_max_pool2d if pooling == "max" else F.adaptive_avg_pool2d
    return pool(maps.float(), shape)


class Sample(NamedTuple):
    """Which cells are sampled: of every `stride`-th image `cells` cells. kept: the highest of them that are stored."""

    stride: int
    cells: int
    kept: int


def sample_of(images: int, cells: int) -> Sample:
    """The sample of a split of so many images whose grids have so many cells."""
    stride = max(images // SAMPLED, 1)
    per_image = min(math.ceil(SAMPLED / max(images, 1)), cells)
    return Sample(stride, per_image, math.ceil(math.ceil(images / stride) * per_image / TAIL))


def fingerprint(layer: str, tap: Tap, images: int) -> str:
    """The fingerprint of a layer's maps: of the layer's own, and of how maps are made and for how many images."""
    return fingerprints.of_values(layer, tap.grid, images, MAX_SIDE, SAMPLED, TAIL)


OVERTAKEN = """
    (neuron_id, image_id) not in (
        select top_activations.neuron_id, top_activations.image_id
        from top_activations
        inner join neurons on top_activations.neuron_id = neurons.neuron_id
        inner join extractions
        on neurons.layer_id = extractions.layer_id and top_activations.split_id = extractions.split_id
        where target = 'activation_maps' and rank <= (versions::json ->> 'map_images')::integer
    )
"""


def discard_overtaken(warehouse: Store) -> None:
    """Delete maps of images that are not among a neuron's best; when all blocks are there. Reads top_activations."""
    warehouse.discard({"activation_maps": OVERTAKEN}, {})


class Maps(NamedTuple):
    """Some maps, one per row: unit, image_id, activation; the grid in 256 levels from low to high, and its top cell."""

    unit: Tensor
    image: Tensor
    value: Tensor
    levels: Tensor  # (map, cell) uint8
    low: Tensor
    high: Tensor
    top: Tensor

    def where(self, chosen: Tensor) -> Maps:
        """Those that are chosen, by a mask or by their indices."""
        return Maps(*(column[chosen] for column in self))


class Found(NamedTuple):
    """What a batch has for a layer: maps, and the units that they are of with their best values and images."""

    maps: Maps
    units: Tensor
    values: Tensor  # (unit, kept), best first, as images
    images: Tensor
    sample: Tensor  # (unit, cell): the sampled cells


class BestMaps:
    """The maps of a layer's neurons for their `images` best images so far, and the sampled cells of a block.

    images_in_split: how many images the split has. Several threads may search and keep at the same time.
    """

    def __init__(self, tap: Tap, first_neuron: int, images: int, images_in_split: int, device: torch.device) -> None:
        assert tap.grid is not None
        self.tap, self.first_neuron = tap, first_neuron
        self.shape = grid_side(tap.grid.rows), grid_side(tap.grid.columns)
        self.sample = sample_of(images_in_split, math.prod(self.shape))
        self.values = torch.full((tap.units, images), -torch.inf, device=device)  # best first
        self.images = torch.full((tap.units, images), NO_IMAGE, device=device)
        self.maps: list[Maps] = []  # of this block
        self.cells: list[Tensor] = []  # the sampled ones of this block
        self.lock = threading.Lock()

    def search(self, maps: Tensor, values: Tensor, image_ids: np.ndarray, ordinals: np.ndarray) -> Found:
        """The maps of a batch for images that may be among the best.

        maps (image, unit, row, column); values: activations (image, unit); ordinals: the images' indices in the split.
        """
        with self.lock:
            last_value, last_image = self.values[:, -1:].clone(), self.images[:, -1:].clone()
        ids = torch.from_numpy(image_ids.astype(np.int64)).to(values.device)
        columns = values.T + 0.0  # -0.0 becomes 0.0, as where the best images are chosen
        better = _precedes(columns, ids, last_value, last_image)
        units = better.any(1).nonzero()[:, 0]
        order = columns[units].sort(dim=1, descending=True, stable=True)  # of equal values, the smaller image first
        kept = min(self.values.shape[1], len(ids))
        top, top_values = order.indices[:, :kept], order.values[:, :kept]
        row, place = better[units].gather(1, top).nonzero(as_tuple=True)
        image, unit = top[row, place], units[row]
        at_once = max(PLACES_AT_ONCE // maps[0, 0].numel(), 1)
        grids = [
            reduced(maps[own_image, own_unit], self.tap.pooling)
            for own_image, own_unit in zip(image.split(at_once), unit.split(at_once), strict=True)
        ]
        found = Maps(unit, ids[image], top_values[row, place], *levels_of(torch.cat(grids).flatten(1)))
        sound = torch.isfinite(found.low) & torch.isfinite(found.high)  # a maximum may hide a cell of -inf
        return Found(found.where(sound), units, top_values, ids[top], self._sampled(maps, ordinals))

    def _sampled(self, maps: Tensor, ordinals: np.ndarray) -> Tensor:
        """(unit, cell) of the sampled cells of a batch's maps. Only the places of these cells are read."""
        rows, columns = self.shape
        cells = rows * columns
        images = np.flatnonzero(ordinals % self.sample.stride == 0)
        first = (ordinals[images] * GOLDEN % 1 * cells).astype(np.int64)
        step = cells // self.sample.cells
        wanted = (first[:, None] + step * np.arange(self.sample.cells)) % cells
        parts = []
        for cell in np.unique(wanted):
            own = torch.from_numpy(images[(wanted == cell).any(axis=1)]).to(maps.device)
            row, column = divmod(int(cell), columns)
            window = maps[own][:, :, _window(row, rows, maps.shape[2]), _window(column, columns, maps.shape[3])].float()
            parts.append((window.amax((2, 3)) if self.tap.pooling == "max" else window.mean((2, 3))).T)
        return torch.cat(parts, dim=1) if parts else maps.new_empty((maps.shape[1], 0), dtype=torch.float32)

    def keep(self, found: Found) -> None:
        """Count the images of a batch among those seen. To be called once for a batch, when nothing can fail."""
        with self.lock:
            self.maps.append(found.maps)
            self.cells.append(found.sample)
            values = torch.cat([self.values[found.units], found.values], dim=1)
            images = torch.cat([self.images[found.units], found.images], dim=1)
            by_image = images.argsort(dim=1)
            values, images = values.gather(1, by_image), images.gather(1, by_image)
            order = values.sort(dim=1, descending=True, stable=True)
            kept = self.values.shape[1]
            self.values[found.units] = order.values[:, :kept]
            self.images[found.units] = images.gather(1, order.indices[:, :kept])
            if sum(len(maps.unit) for maps in self.maps) > 2 * self.values.numel():
                self.maps = [self._best()]

    def _best(self) -> Maps:
        """The maps of the block whose images are still among the best."""
        maps = Maps(*(torch.cat(columns) for columns in zip(*self.maps, strict=True)))
        last_value, last_image = self.values[maps.unit, -1], self.images[maps.unit, -1]
        return maps.where(~_precedes(last_value, last_image, maps.value, maps.image))

    def take(self, split_id: int, block: int) -> list[TableRows]:
        """The rows of a block: maps of those of its images that are among the best so far; the sampled cells."""
        maps, cells = self._best(), torch.cat(self.cells, dim=1)
        self.maps, self.cells = [], []
        order = np.lexsort((maps.image.cpu().numpy(), maps.unit.cpu().numpy()))
        rows = self._rows(maps.where(torch.from_numpy(order).to(maps.unit.device)))
        return [("activation_maps", rows), ("map_values", self._tail(cells, split_id, block))]

    def _rows(self, maps: Maps) -> pa.Table:
        """Rows of activation_maps."""
        unit, image, _, levels, low, high, top = (column.cpu().numpy() for column in maps)
        (rows, columns), count = self.shape, len(unit)
        offsets = np.arange(0, levels.size + 1, rows * columns, dtype=np.int32)
        return pa.table(
            {
                "neuron_id": (self.first_neuron + unit).astype(np.int32),
                "image_id": image.astype(np.int32),
                "grid_rows": np.full(count, rows, np.int32),
                "grid_columns": np.full(count, columns, np.int32),
                "top_row": (top // columns).astype(np.int32),
                "top_column": (top % columns).astype(np.int32),
                "low": low,
                "high": high,
                "cells": pa.ListArray.from_arrays(offsets, levels.ravel()),
            }
        )

    def _tail(self, cells: Tensor, split_id: int, block: int) -> pa.Table:
        units, sampled = cells.shape
        kept = min(self.sample.kept, sampled)
        values = cells.topk(kept, dim=1).values.cpu().numpy()
        rows = units * kept
        neurons = np.arange(self.first_neuron, self.first_neuron + units, dtype=np.int32)
        return pa.table(
            {
                "split_id": np.full(rows, split_id, np.int32),
                "neuron_id": np.repeat(neurons, kept),
                "block": np.full(rows, block, np.int32),
                "sampled": np.full(rows, sampled, np.int32),
                "value": values.ravel(),
            }
        )


def levels_of(cells: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Grids (map, cell) in 256 levels: (map, cell) uint8; and of each map its lowest and highest value and top cell.

    Of several highest cells the top one is the first. All levels are 0 if all cells are equal.
    """
    low, high = cells.aminmax(dim=1)
    spread = torch.where(high > low, high - low, torch.ones_like(high))
    levels = ((cells - low[:, None]) / spread[:, None] * 255).round().to(torch.uint8)
    return levels, low, high, cells.argmax(1)


def _precedes(value: Tensor, image: Tensor, other_value: Tensor, other_image: Tensor) -> Tensor:
    """Whether an image comes before another one in the order of a neuron's best images, as in top_activations."""
    return (value > other_value) | ((value == other_value) & (image < other_image))


def _window(cell: int, cells: int, places: int) -> slice:
    """The places of a cell along an axis, as adaptive pooling has them."""
    return slice(cell * places // cells, -(-(cell + 1) * places // cells))
