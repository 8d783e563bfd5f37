"""Does a label depend on which images there were?

agrees = split_half(settings, layer, images, concepts, halves)         # (K,) 1, 0, or NaN: cannot be told
share = bootstrap(settings, layer, images, concepts, labels, 100, 0)   # (K,): of resamples that give the label

soft_wpmi and wpmi read the top images of a neuron only, so that halves and resamples of the images are halves and
resamples of its list, of which 256 are stored: enough for any top_k up to about 100. The neurons of the other scorers
do not depend on each other, and are scored a few at a time on every version of the images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.halves import Halves
from dissectdb.extract.scoring.problem import Array, Layer, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.study import STORED_IMAGES

NEURONS_AT_ONCE = 256  # whose activations are read at a time
RESAMPLES_AT_ONCE = 16


def split_half(settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, halves: Halves) -> np.ndarray:
    """Whether both halves of the images give a neuron the same label: (K,) 1 or 0; 0 for a dead neuron.

    NaN if either half cannot label it (half_labels).
    """
    first, second, is_untested = half_labels(settings, layer, images, concepts, halves)
    agrees = ((first == second) & (first >= 0)).astype(float)
    agrees[is_untested] = np.nan
    return agrees


def half_labels(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, halves: Halves
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The labels (K,) that each half of the images gives, -1 for none, and which neurons either half cannot label.

    It cannot if it is empty, or if the neuron fires on fewer than min_images of it (which gives labels all the same),
    or has one value there: then only the order of images or concepts would decide. A dead neuron has no label.
    """
    if not halves.smaller:
        return np.full(layer.neurons, -1), np.full(layer.neurons, -1), ~layer.dead
    lists, values = layer.top(min(STORED_IMAGES, layer.images), 0, layer.neurons)
    usable = usable_images(settings, layer)
    weights = [np.bincount(half, minlength=layer.images) for half in halves]
    counts = [count_listed(lists, half, usable) for half in weights]
    is_short = np.minimum(*counts) < settings.min_images
    is_part = usable < min(STORED_IMAGES, layer.images)
    if label_lists := SCORERS[settings.scorer].label_lists:
        versions = [
            (expand(lists, half, settings.top_k), version_lengths(settings, layer, usable, count))
            for half, count in zip(weights, counts, strict=True)
        ]
        first, second = (
            np.where(_is_constant(lists, values, half), -1, labels)
            for half, labels in zip(weights, label_lists(settings, layer, images, concepts, versions), strict=True)
        )
        is_part |= lists.shape[1] < layer.images  # a half may have none of the listed images
    else:
        first, second = label_images(settings, layer, images, concepts, halves)
    is_untested = (is_part & is_short) | (np.minimum(first, second) < 0)
    return np.where(layer.dead, -1, first), np.where(layer.dead, -1, second), is_untested & ~layer.dead


