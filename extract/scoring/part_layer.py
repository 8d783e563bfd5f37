"""Some images of a layer, as a layer of its own.

part = Part(layer, chosen, settings)  # chosen: rising positions (G,) of images
score_layer(settings, part, images[chosen], concepts)

Activations are read anew each time; what is kept are a few numbers and the top images of each neuron. Of a layer
without stored activations only the stored top images are known (from_lists); there a neuron counts as not firing on all
others. That is a rule for the activations alone, so labels by the top images still have the p of docs/methods.md.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.null_groups import dissected_neurons
from dissectdb.extract.scoring.problem import Layer, Settings, Spread
from dissectdb.extract.study import STORED_IMAGES

NEURONS_AT_ONCE = 256  # whose activations are read at a time


class Part:
    """A Layer (problem.py) of the chosen images (G,) of another one; dead, lengths and groups are those on these."""

    def __init__(self, layer: Layer, chosen: np.ndarray, settings: Settings, from_lists: bool = False) -> None:
        self.layer, self.chosen, self.from_lists = layer, chosen, from_lists
        self.images, self.neurons = len(chosen), layer.neurons
        stored = min(STORED_IMAGES, self.images)
        self.dead, self.lowest = np.ones(self.neurons, bool), np.empty(self.neurons, np.float32)
        self.lengths, self.groups, self.fired = np.zeros((3, self.neurons), np.int64)
        mean, sd = np.empty((2, self.neurons))
        self.lists = np.empty((self.neurons, stored), np.int32), np.empty((self.neurons, stored), np.float32)
        for own in slices(self.neurons, NEURONS_AT_ONCE):
            block = self.block(own.start, own.stop)
            self.dead[own], self.lengths[own], self.groups[own] = dissected_neurons(settings, block, True)
            self.lowest[own] = block.min(axis=0)
            self.fired[own] = np.minimum((block > self.lowest[own]).sum(axis=0), STORED_IMAGES)
            mean[own], sd[own] = block.mean(axis=0, dtype=np.float64), block.std(axis=0, dtype=np.float64)
            self.lists[0][own], self.lists[1][own] = topk.top_lists(block, stored)
        self.dead |= layer.dead
        self.spread = Spread(mean, sd)

    @cached_property
    def cube_spread(self) -> Spread:
        """Mean and standard deviation of the centred, cubed activations."""
        means, sds = np.empty((2, self.neurons))
        for own in slices(self.neurons, NEURONS_AT_ONCE):
            block = self.block(own.start, own.stop).astype(np.float64)
            cubes = (block - block.mean(axis=0)) ** 3
            means[own], sds[own] = cubes.mean(axis=0), cubes.std(axis=0)
        return Spread(means, sds)

    def has_activations(self) -> bool:
        """Whether all activations on the chosen images are known."""
        return not self.from_lists

    def top(self, k: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The k most activating of the chosen images of neurons first … last - 1, as in Layer."""
        indices, values = self.lists
        if k > values.shape[1]:
            return topk.top_lists(self.block(first, last), k)
        return indices[first:last, :k], values[first:last, :k]

    def block(self, first: int, last: int) -> np.ndarray:
        """Activations of neurons first … last - 1 on the chosen images: (G, n) float32."""
        if not self.from_lists:
            return self.layer.block(first, last)[self.chosen]
        indices, values = (table[first:last] for table in self._stored_lists)
        block = np.repeat(self.layer.lowest[None, first:last].astype(np.float32), self.images, axis=0)
        place = np.full(self.layer.images, -1)
        place[self.chosen] = np.arange(self.images)
        is_known = place[indices] >= 0
        if indices.shape[1] < self.layer.images:  # an image that is not listed may have the last value too
            is_known &= values > values[:, -1:]
        neuron, rank = np.nonzero(is_known)
        block[place[indices[neuron, rank]], neuron] = values[neuron, rank]
        return block

    @property
    def _stored_lists(self) -> tuple[np.ndarray, np.ndarray]:
        return self.layer.top(min(STORED_IMAGES, self.layer.images), 0, self.neurons)  # the layer keeps it

    def rows(self, first: int, last: int) -> np.ndarray:
        """The same as (n, G)."""
        return np.ascontiguousarray(self.block(first, last).T)
