"""Ranks for the scorers: the images that activate a neuron most, and rank_reorder's comparison of two orders.

indices, values = top_lists(columns, 100)               # (neuron, 100), highest first
table = rank_table(cosines, 1435)                       # once per concept, for all neurons
reorder_errors(table, indices, values, 3.0)             # (neuron, concept)

On a CPU numpy sorts: its sort of unsigned integers is vectorised and lets other threads run, and an order with its
tie-break packed into one integer is sorted ten times faster than a stable arg sort. On a GPU torch does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.problem import NEURONS, ROWS, Best, Job, different_rows, in_threads, pieces

if TYPE_CHECKING:
    from dissectdb.extract.scoring.scorers import Layer

TILE = 1 << 16  # elements that a thread works on at a time: a few arrays of them fit its level-2 cache
NEURONS_ON_DEVICE = 4096  # 130 MB of keys for a block of 4,096 images
KNOWN = 256  # best images of a neuron that the views keep
COLUMNS = 16  # neurons that are transposed at a time


# ---------------------------------------------------------------- the images that activate a neuron most


def top_lists(columns: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each column of `columns` (image, neuron) the k highest: image indices (neuron, k) int32, values (neuron, k).

    Highest first, the smaller image index first among equals (methods.md, T_k).
    """
    images, neurons = columns.shape
    if k > images:
        raise ValueError(f"the {k} most activating images were asked for; there are {images}")
    indices = np.empty((neurons, k), np.int32)
    values = np.empty((neurons, k), np.float32)

    def fill(first: int) -> None:
        few = columns[:, first : first + COLUMNS] + np.float32(0)  # -0.0 becomes 0.0 and so ties with it
        rows = np.ascontiguousarray(few.T)  # from the cache; from the whole matrix it takes four times as long
        for neuron, row in enumerate(rows, first):
            indices[neuron] = _top(row, k)
            values[neuron] = row[indices[neuron]]

    in_threads(fill, range(0, neurons, COLUMNS))
    return indices, values


