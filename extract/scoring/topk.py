"""The images that activate each neuron most, and how many of them count.

indices, values = top_lists(columns, 100)    # (neuron, 100), highest first
lengths = list_lengths(usable_images, 100)   # rounded, so that neurons share their nulls

On a CPU numpy sorts: its sort of unsigned integers is vectorised and lets other threads run, and sorting integers that
hold both a value and its tie-break is ten times as fast as a stable arg sort. On a GPU torch does the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import run_in_threads

NEURONS_ON_DEVICE = 4096  # 130 MB of sort keys for a block of 4,096 images
COLUMNS_AT_ONCE = 16  # neurons that are transposed at a time


def top_lists(columns: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest of each column of `columns` (image, neuron): image indices (neuron, k) int32, values (neuron, k).

    Highest first; among equal values the smaller image index first (T_k in docs/methods.md). Raises ValueError if
    there are fewer than k images.
    """
    images, neurons = columns.shape
    if k > images:
        raise ValueError(f"the {k} most activating images were asked for; there are {images}")
    indices = np.empty((neurons, k), np.int32)
    values = np.empty((neurons, k), np.float32)

    def fill(first: int) -> None:
        block = columns[:, first : first + COLUMNS_AT_ONCE] + np.float32(0)  # -0.0 becomes 0.0 and so ties with it
        rows = np.ascontiguousarray(block.T)  # from the cache; from the whole matrix it takes four times as long
        for neuron, row in enumerate(rows, first):
            indices[neuron] = _top(row, k)
            values[neuron] = row[indices[neuron]]

    run_in_threads(fill, range(0, neurons, COLUMNS_AT_ONCE))
    return indices, values


def top_lists_on_device(columns: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as top_lists for a tensor (image, neuron) float32, computed on the tensor's device."""
    images = len(columns)
    tie_breaks = torch.arange(images - 1, -1, -1, device=columns.device)  # the smaller image is higher among equals
    indices, values = [], []
    for block in columns.split(NEURONS_ON_DEVICE, dim=1):
        rows = block.T.contiguous() + 0.0  # -0.0 becomes 0.0 and so ties with it
        keys = rows.view(torch.int32)
        keys = (keys ^ ((keys >> 31) & 0x7FFFFFFF)).long() << 32
        top_images = images - 1 - (keys.bitwise_or_(tie_breaks).topk(k).values & 0xFFFFFFFF)
        indices.append(top_images.int().cpu())
        values.append(rows.gather(1, top_images).cpu())
    return torch.cat(indices).numpy(), torch.cat(values).numpy()


def _top(row: np.ndarray, k: int) -> np.ndarray:
    """The indices of the k highest of `row` (image,), float32, contiguous."""
    keys = row.view(np.int32)
    keys = keys ^ ((keys >> 31) & 0x7FFFFFFF)  # integers in the order of the floats: faster to select from
    lowest = np.partition(keys, len(keys) - k)[len(keys) - k]
    candidates = np.flatnonzero(keys >= lowest)
    if len(candidates) > k:  # drop the last of those that tie for the last place
        candidates = np.delete(candidates, np.flatnonzero(keys[candidates] == lowest)[k - len(candidates) :])
    packed = (~keys[candidates].astype(np.int64) << 32) | candidates
    packed.sort()
    return packed & 0xFFFFFFFF


def list_lengths(usable: np.ndarray, most: int) -> np.ndarray:
    """How many top images each neuron is scored over: (K,), as list_images of the view dissected_neurons.

    usable (K,): how many could be used. The length is at most `most`; a shorter one is rounded down to four binary
    digits, so that neurons share their nulls.
    """
    usable = np.minimum(usable, most).astype(np.int64)
    steps = 1 << np.maximum(np.floor(np.log2(np.maximum(usable, 1) + 0.5)).astype(np.int64) - 3, 0)
    return np.where(usable == most, most, usable - usable % steps)
