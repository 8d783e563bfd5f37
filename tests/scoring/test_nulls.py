"""The nulls, p and the checks of labels, against formulas and brute force written from docs/methods.md, section 3."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.made import benjamini_hochberg, embeddings, judge
from dissectdb.extract.scoring import moments, nulls, robustness, soft_wpmi, tails, version_lists
from dissectdb.extract.scoring.halves import divide
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer

# ---------------------------------------------------------------- moments and random lists


def softmax(cosines: np.ndarray, scale: float) -> np.ndarray:
    weights = np.exp(scale * cosines)
    return weights / weights.sum(axis=1, keepdims=True)


def exact_moments(shares: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """docs/methods.md, section 3, rank by rank in float64; the constant Σ ln b_r left out."""
    gains = np.log1p(slopes[:, None, None] * shares.astype(np.float64))  # (rank, image, concept)
    variance = gains.var(axis=1).sum(axis=0)
    joint = gains.sum(axis=0).var(axis=0)
    return gains.mean(axis=1).sum(axis=0), variance - (joint - variance) / (len(shares) - 1)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    scorer=st.sampled_from(["soft_wpmi", "wpmi"]),
    top_k=st.integers(1, 120),
    spare=st.integers(1, 60),
    scale=st.sampled_from([0.5, 2.0, 10.0, 50.0]),
    p_first=st.sampled_from([1.0, 0.998, 0.9]),
    p_last=st.sampled_from([0.97, 0.5, 0.1]),
)
def test_moments_are_those_of_every_rank(seed, scorer, top_k, spare, scale, p_first, p_last):
    random = np.random.default_rng(seed)
    shares = softmax(random.normal(0, 0.3, (top_k + spare, 4)), scale).astype(np.float32)
    weights = {} if scorer == "wpmi" else {"p_first": p_first, "p_last": p_last}
    asked = Settings.defaults(scorer, top_k=top_k, **weights)
    slopes, _ = soft_wpmi.rank_slopes(asked)
    mean, sd = moments.null_moments(torch.from_numpy(shares), slopes)
    exact_mean, exact_variance = exact_moments(shares, np.asarray(slopes))
    np.testing.assert_allclose(mean, exact_mean, rtol=1e-4)
    np.testing.assert_allclose(sd, np.sqrt(exact_variance), rtol=2e-3, atol=1e-5 * np.abs(exact_mean).max())


def test_moments_are_those_of_random_ordered_samples_of_different_images():
    random = np.random.default_rng(0)
    shares = softmax(random.normal(0, 0.3, (30, 3)), 10).astype(np.float32)
    slopes, _ = soft_wpmi.rank_slopes(Settings.defaults("soft_wpmi", top_k=20))
    lists = nulls.random_lists(20_000, 20, 30, seed=1)
    sums = np.log1p(shares[lists.numpy()].astype(np.float64) * np.asarray(slopes)[:, None]).sum(axis=1)
    mean, sd = moments.null_moments(torch.from_numpy(shares), slopes)
    assert (np.abs(sums.mean(axis=0) - mean.numpy()) < 4 * sums.std(axis=0) / 20_000**0.5).all()
    np.testing.assert_allclose(sd, sums.std(axis=0), rtol=0.03)


@pytest.mark.parametrize(("length", "images"), [(3, 5), (5, 5), (1, 4), (4, 200)])
def test_random_lists_are_of_different_images_and_uniform_at_every_place(length, images):
    lists = nulls.random_lists(20_000, length, images, seed=2).numpy()
    assert lists.shape == (20_000, length)
    assert (np.diff(np.sort(lists, axis=1), axis=1) > 0).all()
    expected = 20_000 / images
    for place in lists.T:
        counts = np.bincount(place, minlength=images)
        assert ((counts - expected) ** 2 / expected).sum() < images + 6 * (2 * images) ** 0.5
    if images == 5 and length == 3:  # all 60 orders
        counts = np.bincount(lists @ [25, 5, 1], minlength=125)
        assert (counts > 0).sum() == 60
        assert ((counts[counts > 0] - 20_000 / 60) ** 2 / (20_000 / 60)).sum() < 60 + 6 * 120**0.5


# ---------------------------------------------------------------- from draws to p


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.sampled_from([0, 1, 2, 50, 99, 100, 101, 1000, 5000]),
    asked=st.sampled_from([1, 1000, 100_000]),
    decimals=st.sampled_from([0, 1, 8]),
    shape=st.sampled_from(["normal", "uniform", "heavy", "constant"]),
)
def test_steps_fall_and_are_never_below_the_share_of_draws(seed, count, asked, decimals, shape):
    random = np.random.default_rng(seed)
    draws = {
        "normal": random.normal(size=count),
        "uniform": random.random(count),
        "heavy": random.standard_t(2, count),
        "constant": np.ones(count),
    }[shape].round(decimals)
    z, p = tails.steps(draws, asked)
    assert len(z) == len(p)
    assert (np.diff(z) >= 0).all()
    assert (np.diff(p) <= 0).all()
    if not count:
        return
    least = tails.SMALLEST_P if count < asked and count >= 10 / tails.TAIL_SHARE else 1 / (1 + count)
    assert ((p >= least * (1 - 1e-9)) & (p <= 1)).all()
    if count >= asked or count < 10 / tails.TAIL_SHARE:
        mine = np.concatenate([np.unique(draws), z])
        mine = mine[[np.sum(draws == each) < 2 for each in mine]]  # tied draws: see below
        reached = (draws >= mine[:, None]).sum(axis=1)
        empirical = (1 + reached) / (1 + count)
        found = tails.look_up(z, p, mine)
        assert (found >= empirical - 1e-12).all(), "never below"
        assert (found <= empirical * 1.03 + 2 / (1 + count)).all(), "and hardly above"


def test_draws_that_tie_are_all_reached():
    z, p = tails.steps(np.array([1.0, 1.0, 1.0, 0.0]), 4)
    assert tails.look_up(z, p, np.array([1.0])) == [4 / 5]


def test_a_fitted_tail_follows_the_distribution_that_was_drawn_from():
    """Exponential: p = exp(-z) exactly, far beyond what 4,000 draws reach."""
    logs = []
    for seed in range(20):
        z, p = tails.steps(np.random.default_rng(seed).exponential(size=4000), 100_000)
        logs.append(np.log(tails.look_up(z, p, np.array([3.0, 5.0, 7.0, 9.0]))))
    error = np.mean(logs, axis=0) + np.array([3, 5, 7, 9])
    assert (np.abs(error) < [0.1, 0.3, 0.7, 1.4]).all(), error


def test_a_fitted_tail_promises_no_end_that_it_has_not_seen():
    """Sums of ten values between 0 and 1: the fit's own shape is negative. No p may be half of the true one."""
    random = np.random.default_rng(0)
    truth = np.sort(np.concatenate([random.random((1_000_000, 10)).sum(axis=1) for _ in range(2)]))
    asked = np.array([7.5, 8.0, 8.25, 8.5, 8.75])
    shares = 1 - np.searchsorted(truth, asked) / len(truth)
    for seed in range(5):
        z, p = tails.steps(np.random.default_rng(seed).random((1000, 10)).sum(axis=1), 100_000)
        assert (tails.look_up(z, p, asked) > shares / 2).all()


