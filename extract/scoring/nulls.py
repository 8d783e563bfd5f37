"""Null distributions: the labels of neurons that are unrelated to the images.

null = likelihood_null(problem)                # soft_wpmi, wpmi: likelihood_null.py
null = product_null(PEARSON, problem)          # cos, cos_cubed, pearson, presence: correlation_null.py, spread_nulls.py
null = reorder_null(problem)                   # rank_reorder: rank_reorder_null.py
null = permutation_null(score, problem)        # any scorer whose neurons do not depend on each other: below
z, p = tails.steps(null.labels[layer][group], problem.draws)

The images of such a neuron are a random sample. It takes its label by the same rule as a real neuron, with the prior of
the layer that it is compared with, and the z of a real label is compared with the z of these labels. (Methods often
take the largest z over all concepts. It is larger, because the label is the concept of the best *score*.) The draws are
shared by all neurons of a layer whose values are spread alike: null_group of the view dissected_neurons. The null of a
layer does not depend on the other layers of the call, so that a layer that is added later gets the same null as one
that was there from the start. If no draw has a label, as for rank_reorder with lists of one value, there is no null,
and p is NULL.

Formulas: docs/methods.md, section 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.problem import (
    Array,
    BestConcepts,
    ConceptEmbeddings,
    LabelsSoFar,
    Layer,
    Scores,
    ScoringProblem,
    Settings,
    ties_raised,
)
from dissectdb.extract.study import STORED_IMAGES

TABLE_BYTES = 4e8  # of image × concept values at a time
MIN_DRAWS = 1000
LIKELIHOOD_PRODUCTS = 4e9  # that all draws of a null may take, where each draw is a list of images
NEURONS_SAMPLED = 512  # neurons of a layer, in no particular order, whose activations stand for all
PICKING = 2**32  # added to the seed of the draws: the seed of which neuron each draw stands for
PERMUTATION_DRAWS = 4000  # each of them is a neuron to score
DRAWS_AT_ONCE = 256


@dataclass(frozen=True)
class NullProblem:
    """The question of a null: images (N, D) and concepts (C, D) of CLIP, the layers, and how many draws are wanted."""

    settings: Settings
    layers: Sequence[Layer]
    images: Tensor
    concepts: Tensor
    draws: int
    seed: int

    @property
    def table_width(self) -> int:
        """How many concepts fit into a table of image × concept values of TABLE_BYTES."""
        return int(max(1, min(len(self.concepts), TABLE_BYTES // (4 * len(self.images)))))


@dataclass
class Moments:
    """Mean and standard deviation of each concept's statistic (concept,). prior: of the likelihoods."""

    mean: np.ndarray
    sd: np.ndarray
    prior: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass
class Null:
    """For each layer, by null_group: the z of the label of each draw, and the moments that z is computed with."""

    labels: list[dict[int, np.ndarray]]
    moments: list[dict[int, Moments]]


class DrawnLabels:
    """The z of the label of each draw so far."""

    def __init__(self, draws: int) -> None:
        self.labels = LabelsSoFar(draws)
        self.z = torch.zeros(draws, dtype=torch.float64)

    def update(self, scores: Tensor, z: Tensor, draws: slice = slice(None)) -> None:
        """Add scores and z (draw, concept) of a chunk of concepts, for some of the draws."""
        is_new, column = self.labels.update(scores, 0, draws)
        self.z[draws] = torch.where(is_new, z.gather(1, column[:, None])[:, 0], self.z[draws])


def affordable_draws(wanted: int, products_per_draw: float, limit: float) -> int:
    """`wanted` draws, or as many as `limit` products allow, but at least MIN_DRAWS if so many are wanted."""
    return int(min(wanted, max(MIN_DRAWS, limit / products_per_draw)))