def top_lists_on_device(columns: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of a tensor (image, neuron) float32, found where it is."""
    images = len(columns)
    places = torch.arange(images - 1, -1, -1, device=columns.device)  # the smaller image is the higher among equals
    indices, values = [], []
    for some in columns.split(NEURONS_ON_DEVICE, dim=1):
        rows = some.T.contiguous() + 0.0  # -0.0 becomes 0.0 and so ties with it
        keys = rows.view(torch.int32)
        keys = (keys ^ ((keys >> 31) & 0x7FFFFFFF)).long() << 32
        best = images - 1 - (keys.bitwise_or_(places).topk(k).values & 0xFFFFFFFF)
        indices.append(best.int().cpu())
        values.append(rows.gather(1, best).cpu())
    return torch.cat(indices).numpy(), torch.cat(values).numpy()


def _top(row: np.ndarray, k: int) -> np.ndarray:
    """The indices of the k highest of `row` (image,), float32, contiguous."""
    keys = row.view(np.int32)
    keys = keys ^ ((keys >> 31) & 0x7FFFFFFF)  # integers in the order of the floats: faster to select from
    lowest = np.partition(keys, len(keys) - k)[len(keys) - k]
    found = np.flatnonzero(keys >= lowest)
    if len(found) > k:  # the last of those that tie for the last place
        found = np.delete(found, np.flatnonzero(keys[found] == lowest)[k - len(found) :])
    packed = (~keys[found].astype(np.int64) << 32) | found
    packed.sort()
    return packed & 0xFFFFFFFF


def list_lengths(known: np.ndarray, most: int) -> np.ndarray:
    """How many of `known` best images a neuron is scored over: (K,), as list_images of the view dissected_neurons.

    At most `most`; less is rounded down to four binary digits, so that neurons share their nulls.
    """
    known = np.minimum(known, most).astype(np.int64)
    steps = 1 << np.maximum(np.floor(np.log2(np.maximum(known, 1) + 0.5)).astype(np.int64) - 3, 0)
    return np.where(known == most, most, known - known % steps)


# ---------------------------------------------------------------- rank_reorder


def rank_reorder(job: Job, permutations: np.ndarray | None) -> Best:
    """score = - (mean_j |v_j - ṽ_j|^p / B_k) / (mean_j s)^q over the n most activating images of each neuron."""
    settings, layer, best = job.settings, job.layer, job.best()
    n = int(settings.rank_fraction * layer.images)
    if n < 2:
        raise ValueError(f"rank_fraction = {settings.rank_fraction} of {layer.images} images is {n}; it takes 2")
    if permutations is None:
        permutations = draw_permutations(settings.permutations, n, settings.seed)
    if permutations.shape[-1] != n:
        raise ValueError(f"the permutations are of {permutations.shape[-1]} images; {n} are ranked")
    first, inverse = different_rows(job.images)  # so that equal images have equal cosines, and tie
    images = job.images[torch.from_numpy(first)]
    each_neuron = 24 * n * (permutations.shape[-2] + 2)
    size = max(1, min(NEURONS, layer.neurons, job.budget // 8 // each_neuron))
    tiles = job.budget // 4
    width = job.width(images.nbytes + size * each_neuron + tiles, 24 * len(images) + 40 * size)
    for some in pieces(len(job.words.vectors), width):
        measure = reorder_measure(images, job.words.vectors[some], n, settings.rank_power, job.device, tiles)
        for neurons in pieces(layer.neurons, size):
            indices, values = layer.top(n, neurons.start, neurons.stop)
            scores = torch.full((len(indices), some.stop - some.start), -torch.inf, dtype=torch.float64)
            lengths = reordered_lengths(layer, values, neurons)
            for length in np.unique(lengths):
                rows = np.flatnonzero(lengths == length)
                few = scaled(values[rows, :length])
                mine = permutations if permutations.ndim == 2 else permutations[neurons][rows]
                chance = baselines(few, shortened(mine, length), settings.rank_power)
                errors, means = measure(inverse[indices[rows, :length]], few)
                scores[rows] = reorder_scores(errors, means, chance, settings.rank_scale)
            best.update(scores.to(job.device), some.start, neurons.start)
    return best


def reordered_lengths(layer: Layer, values: np.ndarray, neurons: slice) -> np.ndarray:
    """How many best images of each of some neurons are reordered. values: (neuron, n), of their n best images.

    All n where the neuron fires on the n-th; layer.lengths knows KNOWN images at most.
    """
    n, last = values.shape[1], values[:, -1]
    if layer.lengths is None:
        return np.full(len(values), n)
    known = layer.lengths[neurons]
    whole = (known == n) | ((known == min(n, KNOWN)) & (last > layer.lowest[neurons]))
    return np.where(whole | layer.dead[neurons], n, known)


def shortened(permutations: np.ndarray, length: int) -> np.ndarray:
    """Orders (…, n) of n places as orders of the first `length`: these places, in the order in which they stand."""
    return permutations[permutations < length].reshape(*permutations.shape[:-1], length)


def reorder_scores(errors: np.ndarray, means: np.ndarray, chance: np.ndarray, scale: float) -> Tensor:
    """-errors / chance / means^scale (n, c); -inf where the formula has no value: chance = 0, or a mean ≤ 0."""
    defined = (chance > 0)[:, None] & ((means > 0) | (scale == 0))
    scores = -errors / np.where(chance > 0, chance, 1)[:, None] / np.where(means > 0, means, 1) ** scale
    return torch.from_numpy(np.where(defined, scores, -np.inf))


def reorder_measure(
    images: Tensor, words: Tensor, n: int, power: float, device: torch.device, budget: int
) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from lists of images and their values, (neuron, n) each, to errors and mean cosines (neuron, c).

    Cosines are float64, since two that float32 confuses would swap ranks.
    """
    cosines = torch.empty(len(words), len(images), dtype=torch.float64, device=device)
    words = words.to(device).double()
    for rows in pieces(len(images), ROWS):
        torch.mm(words, images[rows].to(device).double().T, out=cosines[:, rows])
    if device.type != "cpu":
        return lambda indices, values: tuple(
            result.cpu().numpy()
            for result in reorder_on_device(
                cosines.T, torch.from_numpy(indices).to(device), torch.from_numpy(values).to(device), power, budget
            )
        )
    table = rank_table(cosines.numpy(), n)
    return lambda indices, values: (
        reorder_errors(table, indices, values, power),
        mean_cosines(cosines.numpy(), indices),
    )


# ---------------------------------------------------------------- its parts


def draw_permutations(count: int, length: int, seed: int) -> np.ndarray:
    """(count, length): the same for every neuron, so that no score depends on which neurons share a call."""
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(length) for _ in range(count)])


def scaled(values: np.ndarray) -> np.ndarray:
    """`values` (neuron, n), highest first, on a scale from 1 to 0, float64: E / B does not change by it."""
    values = values.astype(np.float64)
    span = values[:, :1] - values[:, -1:]
    return (values - values[:, -1:]) / np.where(span > 0, span, 1)


