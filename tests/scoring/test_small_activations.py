"""cos, cos_cubed, pearson and presence of activations whose squares or cubes leave float32's range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import score_layer
from tests.sql.test_scorer_views import cos, cos_cubed, cosines, pearson, presence, random_cosines, small

FORMULAS = {"cos": cos, "cos_cubed": cos_cubed, "pearson": pearson, "presence": presence}
SIZES = [1e-37, 1e-30, 1e-25, 1e-20, 1e-10, 1.0, 1e10, 1e20, 1e30]


@pytest.mark.parametrize("scorer", FORMULAS)
@pytest.mark.parametrize("concepts", [3, 9], ids=["fewer concepts than dimensions", "more"])
def test_the_kernel_scores_activations_of_any_size_as_float64_does(scorer: str, concepts: int) -> None:
    random = np.random.default_rng(3)
    images = random.normal(size=(60, 5)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    words = random.normal(size=(concepts, 5)).astype(np.float32)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    values = ((random.normal(size=(60, 1)) + 2) * SIZES).astype(np.float32)
    values[:, ::2] += (random.normal(size=60) * 1e-3)[:, None].astype(np.float32) * values[:, ::2]
    settings = Settings(scorer=scorer)
    layer = Array(values, np.zeros(len(SIZES), bool))
    scores = score_layer(settings, layer, torch.from_numpy(images), torch.from_numpy(words), keep=concepts)
    s, row = cosines(images, words), {"softmax_scale": settings.softmax_scale}
    for neuron, column in enumerate(values.T.astype(np.float64)):
        expected = FORMULAS[scorer](column, s, row)[0]
        found = scores.similarities[neuron]
        assert np.abs(found).max() > 0
        assert np.allclose(found / np.abs(expected).max(), np.sort(expected)[::-1] / np.abs(expected).max(), atol=1e-4)
        assert scores.concepts[neuron][0] == expected.argmax()


@pytest.mark.parametrize("scorer", FORMULAS)
@pytest.mark.parametrize("size", [1e-25, 1e-20, 1e20])
def test_the_views_score_them_so_as_well(scorer: str, size: float) -> None:
    values, s = np.random.default_rng(4).normal(size=(40, 1)) * size, random_cosines(40, 3)
    rows = small(scorer, values, s)
    column = values[:, 0].astype(np.float32).astype(np.float64)
    expected, z = FORMULAS[scorer](column, s, {"softmax_scale": 10.0})
    order = np.argsort(expected)
    found = sorted(rows, key=lambda row: row["similarity"])
    largest = np.abs(expected).max()
    assert [row["similarity"] / largest for row in found] == pytest.approx(
        (expected[order] / largest).tolist(), rel=1e-3
    )
    assert [row["z"] for row in found] == pytest.approx(z[order].tolist(), rel=1e-3)
