"""Neurons that fire on few images: labelled by those, with a p that keeps its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from bench.made import World, judge, unit
from bench.noise import sparse_noise
from dissectdb.extract.scoring import topk
from dissectdb.extract.scoring.null_groups import usable_images
from dissectdb.extract.scoring.problem import Settings


def classes(seed: int = 0) -> tuple[World, np.ndarray]:
    """Seven classes of 100 images, each near a concept of its own; the class of each image."""
    random = np.random.default_rng(seed)
    own = np.arange(700) // 100
    concepts = unit(random.standard_normal((7, 32), dtype=np.float32))
    images = unit(concepts[own] + 0.05 * random.standard_normal((700, 32)))
    return World(images, concepts, own[:, None] == np.arange(7)), own


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi", "cos", "pearson", "presence"])
@pytest.mark.parametrize("fired", [[60] * 7, [12, 15, 20, 33, 60, 80, 99]])
def test_features_that_fire_on_images_of_one_class_are_labelled_by_it(scorer, fired):
    world, own = classes()
    values, random = np.zeros((700, 7), np.float32), np.random.default_rng(1)
    for name, count in enumerate(fired):
        values[random.choice(np.flatnonzero(own == name), count, replace=False), name] = 1 + random.random(count)
    judged = judge(Settings.defaults(scorer), values, world, draws=2000, seed=0)
    np.testing.assert_array_equal(judged.label, range(7))
    assert (judged.q <= 0.01).all()


@pytest.mark.parametrize("scorer", ["soft_wpmi", "cos"])
def test_sparse_noise_has_a_p_that_keeps_its_meaning(scorer):
    values, kinds = sparse_noise(1200, 60, seed=2)
    random = np.random.default_rng(3)
    world = World(*(unit(random.standard_normal((n, 16)) + 0.5) for n in (1200, 10)), np.zeros((1200, 10), bool))
    judged = judge(Settings.defaults(scorer), values, world, draws=4000, seed=4)
    sparse = np.concatenate([judged.p[kind] for name, kind in kinds if int(name.split()[0].replace("all", "0")) < 200])
    assert 0.02 <= (sparse <= 0.05).mean() <= 0.08
    assert (judged.q <= 0.05).mean() <= 0.01


def test_a_tie_that_an_order_of_images_would_decide_gives_no_list():
    asked = Settings.defaults("soft_wpmi", top_k=20)
    on = np.zeros(100, np.float32)
    on[:30] = 1
    assert usable_images(on, 20, asked) == 0, "30 equal ones, of which 20 would be taken by their place"
    on[:12] = 2
    assert usable_images(on, 20, asked) == 12
    on[30:] = 0
    on[20:] = 0
    assert usable_images(on, 20, asked) == 20
    on[15:] = 0
    assert usable_images(on, 20, asked) == 15


def test_lengths_are_rounded_down_to_four_binary_digits():
    found = topk.list_lengths(np.array([1, 9, 15, 16, 17, 31, 33, 60, 63, 64, 99, 100, 250]), 100)
    assert found.tolist() == [1, 9, 15, 16, 16, 30, 32, 60, 60, 64, 96, 100, 100]


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
def test_a_neuron_of_a_whole_class_leaves_the_labels_of_sparse_ones_right(scorer):
    """Its z over a hundred images is more than thirty can have; carried over unbounded, it took the label away."""
    world, own = classes()
    random = np.random.default_rng(1)
    values = random.standard_normal((700, 17)).astype(np.float32)
    values[:, 0] += 9 * (own == 3)
    values[:, 1:5] = 0
    for unit_of_class in range(1, 5):
        values[random.choice(np.flatnonzero(own == 3), 30, replace=False), unit_of_class] = 1 + random.random(30)
    judged = judge(Settings.defaults(scorer), values, world, draws=2000, seed=0)
    np.testing.assert_array_equal(judged.label[:5], 3)