def baselines(values: np.ndarray, permutations: np.ndarray, power: float) -> np.ndarray:
    """B (neuron,) of methods.md: how far `values` (neuron, n) are from themselves in a random order.

    permutations: (permutation, n), or (neuron, permutation, n).
    """
    permutations = np.broadcast_to(permutations, (len(values), *permutations.shape[-2:]))
    chance = np.empty(len(values))

    def fill(neuron: int) -> None:
        rising = values[neuron, ::-1]
        chance[neuron] = _mean_power(rising.take(permutations[neuron]) - rising, power).mean()

    in_threads(fill, range(len(values)))
    return chance


def rank_table(cosines: np.ndarray, n: int) -> np.ndarray:
    """Ranks of `cosines` (concept, image) along the images, equal ones alike, with room for a position below n.

    rank · 2^16 + 0 in 32 bits where both numbers fit into 16, else rank · 2^32 in 64 bits.
    """
    images = cosines.shape[1]
    table = np.empty(cosines.shape, np.uint32 if max(images, n) <= 1 << 16 else np.uint64)
    shift = table.dtype.itemsize * 4

    def fill(concept: int) -> None:
        order = np.argsort(cosines[concept])
        sorted_ = cosines[concept][order]
        ranks = np.zeros(images, table.dtype)
        np.cumsum(sorted_[1:] != sorted_[:-1], out=ranks[1:])
        table[concept, order] = ranks << shift

    in_threads(fill, range(len(cosines)))
    return table


def reorder_errors(table: np.ndarray, indices: np.ndarray, values: np.ndarray, power: float) -> np.ndarray:
    """mean_j |v_j - ṽ_j|^power of methods.md (neuron, concept), ṽ: the values put in the order of the cosines.

    table: rank_table of (concept, image). indices, values: (neuron, n), values highest first. The image with the
    r-th smallest cosine takes the r-th smallest value, so sorting (rank, position) pairs is all it needs; equal
    cosines keep the order of the list.
    """
    errors = np.empty((len(indices), len(table)))
    values = values.astype(np.float32)
    tile = max(1, TILE // indices.shape[1])
    positions = np.arange(indices.shape[1], dtype=table.dtype)
    mask = table.dtype.type((1 << table.dtype.itemsize * 4) - 1)

    def fill(neuron: int) -> None:
        falling = values[neuron]
        rising = falling[::-1]
        for first in range(0, len(table), tile):
            keys = table[first : first + tile].take(indices[neuron], axis=1)
            keys |= positions
            keys.sort(axis=1)
            keys &= mask
            errors[neuron, first : first + tile] = _mean_power(falling.take(keys) - rising, power)

    in_threads(fill, range(len(indices)))
    return errors


def _mean_power(differences: np.ndarray, power: float) -> np.ndarray:
    """Mean along the last axis of |differences|^power; overwrites them. Products are 20 times faster than pow."""
    np.abs(differences, out=differences)
    if power != 3:
        return (differences**power).mean(axis=-1)
    return np.vecdot(differences * differences, differences) / differences.shape[-1]


def mean_cosines(cosines: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Mean of `cosines` (concept, image) over each list of `indices` (neuron, n): (neuron, concept)."""
    means = np.empty((len(indices), len(cosines)))

    def fill(neuron: int) -> None:
        means[neuron] = cosines.take(indices[neuron], axis=1).mean(axis=1)

    in_threads(fill, range(len(indices)))
    return means


def reorder_on_device(
    cosines: Tensor, indices: Tensor, values: Tensor, power: float, budget: int
) -> tuple[Tensor, Tensor]:
    """What reorder_errors and mean_cosines yield, for tensors on one device and without a table.

    cosines: (image, concept). indices, values: (neuron, n), highest first. budget: bytes for what is in passing.
    """
    errors = torch.empty(len(indices), cosines.shape[1], dtype=torch.float64, device=cosines.device)
    means = torch.empty_like(errors)
    for neurons, concepts in tiles(len(indices), cosines.shape[1], max(1, budget // 80 // indices.shape[1])):
        some = cosines[:, concepts][indices[neurons]]  # (neuron, n, concept)
        order = some.argsort(dim=1, stable=True)
        falling = values[neurons, :, None].double().expand(some.shape)
        moved = falling.gather(1, order) - falling.flip(1)
        errors[neurons, concepts] = (moved.abs() ** power).mean(1)
        means[neurons, concepts] = some.mean(1)
    return errors, means


def tiles(neurons: int, concepts: int, elements: int) -> Iterator[tuple[slice, slice]]:
    """Pieces of a (neuron, concept) matrix of about as many elements."""
    width = max(1, min(concepts, elements))
    height = max(1, elements // width)
    for row in range(0, neurons, height):
        for column in range(0, concepts, width):
            yield slice(row, row + height), slice(column, column + width)
