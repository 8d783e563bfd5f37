"""How well each neuron's activations tell images with a concept from images without: four measures, all pairs at once.

values = measures(activations, shown)   # (measure, neuron, concept); 0 is chance, 1 is perfect
ratio(got, best).value                 # of sums over neurons, with an interval

AUC is counted from 0.5: it reaches 0.5. Average precision and F1 are corrected for chance: (x - base) / (1 - base). The
base of average precision is the share of images that show the concept; that of F1 is what calling every image positive
yields. F1 has the best threshold. Equal activations are never told apart.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

MEASURES = ("AUC", "AP", "Pearson", "F1")
RESAMPLES = 1000


def measures(activations: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The four measures (measure, neuron, concept) of activations (image, neuron) against shown (image, concept).

    A concept that no image shows, or every image, has 0 by each measure.
    """
    images, shares = len(shown), shown.mean(axis=0)
    at_least, ranks = positions(activations)
    values = np.zeros((len(MEASURES), activations.shape[1], shown.shape[1]))
    values[2] = correlations(activations, shown)
    for concept in np.flatnonzero((shares > 0) & (shares < 1)):
        rows = np.flatnonzero(shown[:, concept])
        positives, share = len(rows), shares[concept]
        area = (ranks[rows].sum(axis=0) - positives * (positives + 1) / 2) / (positives * (images - positives))
        called = np.sort(at_least[rows], axis=0)  # how many images each threshold calls positive
        hits = true_positives(called)
        precision = (hits / called).mean(axis=0)
        f1, base = (2 * hits / (called + positives)).max(axis=0), 2 * share / (1 + share)
        values[0, :, concept] = area - 0.5
        values[1, :, concept] = (precision - share) / (1 - share)
        values[3, :, concept] = (f1 - base) / (1 - base)
    return values


def positions(activations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each activation (image, neuron): how many images are at least as active, and its rank from 1.

    The lowest has rank 1; equal activations get the mean of their ranks.
    """
    images = len(activations)
    at_least = np.empty(activations.shape, np.int32)
    ranks = np.empty(activations.shape, np.float32)
    for neuron, column in enumerate(activations.T):
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        at_least[:, neuron] = (images - last + counts)[inverse]
        ranks[:, neuron] = ((last - counts + 1 + last) / 2)[inverse]
    return at_least, ranks


def true_positives(called: np.ndarray) -> np.ndarray:
    """How many positives lie within each of the sorted columns (positive, neuron) of images called positive.

    Equal entries are one threshold, and count to the last of them.
    """
    count = len(called)
    number = np.broadcast_to(np.arange(1, count + 1)[:, None], called.shape)
    is_last = np.ones(called.shape, bool)
    is_last[:-1] = called[:-1] != called[1:]
    return np.minimum.accumulate(np.where(is_last, number, count)[::-1], axis=0)[::-1]


def correlations(activations: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Pearson correlations (neuron, concept); 0 where a column is constant."""

    def standardised(columns: np.ndarray) -> np.ndarray:
        centred = columns - columns.mean(axis=0)
        norms = np.linalg.norm(centred, axis=0)
        return centred / np.where(norms > 0, norms, 1)

    return standardised(activations.astype(np.float64)).T @ standardised(shown.astype(np.float64))


class Ratio(NamedTuple):
    """Σ got / Σ best, half of its 95 % bootstrap interval over neurons, and the largest difference between seeds."""

    value: float
    half: float
    spread: float


def ratio(got: np.ndarray, best: np.ndarray) -> Ratio:
    """The ratio of got and best (seed, neuron), where NaN counts as 0; NaN if Σ best is 0.

    A resample takes a neuron with all of its seeds, because the same network may look at the images of several.
    """
    above, below = np.nan_to_num(got), np.nan_to_num(best)
    if not below.any():
        return Ratio(np.nan, np.nan, np.nan)
    drawn = resamples(got.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(drawn @ above.sum(axis=0) / (drawn @ below.sum(axis=0)), [0.025, 0.975])
        seeds = above.sum(axis=1) / below.sum(axis=1)
    spread = np.nanmax(seeds) - np.nanmin(seeds)
    return Ratio(float(above.sum() / below.sum()), float(high - low) / 2, float(spread))


@cache
def resamples(neurons: int) -> np.ndarray:
    """How often each resample draws each neuron (resample, neuron)."""
    drawn = np.random.default_rng(0).multinomial(neurons, np.full(neurons, 1 / neurons), RESAMPLES)
    return drawn.astype(np.float64)
