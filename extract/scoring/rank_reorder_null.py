"""The null of rank_reorder: a layer's own top activations on random images; no formula is known for it.

null = reorder_null(problem)
z = nulls.z_of_samples(settings, layer, scores, null.moments[0])

What a null is: nulls.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.nulls import (
    NEURONS_SAMPLED,
    TABLE_BYTES,
    Null,
    NullProblem,
    affordable_draws,
    in_group,
    sampled_moments,
    sampled_slice,
)
from dissectdb.extract.scoring.problem import Layer, Settings, distinct_rows
from dissectdb.extract.scoring.rank_reorder import (
    Measure,
    baselines,
    draw_permutations,
    listed_images,
    reorder_measure,
    reorder_scores,
    reordered_lengths,
    scaled,
    shortened,
)
from dissectdb.extract.study import STORED_IMAGES

REORDER_DRAWS = 4000  # each of them is a neuron to score
REORDER_PRODUCTS = 2e9  # that all draws of a group may take
DRAWS_AT_ONCE = 512


def reorder_null(problem: NullProblem) -> Null:
    """The null of each layer, for each null_group of its scored neurons."""
    settings, concepts = problem.settings, len(problem.concepts)
    n = listed_images(settings, len(problem.images))
    count = min(problem.draws, REORDER_DRAWS)
    orders = draw_permutations(settings.permutations, n, settings.seed)
    device, budget = torch.device("cpu"), int(TABLE_BYTES)
    first, inverse = distinct_rows(problem.images)  # as for real neurons: equal images have equal cosines, and tie
    distinct = problem.images[torch.from_numpy(first)]
    measure = reorder_measure(distinct, problem.concepts, n, settings.rank_power, device, budget)
    null = Null([], [])
    for layer in problem.layers:
        random = np.random.default_rng(problem.seed)
        null.labels.append({})
        null.moments.append({})
        groups = [n] if layer.groups is None else np.unique(layer.groups[~layer.dead]).tolist()
        for group, values, lengths in _values_by_group(layer, groups, n):
            neurons = _scaled_neurons(settings, values, lengths, orders)
            wanted = count
            if group != min(n, STORED_IMAGES):
                wanted = affordable_draws(count, len(groups) * lengths.max() * concepts, REORDER_PRODUCTS)
            scores = _scores_of_draws(settings, neurons, measure, inverse, concepts, wanted, random)
            null.labels[-1][group], null.moments[-1][group] = sampled_moments(scores)
    return null


def _values_by_group(layer: Layer, groups: Sequence[int], n: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each group: the top activations (neuron, n or fewer) of its neurons, and how many of them count."""
    longest = min(n, STORED_IMAGES)
    values_by_start: dict[int, np.ndarray] = {}
    for group in groups:
        length = longest if layer.groups is None else group % 1000
        neurons = np.flatnonzero(in_group(layer, group))
        if length < longest:
            neurons = neurons[:NEURONS_SAMPLED]
            values = layer.top(min(STORED_IMAGES, layer.images), 0, layer.neurons)[1][neurons, :length]
            yield group, values, np.full(len(neurons), length)
        else:
            sampled = sampled_slice(neurons, layer.neurons)
            if sampled.start not in values_by_start:
                values_by_start = {sampled.start: layer.top(n, sampled.start, sampled.stop)[1]}
            values = values_by_start[sampled.start]
            own = neurons[neurons < sampled.stop] - sampled.start
            own = own[own >= 0]
            yield group, values[own], reordered_lengths(layer, values, sampled)[own]


ScaledNeurons = tuple[np.ndarray, np.ndarray, np.ndarray]  # values (neuron, n), lengths and baselines (neuron,)


def _scaled_neurons(settings: Settings, values: np.ndarray, lengths: np.ndarray, orders: np.ndarray) -> ScaledNeurons:
    """The neurons that have a score: values (neuron, n) from 1 to 0, how many of them count, and B."""
    table, chance = np.zeros(values.shape), np.zeros(len(values))
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        table[rows, :length] = scaled(values[rows, :length])
        chance[rows] = baselines(table[rows, :length], shortened(orders, length), settings.rank_power)
    return table[chance > 0], lengths[chance > 0], chance[chance > 0]


def _scores_of_draws(
    settings: Settings,
    neurons: ScaledNeurons,
    measure: Measure,
    images: np.ndarray,
    concepts: int,
    count: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Scores (draw, concept) of random neurons on random images; one draw without a score if there are no neurons.

    images: (N,) which of the distinct images each image is.
    """
    values, lengths, chance = neurons
    if not len(values):
        return np.full((1, concepts), -np.inf)
    scores = []
    for draws in slices(count, DRAWS_AT_ONCE):
        picked = random.integers(len(values), size=draws.stop - draws.start)
        indices = np.stack([random.permutation(len(images))[: values.shape[1]] for _ in picked])
        drawn = np.empty((len(picked), concepts))
        for length in np.unique(lengths[picked]):
            rows = np.flatnonzero(lengths[picked] == length)
            errors, cosines = measure(images[indices[rows, :length]], values[picked[rows], :length])
            drawn[rows] = reorder_scores(errors, cosines, chance[picked[rows]], settings.rank_scale).numpy()
        scores.append(drawn)
    return np.concatenate(scores)
