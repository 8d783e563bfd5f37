"""The kernels against their formulas (docs/methods.md, section 2) in float64 numpy.

The formulas here are written from the paper and not from the code.
"""

# ruff: noqa: C408 - settings read as dict(top_k=5, …)

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract.scoring import problem, rank_reorder, topk
from dissectdb.extract.scoring.problem import Array, Scores, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.study.scorers import SCORERS as declared

CLOSE = 1e-4


# ---------------------------------------------------------------- the formulas


def top(column: np.ndarray, k: int) -> list[int]:
    return sorted(range(len(column)), key=lambda i: (-column[i], i))[:k]


def shares(s: np.ndarray, scale: float) -> np.ndarray:
    weights = np.exp(scale * (s - s.max(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


def presences(s: np.ndarray) -> np.ndarray:
    sd = s.std(axis=0)
    return np.maximum((s - s.mean(axis=0)) / np.where(sd > 1e-6 * np.abs(s.mean(axis=0)), sd, np.inf) - 0.5, 0)


def likelihood(column: np.ndarray, P: np.ndarray, asked: Settings) -> np.ndarray:
    total = np.zeros(P.shape[1])
    for r, i in enumerate(top(column, asked.top_k)):
        p = asked.p_first - r / asked.top_k * (asked.p_first - asked.p_last)
        total += np.log(P[i] + 1e-7) if asked.scorer == "wpmi" else np.log(1 + p * (P[i] - 1) + 1e-7)
    return total


def mutual_information(A: np.ndarray, s: np.ndarray, dead: np.ndarray, asked: Settings) -> np.ndarray:
    P = shares(s, asked.softmax_scale)
    L = np.stack([likelihood(column, P, asked) for column in A.T])
    counted = L if asked.include_dead or dead.all() else L[~dead]
    return L - asked.prior_weight * (np.logaddexp.reduce(counted, axis=0) - np.log(len(counted)))


def reorder(A: np.ndarray, s: np.ndarray, permutations: np.ndarray, asked: Settings) -> np.ndarray:
    n = int(asked.rank_fraction * len(A))
    scores = np.full((A.shape[1], s.shape[1]), -np.inf)
    for k, column in enumerate(A.T):
        indices = top(column, n)
        v = column[indices]
        rising = np.sort(v)
        chance = np.mean([np.abs(rising - rising[order]) ** asked.rank_power for order in permutations])
        for c in range(s.shape[1]):
            theirs = s[indices, c]
            if chance == 0 or theirs.mean() <= 0:
                continue
            rank = {j: r for r, j in enumerate(sorted(range(n), key=lambda j: (theirs[j], j)))}
            error = np.mean([abs(v[j] - rising[rank[j]]) ** asked.rank_power for j in range(n)])
            scores[k, c] = -error / chance / theirs.mean() ** asked.rank_scale
    return scores


def quotient(product: np.ndarray, left: np.ndarray, right: np.ndarray, least: float) -> np.ndarray:
    left, right = (np.maximum(np.linalg.norm(columns, axis=0), least) for columns in (left, right))
    return product / np.where(left > 0, left, 1)[:, None] / np.where(right > 0, right, 1)


def centred(columns: np.ndarray) -> np.ndarray:
    return columns - columns.mean(axis=0)


def oracle(A: np.ndarray, s: np.ndarray, dead: np.ndarray, permutations: np.ndarray, asked: Settings) -> np.ndarray:
    """Scores (neuron, concept); -inf if there is none."""
    if asked.scorer in ("soft_wpmi", "wpmi"):
        scores = mutual_information(A, s, dead, asked)
    elif asked.scorer == "rank_reorder":
        scores = reorder(A, s, permutations, asked)
    elif asked.scorer == "cos":
        scores = quotient(A.T @ s, A, s, 0)
    elif asked.scorer == "cos_cubed":
        a, t = centred(A) ** 3, centred(s) ** 3
        scores = quotient(a.T @ t, a, t, 1e-3)
    else:
        columns = presences(s) if asked.scorer == "presence" else shares(s, asked.softmax_scale)
        a, t = centred(A), centred(columns)
        scores = quotient(a.T @ t, a, t, 0)
    return np.where(dead[:, None], -np.inf, scores)


# ---------------------------------------------------------------- random layers


def some_twice(random: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    count = len(rows)
    return rows[np.where(random.random(count) < 0.8, np.arange(count), random.integers(count, size=count))]


def embeddings(random: np.random.Generator, count: int, grid: bool) -> np.ndarray:
    """On a grid many cosines are equal, exactly."""
    rows = random.normal(size=(count, 4))
    rows = rows.round() / 4 + 0.25 if grid else rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return some_twice(random, rows).astype(np.float32)


def activations(random: np.random.Generator, images: int, neurons: int) -> np.ndarray:
    values = random.normal(size=(images, neurons))
    for k, column in enumerate(values.T.copy()):
        values[:, k] = (column, column.round(1), np.maximum(column, 0), np.full(images, 0.1))[random.integers(4)]
    return values.astype(np.float32)


@contextmanager
def cut_into(concepts: int, neurons: int, elements: int):
    """Chunks of so many concepts, blocks of so many neurons, slices of so many elements."""

    def chunk_width(asked: problem.ScoringProblem, fixed: int, per_concept: int) -> int:
        return min(concepts, len(asked.concepts.vectors))

    with (
        mock.patch.object(problem.ScoringProblem, "chunk_width", chunk_width),
        mock.patch("dissectdb.extract.scoring.correlation.neurons_at_a_time", return_value=neurons),
        mock.patch("dissectdb.extract.scoring.rank_reorder.NEURONS_AT_ONCE", neurons),
        mock.patch("dissectdb.extract.scoring.problem.CACHE_ELEMENTS", elements),
        mock.patch("dissectdb.extract.scoring.chunks.CACHE_ELEMENTS", elements),
        mock.patch("dissectdb.extract.scoring.soft_wpmi.IMAGES_AT_ONCE", 7),
        mock.patch("dissectdb.extract.scoring.probabilities.IMAGES_AT_ONCE", 7),
        mock.patch("dissectdb.extract.scoring.correlation.IMAGES_AT_ONCE", 7),
        mock.patch("dissectdb.extract.scoring.rank_reorder.IMAGES_AT_ONCE", 7),
        mock.patch("dissectdb.extract.scoring.rank_reorder.TILE_ELEMENTS", elements),
    ):
        yield


def matrix(scores: Scores, concepts: int) -> np.ndarray:
    full = np.full((len(scores.concepts), concepts), -np.inf)
    rows, columns = np.nonzero(scores.concepts >= 0)
    full[rows, scores.concepts[rows, columns]] = scores.similarities[rows, columns]
    return full


def assert_best_first(scores: Scores) -> None:
    values, places = scores.similarities, scores.concepts
    assert (np.isneginf(values) == (places == -1)).all()
    both = places[:, 1:] >= 0
    later = (values[:, :-1] > values[:, 1:]) | ((values[:, :-1] == values[:, 1:]) & (places[:, :-1] < places[:, 1:]))
    assert later[both].all()


question = st.fixed_dictionaries(
    dict(
        top_k=st.integers(1, 12),
        softmax_scale=st.sampled_from([0.5, 2.0, 10.0]),
        prior_weight=st.sampled_from([0.0, 0.6, 1.0]),
        p_first=st.sampled_from([1.0, 0.998, 0.5]),
        p_last=st.sampled_from([0.97, 0.5, 0.0]),
        include_dead=st.booleans(),
        rank_fraction=st.sampled_from([0.2, 0.5, 1.0]),
        rank_power=st.sampled_from([3.0, 2.0]),
        rank_scale=st.sampled_from([0.5, 1.0]),
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    asked=question,
    sizes=st.tuples(st.integers(12, 40), st.integers(1, 6), st.integers(1, 9)),
    cuts=st.tuples(st.sampled_from([1, 3, 100]), st.sampled_from([1, 3, 100]), st.sampled_from([1, 13, 1 << 16])),
    grid=st.booleans(),
    spare=st.integers(1, 10),
)
@pytest.mark.parametrize("scorer", list(SCORERS))
def test_every_score_and_label_is_the_formulas_however_the_work_is_cut(scorer, seed, asked, sizes, cuts, grid, spare):
    random = np.random.default_rng(seed)
    A, E = activations(random, sizes[0], sizes[1]), embeddings(random, sizes[0], grid)
    T = embeddings(random, sizes[2], grid)
    asked = Settings.defaults(scorer, **{name: asked[name] for name in asked if name not in declared[scorer].fixed})
    dead = np.array([len(np.unique(column)) < max(asked.top_k, 2) for column in A.T])
    s = np.einsum("id,cd->ic", E.astype(np.float64), T.astype(np.float64))  # equal rows give equal numbers
    permutations = rank_reorder.draw_permutations(5, int(asked.rank_fraction * len(A)), seed)
    expected = oracle(A.astype(np.float64), s, dead, permutations, asked)
    given_ = dict(permutations=permutations if scorer == "rank_reorder" else None)
    with cut_into(*cuts):
        scores = score_layer(asked, Array(A, dead), E, T, **given_)
        fewer = score_layer(asked, Array(A, dead), E, T, keep=spare, **given_)
    assert_best_first(scores)
    found = matrix(scores, len(T))
    steady = well_posed(A, s, asked)
    np.testing.assert_allclose(found[steady], expected[steady], atol=CLOSE, rtol=CLOSE)
    assert not np.isnan(scores.similarities).any()
    for k in np.flatnonzero(~np.isneginf(expected).all(axis=1) & steady.all(axis=1)):
        label = scores.concepts[k, 0]
        assert expected[k, label] >= expected[k].max() - CLOSE * (2 + abs(expected[k].max()))
        assert label == np.flatnonzero((T[label] == T).all(axis=1))[0], "of equal concepts the first by position"
    assert fewer.concepts.shape == (sizes[1], min(spare, len(T)))
    np.testing.assert_allclose(fewer.similarities, scores.similarities[:, :spare], atol=CLOSE, rtol=CLOSE)


def well_posed(A: np.ndarray, s: np.ndarray, asked: Settings) -> np.ndarray:
    """(neuron, concept): where float32 holds enough digits of the columns for 1e-4.

    Not so for a column that varies by its last digits only, which correlations then blow up.
    """
    if asked.scorer not in ("pearson", "cos_cubed", "presence"):
        return np.ones((A.shape[1], s.shape[1]), dtype=bool)
    columns = shares(s, asked.softmax_scale) if asked.scorer == "pearson" else s
    spread = columns.std(axis=0) >= (0.02 if asked.scorer == "pearson" else 0.002) * np.abs(columns).max(axis=0)
    return np.broadcast_to(spread, (A.shape[1], s.shape[1]))


# ---------------------------------------------------------------- single claims


def unit_length(random: np.random.Generator, count: int, dimensions: int = 8) -> np.ndarray:
    rows = random.normal(size=(count, dimensions)) + 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cos_is_the_same_with_and_without_forming_the_cosines():
    random = np.random.default_rng(1)
    A, E, T = activations(random, 50, 5), unit_length(random, 50), unit_length(random, 20)
    A[:, 0] = 0
    many = score_layer(Settings.defaults("cos"), Array(A), E, T)
    for part in (slice(0, 7), slice(7, 14), slice(14, 20)):
        few = score_layer(Settings.defaults("cos"), Array(A), E, T[part])
        np.testing.assert_allclose(matrix(many, 20)[:, part], matrix(few, 20)[:, : part.stop - part.start], atol=1e-6)


def test_a_hundred_images_of_an_unlikely_concept_do_not_underflow():
    random = np.random.default_rng(2)
    asked = Settings.defaults("soft_wpmi", softmax_scale=100.0, p_first=1.0, p_last=1.0)
    A, E, T = random.normal(size=(120, 3)), unit_length(random, 120), unit_length(random, 3)
    s = E.astype(np.float64) @ T.astype(np.float64).T
    scores = score_layer(asked, Array(A), E, T)
    expected = oracle(A.astype(np.float32), s, np.zeros(3, bool), np.zeros(0), asked)
    assert expected.min() < -50
    np.testing.assert_allclose(matrix(scores, 3), expected, rtol=1e-5)


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
def test_fewer_images_than_top_k_is_an_error_with_both_numbers(scorer):
    random = np.random.default_rng(3)
    E = unit_length(random, 8)
    with pytest.raises(ValueError, match=r"top_k = 9 .* 8 images"):
        score_layer(Settings.defaults(scorer, top_k=9), Array(random.normal(size=(8, 2))), E, E[:2])
    with pytest.raises(ValueError, match=r"0\.05 of 8 images is 0"):
        score_layer(Settings.defaults("rank_reorder"), Array(random.normal(size=(8, 2))), E, E[:2])


def test_what_does_not_fit_is_an_error():
    random = np.random.default_rng(3)
    E = unit_length(random, 8)
    layer = Array(random.normal(size=(8, 2)))
    with pytest.raises(ValueError, match=r"budget_bytes = 1,000 is too little; this layer needs [\d,]+"):
        score_layer(Settings.defaults("cos"), layer, E, E, budget_bytes=1000)
    with pytest.raises(ValueError, match="saw 8 images; 7 embeddings"):
        score_layer(Settings.defaults("cos"), layer, E[:7], E)
    with pytest.raises(ValueError, match="no concepts"):
        score_layer(Settings.defaults("cos"), layer, E, E[:0])
    with pytest.raises(ValueError, match=r"'cosine' is not a scorer; there are soft_wpmi, .*pearson"):
        Settings.defaults("cosine")


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_a_layer_of_dead_neurons_has_no_labels(scorer):
    E = unit_length(np.random.default_rng(4), 120)
    for include_dead in (False, True):
        asked = Settings.defaults(scorer, include_dead=include_dead)
        scores = score_layer(asked, Array(np.ones((120, 3))), E, E[:4])
        assert (scores.concepts == -1).all()
        assert np.isneginf(scores.similarities).all()


def test_a_concept_of_negative_mean_ranks_below_every_other_and_has_no_score():
    random = np.random.default_rng(5)
    A, E = random.normal(size=(200, 3)), unit_length(random, 200)
    opposite = -E.mean(axis=0, keepdims=True)
    T = np.concatenate([opposite, unit_length(random, 4), np.zeros((1, 8), np.float32)])
    scores = score_layer(Settings.defaults("rank_reorder"), Array(A), E, T)
    assert (np.sort(scores.concepts[:, :4], axis=1) == [1, 2, 3, 4]).all()
    assert (scores.concepts[:, 4:] == -1).all()


def test_permutations_come_from_the_seed():
    random = np.random.default_rng(6)
    layer, E = Array(random.normal(size=(200, 3))), unit_length(random, 200)
    one, same, other = (
        score_layer(Settings.defaults("rank_reorder", seed=seed), layer, E, E[:5]).similarities for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_rank_reorder_is_the_same_by_the_way_for_a_gpu():
    random = np.random.default_rng(7)
    cosines = random.normal(size=(3, 90)).round(1)
    indices, values = topk.top_lists(random.normal(size=(90, 4)).astype(np.float32), 30)
    errors, means = rank_reorder.reorder_on_device(
        torch.from_numpy(cosines.T.copy()), torch.from_numpy(indices).long(), torch.from_numpy(values), 3.0, 80 * 30 * 2
    )
    table = rank_reorder.rank_table(cosines, 30)
    np.testing.assert_allclose(errors, rank_reorder.reorder_errors(table, indices, values, 3.0), rtol=1e-5)
    np.testing.assert_allclose(means, rank_reorder.mean_cosines(cosines, indices), rtol=1e-12)
    wide = rank_reorder.rank_table(cosines, (1 << 16) + 1)
    assert (table.dtype, wide.dtype) == (np.uint32, np.uint64)
    np.testing.assert_array_equal(
        rank_reorder.reorder_errors(wide, indices, values, 3.0),
        rank_reorder.reorder_errors(table, indices, values, 3.0),
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), images=st.integers(1, 300), neurons=st.integers(1, 40), share=st.floats(0, 1))
def test_top_lists_break_ties_by_the_smaller_image(seed, images, neurons, share):
    values = activations(np.random.default_rng(seed), images, neurons)
    values[values == 0] *= np.random.default_rng(seed).choice([-1, 1], size=(values == 0).sum())  # -0.0 is 0.0
    k = max(1, int(share**3 * images))  # often a small share of the images, of which few are then candidates
    indices, found = Array(values).top(k, 0, neurons)
    for column, mine, theirs in zip(values.T, indices, found, strict=True):
        assert mine.tolist() == top(column, k)
        np.testing.assert_array_equal(theirs, column[mine])
    on_device = topk.top_lists_on_device(torch.from_numpy(values), k)
    np.testing.assert_array_equal(on_device[0], indices)
    np.testing.assert_array_equal(on_device[1], found)


@pytest.mark.parametrize("image", [0, 100, 299])
@pytest.mark.parametrize("unusual", [np.nan, np.inf])
def test_top_lists_have_one_order_for_values_that_are_not_finite(unusual, image):
    values = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    values[image, 1:] = unusual, -unusual
    on_device = topk.top_lists_on_device(torch.from_numpy(values), 7)
    for one, other in zip(topk.top_lists(values, 7), on_device, strict=True):
        np.testing.assert_array_equal(one, other)


IN_A_PROCESS = """
import sys
from pathlib import Path
import numpy as np
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import score_layer

def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

random = np.random.default_rng(0)
layer = Array(random.normal(size=(8000, 256)).astype(np.float32))
images, concepts = (random.normal(size=(n, 16)).astype(np.float32) / 4 for n in (8000, 9000))
score_layer(Settings.defaults(sys.argv[1]), layer, images[:, :2], concepts[:50, :2])  # libraries take their share first
before = peak()
score_layer(Settings.defaults(sys.argv[1]), layer, images, concepts, budget_bytes=100_000_000)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("scorer", ["soft_wpmi", "pearson"])
def test_memory_stays_within_the_budget(scorer):
    """P alone would take 288 MB."""
    root = ROOT
    run = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, scorer], capture_output=True, text=True, cwd=root, check=True
    )
    assert 20e6 < int(run.stdout) < 110e6


class CountingArray(Array):
    """A layer that counts how often each neuron's activations are read."""

    def block(self, first: int, last: int) -> np.ndarray:
        self.reads[first:last] += 1
        return super().block(first, last)


@pytest.mark.parametrize("scorer", ["cos_cubed", "pearson", "presence"])
def test_neurons_that_fit_are_prepared_once_and_others_once_for_each_chunk_of_concepts(scorer):
    random = np.random.default_rng(0)
    images, concepts = (random.normal(size=(count, 8)).astype(np.float32) / 3 for count in (2000, 3000))
    reads, found = [], []
    for neurons in (64, 1500):
        layer = CountingArray(np.random.default_rng(1).normal(size=(neurons, 2000)).astype(np.float32).T)
        layer.reads = np.zeros(neurons, int)
        found.append(score_layer(Settings.defaults(scorer), layer, images, concepts, keep=3, budget_bytes=45_000_000))
        reads.append(layer.reads)
    assert (reads[0] == 1).all()
    assert (reads[1] > 1).all()
    assert (found[0].concepts[:, 0] == found[1].concepts[:64, 0]).all()
    np.testing.assert_allclose(found[0].similarities, found[1].similarities[:64], rtol=0, atol=1e-6)
