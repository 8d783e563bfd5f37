"""cos, cos_cubed, pearson and presence: how well a neuron's activations and a concept go together over all the images.

score_by_product(COS, problem)                         # the best concepts of each neuron
column_chunks(PEARSON, settings, images, concepts, n)  # what activations are multiplied with, n concepts at a time

Formulas: docs/methods.md, section 2. All four are products of two columns over the images, one of the neuron and one
of the concept, each prepared and scaled to length one. A ColumnProduct says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import (
    IMAGES_AT_ONCE,
    elements_at_once,
    run_in_threads,
    slices,
)
from dissectdb.extract.scoring.probabilities import multiply, probability_chunks
from dissectdb.extract.scoring.problem import BestConcepts, ConceptEmbeddings, ScoringProblem, Settings

NEURONS_AT_ONCE = 1024  # that concepts are multiplied with, at most; the product of 512 takes a tenth longer per neuron
COLUMNS_AT_ONCE = 64  # that a thread sums
CUBES_AT_ONCE = 512  # columns that a thread cubes
MIN_NORM = 1e-3  # of the cubes, in cos_cubed
LEAST_PRESENCE = 0.5  # standard deviations above the mean from which a concept counts as present; as in the SQL
LEAST_VARIATION = 1e-6  # standard deviation / |mean|; a column of float32 with less is constant but for rounding


@dataclass(frozen=True, kw_only=True)
class ColumnProduct:
    """Which columns a scorer multiplies over the images.

    concept: whether the concept's column is s, P or its presence (to_presence). centred: both columns are centred, so
    that the score is a correlation. cubed: both are centred, then cubed, and the cubes are not centred again.
    """

    concept: Literal["cosine", "probability", "presence"] = "cosine"
    centred: bool = False
    cubed: bool = False

    @property
    def prepare(self) -> Callable[[Tensor], Tensor]:
        """The function that prepares columns in place and returns the length that they should have."""
        return cube if self.cubed else standardise if self.centred else to_unit_length

    @property
    def min_norm(self) -> float:
        """The least length that a column counts with."""
        return MIN_NORM if self.cubed else 0.0


COS = ColumnProduct()
COS_CUBED = ColumnProduct(cubed=True)
PEARSON = ColumnProduct(concept="probability", centred=True)
PRESENCE = ColumnProduct(concept="presence", centred=True)


def score_by_product(product: ColumnProduct, problem: ScoringProblem) -> BestConcepts:
    """The best concepts of each neuron by the products of their columns."""
    if product == COS and len(problem.concepts.vectors) > problem.images.shape[1]:
        return cosine_scores(problem)
    return product_scores(product, problem)


def product_scores(product: ColumnProduct, problem: ScoringProblem) -> BestConcepts:
    """The best concepts by products of prepared columns, A[·, k] and s, P or presence[·, c].

    The neurons' lengths are multiplied in at the end, because they may be below float32's range.
    """
    best, size = problem.best(), neurons_at_a_time(problem)
    count, neurons = problem.layer.images, problem.layer.neurons
    fixed = 2 * problem.images.nbytes + 12 * count * size + 4 * IMAGES_AT_ONCE * IMAGES_AT_ONCE
    per_concept = 4 * count + 8 * size + 8 * IMAGES_AT_ONCE
    width = problem.chunk_width(fixed, per_concept)
    prepared_bytes = 4 * count * neurons
    several_chunks = width < len(problem.concepts.vectors)
    keep_prepared = several_chunks and prepared_bytes <= width * per_concept // 2
    if keep_prepared:  # each neuron is then prepared once, not once per chunk
        width = problem.chunk_width(fixed + prepared_bytes, per_concept)
    images = problem.images.to(problem.device)
    lengths = torch.ones(neurons, dtype=torch.float64, device=problem.device)
    if product.cubed:
        chunks = cubed_cosines(images, problem.concepts, width)
    else:
        chunks = _prepared(product, _raw_columns(product, problem.settings, images, problem.concepts, width))
    prepared: dict[int, Tensor] = {}
    for first, columns, factors in chunks:
        for own in slices(neurons, size):
            block = prepared.get(own.start)
            if block is None:
                block = torch.tensor(problem.layer.block(own.start, own.stop), device=problem.device)
                lengths[own] = product.prepare(block)
            if keep_prepared:
                prepared[own.start] = block
            scores = (columns.T @ block).mul_(factors[:, None])  # on a CPU, block.T @ columns takes 40 % longer
            best.update(scores.T.contiguous(), first, own.start)
    best.multiply(torch.where(lengths > 0, lengths, 1)[best.neurons])
    return best


def _prepared(product: ColumnProduct, chunks: Iterator[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The columns of chunks, prepared, with what their products are still to be multiplied by (c,)."""
    for first, columns in chunks:
        yield first, columns, product.prepare(columns).float()


