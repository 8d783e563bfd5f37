"""The null of cos, cos_cubed, pearson and presence: the labels of activations whose images are in random order.

null = product_null(PEARSON, problem)
z = z_of_products(PEARSON, settings, layer, scores, null.moments[0])

Formulas: docs/methods.md, section 3; what a null is: nulls.py. Neurons that are not ordinary: spread_nulls.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.correlation import (
    MIN_NORM,
    ColumnProduct,
    column_chunks,
    scores_of_z,
    standardised,
    sum_of_products,
    varies,
)
from dissectdb.extract.scoring.nulls import (
    DRAWS_AT_ONCE,
    PICKING,
    TABLE_BYTES,
    DrawnLabels,
    Moments,
    Null,
    NullProblem,
    affordable_draws,
    is_ordinary,
    ordinary_group,
    sampled_slice,
    scored_values,
)
from dissectdb.extract.scoring.problem import Layer, Scores, Settings
from dissectdb.extract.scoring.spread_nulls import add_spread_labels

LARGEST_ROOT = 2048  # concepts whose matrix of correlations is decomposed
LINEAR_PRODUCTS = 1e11  # that all draws of a null may take
CUBED_DRAWS = 4000  # each of them is a neuron to score


def product_null(product: ColumnProduct, problem: NullProblem) -> Null:
    """The null of each layer: of its ordinary neurons, and of each group of others."""
    null = cubed_null(product, problem) if product.cubed else linear_null(product, problem)
    add_spread_labels(product, problem, null)
    return null


def linear_null(product: ColumnProduct, problem: NullProblem) -> Null:
    """The null of ordinary neurons: their sum of products over permuted images is normal, as there are many images.

    The sums of different concepts correlate as the concepts' own columns do. mean, sd: those of the columns that
    activations are multiplied with, s or P.
    """
    concepts, images = len(problem.concepts), len(problem.images)
    ratios = [_ratios(product, layer) for layer in problem.layers]
    random = torch.Generator().manual_seed(problem.seed)
    picking = [torch.Generator().manual_seed(problem.seed + PICKING) for _ in ratios]
    use_root = concepts <= min(problem.table_width, LARGEST_ROOT)
    dimensions = concepts if use_root else images
    count = affordable_draws(problem.draws, dimensions * concepts, LINEAR_PRODUCTS)
    at_once = count if problem.table_width < concepts else 2048  # drawn once if the columns must be made anew
    at_once = int(min(at_once, max(1, TABLE_BYTES // (4 * dimensions))))
    factors = list(_factors(product, problem, root=True)) if use_root else None
    mean, sd = np.empty(concepts), np.empty(concepts)
    labels: list[list[np.ndarray]] = [[] for _ in ratios]
    for draws in slices(count, at_once):
        noise = torch.randn(draws.stop - draws.start, dimensions, generator=random)
        drawn_ratios = [own[_pick(len(own), len(noise), pick)] for own, pick in zip(ratios, picking, strict=True)]
        best = [DrawnLabels(len(noise)) for _ in ratios]
        for first, factor, average, spread in factors or _factors(product, problem, root=False):
            chunk = slice(first, first + factor.shape[1])
            mean[chunk], sd[chunk] = average.numpy(), spread.numpy()
            z = (noise @ factor).double()
            for layer, own in enumerate(drawn_ratios):
                best[layer].update(scores_of_z(product, z, own, average, spread, images), z)
        for layer, drawn in enumerate(best):
            labels[layer].append(drawn.z.numpy())
    return _of_ordinary([np.concatenate(of_layer) for of_layer in labels], images, Moments(mean, sd))


def _ratios(product: ColumnProduct, layer: Layer) -> np.ndarray:
    """For each ordinary neuron, the mean of what is multiplied in units of its standard deviation; [0] without any."""
    if product.centred:
        return np.zeros(1)
    spread = layer.spread
    varying = is_ordinary(layer) & (spread.sd > 0)
    return spread.mean[varying] / spread.sd[varying] if varying.any() else np.zeros(1)


def _pick(neurons: int, count: int, random: torch.Generator) -> np.ndarray:
    return torch.randint(neurons, (count,), generator=random).numpy()


def _factors(product: ColumnProduct, problem: NullProblem, root: bool) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For chunks of concepts: the first, a factor, and mean and standard deviation of what is multiplied.

    The product of independent normal noise and the factor has the correlations of the columns over the images. The
    columns themselves, centred and of unit length, are such a factor (N, c). root: a square root of their
    correlations is another, (c, c), for which a draw takes as many numbers as there are concepts, not images.
    """
    for first, columns in _columns(product, problem):
        spread, average = torch.std_mean(columns.double(), dim=0, correction=0)
        unit = standardised(columns, average, spread) / len(columns) ** 0.5
        if root:
            values, vectors = torch.linalg.eigh(sum_of_products(unit, unit, unit.device))
            unit = (values.clamp(min=0).sqrt()[:, None] * vectors.T).float()
        yield first, unit, average, spread


