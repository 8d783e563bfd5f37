"""Summaries of a block's activations: each neuron's top images, its sums, and its values if it has few different ones.

summary = sum_up(values)                                           # on the device or in memory, where the values are
summary_tables(summary, image_ids, first_neuron, split_id, block)  # (table, rows) pairs

Summaries of blocks merge exactly: the top images of a split are among the top images of its blocks, sums add up, and
sets of values unite. So the top images are known without reading the activations again, or storing them at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract.scoring import topk
from dissectdb.extract.study import STORED_IMAGES
from dissectdb.extract.warehouse_protocol import TableRows

NEURONS_AT_ONCE = 256


@dataclass(frozen=True)
class Summary:
    """The summary of a layer over a block of images. few: unit → its different values, if fewer than STORED_IMAGES."""

    images: int
    top_indices: np.ndarray  # (unit, kept), the top images' indices in the block, highest activation first
    tops: np.ndarray  # (unit, kept), their activations
    total: np.ndarray  # (unit,) float64, as total_squares
    total_squares: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    few: dict[int, np.ndarray]


def sum_up(values: np.ndarray | Tensor) -> Summary:
    """The summary of activations (image, unit), float32. A tensor is summed up on its GPU."""
    kept = min(STORED_IMAGES, len(values))
    if isinstance(values, Tensor):
        top_indices, tops = topk.top_lists_on_device(values, kept)
        total, total_squares = (part.cpu().numpy() for part in sums_on_device(values))
        lowest, highest = (part.cpu().numpy() for part in (values.amin(0), values.amax(0)))
    else:
        top_indices, tops = topk.top_lists(values, kept)
        total, total_squares = sums(values)
        lowest, highest = values.min(axis=0), values.max(axis=0)
    few = few_values(values, tops)
    return Summary(len(values), top_indices, tops, total, total_squares, lowest, highest, few)


def summary_tables(
    summary: Summary, image_ids: np.ndarray, first_neuron: int, split_id: int, block: int
) -> Iterator[TableRows]:
    """Rows of block_tops, block_sums and block_values for a layer whose first unit is the neuron first_neuron."""
    units, kept = summary.tops.shape
    neuron_ids = np.arange(first_neuron, first_neuron + units, dtype=np.int32)
    yield (
        "block_tops",
        pa.table(
            {
                "neuron_id": np.repeat(neuron_ids, kept),
                "image_id": image_ids[summary.top_indices.ravel()],
                "value": summary.tops.ravel(),
            }
        ),
    )
    distinct = np.full(units, STORED_IMAGES, np.int32)
    for unit, values in summary.few.items():
        distinct[unit] = len(values)
    yield (
        "block_sums",
        pa.table(
            {
                "split_id": np.full(units, split_id, np.int32),
                "neuron_id": neuron_ids,
                "block": np.full(units, block, np.int32),
                "images": np.full(units, summary.images, np.int32),
                "total": summary.total,
                "total_squares": summary.total_squares,
                "lowest": summary.lowest,
                "highest": summary.highest,
                "distinct_values": distinct,
            }
        ),
    )
    if summary.few:
        counts = [len(values) for values in summary.few.values()]
        yield (
            "block_values",
            pa.table(
                {
                    "split_id": np.full(sum(counts), split_id, np.int32),
                    "neuron_id": np.repeat(neuron_ids[list(summary.few)], counts),
                    "value": np.concatenate(list(summary.few.values())),
                }
            ),
        )


def sums(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum and the sum of squares of each column of (image, unit), float64 (unit,) each."""
    total, total_squares = np.empty(values.shape[1]), np.empty(values.shape[1])
    for start in range(0, values.shape[1], NEURONS_AT_ONCE):
        chunk = values[:, start : start + NEURONS_AT_ONCE].astype(np.float64)
        total[start : start + NEURONS_AT_ONCE] = chunk.sum(axis=0)
        total_squares[start : start + NEURONS_AT_ONCE] = np.einsum("ij,ij->j", chunk, chunk)
    return total, total_squares


def sums_on_device(values: Tensor) -> tuple[Tensor, Tensor]:
    """Like sums, for a tensor on its device."""
    chunks = values.split(topk.NEURONS_ON_DEVICE, dim=1)  # in double precision, twice the memory
    chunk_sums = [torch.stack([chunk.double().sum(0), chunk.double().square().sum(0)]) for chunk in chunks]
    total, total_squares = torch.cat(chunk_sums, dim=1)
    return total, total_squares


def few_values(values: np.ndarray | Tensor, tops: np.ndarray) -> dict[int, np.ndarray]:
    """Unit → its different values, for units with fewer than STORED_IMAGES of them.

    tops: the highest values (unit, kept), in descending order. A unit with STORED_IMAGES different ones need not be
    examined.
    """
    candidates = np.flatnonzero((tops[:, 1:] == tops[:, :-1]).any(axis=1) | (tops.shape[1] < STORED_IMAGES))
    if isinstance(values, Tensor):
        values, candidates = _with_few_on_device(values, candidates)
    else:
        start = np.ascontiguousarray(values[: 2 * STORED_IMAGES, candidates].T)  # enough to see that most have many
        start.sort(axis=1)
        candidates = candidates[(start[:, 1:] != start[:, :-1]).sum(axis=1) + 1 < STORED_IMAGES]
        values = values[:, candidates]
    values_by_unit = {int(unit): np.unique(column) for unit, column in zip(candidates, values.T, strict=True)}
    return {unit: distinct for unit, distinct in values_by_unit.items() if len(distinct) < STORED_IMAGES}


def _with_few_on_device(values: Tensor, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the candidates that have few values, in memory, and these candidates. Counted on the device."""
    columns, units = [], []
    for part in np.array_split(candidates, max(1, -(-len(candidates) // topk.NEURONS_ON_DEVICE))):
        rows = values.T[torch.from_numpy(part).to(values.device)].contiguous()
        ordered = rows.sort(dim=1).values
        few = (ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1 < STORED_IMAGES
        columns.append(rows[few].cpu().numpy().T)
        units.append(part[few.cpu().numpy()])
    return np.concatenate(columns, axis=1), np.concatenate(units)