def random_lists(count: int, length: int, images: int, seed: int) -> Tensor:
    """(count, length): each row different images in random order, all such rows equally likely."""
    random = torch.Generator().manual_seed(seed)
    if length**2 > 8 * images:  # nearly every row would repeat an image
        lists = torch.empty(count, length, dtype=torch.int64)
        for rows in slices(count, max(1, (1 << 22) // images)):
            lists[rows] = torch.rand(rows.stop - rows.start, images, generator=random).topk(length, dim=1).indices
        return lists
    lists = torch.randint(images, (count, length), generator=random)
    unchecked = torch.arange(count)
    while len(unchecked):
        ordered = np.sort(lists[unchecked].int().numpy(), axis=1)  # ten times as fast as torch's sort
        unchecked = unchecked[torch.from_numpy((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))]
        lists[unchecked] = torch.randint(images, (len(unchecked), length), generator=random)
    return lists


# ---------------------------------------------------------------- the neurons of a layer


def ordinary_group(images: int) -> int:
    """null_group of ordinary neurons, for scorers that read all activations."""
    return min(images, STORED_IMAGES)


def is_ordinary(layer: Layer) -> np.ndarray:
    """Which neurons (K,) take a label and are ordinary: neither sparse nor heavy-tailed."""
    return in_group(layer, ordinary_group(layer.images))


def in_group(layer: Layer, group: int) -> np.ndarray:
    """Which neurons (K,) take a label and belong to a null_group; all that take one if the layer has no groups."""
    return ~layer.dead if layer.groups is None else ~layer.dead & (layer.groups == group)


def scored_groups(layer: Layer) -> list[int]:
    """The different null_groups of the neurons that take a label; [] if the layer has no groups."""
    return [] if layer.groups is None else np.unique(layer.groups[~layer.dead]).tolist()


def sampled_slice(neurons: np.ndarray, count: int) -> slice:
    """The first NEURONS_SAMPLED neurons of a layer of `count`, or the next ones, that hold one of `neurons`."""
    first = int(neurons[0]) // NEURONS_SAMPLED * NEURONS_SAMPLED if len(neurons) else 0
    return slice(first, min(first + NEURONS_SAMPLED, count))


# ---------------------------------------------------------------- nulls and z by sampling


def sampled_moments(scores: np.ndarray) -> tuple[np.ndarray, Moments]:
    """The z of the label of each draw, where it has one, and the moments of each concept; scores (draw, concept)."""
    finite = np.where(np.isfinite(scores), scores, np.nan)
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a concept that no draw has a score for
        mean, sd = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)
    z = (scores - mean) / np.where(sd > 0, sd, np.nan)
    z = z[np.arange(len(scores)), ties_raised(scores).argmax(axis=1)]
    return z[np.isfinite(z)], Moments(mean, sd)


def z_of_samples(settings: Settings, layer: Layer, scores: Scores, moments: Mapping[int, Moments]) -> np.ndarray:
    """z (K, keep) of scores by the sampled moments of each neuron's null_group; NaN where there is no score."""
    values = scored_values(scores)
    z = np.full(values.shape, np.nan)
    for group, of_group in moments.items():
        rows = in_group(layer, group)
        concepts = scores.concepts[rows]
        z[rows] = (values[rows] - of_group.mean[concepts]) / of_group.sd[concepts]
    return z


def scored_values(scores: Scores) -> np.ndarray:
    """The similarities (K, keep); NaN where there is no score."""
    return np.where(scores.concepts >= 0, scores.similarities, np.nan)


def permutation_null(score: Callable[[ScoringProblem], BestConcepts], problem: NullProblem) -> Null:
    """The null of a scorer without a formula for it: a layer's own activations, scored on images in random order.

    Only for scorers in which the neurons of a layer do not depend on each other.
    """
    null = Null([], [])
    for layer in problem.layers:
        random = np.random.default_rng(problem.seed)
        null.labels.append({})
        null.moments.append({})
        for group in scored_groups(layer) or [ordinary_group(layer.images)]:
            scores = _permuted_scores(score, problem, layer, np.flatnonzero(in_group(layer, group)), random)
            null.labels[-1][group], null.moments[-1][group] = sampled_moments(scores)
    return null


def _permuted_scores(
    score: Callable[[ScoringProblem], BestConcepts],
    problem: NullProblem,
    layer: Layer,
    neurons: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """Scores (draw, concept) of random neurons of these on images in random order."""
    sampled = sampled_slice(neurons, layer.neurons)
    own = neurons[(neurons >= sampled.start) & (neurons < sampled.stop)] - sampled.start
    activations = layer.block(sampled.start, sampled.stop)[:, own]
    concepts = ConceptEmbeddings.one_each(problem.concepts)
    scores = []
    for draws in slices(min(problem.draws, PERMUTATION_DRAWS), DRAWS_AT_ONCE):
        picked = random.integers(len(own), size=draws.stop - draws.start)
        permuted = Array(random.permuted(activations[:, picked], axis=0))
        budget, keep = 8 * int(TABLE_BYTES), len(problem.concepts)
        best = score(
            ScoringProblem(problem.settings, permuted, problem.images, concepts, keep, problem.images.device, budget)
        )
        values, order = best.of_layer(len(picked))
        by_concept = np.full(values.shape, -np.inf)
        np.put_along_axis(by_concept, order, values, axis=1)
        scores.append(by_concept)
    return np.concatenate(scores)