def cubed_cosines(images: Tensor, concepts: ConceptEmbeddings, width: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Cubes of the centred cosines (N, c) and the factors (c,) that scale them to length one, at most 1 / MIN_NORM.

    Centred images have centred cosines. These are at most 2, and cubes too small for float32 are far below MIN_NORM.
    So one pass over the columns is enough, where `cube` takes ten.
    """
    for first, columns in cosine_chunks(images - images.mean(dim=0, dtype=torch.float64).float(), concepts, width):
        squares = torch.zeros(columns.shape[1], dtype=torch.float64, device=images.device)

        def fill(own: slice, columns: Tensor = columns, squares: Tensor = squares) -> None:
            for rows in slices(len(columns), max(1, elements_at_once(columns.device) // (own.stop - own.start))):
                values = columns[rows, own]
                values.mul_(values.square())
                squares[own] += values.square().sum(dim=0)

        run_in_threads(fill, list(slices(columns.shape[1], CUBES_AT_ONCE)), columns.device)
        yield first, columns, (1 / squares.sqrt().clamp(min=MIN_NORM)).float()


def cosine_scores(problem: ScoringProblem) -> BestConcepts:
    """cos for more concepts than dimensions: since s = E cᵀ, the products AᵀE and EᵀE are enough."""
    best, dimensions = problem.best(), problem.images.shape[1]
    size = neurons_at_a_time(problem)
    fixed = 8 * dimensions * (3 * dimensions + size + len(problem.concepts.vectors)) + 8 * IMAGES_AT_ONCE * dimensions
    width = problem.chunk_width(fixed + 12 * size * problem.layer.images, 16 * size)
    vectors = problem.concepts.vectors.to(problem.device).double()
    gram = sum_of_products(problem.images, problem.images, problem.device)
    squares = ((vectors @ gram) * vectors).sum(dim=1)
    defined = squares > 1e-14 * gram.trace() * vectors.square().sum(dim=1)
    norms = torch.where(defined, squares, torch.inf).sqrt()
    for neurons in slices(problem.layer.neurons, size):
        block = torch.tensor(problem.layer.block(neurons.start, neurons.stop), device=problem.device)
        to_unit_length(block)
        sums = sum_of_products(block, problem.images, problem.device)
        for concepts in slices(len(vectors), width):
            best.update(sums @ vectors[concepts].T / norms[concepts], concepts.start, neurons.start)
    return best


def neurons_at_a_time(problem: ScoringProblem) -> int:
    """How many neurons' activations over all images take a quarter of the budget, with two copies."""
    return max(1, min(NEURONS_AT_ONCE, problem.layer.neurons, problem.budget // 4 // (12 * problem.layer.images)))


def column_chunks(
    product: ColumnProduct, settings: Settings, images: Tensor, concepts: Tensor, width: int
) -> Iterator[tuple[int, Tensor]]:
    """What activations are multiplied with, (N, c), for `width` concepts after another: cubed if the product is."""
    for first, columns in _raw_columns(product, settings, images, ConceptEmbeddings.one_each(concepts), width):
        if product.cubed:  # of a constant column, only rounding would be cubed
            sd, mean = torch.std_mean(columns.double(), dim=0, correction=0)
            columns = torch.where(varies(mean, sd), columns - columns.mean(0), 0) ** 3
        yield first, columns


def prepared_columns(product: ColumnProduct, settings: Settings, images: Tensor, concepts: Tensor) -> Tensor:
    """The columns (N, C) of all concepts, prepared and scaled as product_scores multiplies them."""
    [(_, columns)] = _raw_columns(product, settings, images, ConceptEmbeddings.one_each(concepts), len(concepts))
    columns *= product.prepare(columns).float()
    return columns


def varies(mean: Tensor, sd: Tensor) -> Tensor:
    """Which columns (c,) of this mean and standard deviation vary; a constant one correlates with nothing."""
    return sd > LEAST_VARIATION * mean.abs()


def standardised(columns: Tensor, mean: Tensor, sd: Tensor) -> Tensor:
    """The columns (N, c) in units of their standard deviation sd (c,), less their mean (c,); 0 where they are constant.

    No column is too small for that: a probability far below float32's epsilon varies as much as any other.
    """
    varying = varies(mean, sd)
    return torch.where(varying, (columns.double() - mean) / torch.where(varying, sd, 1), 0).float()


def scores_of_z(product: ColumnProduct, z: Tensor, ratios: np.ndarray, mean: Tensor, sd: Tensor, images: int) -> Tensor:
    """The scores (neuron, concept) that belong to z, each neuron's in a unit of its own: its label has the highest.

    A correlation ranks the concepts as z does. A cosine also depends on the means. ratios: mean / standard deviation
    of each neuron's column (neuron,). mean, sd: of the concepts' columns (concept,).
    """
    if product.centred:
        return z
    lengths = torch.hypot(mean, sd).clamp(min=max(product.min_norm / images**0.5, 1e-12))
    return (torch.from_numpy(ratios)[:, None] * mean * images**0.5 + z * sd) / lengths


def _raw_columns(
    product: ColumnProduct, settings: Settings, images: Tensor, concepts: ConceptEmbeddings, width: int
) -> Iterator[tuple[int, Tensor]]:
    """Chunks of the concepts' columns (N, c), not yet prepared."""
    if product.concept == "probability":
        yield from probability_chunks(images * settings.softmax_scale, concepts, width)
        return
    for first, columns in cosine_chunks(images, concepts, width):
        yield first, to_presence(columns) if product.concept == "presence" else columns


def cosine_chunks(images: Tensor, concepts: ConceptEmbeddings, width: int) -> Iterator[tuple[int, Tensor]]:
    """s (N, c) for `width` concepts after another, each with the number of its first concept; in the same memory."""
    vectors = concepts.vectors.to(images.device)
    memory = images.new_empty(len(images) * width)
    for chunk in slices(len(vectors), width):
        columns = memory[: len(images) * (chunk.stop - chunk.start)].view(len(images), -1)
        multiply(images, vectors[chunk], columns)
        yield chunk.start, columns


def to_presence(cosines: Tensor) -> Tensor:
    """How far each cosine (N, c) is above its column's mean, in standard deviations, less LEAST_PRESENCE; at least 0.

    In place. 0 for a column that is constant but for rounding.
    """
    standardise(cosines)
    return cosines.mul_(len(cosines) ** 0.5).sub_(LEAST_PRESENCE).clamp_(min=0)


def column_sums(columns: Tensor, power: int) -> Tensor:
    """Σ over the images of columns (N, n) to a power, float64: float32 inside a block of images, float64 across."""
    total = torch.zeros(columns.shape[1], dtype=torch.float64, device=columns.device)

    def add(own: slice) -> None:
        size = min(IMAGES_AT_ONCE, max(1, elements_at_once(columns.device) // (own.stop - own.start)))
        for rows in slices(len(columns), size):
            values = columns[rows, own]
            total[own] += (values if power == 1 else values.square()).sum(dim=0)

    width = COLUMNS_AT_ONCE if columns.device.type == "cpu" else columns.shape[1]
    run_in_threads(add, list(slices(columns.shape[1], width)), columns.device)
    return total


def sum_of_products(left: Tensor, right: Tensor, device: torch.device) -> Tensor:
    """leftᵀ right over the images, (n, D) float64: float32 inside a block of images, float64 across blocks."""
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=device)
    for rows in slices(len(left), IMAGES_AT_ONCE):
        total += left[rows].to(device).T @ right[rows].to(device)
    return total


def to_unit_length(columns: Tensor) -> Tensor:
    """Scale the columns (N, n) to length one, in place, and return that length (n,); 0 for a column of zeros."""
    into_range(columns)
    return _divide(columns, column_sums(columns, 2).sqrt())


def standardise(columns: Tensor) -> Tensor:
    """Centre the columns (N, n) and scale them to length one, in place, and return that length (n,).

    A column that is constant but for float32's rounding becomes 0: it correlates with nothing.
    """
    into_range(columns)
    means = column_sums(columns, 1) / len(columns)
    columns -= means.float()
    norms = column_sums(columns, 2).sqrt()
    return _divide(columns, torch.where(varies(means, norms / len(columns) ** 0.5), norms, 0))


def cube(columns: Tensor) -> Tensor:
    """Centre the columns (N, n), cube them and scale the cubes to length one, in place.

    Returns the length (n,) that they should have: that of the cubes divided by MIN_NORM, at most 1.
    """
    scale = into_range(columns)
    columns -= (column_sums(columns, 1) / len(columns)).float()
    largest = torch.maximum(columns.amax(dim=0), -columns.amin(dim=0))
    columns.div_(torch.where(largest > 0, largest, 1)).pow_(3)
    norms = column_sums(columns, 2).sqrt()
    _divide(columns, norms)
    return (norms * (largest.double() / scale) ** 3 / MIN_NORM).clamp(max=1)


def into_range(columns: Tensor) -> Tensor:
    """Multiply each column (N, n) by a power of 2, in place, so that its largest size is about 1; returns the powers.

    The squares and cubes of very small or large activations are outside float32's range.
    """
    largest = torch.maximum(columns.amax(dim=0), -columns.amin(dim=0))
    scale = torch.exp2(-torch.frexp(largest).exponent.clamp(-126, 126).double())
    columns *= scale.float()
    return scale


def _divide(columns: Tensor, norms: Tensor) -> Tensor:
    """Divide by lengths that are not 0; columns of length 0 become 0. Returns the lengths after that: 1 or 0."""
    nonzero = norms > 0
    columns *= torch.where(nonzero, 1 / norms, 0).float()
    return nonzero.double()
