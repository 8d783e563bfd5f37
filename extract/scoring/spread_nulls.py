"""The null of cos, cos_cubed, pearson and presence for neurons that are not ordinary: a few images decide their sums.

null = linear_null(PEARSON, problem)            # of the ordinary neurons of each layer
add_spread_labels(PEARSON, problem, null)       # adds the other groups of each layer

Which neurons share a null is null_group of the view dissected_neurons.
"""

from __future__ import annotations

import numpy as np
import torch

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.correlation import ColumnProduct, column_chunks, scores_of_z, standardised
from dissectdb.extract.scoring.nulls import (
    LIKELIHOOD_PRODUCTS,
    NEURONS_SAMPLED,
    DrawnLabels,
    Moments,
    Null,
    NullProblem,
    affordable_draws,
    is_ordinary,
    random_lists,
)
from dissectdb.extract.scoring.problem import Layer
from dissectdb.extract.study import STORED_IMAGES

OTHER_IMAGES = 64  # images that stand for all but the top ones
ELEMENTS_AT_ONCE = 1 << 20  # draw × concept values


def add_spread_labels(product: ColumnProduct, problem: NullProblem, null: Null) -> None:
    """Add to a null of ordinary neurons the labels of the groups that are not ordinary.

    A sum that a few images decide is not normal. Each draw takes a neuron of the group, and puts its highest
    activations on random images.
    """
    for place, layer in enumerate(problem.layers):
        if layer.groups is None:
            continue
        groups = np.unique(layer.groups[~layer.dead & ~is_ordinary(layer)])
        [moments] = null.moments[place].values()
        for group in map(int, groups):
            neurons = np.flatnonzero(~layer.dead & (layer.groups == group))[:NEURONS_SAMPLED]
            weights, rest, ratios = _weights(product, layer, neurons)
            longest = weights.shape[1] + (OTHER_IMAGES if rest.any() else 0)
            products = len(groups) * longest * len(problem.concepts)
            count = affordable_draws(problem.draws, products, LIKELIHOOD_PRODUCTS)
            random = np.random.default_rng(problem.seed)
            picked = random.integers(len(neurons), size=count)
            drawn = weights[picked]
            if rest.any():  # the other images together: a few of the same weight, with random signs
                signs = random.choice(np.array([-1, 1], np.float32), size=(count, OTHER_IMAGES))
                others = signs * rest[picked, None] / OTHER_IMAGES**0.5
                drawn = np.concatenate([drawn, others], axis=1, dtype=np.float32)
            null.labels[place][group] = _spread_draws(product, problem, drawn, ratios[picked], moments)
            null.moments[place][group] = moments


def _spread_draws(
    product: ColumnProduct, problem: NullProblem, weights: np.ndarray, ratios: np.ndarray, moments: Moments
) -> np.ndarray:
    """z of the label of draws (draw,) whose standardised columns are multiplied with `weights` (draw, image)."""
    images = len(problem.images)
    lists = random_lists(len(weights), min(weights.shape[1], images), images, problem.seed)
    best = DrawnLabels(len(weights))
    chunks = column_chunks(product, problem.settings, problem.images, problem.concepts, problem.table_width)
    for first, columns in chunks:
        chunk = slice(first, first + columns.shape[1])
        mean, sd = torch.from_numpy(moments.mean[chunk]), torch.from_numpy(moments.sd[chunk])
        standard = standardised(columns, mean, sd)
        for draws in slices(len(weights), max(1, ELEMENTS_AT_ONCE // columns.shape[1])):
            own_weights = torch.from_numpy(weights[draws])
            z = torch.zeros(len(own_weights), columns.shape[1])
            for rank in range(lists.shape[1]):
                z.addcmul_(own_weights[:, rank, None], standard[lists[draws, rank]])
            z = z.double()
            best.update(scores_of_z(product, z, ratios[draws], mean, sd, images), z, draws)
    return best.z.numpy()


def _weights(product: ColumnProduct, layer: Layer, neurons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What some neurons multiply standardised columns with on their top images, so that the sum is z.

    (neuron, image) float32; the standard deviation of what all other images add (neuron,); and the ratio of mean and
    standard deviation (neuron,). The other images count as two-valued, as in the view dissected_neurons.
    """
    count, spread = layer.images, layer.spread
    mean, sd = spread.mean[neurons, None], spread.sd[neurons, None]
    top = layer.top(min(STORED_IMAGES, count), 0, layer.neurons)[1][neurons]
    top = (top.astype(np.float64) - mean) / sd
    others, last = count - top.shape[1], top[:, -1]
    others_mean = -top.sum(axis=1) / max(others, 1)
    variance = np.maximum((count - (top**2).sum(axis=1)) / max(others, 1) - others_mean**2, 0)
    variance[variance < 1e-9] = 0
    distance = last - others_mean
    high_share = np.divide(variance, variance + distance**2, out=np.zeros_like(last), where=variance > 0)
    low = others_mean - np.divide(variance, distance, out=np.zeros_like(last), where=variance > 0)
    ratios = np.zeros(len(neurons)) if product.centred else mean[:, 0] / sd[:, 0]
    if product.cubed:
        top, last, low = top**3, last**3, low**3
    center = high_share * last + (1 - high_share) * low
    others_variance = high_share * (1 - high_share) * (last - low) ** 2
    means = (top.sum(axis=1) + others * center) / count
    squares = ((top**2).sum(axis=1) + others * (center**2 + others_variance)) / count
    sds = np.sqrt(squares - means**2)
    if product.cubed:
        ratios = means / sds
    weights = top - center[:, None]
    fired = int((np.abs(weights) > 1e-6).sum(axis=1).max())
    scale = (count if product.centred else count - 1) ** 0.5 / count / sds
    return (weights[:, :fired] * scale[:, None]).astype(np.float32), (others * others_variance) ** 0.5 * scale, ratios