def _columns(product: ColumnProduct, problem: NullProblem) -> Iterator[tuple[int, Tensor]]:
    return column_chunks(product, problem.settings, problem.images, problem.concepts, problem.table_width)


def cubed_null(product: ColumnProduct, problem: NullProblem) -> Null:
    """The null of a layer's own cubes on permuted images: a few of them decide the sum, so that it is not normal.

    mean, sd: those of the centred cubes of s. The orders of the images are the same for all layers.
    """
    concepts, images = len(problem.concepts), len(problem.images)
    chunks = list(_columns(product, problem)) if problem.table_width >= concepts else None
    cubes = [_cubes(layer) for layer in problem.layers]
    means = [own.mean(axis=0, dtype=np.float64) for own in cubes]
    mean, sd, random = np.empty(concepts), np.empty(concepts), np.random.default_rng(problem.seed)
    picking = [np.random.default_rng(problem.seed + PICKING) for _ in cubes]
    labels: list[list[np.ndarray]] = [[] for _ in cubes]
    for draws in slices(min(problem.draws, CUBED_DRAWS), DRAWS_AT_ONCE):
        orders = np.stack([random.permutation(images) for _ in range(draws.start, draws.stop)])
        picked = [
            pick.integers(max(own.shape[1], 1), size=len(orders)) for own, pick in zip(cubes, picking, strict=True)
        ]
        best = [DrawnLabels(len(orders)) for _ in cubes]
        for first, columns in chunks or _columns(product, problem):
            chunk = slice(first, first + columns.shape[1])
            sd[chunk], mean[chunk] = (part.numpy() for part in torch.std_mean(columns.double(), dim=0, correction=0))
            norms = columns.norm(dim=0).clamp(min=MIN_NORM)
            for layer, own in enumerate(cubes):
                if not own.shape[1]:
                    continue
                drawn = np.stack([own[order, k] for order, k in zip(orders, picked[layer], strict=True)])
                products = (torch.from_numpy(drawn) @ columns).double()
                expected = torch.from_numpy(means[layer][picked[layer]])[:, None] * torch.from_numpy(mean[chunk])
                z = (products / images - expected) / torch.from_numpy(np.where(sd[chunk] > 0, sd[chunk], np.inf))
                best[layer].update(products / norms, z * (images - 1) ** 0.5)  # cubes have sd 1
        for layer, own in enumerate(cubes):
            labels[layer].append(best[layer].z.numpy() if own.shape[1] else np.zeros(0))
    return _of_ordinary([np.concatenate(of_layer) for of_layer in labels], images, Moments(mean, sd))


def _of_ordinary(labels: Sequence[np.ndarray], images: int, moments: Moments) -> Null:
    """A null of the ordinary neurons, with the same moments for every layer."""
    group = ordinary_group(images)
    return Null([{group: drawn} for drawn in labels], [{group: moments} for _ in labels])


def _cubes(layer: Layer) -> np.ndarray:
    """Centred cubes (N, n) float32 of ordinary neurons of a layer, each in units of its standard deviation."""
    ordinary = is_ordinary(layer)
    if not ordinary.any():
        return np.zeros((layer.images, 0), np.float32)
    sampled = sampled_slice(np.flatnonzero(ordinary), layer.neurons)
    block = torch.from_numpy(layer.block(sampled.start, sampled.stop)[:, ordinary[sampled]]).double()
    block -= block.mean(dim=0)
    cubes = block.square().mul_(block)
    sds = cubes.std(dim=0, correction=0)
    standardised = (cubes[:, sds > 0] / sds[sds > 0]).float().numpy()
    return np.asfortranarray(standardised)  # each neuron's cubes are put into another order again and again


def z_of_products(
    product: ColumnProduct, settings: Settings, layer: Layer, scores: Scores, moments: Mapping[int, Moments]
) -> np.ndarray:
    """z (K, keep) of scores, from the same moments as the views'; NaN without a score or if the concept is constant."""
    values, images = scored_values(scores), layer.images
    of_concepts = next(iter(moments.values()))
    varying = varies(torch.from_numpy(of_concepts.mean), torch.from_numpy(of_concepts.sd)).numpy()
    values = np.where(varying[scores.concepts], values, np.nan)
    if product.centred:
        return values * images**0.5
    spread = layer.cube_spread if product.cubed else layer.spread
    mean, sd = spread.mean[:, None], np.where(spread.sd > 0, spread.sd, np.nan)[:, None]
    norm = np.maximum(np.hypot(mean, sd) * images**0.5, product.min_norm)
    concept_norms = np.maximum(np.hypot(of_concepts.mean, of_concepts.sd) * images**0.5, product.min_norm)
    mean_products = values * norm * concept_norms[scores.concepts] / images
    expected = mean * of_concepts.mean[scores.concepts]
    return (mean_products - expected) / (sd * of_concepts.sd[scores.concepts]) * (images - 1) ** 0.5