def _is_constant(lists: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether the images that count have one value (K,), as far as the lists of top images (K, n) tell.

    One value in the list is one value of all if all are in it, or if the list ends among equal ones.
    """
    own = weights[lists] > 0
    lowest = np.where(own, values, np.inf).min(axis=1)
    is_one = lowest == np.where(own, values, -np.inf).max(axis=1)
    return is_one & ((own.sum(axis=1) == np.count_nonzero(weights)) | (lowest == values[:, -1]))


def usable_images(settings: Settings, layer: Layer) -> np.ndarray:
    """How many stored top images of each neuron (K,) are of use: it fires on them, and no tie decides."""
    stored = min(STORED_IMAGES, layer.images)
    if layer.lengths is None:
        return np.full(layer.neurons, stored)
    most = min(settings.top_k, layer.images) if SCORERS[settings.scorer].label_lists else stored
    return np.where(layer.dead, stored, np.where(layer.lengths < most, layer.lengths, np.minimum(layer.fired, stored)))


def count_listed(lists: np.ndarray, weights: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """How many images (K,) the first `usable` of each list (K, n) come to, if image i counts weights[i] times."""
    return np.where(np.arange(lists.shape[1]) < usable[:, None], weights[lists], 0).sum(axis=1)


def version_lengths(settings: Settings, layer: Layer, usable: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The list length (K,) of each neuron in a version of the images with `counts` of those that it fires on.

    A neuron that fires on more images than are stored keeps top_k: its list goes on beyond them.
    """
    whole = (usable == min(STORED_IMAGES, layer.images)) | layer.dead
    short = topk.list_lengths(np.maximum(counts, 1), settings.top_k)
    return np.where(whole, settings.top_k, short)


def bootstrap(
    settings: Settings,
    layer: Layer,
    images: Tensor,
    concepts: Tensor,
    labels: np.ndarray,
    count: int,
    seed: int,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Share of `count` resamples of the images, with replacement, that give a neuron its label: (K,).

    With groups (N,), whole groups are drawn. NaN if all images are of one.
    """
    random = np.random.default_rng(seed)
    label_lists = SCORERS[settings.scorer].label_lists
    units = layer.images if groups is None else int(groups.max()) + 1
    if units == 1:
        return np.full(layer.neurons, np.nan)
    same = np.zeros(layer.neurons)
    if label_lists is None:
        weights = [_resamples(random, 1, units, groups)[0] for _ in range(count)]
        drawn = [np.repeat(np.arange(layer.images), weight) for weight in weights]
        for resampled_labels in label_images(settings, layer, images, concepts, drawn):
            same += (resampled_labels == labels) / count
        return same
    lists = layer.top(min(STORED_IMAGES, layer.images), 0, layer.neurons)[0]
    usable = usable_images(settings, layer)
    for resamples in slices(count, RESAMPLES_AT_ONCE):
        weights = _resamples(random, resamples.stop - resamples.start, units, groups)
        versions = [
            (
                expand(lists, weight, settings.top_k),
                version_lengths(settings, layer, usable, count_listed(lists, weight, usable)),
            )
            for weight in weights
        ]
        for resampled_labels in label_lists(settings, layer, images, concepts, versions):
            same += resampled_labels == labels
    return same / count


def _resamples(random: np.random.Generator, count: int, units: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """How often each image (N,) is drawn, in each of `count` resamples of images, or of groups (N,) of them."""
    drawn = [np.bincount(picked, minlength=units) for picked in random.integers(units, size=(count, units))]
    return drawn if groups is None else [weights[groups] for weights in drawn]


def label_images(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, versions: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The label (K,) of each neuron on each of several choices of the images, given as indices.

    -1 for none, also where the neuron has one value. Only for scorers in which the neurons of a layer do not depend on
    each other.
    """
    labels = [np.full(layer.neurons, -1) for _ in versions]
    for neurons in slices(layer.neurons, NEURONS_AT_ONCE):
        block, dead = layer.block(neurons.start, neurons.stop), layer.dead[neurons]
        for version_labels, chosen in zip(labels, versions, strict=True):
            part = Array(block[chosen], dead, _part_lengths(settings, layer, neurons, block[chosen]))
            scores = score_layer(settings, part, images[torch.from_numpy(chosen)], concepts, keep=1)
            varies = part.activations.max(axis=0) > part.activations.min(axis=0)
            version_labels[neurons] = np.where(varies, scores.concepts[:, 0], -1)
    return labels


def _part_lengths(settings: Settings, layer: Layer, neurons: slice, block: np.ndarray) -> np.ndarray | None:
    """layer.lengths for some images of some neurons, block (image, neuron); None if the scorer reads all images."""
    list_images = settings.declaration.list_images
    if layer.lengths is None or list_images is None:
        return None
    most = min(list_images(settings, len(block)), STORED_IMAGES)
    fired = (block > layer.lowest[neurons]).sum(axis=0)
    return topk.list_lengths(np.minimum(fired, layer.lengths[neurons]), most)


def expand(lists: np.ndarray, weights: np.ndarray, top_k: int) -> np.ndarray:
    """The first top_k of each list (K, n) if image i stands there weights[i] times; a short list repeats its last."""
    counts = weights[lists]
    counts[:, -1] = np.maximum(counts[:, -1], 1)
    lengths = counts.sum(axis=1)
    flat = np.repeat(lists.ravel(), counts.ravel())
    starts = np.cumsum(lengths) - lengths
    ranks = np.minimum(np.arange(top_k), lengths[:, None] - 1)
    return flat[starts[:, None] + ranks]
