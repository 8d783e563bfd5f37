"""cos, cos_cubed and pearson: how alike a neuron and a concept run over all the probing images.

correlations(job)           # the best concepts of each neuron
products(job, standardise)  # any of them: products of columns, each prepared in place
cosines(job)                # cos for many concepts, without ever forming the cosines of images and concepts

Formulas: methods.md §2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dissectdb.extract.scoring.likelihood import multiply, share_chunks
from dissectdb.extract.scoring.problem import NEURONS, ROWS, Best, Job, Words, pieces

MIN_NORM = 1e-3  # of the cubes, in cos_cubed


def correlations(job: Job) -> Best:
    """The best concepts of each neuron by cos, cos_cubed or pearson."""
    scorer, count = job.settings.scorer, len(job.words.vectors)
    if scorer == "cos":
        return cosines(job) if count > job.images.shape[1] else products(job, to_unit_length)
    return products(job, cube if scorer == "cos_cubed" else standardise)


def products(job: Job, prepare: Callable[[Tensor], Tensor]) -> Best:
    """Products of columns over the images: A[·, k] and s[·, c], or P[·, c] for pearson, each prepared in place.

    What is left of each column's length is multiplied in at the end for neurons: it may be below float32's range.
    """
    best, size = job.best(), neurons_at_a_time(job)
    count = job.layer.images
    width = job.width(2 * job.images.nbytes + 12 * count * size + 4 * ROWS * ROWS, 4 * count + 8 * size + 8 * ROWS)
    images = job.images.to(job.device)
    if job.settings.scorer == "pearson":
        chunks = share_chunks(images * job.settings.softmax_scale, job.words, width)
    else:
        chunks = cosine_chunks(images, job.words, width)
    lengths = torch.ones(job.layer.neurons, dtype=torch.float64, device=job.device)
    for first, columns in chunks:
        columns *= prepare(columns).float()
        for neurons in pieces(job.layer.neurons, size):
            block = torch.tensor(job.layer.block(neurons.start, neurons.stop), device=job.device)
            lengths[neurons] = prepare(block)
            best.update(block.T @ columns, first, neurons.start)
    best.values *= torch.where(lengths > 0, lengths, 1)[best.neurons, None]
    return best


def cosines(job: Job) -> Best:
    """cos for more concepts than dimensions: since s = E cᵀ, the products AᵀE and EᵀE are enough."""
    best, dimensions = job.best(), job.images.shape[1]
    size = neurons_at_a_time(job)
    fixed = 8 * dimensions * (3 * dimensions + size + len(job.words.vectors)) + 8 * ROWS * dimensions
    width = job.width(fixed + 12 * size * job.layer.images, 16 * size)
    words = job.words.vectors.to(job.device).double()
    gram = sum_of_products(job.images, job.images, job.device)
    squares = ((words @ gram) * words).sum(dim=1)
    defined = squares > 1e-14 * gram.trace() * words.square().sum(dim=1)
    norms = torch.where(defined, squares, torch.inf).sqrt()
    for neurons in pieces(job.layer.neurons, size):
        block = torch.tensor(job.layer.block(neurons.start, neurons.stop), device=job.device)
        to_unit_length(block)
        sums = sum_of_products(block, job.images, job.device)
        for some in pieces(len(words), width):
            best.update(sums @ words[some].T / norms[some], some.start, neurons.start)
    return best


def neurons_at_a_time(job: Job) -> int:
    """Neurons whose activations over all images take a quarter of the budget, with two copies."""
    return max(1, min(NEURONS, job.layer.neurons, job.budget // 4 // (12 * job.layer.images)))


def cosine_chunks(images: Tensor, words: Words, width: int) -> Iterator[tuple[int, Tensor]]:
    """s (N, c) for `width` concepts after another, in one piece of memory; with the first concept's number."""
    vectors = words.vectors.to(images.device)
    store = images.new_empty(len(images) * width)
    for some in pieces(len(vectors), width):
        columns = store[: len(images) * (some.stop - some.start)].view(len(images), -1)
        multiply(images, vectors[some], columns)
        yield some.start, columns


def column_sums(columns: Tensor, power: int) -> Tensor:
    """Σ over the images of columns (N, n) to a power, float64."""
    total = torch.zeros(columns.shape[1], dtype=torch.float64, device=columns.device)
    for rows in pieces(len(columns), ROWS):
        total += (columns[rows] if power == 1 else columns[rows].square()).sum(dim=0)
    return total


def sum_of_products(left: Tensor, right: Tensor, device: torch.device) -> Tensor:
    """leftᵀ right over the images, (n, D) float64: float32 inside a block of images, float64 across blocks."""
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64, device=device)
    for rows in pieces(len(left), ROWS):
        total += left[rows].to(device).T @ right[rows].to(device)
    return total


def to_unit_length(columns: Tensor) -> Tensor:
    """Scale the columns (N, n) to length one, in place, and return that length (n,); 0 for one of zeros."""
    into_range(columns)
    return _divide(columns, column_sums(columns, 2).sqrt())


def standardise(columns: Tensor) -> Tensor:
    """Centre the columns (N, n) and scale them to length one, in place, and return that length (n,).

    One that is constant but for float32's rounding becomes 0: it correlates with nothing.
    """
    into_range(columns)
    means = column_sums(columns, 1) / len(columns)
    columns -= means.float()
    norms = column_sums(columns, 2).sqrt()
    varies = norms > 1e-6 * len(columns) ** 0.5 * means.abs()
    return _divide(columns, torch.where(varies, norms, 0))


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
    """Multiply each column (N, n) with a power of 2, in place, so that its largest size is about 1; returns the powers.

    The squares and cubes of very small or large activations are outside float32's range.
    """
    largest = torch.maximum(columns.amax(dim=0), -columns.amin(dim=0))
    scale = torch.exp2(-torch.frexp(largest).exponent.clamp(-126, 126).double())
    columns *= scale.float()
    return scale


def _divide(columns: Tensor, norms: Tensor) -> Tensor:
    """Divide by lengths that are not 0; columns of length 0 become 0. Returns the lengths after that: 1 or 0."""
    there = norms > 0
    columns *= torch.where(there, 1 / norms, 0).float()
    return there.double()
