"""The null of cos, cos_cubed, pearson and presence for neurons that are not ordinary: a few images decide their sums.

null = linear_null(PEARSON, problem)            # of the ordinary neurons of each layer
add_spread_labels(PEARSON, problem, null)       # adds the other groups of each layer

Which neurons share a null is null_group of the view dissected_neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.correlation import ColumnProduct, column_chunks, scores_of_z, standardised
from dissectdb.extract.scoring.nulls import (
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
ELEMENTS_AT_ONCE = 1 << 22  # draw × image × (concept or group) values
SPREAD_PRODUCTS = 4e10  # that all draws of a layer may take


def add_spread_labels(product: ColumnProduct, problem: NullProblem, null: Null) -> None:
    """Add to a null of ordinary neurons the labels of the groups that are not ordinary.

    A sum that a few images decide is not normal. Each draw takes a neuron of the group, and puts its highest
    activations on random images. All groups of a layer share the random images.
    """
    for place, layer in enumerate(problem.layers):
        if layer.groups is None:
            continue
        numbers = np.unique(layer.groups[~layer.dead & ~is_ordinary(layer)]).tolist()
        if not numbers:
            continue
        groups = [_Group.of(product, layer, number, problem.seed) for number in numbers]
        [moments] = null.moments[place].values()
        for number, drawn in zip(numbers, _labels_of_draws(product, problem, groups, moments), strict=True):
            null.labels[place][number] = drawn
            null.moments[place][number] = moments


@dataclass
class _Group:
    """Neurons that share a null, and which of them each draw stands for.

    weights (neuron, image): what multiplies the standardised columns on the top images. rest (neuron,): the standard
    deviation of what all other images add, of which `others` stand for all. ratios (neuron,): mean / sd of the column.
    """

    weights: np.ndarray
    rest: np.ndarray
    ratios: np.ndarray
    others: int
    random: np.random.Generator

    @classmethod
    def of(cls, product: ColumnProduct, layer: Layer, number: int, seed: int) -> _Group:
        neurons = np.flatnonzero(~layer.dead & (layer.groups == number))[:NEURONS_SAMPLED]
        weights, rest, ratios = _weights(product, layer, neurons)
        others = min(OTHER_IMAGES, layer.images - weights.shape[1]) if rest.any() else 0
        return cls(weights, rest, ratios, others, np.random.default_rng([seed, number]))

    @property
    def images(self) -> int:
        return self.weights.shape[1] + self.others

    def draw(self, out: np.ndarray) -> np.ndarray:
        """Fill out (draw, image), which is zero, with the weights of random neurons; return their ratios (draw,)."""
        picked = self.random.integers(len(self.rest), size=len(out))
        top = self.weights.shape[1]
        out[:, :top] = self.weights[picked]
        if self.others:  # the other images together: a few of the same weight, with random signs
            signs = self.random.integers(2, size=(len(out), self.others)) * 2 - 1
            out[:, top : top + self.others] = signs * (self.rest[picked, None] / self.others**0.5)
        return self.ratios[picked]


def _labels_of_draws(
    product: ColumnProduct, problem: NullProblem, groups: Sequence[_Group], moments: Moments
) -> list[np.ndarray]:
    """For each group, z of the label of each draw (draw,)."""
    images, longest = len(problem.images), max(group.images for group in groups)
    count = affordable_draws(problem.draws, len(groups) * longest * len(problem.concepts), SPREAD_PRODUCTS)
    lists = random_lists(count, longest, images, problem.seed)
    best = [DrawnLabels(count) for _ in groups]
    states = [group.random.bit_generator.state for group in groups]
    chunks = column_chunks(product, problem.settings, problem.images, problem.concepts, problem.table_width)
    for first, columns in chunks:
        for group, state in zip(groups, states, strict=True):  # each chunk of concepts sees the same draws
            group.random.bit_generator.state = state
        chunk = slice(first, first + columns.shape[1])
        mean, sd = torch.from_numpy(moments.mean[chunk]), torch.from_numpy(moments.sd[chunk])
        standard = standardised(columns, mean, sd)
        width = max(1, ELEMENTS_AT_ONCE // (longest * (columns.shape[1] + len(groups))))
        for draws in slices(count, width):
            weights = np.zeros((draws.stop - draws.start, len(groups), longest), np.float32)
            ratios = [group.draw(weights[:, number]) for number, group in enumerate(groups)]
            z = torch.bmm(torch.from_numpy(weights), standard[lists[draws]]).double()  # (draw, group, concept)
            for number in range(len(groups)):
                of_group = z[:, number]
                scores = scores_of_z(product, of_group, ratios[number], mean, sd, images)
                best[number].update(scores, of_group, draws)
    return [labels.z.numpy() for labels in best]


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
