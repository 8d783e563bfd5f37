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

LEAST_IMAGES = 20  # with the concept, and without it; with fewer, a measure is NaN
PRESENCE_FROM = 0.5  # standard deviations above the mean cosine
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
    """How much of each concept CLIP sees in each image (N, C): max(0, z - 0.5), z over the images; from cosines."""
    centred = cosines - cosines.mean(axis=0, dtype=np.float64)
    deviations = centred.std(axis=0)
    return np.maximum(centred / np.where(deviations > 0, deviations, 1) - PRESENCE_FROM, 0)


@dataclass(frozen=True)
class Truth:
    """How much of each concept is in each image, values (N, C), and whether it is there at all, present (N, C)."""

    values: np.ndarray
    present: np.ndarray

    @classmethod
    def of_presence(cls, values: np.ndarray) -> Truth:
        """Truth by CLIP: a concept is there where z is at least 1."""
        return cls(values, values >= PRESENT_FROM - PRESENCE_FROM)

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
    def images_with(self) -> list[np.ndarray]:
        """The images with each concept."""
        return [np.flatnonzero(column) for column in self.present.T]

    @cached_property
    def powers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The standardised values, their squares and cubes (C, N), and the mean of their fourth powers (C,)."""
        standardised = _standardised(self.values.T)
        squares = standardised**2
        return standardised, squares, squares * standardised, (squares**2).mean(axis=1)


NO_TRUTH = Truth(np.empty((0, 0), np.float32), np.empty((0, 0), bool))  # of a sample before the first `against`


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Each row (…, N) with mean 0 and standard deviation 1, float32; NaN if it is constant."""
    centred = rows - rows.mean(axis=-1, keepdims=True, dtype=np.float64)
    constant = rows.max(axis=-1, keepdims=True) == rows.min(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred /= np.where(constant, np.nan, centred.std(axis=-1, keepdims=True))
    return centred.astype(np.float32)


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


class Sample:
    """Some images with the activations of some neurons (N, K) and the truth of some concepts.

    Pairs are given as neurons (P,) and concepts (P,), the numbers of their columns. Pairs of one neuron should follow
    each other: the neuron is then standardised once.
    """

    def __init__(self, activations: np.ndarray, truth: Truth = NO_TRUTH) -> None:
        self.truth = truth
        self.activations = np.ascontiguousarray(activations.T, dtype=np.float32)
        self.ascending = np.sort(self.activations, axis=1)

    def against(self, truth: Truth) -> Sample:
        """The same images and neurons with another truth; nothing is sorted again."""
        other = copy(self)
        other.truth = truth
        return other

    def best_thresholds(self, neurons: np.ndarray, concepts: np.ndarray) -> np.ndarray:
        """The activation (P,) that picks the images with the highest f1, and iou; NaN if no image has the concept."""
        thresholds = np.full(len(neurons), np.nan, np.float32)
        for pair, (neuron, concept) in enumerate(zip(neurons, concepts, strict=True)):
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
        found["pearson"][:] = self._pearson(neurons, concepts)
        for pair in np.flatnonzero(self.truth.is_judged[concepts]):
            ranks = self.ranks(neurons[pair], concepts[pair])
            overlap = self._overlap(neurons[pair], ranks, thresholds[pair])
            for name, estimate in (ranked_measures(ranks) | overlap).items():
                found[name][:, pair] = estimate
        found["pearson"][:, ~self.truth.is_judged[concepts]] = np.nan
        return {name: Estimate(*values) for name, values in found.items()}

    def ranks(self, neuron: int, concept: int) -> Ranks:
        """Where the images with a concept stand."""
        ascending = self.ascending[neuron]
        values = np.sort(self.activations[neuron][self.truth.images_with[concept]])
        return Ranks(
            values,
            np.searchsorted(ascending, values, "left"),
            np.searchsorted(ascending, values, "right"),
            np.searchsorted(values, values, "left"),
            np.searchsorted(values, values, "right"),
            len(ascending),
        )

    def _pearson(self, neurons: np.ndarray, concepts: np.ndarray) -> np.ndarray:
        """The correlations and their errors (2, P)."""
        standardised, squares, cubes, fourth = self.truth.powers
        found = np.empty((2, len(neurons)))
        starts = np.flatnonzero(np.diff(neurons, prepend=-1))
        for first, last in zip(starts, [*starts[1:], len(neurons)], strict=True):
            neuron, of = _standardised(self.activations[neurons[first]]), concepts[first:last]
            square = neuron**2
            r = standardised[of] @ neuron / len(neuron)
            both = squares[of] @ square / len(neuron)
            mixed = (standardised[of] @ (square * neuron) + cubes[of] @ neuron) / len(neuron)
            # The derivative by the weight of an image is x y - r (x² + y²) / 2, over N; this is the mean of its square.
            spread = both - r * mixed + r**2 / 4 * ((square**2).mean() + 2 * both + fourth[of])
            found[:, first:last] = r, np.sqrt(np.maximum(spread, 0) / len(neuron))
        return found

    def _overlap(self, neuron: int, ranks: Ranks, threshold: float) -> dict[str, tuple[float, float]]:
        """f1 and iou of the images that the threshold picks, with their errors."""
        if np.isnan(threshold):
            return {}
        picked = ranks.images - int(np.searchsorted(self.ascending[neuron], np.float32(threshold), "left"))
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
