"""The null of cos, cos_cubed and pearson for neurons that are not ordinary: a few images decide their sums.

null = nulls.linear_null(…)                                                     # of the ordinary neurons of each layer
spread_labels(settings, layers, null, images, concepts, draws, seed)      # adds the other groups of each layer

Which neurons share a null is null_group of the view dissected_neurons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import correlation, nulls, topk
from dissectdb.extract.scoring.problem import pieces
from dissectdb.extract.scoring.scorers import Layer, Settings

OTHERS = 64  # images that stand for all but the best
SPREAD_ELEMENTS = 1 << 20  # draw × concept values at a time


def spread_labels(
    settings: Settings,
    layers: Sequence[Layer],
    null: nulls.Null,
    images: Tensor,
    concepts: Tensor,
    draws: int,
    seed: int,
) -> None:
    """Add to the null of cos, cos_cubed or pearson what belongs to neurons that are not ordinary.

    A sum that a few images decide is not normal. Each draw takes a neuron of the group, and puts its highest
    activations on random images.
    """
    for place, layer in enumerate(layers):
        if layer.groups is None:
            continue
        groups = np.unique(layer.groups[~layer.dead & ~nulls.is_whole(layer)])
        [whole] = null.moments[place].values()
        for group in map(int, groups):
            neurons = np.flatnonzero(~layer.dead & (layer.groups == group))[: nulls.OWN_ACTIVATIONS]
            weights, rest, ratios = _weights(settings, layer, neurons)
            longest = weights.shape[1] + (OTHERS if rest.any() else 0)
            count = nulls.affordable(draws, len(groups) * longest * len(concepts), nulls.LIKELIHOOD_PRODUCTS)
            random = np.random.default_rng(seed)
            picked = random.integers(len(neurons), size=count)
            drawn = weights[picked]
            if rest.any():  # the other images together: a few of the same weight, with random signs
                signs = random.choice(np.float32([-1, 1]), size=(count, OTHERS))
                drawn = np.concatenate([drawn, signs * rest[picked, None] / OTHERS**0.5], axis=1, dtype=np.float32)
            null.labels[place][group] = _spread_draws(settings, drawn, ratios[picked], whole, images, concepts, seed)
            null.moments[place][group] = whole


def _spread_draws(
    settings: Settings,
    weights: np.ndarray,
    ratios: np.ndarray,
    known: nulls.Moments,
    images: Tensor,
    concepts: Tensor,
    seed: int,
) -> np.ndarray:
    """z of the label of draws (draw,) whose standardised columns are multiplied with `weights` (draw, image)."""
    lists = nulls.random_lists(len(weights), min(weights.shape[1], len(images)), len(images), seed)
    best = nulls.Labels(len(weights))
    width = int(max(1, min(len(concepts), nulls.WIDTH_BYTES // (4 * len(images)))))
    for first, columns in nulls.columns_of(settings, images, concepts, width):
        here = slice(first, first + columns.shape[1])
        mean, sd = torch.from_numpy(known.mean[here]), torch.from_numpy(known.sd[here])
        standard = ((columns.double() - mean) / sd.clamp(min=1e-12)).float()
        least = correlation.MIN_NORM / len(images) ** 0.5 if settings.scorer == "cos_cubed" else 1e-12
        norm = torch.hypot(mean, sd).clamp(min=least)
        for some in pieces(len(weights), max(1, SPREAD_ELEMENTS // columns.shape[1])):
            own = torch.from_numpy(weights[some])
            z = torch.zeros(len(own), columns.shape[1])
            for rank in range(lists.shape[1]):
                z.addcmul_(own[:, rank, None], standard[lists[some, rank]])
            z = z.double()
            scores = torch.from_numpy(ratios[some])[:, None] * mean * len(images) ** 0.5 + z * sd
            best.update(scores / norm, z, some)
    return best.z.numpy()


def _weights(settings: Settings, layer: Layer, neurons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What some neurons multiply standardised columns with on their highest images, so that the sum is z.

    (neuron, image) float32; the standard deviation of what all other images add (neuron,); and the ratio of mean and
    standard deviation (neuron,). The other images count as two-valued, as in the view dissected_neurons.
    """
    count, spread = layer.images, layer.spread
    mean, sd = spread.mean[neurons, None], spread.sd[neurons, None]
    known = layer.top(min(topk.KNOWN, count), 0, layer.neurons)[1][neurons]
    known = (known.astype(np.float64) - mean) / sd
    others, last = count - known.shape[1], known[:, -1]
    of_others = -known.sum(axis=1) / max(others, 1)
    variance = np.maximum((count - (known**2).sum(axis=1)) / max(others, 1) - of_others**2, 0)
    variance[variance < 1e-9] = 0
    distance = last - of_others
    high = np.divide(variance, variance + distance**2, out=np.zeros_like(last), where=variance > 0)
    low = of_others - np.divide(variance, distance, out=np.zeros_like(last), where=variance > 0)
    ratios = np.zeros(len(neurons)) if settings.scorer == "pearson" else mean[:, 0] / sd[:, 0]
    if settings.scorer == "cos_cubed":
        known, last, low = known**3, last**3, low**3
    center = high * last + (1 - high) * low
    spread_of_others = high * (1 - high) * (last - low) ** 2
    means = (known.sum(axis=1) + others * center) / count
    squares = ((known**2).sum(axis=1) + others * (center**2 + spread_of_others)) / count
    sds = np.sqrt(squares - means**2)
    if settings.scorer == "cos_cubed":
        ratios = means / sds
    weights = known - center[:, None]
    fired = int((np.abs(weights) > 1e-6).sum(axis=1).max())
    root = (count if settings.scorer == "pearson" else count - 1) ** 0.5 / count / sds
    return (weights[:, :fired] * root[:, None]).astype(np.float32), (others * spread_of_others) ** 0.5 * root, ratios
