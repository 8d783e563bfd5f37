"""How well a concept describes a neuron: six measures over images, each with its standard error.

truth = Truth.of_presence(presence(cosines))                  # (image, concept)
even = Sample(activations[::2], truth.of(slice(0, None, 2)))  # where the labels come from
odd = Sample(activations[1::2], truth.of(slice(1, None, 2)))  # where they are judged
thresholds = even.best_thresholds(neurons, concepts)          # neuron i with concept i
measured = odd.measures(neurons, concepts, thresholds)        # {"pearson": Estimate, "ap": …}
low, high = interval("ap", measured["ap"])

A concept is present in an image or not; an image is picked if the activation is at least a threshold.
pearson       the correlation with how much of the concept is in the image
ap            average precision: walk down the images from the highest activation; the mean, over the images with the
              concept, of the share of images with it so far. Equal activations are taken together.
ap_corrected  (ap - share) / (1 - share), share = the share of images with the concept: 0 by chance, 1 at best
f1, iou       of the picked images and those with the concept: 2 both / (picked + with it), both / either
auc           how often an image with the concept has the higher activation of a pair with and without; equal: half

The standard errors are those of the infinitesimal jackknife (Efron 1982; for the auc DeLong et al. 1988): the root of
the sum of squares of the derivatives of the measure by the weight of each image. It is what a bootstrap over images
tends to, at the cost of one resample. Formulas: docs/methods.md, section 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from dissectdb.extract.scoring.correlation import LEAST_PRESENCE, to_presence

LEAST_IMAGES = 20  # with the concept, and without it; with fewer, a measure is NaN
# A limit on z lets a frequent concept be present in more images than a rare one. On three networks with known truth,
# measures by z >= 1 name a concept that is 98 % as good as the best one by the truth, those by the highest tenth 78 to
# 99 %.
PRESENT_FROM = 1.0  # standard deviations above the mean cosine, from which a concept counts as there
NORMAL_95 = 1.959964

RANGES = {"pearson": (-1, 1), "ap": (0, 1), "ap_corrected": (-1, 1), "f1": (0, 1), "iou": (0, 1), "auc": (0, 1)}


@dataclass(frozen=True)
class Estimate:
    """A measure of some pairs of neuron and concept (P,), and its standard error; NaN where it is unknown."""

    value: np.ndarray
    error: np.ndarray


def interval(name: str, estimate: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval (P,), (P,) of a measure, cut at the ends of its range.

    NaN where the error is 0: too few images change the measure to say how far it may be off.
    """
    error = np.where(estimate.error > 0, NORMAL_95 * estimate.error, np.nan)
    lowest, highest = RANGES[name]
    return np.clip(estimate.value - error, lowest, highest), np.clip(estimate.value + error, lowest, highest)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates from images that do not overlap; NaN where one of them is."""
    error = np.sqrt(np.sum([estimate.error**2 for estimate in estimates], axis=0)) / len(estimates)
    return Estimate(np.mean([estimate.value for estimate in estimates], axis=0), error)


def presence(cosines: np.ndarray) -> np.ndarray:
    """How much of each concept CLIP sees in each image (N, C), from cosines: as the scorer presence has it."""
    return to_presence(torch.tensor(cosines, dtype=torch.float32)).numpy()


@dataclass(frozen=True)
class Truth:
    """How much of each concept is in each image, values (N, C), and whether it is there at all, present (N, C)."""

    values: np.ndarray
    present: np.ndarray

    @classmethod
    def of_presence(cls, values: np.ndarray) -> Truth:
        """Truth by CLIP: a concept is there where z is at least 1."""
        return cls(values, values >= PRESENT_FROM - LEAST_PRESENCE)

    @classmethod
    def of_classes(cls, present: np.ndarray) -> Truth:
        """Truth that is known: (N, C) bool."""
        return cls(present.astype(np.float32), present)

    def of(self, images: slice | np.ndarray) -> Truth:
        """The truth of some of the images."""
        return Truth(self.values[images], self.present[images])

    @cached_property
    def shares(self) -> np.ndarray:
        """The share of images with each concept (C,)."""
        return self.present.mean(axis=0)

    @cached_property
    def is_judged(self) -> np.ndarray:
        """Whether at least LEAST_IMAGES images have, and lack, the concept (C,)."""
        counts = self.present.sum(axis=0)
        return np.minimum(counts, len(self.present) - counts) >= LEAST_IMAGES

    @cached_property
    def columns(self) -> np.ndarray:
        """Whether each concept is in each image (C, N)."""
        return np.ascontiguousarray(self.present.T)

    @cached_property
    def powers(self) -> Powers:
        """The standardised values of each concept (C, N), and their squares and cubes."""
        return Powers.of(self.values.T)


class Powers(NamedTuple):
    """Rows with mean 0 and standard deviation 1, float32, and their squares and cubes; NaN if a row is constant."""

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Powers:
        """Of rows that are not standardised."""
        centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
        deviations = centred.std(axis=1)
        constant = rows.max(axis=1, initial=-np.inf) == rows.min(axis=1, initial=np.inf)
        deviations[constant] = np.nan
        first = (centred / deviations[:, None]).astype(np.float32)
        second = first * first
        return cls(first, second, second * first)


NO_TRUTH = Truth(np.empty((0, 0), np.float32), np.empty((0, 0), bool))  # of a sample before the first `against`


class Ranks(NamedTuple):
    """Where the images with a concept stand among all, by activation: arrays (n1,), the lowest activation first."""

    values: np.ndarray  # their activations
    below: np.ndarray  # images with a lower activation
    up_to: np.ndarray  # images with at most this activation
    below_with: np.ndarray  # of them those with the concept
    up_to_with: np.ndarray
    images: int  # N

    @property
    def with_it(self) -> int:
        """Images with the concept, n1."""
        return len(self.values)

    @property
    def precision(self) -> np.ndarray:
        """The share of images with the concept among those with at least this activation."""
        return (self.with_it - self.below_with) / (self.images - self.below)


class Activations:
    """Activations of some neurons, values (K, N): sorted, and standardised when a correlation asks for it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.ascontiguousarray(values, dtype=np.float32)
        self.order = orders(self.values)  # of the images, the lowest activation first
        self.ascending = np.stack([row[order] for row, order in zip(self.values, self.order, strict=True)])

    @cached_property
    def powers(self) -> Powers:
        """The standardised activations, and their squares and cubes (K, N)."""
        return Powers.of(self.values)


