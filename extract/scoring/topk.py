"""The images that activate each neuron most, and how many of them count.

indices, values = top_lists(columns, 100)    # (neuron, 100), highest first
lengths = list_lengths(usable_images, 100)   # rounded, so that neurons share their nulls

On a CPU numpy sorts integers that hold both a value and its tie-break. This is ten times as fast as a stable arg sort
and lets other threads run. If k is a small share of the images, few images can be among the k highest, and only these
are sorted. On a GPU torch sorts all of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import run_in_threads

NEURONS_ON_DEVICE = 4096  # 130 MB of sort keys for a block of 4,096 images
COLUMNS_AT_ONCE = 32  # neurons whose images are compared at a time
GROUPS = 4  # of images for each of the k: with more groups, fewer images are sorted, but finding them takes longer


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
        block = columns[:, first : first + COLUMNS_AT_ONCE]
        for column, candidates in enumerate(_candidates(block, k)):
            top = _top(block[candidates, column], candidates, k)
            indices[first + column] = top
            values[first + column] = block[top, column]

    run_in_threads(fill, range(0, neurons, COLUMNS_AT_ONCE))
    values += np.float32(0)  # -0.0 becomes 0.0
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


def _candidates(block: np.ndarray, k: int) -> list[np.ndarray]:
    """For each column of `block` (image, n) images that include its k highest, ascending.

    The k-th highest of the maxima of 4 k groups of images is at most the k-th highest of all, and about 1.2 k images
    are above it. If fewer than k are, it is the k-th highest. A group takes every 4 k-th image, because images of one
    class often follow each other.
    """
    images, neurons = block.shape
    groups = GROUPS * k
    whole = images - images % groups
    if whole < 2 * groups:
        return [_selected(row, k) for row in np.ascontiguousarray(block.T)]
    maxima = block[:whole].reshape(-1, groups, neurons).max(axis=0)
    np.maximum(maxima[: images - whole], block[whole:], out=maxima[: images - whole])
    if np.isnan(maxima).any():  # it compares with nothing
        return [_selected(row, k) for row in np.ascontiguousarray(block.T)]
    bounds = np.partition(np.ascontiguousarray(maxima.T), groups - k, axis=1)[:, groups - k]
    image, column = np.divmod(np.flatnonzero(block > bounds), neurons)
    counts = np.bincount(column, minlength=neurons)
    image = image[np.argsort(column.astype(np.uint8), kind="stable")]
    candidates = np.split(image, np.cumsum(counts)[:-1])
    for own in np.flatnonzero(counts < k):
        ties = np.flatnonzero(block[:, own] == bounds[own])[: k - counts[own]]
        candidates[own] = np.sort(np.concatenate([candidates[own], ties]))
    return candidates


def _selected(row: np.ndarray, k: int) -> np.ndarray:
    """The images of `row` (image,) that are at least as high as the k-th highest, ascending; of ties, the first."""
    keys = _ordered(row)
    lowest = np.partition(keys, len(keys) - k)[len(keys) - k]
    candidates = np.flatnonzero(keys >= lowest)
    if len(candidates) > k:  # drop the last of those that tie for the last place
        candidates = np.delete(candidates, np.flatnonzero(keys[candidates] == lowest)[k - len(candidates) :])
    return candidates


def _top(values: np.ndarray, images: np.ndarray, k: int) -> np.ndarray:
    """The k of `images` (n,) with the highest `values` (n,), highest first."""
    packed = (~_ordered(values).astype(np.int64) << 32) | images
    packed.sort()
    return packed[:k] & 0xFFFFFFFF


def _ordered(values: np.ndarray) -> np.ndarray:
    """Integers in the order of the float32 `values` (n,): they are faster to select from."""
    keys = (values + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0 and so ties with it
    return keys ^ ((keys >> 31) & 0x7FFFFFFF)


def list_lengths(usable: np.ndarray, most: int) -> np.ndarray:
    """How many top images each neuron is scored over: (K,), as list_images of the view dissected_neurons.

    usable (K,): how many could be used. The length is at most `most`; a shorter one is rounded down to four binary
    digits, so that neurons share their nulls.
    """
    usable = np.minimum(usable, most).astype(np.int64)
    steps = 1 << np.maximum(np.floor(np.log2(np.maximum(usable, 1) + 0.5)).astype(np.int64) - 3, 0)
    return np.where(usable == most, most, usable - usable % steps)
