"""Does a label depend on which images there were?

agrees = split_half(settings, layer, images, concepts, halves)         # (K,) 1, 0, or NaN: cannot be told
share = bootstrap(settings, layer, images, concepts, labels, 100, 0)   # (K,): of resamples that give the label

A half or a resample is a version of the images, given by how often each stands in it (N,). soft_wpmi and wpmi read a
neuron's best images in it (version_lists.py). The neurons of the other scorers do not depend on each other, and are
scored a few at a time on every version.
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
from dissectdb.extract.scoring.version_lists import count_listed, fires_on, usable_images, version_lists
from dissectdb.extract.study import STORED_IMAGES

NEURONS_AT_ONCE = 256  # whose activations are read at a time
RESAMPLES_AT_ONCE = 16


def split_half(settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, halves: Halves) -> np.ndarray:
    """Whether both halves of the images give a neuron the same label: (K,) 1 or 0; 0 for a dead neuron.

    NaN if either half cannot label it (label_versions).
    """
    first, second, is_untested = half_labels(settings, layer, images, concepts, halves)
    agrees = ((first == second) & (first >= 0)).astype(float)
    agrees[is_untested] = np.nan
    return agrees


def half_labels(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, halves: Halves
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The labels (K,) that each half of the images gives, -1 for none, and which neurons either half cannot label.

    A dead neuron has no label and counts as labelled.
    """
    weights = [np.bincount(half, minlength=layer.images) for half in halves]
    first, second = label_versions(settings, layer, images, concepts, weights)
    return first, second, (np.minimum(first, second) < 0) & ~layer.dead


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

    With groups (N,), whole groups are drawn. Resamples that cannot label the neuron (label_versions) are left out. NaN
    if none can, or if all images are of one group.
    """
    random = np.random.default_rng(seed)
    units = layer.images if groups is None else int(groups.max()) + 1
    if units == 1:
        return np.full(layer.neurons, np.nan)
    same, labelled = np.zeros((2, layer.neurons))
    reads_lists = SCORERS[settings.scorer].label_lists is not None
    for some in slices(count, RESAMPLES_AT_ONCE if reads_lists else count):  # the others read all activations each time
        weights = _resamples(random, some.stop - some.start, units, groups)
        for found in label_versions(settings, layer, images, concepts, weights):
            same += (found == labels) & (found >= 0)
            labelled += found >= 0
    return np.where(labelled > 0, same / np.maximum(labelled, 1), np.nan)


def _resamples(random: np.random.Generator, count: int, units: int, groups: np.ndarray | None) -> list[np.ndarray]:
    """How often each image (N,) is drawn, in each of `count` resamples of images, or of groups (N,) of them."""
    drawn = [np.bincount(random.integers(units, size=units), minlength=units) for _ in range(count)]
    return drawn if groups is None else [weights[groups] for weights in drawn]


def label_versions(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, versions: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The label (K,) of each neuron in each version of the images, given as weights (N,).

    -1 for none: if the neuron fires on fewer than min_images images of the version, or is not known to fire on more; if
    it has one value there, because then only the order of images or concepts would decide; or if it is dead.
    """
    label_lists = SCORERS[settings.scorer].label_lists
    if label_lists is None:
        return label_images(settings, layer, images, concepts, versions)
    lists = version_lists(settings, layer, versions)
    lengths = [own.lengths(settings.min_images) for own in lists]
    pairs = [(own.images, of_each) for own, of_each in zip(lists, lengths, strict=True)]
    labels = label_lists(settings, layer, images, concepts, pairs)
    return [np.where(layer.dead | own.is_untold, -1, found) for own, found in zip(lists, labels, strict=True)]


def label_images(
    settings: Settings, layer: Layer, images: Tensor, concepts: Tensor, versions: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """label_versions for scorers in which the neurons of a layer do not depend on each other."""
    labels = [np.full(layer.neurons, -1) for _ in versions]
    chosen = [np.repeat(np.arange(layer.images), weights) for weights in versions]
    lists, usable = layer.top(min(STORED_IMAGES, layer.images), 0, layer.neurons)[0], usable_images(settings, layer)
    list_images = settings.declaration.list_images  # an order of images takes two of them
    goes_on = (usable == lists.shape[1]) & (lists.shape[1] < layer.images)
    for neurons in slices(layer.neurons, NEURONS_AT_ONCE):
        block, dead = layer.block(neurons.start, neurons.stop), layer.dead[neurons]
        for version_labels, own, weights in zip(labels, chosen, versions, strict=True):
            if len(own) < max(settings.min_images, 1) or (list_images and list_images(settings, len(own)) < 2):
                continue
            fired = count_listed(weights[lists[neurons]], usable[neurons])
            if len(unsure := np.flatnonzero((fired < settings.min_images) & goes_on[neurons])):
                fires = fires_on(layer, block[:, unsure], unsure + neurons.start)
                fired[unsure] = weights @ fires
            few = fired < settings.min_images  # or its list may be empty, which no scorer takes
            part = Array(block[own], dead | few, _part_lengths(settings, layer, neurons, block[own]))
            scores = score_layer(settings, part, images[torch.from_numpy(own)], concepts, keep=1)
            varies = part.activations.max(axis=0) > part.activations.min(axis=0)
            version_labels[neurons] = np.where(varies & ~few, scores.concepts[:, 0], -1)
    return labels


def _part_lengths(settings: Settings, layer: Layer, neurons: slice, block: np.ndarray) -> np.ndarray | None:
    """layer.lengths for some images of some neurons, block (image, neuron); None if the scorer reads all images."""
    list_images = settings.declaration.list_images
    if layer.lengths is None or list_images is None:
        return None
    most = min(list_images(settings, len(block)), STORED_IMAGES)
    fired = (block > layer.lowest[neurons]).sum(axis=0)
    return topk.list_lengths(np.minimum(fired, layer.lengths[neurons]), most)
