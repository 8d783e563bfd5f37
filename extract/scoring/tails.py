"""From draws of a null to p: how rare each z is.

z, p = steps(null.labels[layer][group], wanted=100_000)
look_up(z, p, z_of_labels)

Formulas: docs/methods.md, section 3.
"""

from __future__ import annotations

import numpy as np

TAIL_SHARE = 0.1  # of the draws, to which the tail is fitted
TAIL_DRAWS = 20  # the highest ones, whose place the fitted tail takes
SMALLEST_P = 1e-6  # that a fitted tail may give


def steps(draws: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """z and p, both along falling p: how often a draw reaches each z.

    p = (1 + draws that reach z) / (1 + draws). If there are fewer draws (draw,) than `wanted`, a generalised Pareto
    distribution is fitted to the highest tenth by probability-weighted moments (Hosking & Wallis 1987), and takes the
    place of the highest draws. Its shape is not below 0: the end of a tail cannot be known from draws.
    """
    falling = np.sort(draws)[::-1]
    count = len(falling)
    if count == 0:
        return np.zeros(0), np.zeros(0)
    ranks = np.unique(np.geomspace(1, count, 600).round().astype(int))  # within 2 % of every p, and never below it
    distinct = np.unique(falling)
    positions = np.searchsorted(distinct, falling[ranks - 1])
    # With the next higher draw of each: without it, a z above many draws that tie would take their p.
    z = distinct[np.unique(np.minimum(np.concatenate([positions, positions + 1]), len(distinct) - 1))]
    p = (1 + np.searchsorted(-falling, -z, side="right")) / (1 + count)  # draws that tie reach z together
    z, p = np.append(z, np.nextafter(z[-1], np.inf)), np.append(p, 1 / (1 + count))
    if count < wanted and count >= 10 / TAIL_SHARE:
        tail = int(count * TAIL_SHARE)
        scale, shape = _pareto(falling[:tail] - falling[tail])
        start = falling[min(TAIL_DRAWS, tail)]
        share = (1 + np.searchsorted(-falling, -start, side="right")) / (1 + count)  # draws that tie reach it together
        scale += shape * (start - falling[tail])
        chances = np.geomspace(share, SMALLEST_P, 300)
        heights = -np.log(chances / share) if shape < 1e-6 else ((chances / share) ** -shape - 1) / shape
        body = z < start
        z, p = np.append(z[body], start + scale * heights), np.append(p[body], chances)
        z, first = np.unique(z, return_index=True)  # of equal z the largest p: a tail without spread has one step
        p = p[first]
    return z, np.minimum.accumulate(p)


def look_up(steps_z: np.ndarray, steps_p: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The p of the largest step that each z reaches, as in the view neuron_labels; 1 if z reaches none or is NaN."""
    if not len(steps_z):
        return np.ones(len(z))
    reached = np.searchsorted(steps_z, np.where(np.isnan(z), -np.inf, z), side="right")
    return np.where(reached > 0, steps_p[np.maximum(reached - 1, 0)], 1.0)


def _pareto(excesses: np.ndarray) -> tuple[float, float]:
    """Scale and shape, at least 0, of a generalised Pareto distribution: survival (1 + shape x / scale)^(-1/shape)."""
    rising = np.sort(excesses)
    mean = rising.mean()
    weighted = (rising * (1 - (np.arange(1, len(rising) + 1) - 0.35) / len(rising))).mean()
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    if shape <= 0:
        return max(mean, 1e-12), 0.0
    return 2 * mean * weighted / (mean - 2 * weighted), shape
