"""rank_reorder: how little a neuron's highest activations change places when their images are sorted by a concept.

score_by_reorder(problem)                       # the best concepts of each neuron
measure = reorder_measure(images, concepts, n, power, device, budget)
errors, means = measure(indices, values)        # (neuron, concept) each: differences after sorting, mean cosines

Formulas: docs/methods.md, section 2. There is no score if the mean cosine is not positive, or if a neuron's values are
the same in a random order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import IMAGES_AT_ONCE, NEURONS_AT_ONCE, run_in_threads, slices
from dissectdb.extract.scoring.problem import BestConcepts, Layer, ScoringProblem, Settings, distinct_rows
from dissectdb.extract.study import STORED_IMAGES

TILE_ELEMENTS = 1 << 16  # that a thread works on at a time: a few such arrays fit its level-2 cache

Measure = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def score_by_reorder(problem: ScoringProblem) -> BestConcepts:
    """The best concepts by - (mean_j |v_j - ṽ_j|^p / B_k) / (mean_j s)^q over the n top images of each neuron."""
    settings, layer, best = problem.settings, problem.layer, problem.best()
    n = listed_images(settings, layer.images)
    if n < 2:
        raise ValueError(f"rank_fraction = {settings.rank_fraction} of {layer.images} images is {n}; it takes 2")
    permutations = problem.permutations
    if permutations is None:
        permutations = draw_permutations(settings.permutations, n, settings.seed)
    if permutations.shape[-1] != n:
        raise ValueError(f"the permutations are of {permutations.shape[-1]} images; {n} are ranked")
    first, inverse = distinct_rows(problem.images)  # so that equal images have equal cosines, and tie
    images = problem.images[torch.from_numpy(first)]
    bytes_per_neuron = 24 * n * (permutations.shape[-2] + 2)
    size = max(1, min(NEURONS_AT_ONCE, layer.neurons, problem.budget // 8 // bytes_per_neuron))
    tiles = problem.budget // 4
    width = problem.chunk_width(images.nbytes + size * bytes_per_neuron + tiles, 24 * len(images) + 40 * size)
    for concepts in slices(len(problem.concepts.vectors), width):
        vectors = problem.concepts.vectors[concepts]
        measure = reorder_measure(images, vectors, n, settings.rank_power, problem.device, tiles)
        for neurons in slices(layer.neurons, size):
            indices, values = layer.top(n, neurons.start, neurons.stop)
            orders = permutations if permutations.ndim == 2 else permutations[neurons]
            lengths = reordered_lengths(layer, values, neurons)
            scores = scores_of_lists(settings, measure, inverse[indices], values, lengths, orders, len(vectors))
            best.update(scores.to(problem.device), concepts.start, neurons.start)
    return best


def scores_of_lists(
    settings: Settings,
    measure: Measure,
    indices: np.ndarray,
    values: np.ndarray,
    lengths: np.ndarray,
    permutations: np.ndarray,
    concepts: int,
) -> Tensor:
    """Scores (neuron, concept) of lists of images and their values (neuron, n), of which `lengths` (neuron,) count.

    permutations: (permutation, n), or (neuron, permutation, n).
    """
    scores = torch.full((len(indices), concepts), -torch.inf, dtype=torch.float64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        listed = scaled(values[rows, :length])
        own_orders = permutations if permutations.ndim == 2 else permutations[rows]
        chance = baselines(listed, shortened(own_orders, length), settings.rank_power)
        errors, means = measure(indices[rows, :length], listed)
        scores[rows] = reorder_scores(errors, means, chance, settings.rank_scale)
    return scores


def listed_images(settings: Settings, images: int) -> int:
    """n: how many top images of each neuron are reordered."""
    return int(settings.rank_fraction * images)


def reordered_lengths(layer: Layer, values: np.ndarray, neurons: slice) -> np.ndarray:
    """How many of the n top images of each neuron are reordered. values: (neuron, n), of their n top images.

    All n if the neuron fires on the n-th; layer.lengths counts STORED_IMAGES at most.
    """
    n, last = values.shape[1], values[:, -1]
    if layer.lengths is None:
        return np.full(len(values), n)
    stored = layer.lengths[neurons]
    whole = (stored == n) | ((stored == min(n, STORED_IMAGES)) & (last > layer.lowest[neurons]))
    return np.where(whole | layer.dead[neurons], n, stored)


def shortened(permutations: np.ndarray, length: int) -> np.ndarray:
    """Orders (…, n) of n places as orders of the first `length`: these places, in the order in which they stand."""
    return permutations[permutations < length].reshape(*permutations.shape[:-1], length)


def reorder_scores(errors: np.ndarray, means: np.ndarray, chance: np.ndarray, scale: float) -> Tensor:
    """-errors / chance / means^scale (n, c); -inf where the formula has no value: chance = 0, or a mean ≤ 0."""
    defined = (chance > 0)[:, None] & ((means > 0) | (scale == 0))
    scores = -errors / np.where(chance > 0, chance, 1)[:, None] / np.where(means > 0, means, 1) ** scale
    return torch.from_numpy(np.where(defined, scores, -np.inf))


def reorder_measure(
    images: Tensor, concepts: Tensor, n: int, power: float, device: torch.device, budget: int
) -> Measure:
    """A function from lists of images and their values, (neuron, n) each, to errors and mean cosines (neuron, c).

    images (N, D), concepts (c, D). Cosines are float64, because two that float32 confuses would swap ranks.
    """
    cosines = torch.empty(len(concepts), len(images), dtype=torch.float64, device=device)
    vectors = concepts.to(device).double()
    for rows in slices(len(images), IMAGES_AT_ONCE):
        torch.mm(vectors, images[rows].to(device).double().T, out=cosines[:, rows])
    if device.type != "cpu":

        def measure_on_device(indices: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            lists = torch.from_numpy(indices).to(device), torch.from_numpy(values).to(device)
            errors, means = reorder_on_device(cosines.T, *lists, power, budget)
            return errors.cpu().numpy(), means.cpu().numpy()

        return measure_on_device
    table = rank_table(cosines.numpy(), n)
    return lambda indices, values: (
        reorder_errors(table, indices, values, power),
        mean_cosines(cosines.numpy(), indices),
    )


# ---------------------------------------------------------------- the parts of the formula


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
    """B (neuron,) of docs/methods.md: how far `values` (neuron, n) are from themselves in a random order.

    permutations: (permutation, n), or (neuron, permutation, n).
    """
    permutations = np.broadcast_to(permutations, (len(values), *permutations.shape[-2:]))
    chance = np.empty(len(values))

    def fill(neuron: int) -> None:
        rising = values[neuron, ::-1]
        chance[neuron] = _mean_power(rising.take(permutations[neuron]) - rising, power).mean()

    run_in_threads(fill, range(len(values)))
    return chance


def rank_table(cosines: np.ndarray, n: int) -> np.ndarray:
    """Ranks of `cosines` (concept, image) along the images, equal ones alike, with room for a position below n.

    rank · 2^16 in 32 bits if both numbers fit into 16, else rank · 2^32 in 64 bits.
    """
    images = cosines.shape[1]
    table = np.empty(cosines.shape, np.uint32 if max(images, n) <= 1 << 16 else np.uint64)
    shift = table.dtype.itemsize * 4

    def fill(concept: int) -> None:
        order = np.argsort(cosines[concept])
        rising = cosines[concept][order]
        ranks = np.zeros(images, table.dtype)
        np.cumsum(rising[1:] != rising[:-1], out=ranks[1:])
        table[concept, order] = ranks << shift

    run_in_threads(fill, range(len(cosines)))
    return table


def reorder_errors(table: np.ndarray, indices: np.ndarray, values: np.ndarray, power: float) -> np.ndarray:
    """mean_j |v_j - ṽ_j|^power of docs/methods.md (neuron, concept), ṽ: the values put in the order of the cosines.

    table: rank_table of (concept, image). indices, values: (neuron, n), values highest first. The image with the
    r-th smallest cosine takes the r-th smallest value, so sorting (rank, position) pairs is enough; equal cosines keep
    the order of the list.
    """
    errors = np.empty((len(indices), len(table)))
    values = values.astype(np.float32)
    tile = max(1, TILE_ELEMENTS // indices.shape[1])
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

    run_in_threads(fill, range(len(indices)))
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

    run_in_threads(fill, range(len(indices)))
    return means


def reorder_on_device(
    cosines: Tensor, indices: Tensor, values: Tensor, power: float, budget: int
) -> tuple[Tensor, Tensor]:
    """The results of reorder_errors and mean_cosines, for tensors on one device and without a table.

    cosines: (image, concept). indices, values: (neuron, n), highest first. budget: bytes for temporary tensors.
    """
    errors = torch.empty(len(indices), cosines.shape[1], dtype=torch.float64, device=cosines.device)
    means = torch.empty_like(errors)
    for neurons, concepts in tiles(len(indices), cosines.shape[1], max(1, budget // 80 // indices.shape[1])):
        listed = cosines[:, concepts][indices[neurons]]  # (neuron, n, concept)
        order = listed.argsort(dim=1, stable=True)
        falling = values[neurons, :, None].double().expand(listed.shape)
        moved = falling.gather(1, order) - falling.flip(1)
        errors[neurons, concepts] = (moved.abs() ** power).mean(1)
        means[neurons, concepts] = listed.mean(1)
    return errors, means


def tiles(neurons: int, concepts: int, elements: int) -> Iterator[tuple[slice, slice]]:
    """Slices of both axes that cut a (neuron, concept) matrix into tiles of about `elements` values."""
    width = max(1, min(concepts, elements))
    height = max(1, elements // width)
    for row in range(0, neurons, height):
        for column in range(0, concepts, width):
            yield slice(row, row + height), slice(column, column + width)
