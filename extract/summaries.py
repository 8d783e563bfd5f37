"""What the activations of a block come to: the best images of each neuron, sums, and the values of few-valued neurons.

summaries(values, image_ids, first_neuron, split_id, block)    # (table, rows) pairs

Blocks merge exactly: the best of all images are among the best of each block, sums add up, sets of values unite. So
nobody has to read the activations again to know the best images, and a run may even leave the activations out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from extract import ranking

KEPT = 256  # the largest top_k of a study; as in sql/views/evidence/top_activations.sql
NEURONS_AT_ONCE = 256


def summaries(
    values: np.ndarray, image_ids: np.ndarray, first_neuron: int, split_id: int, block: int
) -> Iterator[tuple[str, Any]]:
    """Rows of block_tops, block_sums and block_values for activations (image, unit), float32."""
    images, units = values.shape
    kept = min(KEPT, images)
    places, tops = ranking.top_lists(values, kept)
    neuron_ids = np.arange(first_neuron, first_neuron + units, dtype=np.int32)
    yield (
        "block_tops",
        pa.table(
            {
                "neuron_id": np.repeat(neuron_ids, kept),
                "image_id": image_ids[places.ravel()],
                "value": tops.ravel(),
            }
        ),
    )
    few = few_values(values, tops)
    distinct = np.full(units, KEPT, np.int32)
    for unit, found in few.items():
        distinct[unit] = len(found)
    total, total_squares = sums(values)
    yield (
        "block_sums",
        pa.table(
            {
                "split_id": np.full(units, split_id, np.int32),
                "neuron_id": neuron_ids,
                "block": np.full(units, block, np.int32),
                "images": np.full(units, images, np.int32),
                "total": total,
                "total_squares": total_squares,
                "lowest": values.min(axis=0),
                "highest": values.max(axis=0),
                "distinct_values": distinct,
            }
        ),
    )
    if few:
        counts = [len(found) for found in few.values()]
        yield (
            "block_values",
            pa.table(
                {
                    "split_id": np.full(sum(counts), split_id, np.int32),
                    "neuron_id": np.repeat(neuron_ids[list(few)], counts),
                    "value": np.concatenate(list(few.values())),
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


def few_values(values: np.ndarray, tops: np.ndarray) -> dict[int, np.ndarray]:
    """Unit → its different values, where they are fewer than KEPT.

    tops: the best values (unit, kept), highest first; where they are KEPT and all different, there is no need to look.
    """
    ties = (tops[:, 1:] == tops[:, :-1]).any(axis=1) | (tops.shape[1] < KEPT)
    found = {int(unit): np.unique(values[:, unit]) for unit in np.flatnonzero(ties)}
    return {unit: few for unit, few in found.items() if len(few) < KEPT}