def test_a_fitted_tail_begins_where_draws_that_tie_leave_it():
    draws = np.repeat([1.0, 2.0], [9000, 1000])
    z, p = tails.steps(draws, 100_000)
    assert tails.look_up(z, p, np.array([2.0])) == pytest.approx(0.1, rel=0.01)


# ---------------------------------------------------------------- calibration


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi", "cos", "rank_reorder", "pearson", "presence"])
def test_a_twentieth_of_noise_has_a_p_of_a_twentieth_and_none_is_believed(scorer):
    world = embeddings(2000, 12, seed=3, dimensions=32)
    activations = np.random.default_rng(4).standard_normal((2000, 1000), dtype=np.float32)
    judged = judge(Settings.defaults(scorer), activations, world, draws=10_000, seed=5)
    assert 0.03 <= (judged.p <= 0.05).mean() <= 0.07
    assert (judged.q <= 0.05).mean() <= 0.01


def test_benjamini_hochberg_is_its_definition():
    p = np.random.default_rng(6).random(50).round(1)
    expected = [min((other * 50 / (p <= other).sum()) for other in p if other >= mine) for mine in p]
    np.testing.assert_allclose(benjamini_hochberg(p), expected)


# ---------------------------------------------------------------- halves, resamples


def small(seed: int, images: int = 60, neurons: int = 5, concepts: int = 6) -> tuple[Array, torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    world = embeddings(images, concepts, seed, dimensions=8)
    layer = Array(random.standard_normal((images, neurons), dtype=np.float32))
    return layer, torch.from_numpy(world.images), torch.from_numpy(world.concepts)


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_split_half_labels_the_even_and_the_odd_images_on_their_own(scorer):
    layer, images, concepts = small(7, neurons=40)
    layer.activations[:, 3] = 1
    layer.dead[3] = True
    asked = Settings.defaults(scorer, top_k=8, rank_fraction=0.3)
    even, odd = (
        score_layer(asked, Array(layer.activations[i::2], layer.dead), images[i::2], concepts, keep=1).concepts[:, 0]
        for i in (0, 1)
    )
    found = robustness.split_half(asked, layer, images, concepts, divide(layer.images))
    np.testing.assert_array_equal(found, (even == odd) & ~layer.dead)
    assert 0 < found.sum() < 39


@pytest.mark.parametrize("scorer", list(SCORERS))
@pytest.mark.parametrize("count", [60, 600])
@pytest.mark.parametrize("start", [0, 1])
def test_a_half_on_which_a_neuron_has_one_value_gives_no_label(scorer, count, start):
    layer, images, concepts = small(8, images=count)
    varying = layer.activations[:, 4].copy()
    for neuron, value in enumerate((-100, 0.5, 100, float(np.median(varying)))):
        layer.activations[:, neuron] = varying
        layer.activations[start::2, neuron] = value
    asked = Settings.defaults(scorer, top_k=8, rank_fraction=0.3)
    labels = robustness.half_labels(asked, layer, images, concepts, divide(layer.images))
    assert labels[2].tolist() == [True] * 4 + [False]
    agrees = robustness.split_half(asked, layer, images, concepts, divide(layer.images))
    assert np.isnan(agrees).tolist() == [True] * 4 + [False]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), images=st.integers(3, 20), longest=st.integers(1, 12))
