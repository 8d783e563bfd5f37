"""A draw of a null takes its label as a real neuron does, also if concepts differ much in how they vary.

If the two choose by different quantities, labels of noise have too many small p (or too few). With concepts that are
alike, no test sees it: the two choices then mostly agree.
"""

from __future__ import annotations

import numpy as np
import pytest

from bench.made import World, embeddings, judge
from dissectdb.extract.scoring.problem import Settings
from dissectdb.extract.scoring.scorers import SCORERS

IMAGES, EACH, DRAWS = 1200, 1500, 10_000
FIRED = 40  # images that a sparse neuron fires on
SAMPLED = {"cos_cubed": 4000, "rank_reorder": 4000}  # draws that these scorers take at most


def uneven_world(seed: int) -> World:
    """Concepts of very uneven probabilities: 1 is the same for all images, 13 nearly so, and 8 are rare."""
    world = embeddings(IMAGES, 1, seed, dimensions=32)
    directions = np.random.default_rng((seed, 5)).standard_normal((22, 32))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    angles = np.concatenate([[0, 0.01], np.linspace(0.06, 0.3, 12), np.linspace(1.3, 1.7, 8)])[:, None]
    concepts = np.concatenate([np.cos(angles), np.sin(angles) * directions], axis=1)
    return World(world.images, concepts.astype(np.float32), world.shown)


def noise(seed: int) -> np.ndarray:
    """Activations (image, neuron) of noise: EACH neurons that fire on all images, and EACH that fire on FIRED."""
    random = np.random.default_rng((seed, 6))
    values = np.zeros((IMAGES, 2 * EACH), np.float32)
    values[:, :EACH] = random.standard_normal((IMAGES, EACH))
    values[:, : EACH // 2] += 0.5  # so that cos sees neurons with a mean
    for column in values.T[EACH:]:
        column[random.choice(IMAGES, FIRED, replace=False)] = np.exp(random.standard_normal(FIRED))
    return values


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_p_of_noise_is_calibrated_if_concepts_are_uneven(scorer: str) -> None:
    judged = judge(Settings.defaults(scorer), noise(7), uneven_world(8), DRAWS, seed=9)
    for kind in slice(EACH), slice(EACH, None):
        share = (judged.p[kind] <= 0.05).mean()
        draws = SAMPLED.get(scorer, DRAWS)
        error = (0.05 * 0.95 * (1 / EACH + 1 / draws)) ** 0.5  # of the neurons, and of the null that they meet
        assert abs(share - 0.05) < 3 * error, (kind, share)
