"""A draw of a null takes its label as a real neuron does, also if concepts differ much in how they vary.

If the two choose by different quantities, labels of noise have too many small p (or too few). With concepts that are
alike, no test sees it: the two choices then mostly agree.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.made import World, embeddings, judge
from dissectdb.extract.scoring import labels
from dissectdb.extract.scoring.correlation import COS_CUBED, column_sums, standardised
from dissectdb.extract.scoring.evidence import Evidence
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.scoring.within_class import ImageClasses, product_z

IMAGES, EACH, DRAWS = 1000, 1000, 4000  # cos_cubed and rank_reorder take no more draws than that
FIRED = 20  # images that a sparse neuron fires on


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
        column[random.choice(IMAGES, FIRED, replace=False)] = 1 + random.random(FIRED)
    return values


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_p_of_noise_is_calibrated_if_concepts_are_uneven(scorer: str) -> None:
    judged = judge(Settings.defaults(scorer), noise(7), uneven_world(8), DRAWS, seed=9)
    for kind in slice(EACH), slice(EACH, None):
        share = (judged.p[kind] <= 0.05).mean()
        error = (0.05 * 0.95 * (1 / EACH + 1 / DRAWS)) ** 0.5  # of the neurons, and of the null that they meet
        assert abs(share - 0.05) < 3 * error, (kind, share)


@pytest.mark.parametrize("height", [5, 8])
def test_p_of_a_neuron_is_calibrated_if_one_image_decides_its_cubes(height: int) -> None:
    """Its values are nearly normal, and it must not share the null of neurons without such an image."""
    random = np.random.default_rng(10)
    values = random.standard_normal((IMAGES, 2 * EACH)).astype(np.float32)
    values[random.integers(IMAGES, size=EACH), np.arange(EACH)] = height
    judged = judge(Settings.defaults("cos_cubed"), values, uneven_world(8), DRAWS, seed=9)
    for kind in slice(EACH), slice(EACH, None):
        assert abs((judged.p[kind] <= 0.05).mean() - 0.05) < 0.025, kind
    assert 0.002 <= (judged.p[:EACH] <= 0.01).mean() <= 0.02


@pytest.mark.parametrize("scorer", ["cos", "cos_cubed", "pearson", "presence"])
def test_a_constant_concept_has_no_z_and_no_draw_takes_a_z_from_its_rounding(scorer: str) -> None:
    """As in the views. Its column is constant but for the last bits of float32, which correlate with something."""
    random = np.random.default_rng(1)
    images = np.concatenate([np.full((300, 1), 0.9), 0.4 * random.standard_normal((300, 6))], axis=1)
    constant = np.eye(7)[0] + np.eye(7)[1] * 3e-9
    concepts = constant[None] if scorer == "pearson" else np.stack([constant, np.eye(7)[2]])
    faces, words = (torch.from_numpy(rows.astype(np.float32)) for rows in (images, concepts))
    settings, layer = Settings.defaults(scorer), Array(random.standard_normal((300, 50)))
    evidence = Evidence(np.arange(300), faces, np.arange(len(words)), words, None)
    null = labels.draw_null(settings, evidence, [layer], 1000, seed=0)
    scores = score_layer(settings, layer, faces, words)
    z = labels.z_of_scores(settings, layer, 0, scores, null)
    np.testing.assert_array_equal(np.isnan(z), scores.concepts == 0)
    [drawn] = null.labels[0].values()
    if scorer == "pearson":
        assert (drawn == 0).all(), "there is no other concept"


def test_columns_far_below_one_vary_like_any_other() -> None:
    """A rare concept's probabilities, say 1e-30, correlate with activations as exactly as those of a frequent one."""
    columns = torch.from_numpy(np.random.default_rng(2).random((400, 3), dtype=np.float32))
    columns[:, 1], columns[:, 2] = columns[:, 0] * 2.0**-100, 0.1
    sd, mean = torch.std_mean(columns.double(), dim=0, correction=0)
    unit = standardised(columns, mean, sd)
    assert torch.equal(unit[:, 0], unit[:, 1])
    assert column_sums(unit, 2)[0] == pytest.approx(400, rel=1e-5)
    assert (unit[:, 2] == 0).all()


def test_a_neuron_that_only_tells_classes_apart_has_no_z_within_them() -> None:
    """The mean of equal cubes is not quite that cube, and what is left would correlate with something."""
    random = np.random.default_rng(3)
    classes = np.arange(300) % 3
    activations = np.stack([np.float32([0.1, 0.7, 0.3])[classes], random.standard_normal(300)], axis=1)
    images, concepts = (torch.from_numpy(random.standard_normal((n, 4)).astype(np.float32) / 4) for n in (300, 2))
    of_classes = ImageClasses(Settings.defaults("cos_cubed"), images, concepts, classes)
    z = product_z(COS_CUBED, of_classes, Array(activations), np.array([0, 1]))
    assert np.isnan(z).tolist() == [True, False]