def orders(values: np.ndarray) -> np.ndarray:
    """The order of the numbers in each row (K, N), the lowest first; float32 without NaN.

    The bits of each number, made to rise with it, and its place in one integer: on rows with many equal numbers, whole
    integers are sorted three times as fast as numpy's argsort.
    """
    bits = values.view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64) << 32
    keys |= np.arange(values.shape[1])
    keys.sort(axis=1)
    keys &= 0xFFFFFFFF
    return keys


def bounds_of_equals(ascending: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For some of rising numbers, by their places: how many numbers are smaller, and how many smaller or equal."""
    values, below, up_to = ascending[places], places, places + 1
    tied_below = (ascending[np.maximum(places - 1, 0)] == values) & (places > 0)
    tied_above = (ascending[np.minimum(up_to, len(ascending) - 1)] == values) & (up_to < len(ascending))
    if tied_below.any():
        below = below.copy()
        below[tied_below] = np.searchsorted(ascending, values[tied_below], "left")
    if tied_above.any():
        up_to[tied_above] = np.searchsorted(ascending, values[tied_above], "right")
    return below, up_to


class Sample:
    """Some images with the activations of some neurons (N, K) and the truth of some concepts.

    Pairs are given as neurons (P,) and concepts (P,), the numbers of their columns.
    """

    def __init__(self, activations: np.ndarray, truth: Truth = NO_TRUTH) -> None:
        self.truth, self.activations = truth, Activations(activations.T)
        self._ranks: dict[tuple[int, int], Ranks] = {}

    def against(self, truth: Truth) -> Sample:
        """The same images and neurons with another truth; nothing is sorted again."""
        other = copy(self)
        other.truth, other._ranks = truth, {}
        return other

    @property
    def images(self) -> int:
        """N."""
        return int(self.activations.values.shape[1])

    def best_thresholds(self, neurons: np.ndarray, concepts: np.ndarray) -> np.ndarray:
        """The activation (P,) that picks the images with the highest f1, and iou; NaN if no image has the concept."""
        thresholds = np.full(len(neurons), np.nan, np.float32)
        for pair, (neuron, concept) in enumerate(zip(neurons.tolist(), concepts.tolist(), strict=True)):
            ranks = self.ranks(neuron, concept)
            if ranks.with_it:
                both, picked = ranks.with_it - ranks.below_with, ranks.images - ranks.below
                thresholds[pair] = ranks.values[np.argmax(both / (picked + ranks.with_it))]
        return thresholds

    def measures(self, neurons: np.ndarray, concepts: np.ndarray, thresholds: np.ndarray) -> dict[str, Estimate]:
        """Each measure of each pair (P,); NaN if too few images have or lack the concept, pearson also of a constant.

        thresholds: (P,), chosen on other images; NaN where there is none.
        """
        found = {name: np.full((2, len(neurons)), np.nan) for name in RANGES}
        for pair in np.flatnonzero(self.truth.is_judged[concepts]).tolist():
            neuron, concept = int(neurons[pair]), int(concepts[pair])
            ranks = self.ranks(neuron, concept)
            measured = ranked_measures(ranks) | self._overlap(neuron, ranks, thresholds[pair])
            measured["pearson"] = self._pearson(neuron, concept)
            for name, estimate in measured.items():
                found[name][:, pair] = estimate
        return {name: Estimate(*values) for name, values in found.items()}

    def ranks(self, neuron: int, concept: int) -> Ranks:
        """Where the images with a concept stand."""
        if (neuron, concept) not in self._ranks:
            ascending = self.activations.ascending[neuron]
            places = np.flatnonzero(self.truth.columns[concept][self.activations.order[neuron]])
            values = ascending[places]
            among_all = bounds_of_equals(ascending, places)
            among_these = bounds_of_equals(values, np.arange(len(values)))
            self._ranks[neuron, concept] = Ranks(values, *among_all, *among_these, self.images)
        return self._ranks[neuron, concept]

    def _pearson(self, neuron: int, concept: int) -> tuple[float, float]:
        """The correlation and its error."""
        x, x2, x3 = (power[neuron] for power in self.activations.powers)
        y, y2, y3 = (power[concept] for power in self.truth.powers)
        r, both = x @ y / self.images, x2 @ y2 / self.images
        # The derivative by the weight of an image is x y - r (x² + y²) / 2, over N; this is the mean of its square.
        spread = both - r * (x3 @ y + x @ y3) / self.images + r**2 / 4 * ((x2 @ x2 + y2 @ y2) / self.images + 2 * both)
        return r, np.sqrt(max(spread, 0) / self.images) if np.isfinite(r) else np.nan

    def _overlap(self, neuron: int, ranks: Ranks, threshold: float) -> dict[str, tuple[float, float]]:
        """f1 and iou of the images that the threshold picks, with their errors."""
        if np.isnan(threshold):
            return {}
        ascending = self.activations.ascending[neuron]
        picked = ranks.images - int(np.searchsorted(ascending, np.float32(threshold), "left"))
        both = ranks.with_it - int(np.searchsorted(ranks.values, np.float32(threshold), "left"))
        either, total = picked + ranks.with_it - both, picked + ranks.with_it
        f1, iou = 2 * both / total, both / either
        return {
            "f1": (f1, np.sqrt(both * (2 - 2 * f1) ** 2 + (either - both) * f1**2) / total),
            "iou": (iou, np.sqrt(both * (1 - iou) ** 2 + (either - both) * iou**2) / either),
        }


def ranked_measures(ranks: Ranks) -> dict[str, tuple[float, float]]:
    """ap, ap_corrected and auc with their errors.

    The images without the concept are not looked at one by one: all those between two neighbours with it have the same
    derivative.
    """
    below_without, without = ranks.below - ranks.below_with, ranks.images - ranks.with_it
    counts = np.diff(below_without, prepend=0, append=without)  # without, by the number of images with it up to theirs
    return _average_precision(ranks, counts) | {"auc": _auc(ranks, counts)}


def _average_precision(ranks: Ranks, counts: np.ndarray) -> dict[str, tuple[float, float]]:
    with_it, images, precision = ranks.with_it, ranks.images, ranks.precision
    ap, share = precision.mean(), with_it / images
    at_least = images - ranks.below
    gains = np.concatenate([[0], np.cumsum(1 / at_least)])  # from joining the images with the concept that are reached
    losses = np.concatenate([[0], np.cumsum(precision / at_least)])  # from joining the images that are reached
    of_with = (precision - ap + gains[ranks.up_to_with] - losses[ranks.up_to_with]) / with_it
    of_without = -losses / with_it

    corrected = (ap - share) / (1 - share)
    slope = (1 - ap) / (1 - share) ** 2 / images  # by the share, whose derivative is (present - share) / images
    corrected_with = of_with / (1 - share) - slope * (1 - share)
    corrected_without = of_without / (1 - share) + slope * share
    return {
        "ap": (ap, _error(of_with, of_without, counts)),
        "ap_corrected": (corrected, _error(corrected_with, corrected_without, counts)),
    }


def _auc(ranks: Ranks, counts: np.ndarray) -> tuple[float, float]:
    with_it, without = ranks.with_it, ranks.images - ranks.with_it
    below = ranks.below - ranks.below_with
    equal = ranks.up_to - ranks.up_to_with - below  # images without the concept, of the same activation
    places = (below + equal / 2) / without
    auc = places.mean()
    above = (with_it - np.arange(with_it + 1)) / with_it  # of an image without it, by the images with it up to its own
    squares = (counts * (above - auc) ** 2).sum()
    if equal.any():
        first = (np.arange(with_it) == ranks.below_with) & (equal > 0)
        strictly = 1 - ranks.up_to_with[first] / with_it
        halfway = strictly + (ranks.up_to_with - ranks.below_with)[first] / with_it / 2
        squares += (equal[first] * ((halfway - auc) ** 2 - (strictly - auc) ** 2)).sum()
    return auc, np.sqrt(((places - auc) ** 2).sum() / with_it**2 + squares / without**2)


def _error(of_with: np.ndarray, of_without: np.ndarray, counts: np.ndarray) -> float:
    """The standard error, from the derivatives by the weights of the images with and without the concept."""
    return float(np.sqrt((of_with**2).sum() + (counts * of_without**2).sum()))
