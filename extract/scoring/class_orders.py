"""The scores of neurons after the images changed places, for some neurons of a layer and many orders of the images.

score = product_in_orders(PEARSON, classes, layer)
for scores, values in score(slice(0, 64), batches): ...  # (order, neuron, concept) for each batch of orders (order, N)

scores decide the label, as in the scorer itself; values say how high the label stands. Either image i takes the
activation of image order[i], or it gives its own to that image. A batch is a few operations: many small ones would
wait for one another's threads on a busy machine. What this is for: class_null.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring.correlation import ColumnProduct, prepared_columns
from dissectdb.extract.scoring.problem import Layer, distinct_rows
from dissectdb.extract.scoring.rank_reorder import (
    draw_permutations,
    listed_images,
    reorder_measure,
    reordered_lengths,
    scores_of_lists,
)
from dissectdb.extract.scoring.soft_wpmi import TABLE_BYTES, ImageLists
from dissectdb.extract.scoring.within_class import ImageClasses

OrderScores = Callable[[slice, Iterable[np.ndarray]], Iterator[tuple[Tensor, Tensor]]]


def product_in_orders(product: ColumnProduct, classes: ImageClasses, layer: Layer) -> OrderScores:
    """Of a scorer that multiplies columns over all images. A score counts in a unit of the neuron's own."""
    columns = prepared_columns(product, classes.settings, classes.images, classes.concepts)

    def score(neurons: slice, batches: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        block = torch.tensor(layer.block(neurons.start, neurons.stop))
        product.prepare(block)
        shape = block.shape[1], len(classes.concepts)
        for orders in batches:
            if shape[0] <= shape[1]:
                scores = (_moved(block, orders).T @ columns).view(len(orders), *shape)
            else:  # fewer columns are copied if the concepts' change places the other way round
                back = np.empty_like(orders)
                np.put_along_axis(back, orders, np.arange(layer.images)[None], axis=1)
                scores = (block.T @ _moved(columns, back)).view(shape[0], len(orders), shape[1]).transpose(0, 1)
            yield scores, scores

    return score


def _moved(columns: Tensor, orders: np.ndarray) -> Tensor:
    """The columns (N, n) in each order (order, N): (N, order · n). numpy's take is several times as fast as torch."""
    moved = np.take(columns.numpy(), np.ascontiguousarray(orders.T), axis=0)
    return torch.from_numpy(moved).flatten(1)


def likelihood_in_orders(classes: ImageClasses, layer: Layer) -> OrderScores:
    """Of soft_wpmi and wpmi. The prior is that of the layer, with the neuron's own L replaced by that of the order."""
    settings, probabilities = classes.settings, torch.from_numpy(classes.probabilities)
    in_prior = np.arange(layer.neurons) if settings.include_dead else np.flatnonzero(~layer.dead)
    lists = ImageLists.of(settings, layer, in_prior)
    sums = lists.sums(probabilities, torch.empty(len(in_prior), probabilities.shape[1], dtype=torch.float64))
    moments = lists.moments(probabilities)
    others, lengths = torch.empty_like(sums), np.empty(len(in_prior), np.int64)
    for length, rows in lists.rows.items():
        others[rows], lengths[rows] = log_sums_of_others(lists.carried(sums, length, moments))[rows], length
    row_of_neuron = np.full(layer.neurons, -1)
    row_of_neuron[in_prior] = np.arange(len(in_prior))

    def score(neurons: slice, batches: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        rows = row_of_neuron[neurons]
        scored, rows = np.flatnonzero(rows >= 0), rows[rows >= 0]
        for orders in batches:
            shape = len(orders), neurons.stop - neurons.start, sums.shape[1]
            images = orders[:, lists.images[rows]].reshape(-1, lists.images.shape[1])
            own = ImageLists.by_length(settings, images, np.tile(lengths[rows], len(orders)))
            own_sums = torch.empty(len(images), shape[2], dtype=torch.float64)
            own_sums = own.sums(probabilities, own_sums).view(len(orders), len(rows), shape[2])
            values = torch.full(shape, -torch.inf, dtype=torch.float64)
            scores, values[:, scored] = values.clone(), own_sums
            scores[:, scored] = own_sums - settings.prior_weight * torch.logaddexp(others[rows], own_sums)
            yield scores, values

    return score


def log_sums_of_others(sums: Tensor) -> Tensor:
    """For each row and column, ln Σ exp of the other rows of sums (K, C); -inf if there is one row."""
    largest, row = sums.max(dim=0)
    rest = sums.clone()
    rest[row, torch.arange(sums.shape[1])] = -torch.inf
    of_rest = rest.logsumexp(dim=0)  # without the largest, which would hide the others
    weights = (sums - largest).exp()
    others = largest + (weights.sum(dim=0) - weights).log()
    others[row, torch.arange(sums.shape[1])] = of_rest
    return others


def reorder_in_orders(classes: ImageClasses, layer: Layer) -> OrderScores:
    """Of rank_reorder."""
    settings, device, concepts = classes.settings, torch.device("cpu"), classes.concepts
    n = listed_images(settings, layer.images)
    permutations = draw_permutations(settings.permutations, n, settings.seed)
    first, inverse = distinct_rows(classes.images)  # equal images have equal cosines, and tie
    distinct = classes.images[torch.from_numpy(first)]
    measure = reorder_measure(distinct, concepts, n, settings.rank_power, device, int(TABLE_BYTES))

    def score(neurons: slice, batches: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        indices, values = layer.top(n, neurons.start, neurons.stop)
        lengths = reordered_lengths(layer, values, neurons)
        for orders in batches:
            listed = inverse[orders[:, indices]].reshape(-1, n)
            repeated = np.tile(values, (len(orders), 1)), np.tile(lengths, len(orders))
            scores = scores_of_lists(settings, measure, listed, *repeated, permutations, len(concepts))
            scores = scores.view(len(orders), len(values), len(concepts))
            yield scores, scores

    return score
