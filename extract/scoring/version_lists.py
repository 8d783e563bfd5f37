"""The best images of each neuron in versions of the images: in halves, and in resamples with replacement.

lists = version_lists(settings, layer, [weights, …])   # weights (N,): how often each image stands in a version
lists[0].images, lists[0].lengths(min_images)          # what label_lists (soft_wpmi.py) labels neurons by

A version's list is that of its own best images. Mostly the 256 stored images of a neuron hold enough of them; where
they do not, and the neuron fires on more, activations are read. If activations are not kept, that version does not
label the neuron, which only counts in the prior: from shorter lists, one in ten neurons of a concept got another label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.problem import Layer, Settings
from dissectdb.extract.study import STORED_IMAGES

NEURONS_AT_ONCE = 256  # whose activations are read at a time


class VersionLists(NamedTuple):
    """The best images (K, longest) of each neuron in a version, highest first; -1 behind the end of a list.

    counts: how many images of the version each neuron (K,) is known to fire on. is_untold: whether the list gives it no
    label, because it has one value there, or because more images belong to the list than are known (K,).
    """

    images: np.ndarray
    counts: np.ndarray
    is_untold: np.ndarray

    def lengths(self, min_images: int) -> np.ndarray:
        """How many images stand for each neuron (K,); 0 for one that fires on fewer than min_images of the version."""
        least = np.where(self.is_untold, 1, max(min_images, 1))
        return np.where(self.counts < least, 0, topk.list_lengths(self.counts, self.images.shape[1]))


def version_lists(settings: Settings, layer: Layer, versions: Sequence[np.ndarray]) -> list[VersionLists]:
    """The lists of all neurons in each version of the images, given as weights (N,)."""
    lists, values = layer.top(min(STORED_IMAGES, layer.images), 0, layer.neurons)
    usable = usable_images(settings, layer)
    goes_on = (usable == lists.shape[1]) & (lists.shape[1] < layer.images)
    if not settings.include_dead:
        goes_on &= ~layer.dead
    found, is_short = [], []
    for weights in versions:
        longest = list_limit(settings, layer.images, int(weights.sum()))
        listed = weights.astype(np.int32)[lists]
        counts = count_listed(listed, usable)
        is_constant = _is_constant(listed, values, int(np.count_nonzero(weights)))
        found.append(VersionLists(expand(lists, listed, longest), counts, is_constant))
        is_short.append(goes_on & (counts < longest))
    if not np.any(is_short):
        return found
    if layer.has_activations():
        _read_on(layer, versions, found, np.array(is_short))
    else:
        for of_version, short in zip(found, is_short, strict=True):
            of_version.is_untold[short] = True
    return found


def list_limit(settings: Settings, images: int, part: int) -> int:
    """How many images label a neuron in a version with `part` images: top_k, if the version is large enough.

    At most half of them, or as large a share as top_k is of all images. min_images are enough, however few there are.
    """
    largest = max(settings.min_images, part // 2, settings.top_k * part // images)
    return min(settings.top_k, part, largest)


def usable_images(settings: Settings, layer: Layer) -> np.ndarray:
    """How many stored top images of each neuron (K,) are of use: it fires on them, and no tie decides."""
    stored = min(STORED_IMAGES, layer.images)
    if layer.lengths is None:
        return np.full(layer.neurons, stored)
    list_images = settings.declaration.list_images
    most = stored if list_images is None else min(list_images(settings, layer.images), stored)
    return np.where(layer.dead, stored, np.where(layer.lengths < most, layer.lengths, np.minimum(layer.fired, stored)))


def count_listed(listed: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """How many images (K,) the first `usable` of each list come to, if each stands `listed` (K, n) times there."""
    if (usable == listed.shape[1]).all():
        return listed.sum(axis=1)
    return np.where(np.arange(listed.shape[1]) < usable[:, None], listed, 0).sum(axis=1)


def fires_on(layer: Layer, block: np.ndarray, neurons: np.ndarray | slice) -> np.ndarray:
    """Whether neurons fire on images (N, n), from their activations on them; a dead one is taken to fire on all."""
    if layer.lengths is None:
        return np.ones(block.shape, bool)
    return (block > layer.lowest[neurons]) | layer.dead[neurons]


def expand(lists: np.ndarray, listed: np.ndarray, longest: int) -> np.ndarray:
    """The first `longest` of each list (K, n) if each image stands `listed` (K, n) times there; -1 behind its end."""
    lengths = listed.sum(axis=1)
    flat = np.append(np.repeat(lists.ravel(), listed.ravel()), -1)
    ranks = np.arange(longest)
    starts = (np.cumsum(lengths) - lengths)[:, None]
    return flat[np.where(ranks < lengths[:, None], starts + ranks, len(flat) - 1)]


def _is_constant(listed: np.ndarray, values: np.ndarray, images: int) -> np.ndarray:
    """Whether the `images` that count have one value (K,), as far as the falling values of lists (K, n) tell.

    One value in the list is one value of all if all are in it, or if the list ends among equal ones.
    """
    own, rows = listed > 0, np.arange(len(listed))
    highest = values[rows, own.argmax(axis=1)]
    lowest = values[rows, own.shape[1] - 1 - own[:, ::-1].argmax(axis=1)]
    is_one = own.any(axis=1) & (lowest == highest)
    return is_one & ((np.count_nonzero(own, axis=1) == images) | (lowest == values[:, -1]))


def _read_on(layer: Layer, versions: Sequence[np.ndarray], found: Sequence[VersionLists], is_short: np.ndarray) -> None:
    """Write into `found` what the activations say of the neurons whose list is too short, is_short (version, K)."""
    for some in slices(layer.neurons, NEURONS_AT_ONCE):
        wanted = np.flatnonzero(is_short[:, some].any(axis=0)) + some.start
        if not len(wanted):
            continue
        block = layer.block(int(wanted[0]), int(wanted[-1]) + 1)
        for weights, lists, is_short_here in zip(versions, found, is_short, strict=True):
            neurons, chosen = wanted[is_short_here[wanted]], np.flatnonzero(weights)
            if not len(neurons) or not len(chosen):
                continue
            part = block[np.ix_(chosen, neurons - wanted[0])]
            longest = lists.images.shape[1]
            top = chosen[topk.top_lists(part, min(longest, len(chosen)))[0]]
            lists.images[neurons] = expand(top, weights[top], longest)
            lists.counts[neurons] = weights[chosen] @ fires_on(layer, part, neurons)
            lists.is_untold[neurons] = part.max(axis=0) == part.min(axis=0)
