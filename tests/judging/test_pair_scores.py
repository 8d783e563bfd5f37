"""The measures of many labels at once are those of measures.py; z and q hold what they promise."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract.judging import pair_scores
from dissectdb.extract.judging.bootstrap import benjamini_hochberg, bootstrap_means
from dissectdb.extract.judging.measures import RANGES, Sample, Truth, mean_of, presence
from dissectdb.extract.judging.pair_scores import Pairs, Probe, score_labels, z_within


@dataclass
class ArrayLayer:
    """A layer whose activations (N, K) are given."""

    values: np.ndarray

    @property
    def neurons(self) -> int:
        return self.values.shape[1]

    def block(self, first: int, last: int) -> np.ndarray:
        return np.ascontiguousarray(self.values[:, first:last])


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.sampled_from([430, 501]),
    texts=st.integers(1, 9),
    decimals=st.sampled_from([0, 1, 8]),
    dense=st.sampled_from([0, 16]),
    at_once=st.sampled_from([1000, 8_000_000]),
)
def test_all_measures_are_those_of_one_pair_at_a_time(seed, images, texts, decimals, dense, at_once):
    random = np.random.default_rng(seed)
    values = np.round(random.normal(size=(images, 5)), decimals).astype(np.float32)
    values[:, 3] = np.maximum(values[:, 3], 0)  # many ties
    values[:, 4] = 0.5  # dead
    embeddings, directions = unit_rows(random.normal(size=(images, 6))), unit_rows(random.normal(size=(texts, 6)))
    classes = random.integers(3, size=images)
    members = random.random((texts, 3)) < 0.4
    assigned = random.integers(-1, texts, size=(4, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_scores, "DENSE", dense)
        patch.setattr(pair_scores, "VALUES_AT_ONCE", at_once)
        scores = score_labels(
            ArrayLayer(values), Probe(torch.from_numpy(embeddings), classes), directions, members, assigned
        )
    truths = {
        "clip": Truth.of_presence(presence(embeddings @ directions.T).astype(np.float32)),
        "class": Truth.of_classes(members.T[classes]),
    }
    for reference, truth in truths.items():
        judged = (assigned >= 0) & (np.arange(5) < 4) & (members.any(axis=1)[assigned] | (reference == "clip"))
        methods, neurons = np.nonzero(judged)
        order = np.argsort(neurons, kind="stable")
        methods, neurons = methods[order], neurons[order]
        expected = one_by_one(values, truth, neurons, assigned[methods, neurons]) if len(neurons) else {}
        for name in expected:
            found = scores[reference][name]
            np.testing.assert_allclose(found[methods, neurons], expected[name], atol=2e-5, err_msg=name)
            assert np.isnan(found[~judged]).all()


def one_by_one(values: np.ndarray, truth: Truth, neurons: np.ndarray, texts: np.ndarray) -> dict[str, np.ndarray]:
    halves = [slice(0, None, 2), slice(1, None, 2)]
    samples = [Sample(values[half], truth.of(half)) for half in halves]
    thresholds = [sample.best_thresholds(neurons, texts) for sample in samples]
    measured = [
        sample.measures(neurons, texts, of_other)
        for sample, of_other in zip(samples, reversed(thresholds), strict=True)
    ]
    return {name: mean_of([half[name] for half in measured]).value for name in RANGES}


@pytest.mark.parametrize("scale", [2.0**-120, 2.0**-80, 2.0**70, 2.0**120])
def test_very_small_and_very_large_activations_have_the_same_measures(scale):
    random = np.random.default_rng(0)
    values, classes = random.normal(size=(400, 3)).astype(np.float32), random.integers(2, size=400)
    embeddings, directions = unit_rows(random.normal(size=(400, 6))), unit_rows(random.normal(size=(3, 6)))
    probe, members = Probe(torch.from_numpy(embeddings), classes), np.zeros((3, 2), bool)
    found, expected = (
        score_labels(ArrayLayer(scaled), probe, directions, members, np.arange(3)[None])["clip"]
        for scaled in (values * np.float32(scale), values)
    )
    for name in (*RANGES, "z"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, err_msg=name)
    assert np.isfinite(found["pearson"]).all()


# ---------------------------------------------------------------- z, p and q


def test_z_is_the_sum_less_its_mean_over_all_permutations_within_classes():
    random = np.random.default_rng(0)
    values, amounts = random.normal(size=(7, 3)).astype(np.float32), random.random((7, 2)).astype(np.float32)
    classes = np.array([0, 1, 0, 1, 0, 1, 2])
    pairs = Pairs(np.array([[0, 1, 0], [1, 0, 1]]))
    found = z_within(values, amounts, classes, pairs)
    groups = [np.flatnonzero(classes == number) for number in range(3)]
    for z, neuron, text in zip(found, pairs.neurons, pairs.texts, strict=True):
        sums = []
        for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
            shuffled = np.empty(7)
            for group, order in zip(groups, orders, strict=True):
                shuffled[group] = values[list(order), neuron]
            sums.append(shuffled @ amounts[:, text])
        actual = values[:, neuron].astype(float) @ amounts[:, text]
        assert z == pytest.approx((actual - np.mean(sums)) / np.std(sums), abs=1e-4)


def test_a_neuron_that_knows_the_class_and_nothing_else_has_no_z():
    classes = np.arange(60) % 3
    amounts = np.random.default_rng(0).random((60, 1), np.float32)
    z = z_within(classes[:, None].astype(np.float32), amounts, classes, Pairs(np.array([[0]])))
    assert np.isnan(z).all()


@pytest.mark.parametrize("classes", [None, 7])
def test_on_noise_p_is_at_most_5_percent_as_often_as_it_says(classes):
    """Neurons that know the class, shuffled within classes; concepts that go with classes too."""
    random = np.random.default_rng(1)
    of_image = random.integers(7, size=3000)
    values = (of_image[:, None] * random.random(400) + random.exponential(size=(3000, 400))).astype(np.float32)
    cosines = random.normal(size=(3000, 10)) + np.eye(7)[of_image] @ random.normal(size=(7, 10))
    labels = random.integers(10, size=(5, 400))
    used = of_image if classes else None
    if classes is None:
        values = random.exponential(size=(3000, 400)).astype(np.float32)
    pairs = Pairs(labels)
    z = z_within(values, presence(cosines).astype(np.float32), used, pairs)
    assert 0.04 < np.mean(z > 1.645) < 0.06


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 3))
def test_q_is_that_of_benjamini_and_hochberg(ps, unknown):
    p = np.array([*ps, *[np.nan] * unknown])
    expected = [
        min(min(1.0, other * len(ps) / sum(x <= other for x in ps)) for other in ps if other >= own) for own in ps
    ]
    q = benjamini_hochberg(p)
    np.testing.assert_allclose(q[: len(ps)], expected, rtol=1e-9)
    assert np.isnan(q[len(ps) :]).all()


# ---------------------------------------------------------------- means


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    random = np.random.default_rng(2)
    values = random.normal(size=(400, 2))
    values[random.random(400) < 0.3, 1] = np.nan
    means = bootstrap_means(values)
    for column in range(2):
        known = values[~np.isnan(values[:, column]), column]
        half = 1.96 * known.std() / np.sqrt(len(known))
        assert means.neurons[column] == len(known)
        assert means.mean[column] == pytest.approx(known.mean())
        assert means.low[column] == pytest.approx(known.mean() - half, abs=0.15 * half)
        assert means.high[column] == pytest.approx(known.mean() + half, abs=0.15 * half)


def test_one_neuron_has_a_mean_and_no_interval_and_none_has_neither():
    means = bootstrap_means(np.array([[0.5, np.nan], [np.nan, np.nan]]))
    assert means.neurons.tolist() == [1, 0]
    assert means.mean[0] == 0.5
    assert np.isnan([means.mean[1], *means.low, *means.high]).all()
