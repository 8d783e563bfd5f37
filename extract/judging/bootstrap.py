"""Means over neurons with bootstrap intervals, and the Benjamini-Hochberg correction.

mean, low, high = bootstrap_means(values)     # values (neuron, column), NaN where unknown
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RESAMPLES, SEED = 1000, 0
WEIGHTS_AT_ONCE = 4_000_000  # resamples × neurons


class Means(NamedTuple):
    """Per column: how many neurons have a value, their mean, and the ends of its 95 % interval; NaN where unknown."""

    neurons: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_means(values: np.ndarray) -> Means:
    """The means of columns (N, C). Neurons are resampled, the same ones in all columns; NaNs are left out."""
    known = ~np.isnan(values)
    filled, neurons = np.where(known, values, 0.0), known.sum(axis=0)
    random, resamples = np.random.default_rng(SEED), []
    count = len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / neurons
        at_once = max(1, WEIGHTS_AT_ONCE // max(count, 1))
        for start in range(0, RESAMPLES, at_once):
            rows = min(at_once, RESAMPLES - start)
            drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
            resamples.append((weights @ filled) / (weights @ known))
    means = np.concatenate(resamples)
    low, high = np.full((2, values.shape[1]), np.nan)
    enough = neurons > 1
    if enough.any():
        low[enough], high[enough] = np.nanquantile(means[:, enough], [0.025, 0.975], axis=0)
    return Means(neurons, mean, low, high)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """q (P,) of p-values (P,), NaN where p is."""
    q = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    falling = tested[np.argsort(-p[tested], kind="stable")]
    steps = p[falling] * len(tested) / np.arange(len(tested), 0, -1)
    q[falling] = np.minimum.accumulate(np.minimum(steps, 1.0))
    return q