def test_expanding_a_list_repeats_each_image_by_its_weight_and_no_other(seed, images, longest):
    random = np.random.default_rng(seed)
    lists = np.stack([random.permutation(images)[:-1] for _ in range(4)])
    weights = np.bincount(random.integers(images, size=images), minlength=images)
    for full, mine in zip(lists, version_lists.expand(lists, weights[lists], longest), strict=True):
        repeated = [i for i in full for _ in range(weights[i])]
        assert mine.tolist() == (repeated + [-1] * longest)[:longest]


def test_a_bootstrap_share_counts_the_resamples_that_give_the_label():
    layer, images, concepts = small(8, neurons=12)
    asked = Settings.defaults("soft_wpmi", top_k=8)
    labels = score_layer(asked, layer, images, concepts, keep=1).concepts[:, 0]
    found = robustness.bootstrap(asked, layer, images, concepts, labels, 20, 9)
    drawn = np.random.default_rng(9)
    picks = np.concatenate([drawn.integers(60, size=(16, 60)), drawn.integers(60, size=(4, 60))])
    same = np.zeros(12)
    P = softmax(images.numpy().astype(np.float64) @ concepts.numpy().T, 10)
    weight = asked.p_first - np.arange(8) / 8 * (asked.p_first - asked.p_last)
    for pick in picks:
        best = [sorted(pick, key=lambda i, k=k: (-layer.activations[i, k], i))[:8] for k in range(12)]
        L = np.stack([np.log(1 + weight[:, None] * (P[each] - 1) + 1e-7).sum(axis=0) for each in best])
        same += (L - np.logaddexp.reduce(L, axis=0)).argmax(axis=1) == labels
    np.testing.assert_allclose(found, same / 20)


@pytest.mark.parametrize("scorer", ["cos", "cos_cubed", "rank_reorder", "pearson", "presence"])
def test_a_bootstrap_of_the_other_scorers_scores_the_resampled_images(scorer):
    layer, images, concepts = small(16, neurons=12)
    layer.activations[:, 3] = 1
    layer.dead[3] = True
    asked = Settings.defaults(scorer, rank_fraction=0.3)
    labels = score_layer(asked, layer, images, concepts, keep=1).concepts[:, 0]
    found = robustness.bootstrap(asked, layer, images, concepts, labels, 5, 9)
    drawn = np.random.default_rng(9)
    same = np.zeros(12)
    for _ in range(5):
        pick = np.sort(drawn.integers(60, size=60))
        part = Array(layer.activations[pick], layer.dead)
        same += score_layer(asked, part, images[pick], concepts, keep=1).concepts[:, 0] == labels
    np.testing.assert_allclose(np.delete(found, 3), np.delete(same, 3) / 5)
    assert 0 < np.delete(found, 3).mean() < 1
