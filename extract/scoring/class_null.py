"""Does a label say more than the class of the images? z, and p against neurons that know the classes and nothing else.

z, p = within_classes(classes, layer, labels, wanted=100_000, seed=0)  # (K,) each

Such a neuron is the neuron itself after its activations changed places within each class. It takes its label by the
scorer's own rule, so that p counts the choice among the concepts. A few dozen draws are made of each neuron. They give
the mean and the standard deviation of the z of its label; the shape of the distribution, and so the far tail, comes
from the draws of all neurons of the layer together. Formulas: docs/methods.md, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import tails
from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.class_orders import OrderScores
from dissectdb.extract.scoring.problem import Array, Layer, first_of_best
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.scoring.within_class import ImageClasses

DRAWS = 64  # of each neuron, at least
LAYER_DRAWS = 4096  # of all neurons of a layer, at least
MIN_SCORES = 8  # draws in which a concept has a score, for it to have a z
ORDERS_AT_ONCE = 8  # at least
VALUES_AT_ONCE = 1 << 21  # order × neuron × image values, if that allows more orders
NEURONS_AT_ONCE = 64  # that change places alike; others change theirs in their own way
TABLE_BYTES = 4e8  # of draw × neuron × concept values, and of image × neuron values


def within_classes(
    classes: ImageClasses, layer: Layer, labels: np.ndarray, wanted: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """z within classes and its p (K,) of labels (K,), positions of concepts or -1; NaN without a label.

    z is a formula where the scorer has one, else from the draws. p is NaN for all neurons if no image can change its
    place, and 1 for a label without z. wanted: draws from which p comes without a fitted tail.
    """
    z, p = np.full((2, layer.neurons), np.nan)
    labelled = (labels >= 0) & ~layer.dead
    if classes.sizes.max() < 2 or not labelled.any():
        return z, p
    count = max(DRAWS, -(-LAYER_DRAWS // int(labelled.sum())))
    drawn = z_of_draws(classes, layer, labels, count, seed)[:, labelled]
    scorer = SCORERS[classes.settings.scorer]
    z[labelled] = drawn[0] if scorer.z_within_class is None else scorer.z_within_class(classes, layer, labels)[labelled]
    drawn[1:][np.isnan(drawn[1:])] = 0  # a draw whose label has no z
    distances = standardised(drawn[..., None], np.zeros(drawn.shape, np.int64))
    pool = distances[1:][np.isfinite(distances[1:])]
    p[labelled] = np.where(np.isnan(z[labelled]), 1, tails.look_up(*tails.steps(pool, wanted), distances[0]))
    return z, p


def z_of_labels(classes: ImageClasses, layer: Layer, labels: np.ndarray, seed: int) -> np.ndarray:
    """z within classes alone (K,), as within_classes gives it."""
    formula = SCORERS[classes.settings.scorer].z_within_class
    if formula is None:
        return within_classes(classes, layer, labels, 1, seed)[0]
    return formula(classes, layer, labels) if classes.sizes.max() > 1 else np.full(layer.neurons, np.nan)


def z_of_draws(classes: ImageClasses, layer: Layer, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """z of labels (1 + count, K): of the neurons' own in row 0, then of `count` draws of each neuron."""
    in_orders = SCORERS[classes.settings.scorer].in_orders
    score = (scored_in_orders if in_orders is None else in_orders)(classes, layer)
    z = np.full((1 + count, layer.neurons), np.nan)
    size = TABLE_BYTES // max(40 * (1 + count) * len(classes.concepts), 4 * (ORDERS_AT_ONCE + 3) * layer.images)
    for neurons in slices(layer.neurons, int(min(max(size, 1), NEURONS_AT_ONCE))):
        statistics, labels_of_draws = [], []
        random = np.random.default_rng((seed, neurons.start))
        at_once = max(ORDERS_AT_ONCE, VALUES_AT_ONCE // (layer.images * (neurons.stop - neurons.start)))
        for scores, values in score(neurons, class_orders(classes, count, at_once, random)):
            labels_of_draws.append(first_of_best(scores)[1].numpy())
            statistics.append(values.numpy())
        drawn_labels = np.concatenate(labels_of_draws)
        drawn_labels[0] = np.maximum(labels[neurons], 0)
        z[:, neurons] = standardised(np.concatenate(statistics), drawn_labels)
    return z


def class_orders(classes: ImageClasses, count: int, at_once: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches (order, N) of orders of the images: as they are, then `count` with changed places within classes."""
    of_classes = [np.flatnonzero(classes.of_image == number) for number in range(len(classes.sizes))]
    for batch in slices(1 + count, at_once):
        orders = np.tile(np.arange(len(classes.of_image)), (batch.stop - batch.start, 1))
        changed = orders[1 if batch.start == 0 else 0 :]
        for images in of_classes:
            changed[:, images] = random.permuted(changed[:, images], axis=1)
        yield orders


def standardised(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(1 + draw, n): each value at its label, less the mean of the draws and in units of their standard deviation.

    values (1 + draw, n, C), the real ones in row 0. labels (1 + draw, n). A draw is compared with the other draws, so
    that it stands to them as the real value does. Values that are not finite do not count; NaN where too few are left.
    """
    finite = np.isfinite(values[1:])
    counts = finite.sum(axis=0)
    means = np.where(finite, values[1:], 0).sum(axis=0, dtype=np.float64) / np.maximum(counts, 1)
    squares = (np.where(finite, values[1:] - means, 0) ** 2).sum(axis=0)
    neurons, is_draw = np.arange(values.shape[1]), np.arange(len(values))[:, None] > 0
    distances = np.take_along_axis(values, labels[..., None], axis=2)[..., 0] - means[neurons, labels]
    others = counts[neurons, labels] - is_draw
    with np.errstate(divide="ignore", invalid="ignore"):
        means_of_others = np.where(is_draw, -distances / others, 0)
        variances = (squares[neurons, labels] - np.where(is_draw, distances**2, 0)) / others - means_of_others**2
        z = (distances - means_of_others) / np.sqrt(variances)
    z[~np.isfinite(z) | (others < MIN_SCORES)] = np.nan
    return z


def scored_in_orders(classes: ImageClasses, layer: Layer) -> OrderScores:
    """Of a scorer without a faster way: the neurons are scored anew on each order of the images."""
    concepts = len(classes.concepts)

    def score(neurons: slice, batches: Iterable[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        block, dead = layer.block(neurons.start, neurons.stop), layer.dead[neurons]
        lengths = None if layer.lengths is None else layer.lengths[neurons]
        for order in (order for orders in batches for order in orders):
            part = Array(block[order], dead, lengths)
            found = score_layer(classes.settings, part, classes.images, classes.concepts, keep=concepts)
            scores = torch.full((1, len(dead), concepts), -torch.inf, dtype=torch.float64)
            scored = found.concepts >= 0
            scores[0, np.nonzero(scored)[0], found.concepts[scored]] = torch.from_numpy(found.similarities[scored])
            yield scores, scores

    return score
