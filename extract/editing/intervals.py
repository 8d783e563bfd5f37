"""Paired bootstrap intervals of what an edit changed.

low, high = bootstrap(differences, 2000, seed)     # (edit, image) → (edit,) each
unit = intervals(warehouse, split_id, protocol)    # missing rows of edit_intervals
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dissectdb.extract.study import Protocol
from dissectdb.extract.warehouse_protocol import Store

LEVEL = 0.95
AT_ONCE = 250  # resamples


def bootstrap(differences: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends (edit,) of the 95 % percentile interval of the mean over images of `differences` (edit, image).

    Images are drawn with replacement, `count` times, the same images for all edits (Efron 1979). The differences are
    paired: both predictions of an image are drawn together.
    """
    random = np.random.default_rng(seed)
    images = differences.shape[1]
    means = np.empty((len(differences), count))
    for first in range(0, count, AT_ONCE):
        resamples = min(AT_ONCE, count - first)
        drawn = random.integers(images, size=(resamples, images))
        weights = np.stack([np.bincount(draw, minlength=images) for draw in drawn], axis=1)  # (image, resample)
        means[:, first : first + resamples] = differences.astype(np.float32) @ weights.astype(np.float32) / images
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=1)
    return low, high


def intervals(warehouse: Store, split_id: int, protocol: Protocol) -> dict[str, object]:
    """A unit with the missing intervals of edits that were measured over a split; empty if none is missing.

    Controls get no interval.
    """
    rows = warehouse.rows(
        """
        select edits.edit_id, after.image_id,
            cast(after.class = images.class as integer) - cast(before.class = images.class as integer) as accuracy,
            cast(after.loss as double) - before.loss as loss
        from edits
        inner join finished_edits on edits.edit_id = finished_edits.edit_id
        inner join edit_predictions as after on edits.edit_id = after.edit_id
        inner join images on after.image_id = images.image_id
        inner join predictions as before
            on edits.network_id = before.network_id and after.image_id = before.image_id
        inner join network_outputs
            on edits.network_id = network_outputs.network_id and images.class = network_outputs.class
        where edits.control is null
        and images.split_id = $split and finished_edits.split_id = $split
        and edits.edit_id not in (select edit_id from edit_intervals where split_id = $split)
        order by edits.edit_id, after.image_id
        """,
        {"split": split_id},
    )
    if rows.is_empty():
        return {}
    parts = rows.partition_by("edit_id", maintain_order=True)
    low, high = bootstrap(np.stack([part["accuracy"].to_numpy() for part in parts]), protocol.bootstraps, protocol.seed)
    has_losses = np.array([part["loss"].null_count() == 0 for part in parts])
    losses = np.stack([part["loss"].fill_null(0).to_numpy() for part in parts])
    loss_low, loss_high = bootstrap(losses, protocol.bootstraps, protocol.seed)
    return {
        "edit_intervals": pa.table(
            {
                "edit_id": np.array([part["edit_id"][0] for part in parts], np.int32),
                "split_id": np.full(len(parts), split_id, np.int32),
                "low": low,
                "high": high,
                "loss_low": pa.array(loss_low, mask=~has_losses),
                "loss_high": pa.array(loss_high, mask=~has_losses),
                "bootstraps": np.full(len(parts), protocol.bootstraps, np.int32),
                "seed": np.full(len(parts), protocol.seed, np.int32),
            }
        )
    }
