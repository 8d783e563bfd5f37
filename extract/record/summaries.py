"""Summaries of a block's activations: the best images of each neuron, sums, and the values of few-valued neurons.

found = sum_up(values)                                           # where the values are, on the device or in memory
summary_tables(found, image_ids, first_neuron, split_id, block)  # (table, rows) pairs

Blocks merge exactly: the best of all images are among the best of each block, sums add up, sets of values unite. So
the best images are known without reading the activations again, and a run may even leave the activations out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dissectdb.extract.scoring import topk
from dissectdb.extract.store import TableRows

KEPT = 256  # the largest top_k of a study; as in sql/views/evidence/top_activations.sql
NEURONS_AT_ONCE = 256


@dataclass(frozen=True)
class Summary:
    """Of each unit of a block of images. few: unit → its different values, where they are fewer than KEPT."""

    images: int
    places: np.ndarray  # (unit, kept), of the best images in the block, best first
    tops: np.ndarray  # (unit, kept), their activations
    total: np.ndarray  # (unit,) float64, as total_squares
    total_squares: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    few: dict[int, np.ndarray]


def sum_up(values: np.ndarray | Tensor) -> Summary:
    """Activations (image, unit), float32, summed up. A tensor is on a GPU, which does it there."""
    kept = min(KEPT, len(values))
    if isinstance(values, Tensor):
        places, tops = topk.top_lists_on_device(values, kept)
        total, total_squares = (found.cpu().numpy() for found in sums_on_device(values))
        lowest, highest = (found.cpu().numpy() for found in (values.amin(0), values.amax(0)))
    else:
        places, tops = topk.top_lists(values, kept)
        total, total_squares = sums(values)
        lowest, highest = values.min(axis=0), values.max(axis=0)
    few = few_values(values, tops)
    return Summary(len(values), places, tops, total, total_squares, lowest, highest, few)


def summary_tables(
    found: Summary, image_ids: np.ndarray, first_neuron: int, split_id: int, block: int
) -> Iterator[TableRows]:
    """Rows of block_tops, block_sums and block_values for a layer whose first unit is the neuron first_neuron."""
    units, kept = found.tops.shape
    neuron_ids = np.arange(first_neuron, first_neuron + units, dtype=np.int32)
    yield (
        "block_tops",
        pa.table(
            {
                "neuron_id": np.repeat(neuron_ids, kept),
                "image_id": image_ids[found.places.ravel()],
                "value": found.tops.ravel(),
            }
        ),
    )
    distinct = np.full(units, KEPT, np.int32)
    for unit, values in found.few.items():
        distinct[unit] = len(values)
    yield (
        "block_sums",
        pa.table(
            {
                "split_id": np.full(units, split_id, np.int32),
                "neuron_id": neuron_ids,
                "block": np.full(units, block, np.int32),
                "images": np.full(units, found.images, np.int32),
                "total": found.total,
                "total_squares": found.total_squares,
                "lowest": found.lowest,
                "highest": found.highest,
                "distinct_values": distinct,
            }
        ),
    )
    if found.few:
        counts = [len(values) for values in found.few.values()]
        yield (
            "block_values",
            pa.table(
                {
                    "split_id": np.full(sum(counts), split_id, np.int32),
                    "neuron_id": np.repeat(neuron_ids[list(found.few)], counts),
                    "value": np.concatenate(list(found.few.values())),
                }
            ),
        )


def sums(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column (image, unit) the sum and the sum of squares, float64 (unit,)."""
    total, total_squares = np.empty(values.shape[1]), np.empty(values.shape[1])
    for start in range(0, values.shape[1], NEURONS_AT_ONCE):
        some = values[:, start : start + NEURONS_AT_ONCE].astype(np.float64)
        total[start : start + NEURONS_AT_ONCE] = some.sum(axis=0)
        total_squares[start : start + NEURONS_AT_ONCE] = np.einsum("ij,ij->j", some, some)
    return total, total_squares


def sums_on_device(values: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a tensor, where it is."""
    pieces = values.split(topk.NEURONS_ON_DEVICE, dim=1)  # in double precision, twice the memory
    found = [torch.stack([some.double().sum(0), some.double().square().sum(0)]) for some in pieces]
    total, total_squares = torch.cat(found, dim=1)
    return total, total_squares


def few_values(values: np.ndarray | Tensor, tops: np.ndarray) -> dict[int, np.ndarray]:
    """Unit → its different values, where they are fewer than KEPT.

    tops: the best values (unit, kept), highest first; where they are KEPT and all different, there is no need to look.
    """
    ties = np.flatnonzero((tops[:, 1:] == tops[:, :-1]).any(axis=1) | (tops.shape[1] < KEPT))
    if isinstance(values, Tensor):
        values = values[:, torch.from_numpy(ties).to(values.device)].cpu().numpy()
        found = {int(unit): np.unique(column) for unit, column in zip(ties, values.T, strict=True)}
    else:
        start = values[: 2 * KEPT, ties]  # nearly always enough to see that there are many
        few = [unit for unit, column in zip(ties, start.T, strict=True) if len(np.unique(column)) < KEPT]
        found = {int(unit): np.unique(values[:, unit]) for unit in few}
    return {unit: different for unit, different in found.items() if len(different) < KEPT}
