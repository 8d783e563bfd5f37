"""Several words for a neuron, and none, where the truth is planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.several_words import PlantedWords, plant
from dissectdb.extract.scoring.halves import divide
from dissectdb.extract.scoring.problem import Array
from dissectdb.extract.scoring.several_words import PENALTIES, WordColumns, find_words

EACH = 30


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left, right)[0, 1])


@pytest.fixture(scope="module")
def planted() -> PlantedWords:
    return plant(images=6000, concepts=40, each=EACH, lean=0.08, boost=3.0, seed=0)


def test_a_neuron_of_two_concepts_gets_both(planted: PlantedWords) -> None:
    assert planted.has_both()[planted.kind(1)].mean() >= 0.7


def test_a_neuron_of_one_concept_keeps_one_word(planted: PlantedWords) -> None:
    concepts, one = planted.found.concepts, planted.kind(0)
    assert (concepts[one, 0] == planted.first[one]).mean() >= 0.95
    assert (concepts[one, 1] == -1).mean() >= 0.85, "a gain passes its interval by chance for 2.5 %"


def test_a_concept_that_is_not_in_the_list_is_explained_by_clip_but_by_no_word(planted: PlantedWords) -> None:
    one, absent, noise = (planted.kind(number) for number in (0, 2, 3))
    is_seen, is_explained = planted.is_seen(), planted.is_explained()
    assert (is_seen & ~is_explained)[absent].mean() >= 0.6
    assert is_explained[one].all()
    assert is_explained[noise].mean() <= 0.1
    assert is_seen[noise].mean() <= 0.2, "by chance 2.5 % pass the interval"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_the_first_word_and_its_correlation_are_numpys(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, concepts = int(random.integers(40, 120)), int(random.integers(2, 8))
    words = np.maximum(random.standard_normal((count, concepts)).astype(np.float32), 0)
    images = random.standard_normal((count, 4)).astype(np.float32)
    values = (random.standard_normal((count, 5)) + words @ random.standard_normal((concepts, 5))).astype(np.float32)
    values[:, 4] = 0.1
    labels = np.array([0, 1, 0, 1, -1])
    found = find_words(
        WordColumns.of(torch.from_numpy(words), torch.from_numpy(images), divide(len(images))), Array(values), labels
    )
    assert found.concepts[:, 0].tolist() == labels.tolist()
    assert np.isnan(found.explained.r[4])
    for neuron in range(4):
        column = values[:, neuron]
        best = np.argmax([correlation(column[::2], word[::2]) for word in words.T])
        assert found.explained.r[neuron] == pytest.approx(correlation(column[1::2], words[1::2, best]), abs=1e-4)
        assert found.weights[neuron, 0] != 0
        added = found.concepts[neuron][found.concepts[neuron] >= 0]
        assert len(set(added)) == len(added), "no word twice"
        for size in range(2, len(added) + 1):
            some = words[:, added[:size]].astype(np.float64)
            design = (some - some[::2].mean(axis=0)) / some[::2].std(axis=0)
            target = (column[::2] - column[::2].mean()) / column[::2].std()
            weights = np.linalg.lstsq(design[::2], target, rcond=None)[0]
            fewer = np.linalg.lstsq(design[::2, : size - 1], target, rcond=None)[0]
            r = correlation(column[1::2], design[1::2] @ weights)
            gain = r - correlation(column[1::2], design[1::2, : size - 1] @ fewer)
            assert found.gains.r[neuron, size - 2] == pytest.approx(gain, abs=1e-3)
            assert gain > 0
            if size == len(added):
                assert found.weights[neuron, :size] == pytest.approx(weights, abs=1e-3)


def pursued(column: np.ndarray, words: np.ndarray, label: int) -> tuple[list[int], float]:
    """The words of a neuron by orthogonal matching pursuit, and how near a decision was to going the other way.

    column (N,), words (N, C) and label as docs/methods.md, section 10, has them: residuals are computed one by one.
    """
    design = (words - words[::2].mean(axis=0)) / words[::2].std(axis=0)
    even, odd = design[::2], design[1::2]
    target = (column[::2] - column[::2].mean()) / column[::2].std()
    judge = (column[1::2] - column[1::2].mean()) / column[1::2].std()

    def explained(taken: list[int]) -> tuple[np.ndarray, float, np.ndarray]:
        """The weights; the correlation on the odd images, and each image's part in it."""
        weights = np.linalg.lstsq(even[:, taken], target, rcond=None)[0]
        fitted = odd[:, taken] @ weights
        fitted = (fitted - fitted.mean()) / fitted.std()
        r = float((judge * fitted).mean())
        return weights, r, judge * fitted - r / 2 * (judge**2 + fitted**2)

    taken, nearest = [label], np.inf
    while len(taken) < min(3, words.shape[1]):
        basis = np.linalg.qr(even[:, taken])[0]
        left = target - basis @ (basis.T @ target)
        new = even - basis @ (basis.T @ even)
        share = (new**2).mean(axis=0)
        scores = np.where(share > 0.2, left @ new / len(even) / np.sqrt(np.maximum(share, 1e-12)), -np.inf)
        scores[taken] = -np.inf
        first, second = np.sort(scores)[::-1][:2]
        candidate = [*taken, int(scores.argmax())]
        _, before, parts_before = explained(taken)
        weights, after, parts = explained(candidate)
        margin = after - before - 1.96 * (parts - parts_before).std() / np.sqrt(len(judge))
        nearest = min(nearest, first - second, *np.abs(share - 0.2), abs(margin), np.abs(weights).min())
        if margin <= 0 or (weights <= 0).any():
            break
        taken = candidate
    return taken, float(nearest)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_the_words_are_those_of_orthogonal_matching_pursuit_in_numpy(seed: int) -> None:
    """Neurons of one to three of eight words, of which two are nearly the same."""
    random = np.random.default_rng(seed)
    words = np.maximum(random.standard_normal((300, 8)), 0)
    words[:, 7] = words[:, 0] + 0.1 * random.random(300)
    mixed = words @ (random.random((8, 6)) * (random.random((8, 6)) < 0.3))
    values = (mixed + 0.7 * random.standard_normal((300, 6))).astype(np.float32)
    labels = np.array(
        [int(np.argmax([correlation(column[::2], word[::2]) for word in words.T])) for column in values.T]
    )
    images = torch.from_numpy(random.standard_normal((300, 4)).astype(np.float32))
    columns = WordColumns.of(torch.from_numpy(words.astype(np.float32)), images, divide(300))
    found = find_words(columns, Array(values), labels)
    for neuron, label in enumerate(labels):
        expected, nearest = pursued(values[:, neuron].astype(np.float64), words.astype(np.float32), int(label))
        if nearest > 1e-3:
            assert [word for word in found.concepts[neuron] if word >= 0] == expected


@pytest.mark.parametrize("start", [0, 1])
def test_a_neuron_with_one_value_on_a_half_is_explained_by_nothing(start: int) -> None:
    random = np.random.default_rng(2)
    words, images = (torch.from_numpy(random.standard_normal((200, size), dtype=np.float32)) for size in (6, 4))
    values = words[:, :1].numpy().copy()
    values[start::2] = 0.7
    found = find_words(WordColumns.of(words, images, divide(200)), Array(values), np.array([0]))
    assert np.isnan([found.explained.r[0], found.explainable.r[0]]).all()
    assert found.concepts.tolist() == [[0, -1, -1]]


def test_the_error_of_a_correlation_is_that_of_a_bootstrap() -> None:
    random = np.random.default_rng(3)
    words = np.maximum(random.standard_normal((4000, 3)).astype(np.float32), 0)
    values = (words[:, :1] + random.standard_normal((4000, 1))).astype(np.float32)
    columns = WordColumns.of(torch.from_numpy(words), torch.from_numpy(words), divide(4000))
    found = find_words(columns, Array(values), np.array([0])).explained
    odd, word = values[1::2, 0], words[1::2, 0]
    drawn = [correlation(odd[pick], word[pick]) for pick in random.integers(2000, size=(500, 2000))]
    assert found.error[0] == pytest.approx(np.std(drawn), rel=0.12)


def test_the_ridge_regression_is_numpys_at_the_penalty_of_the_smallest_cross_validation() -> None:
    random = np.random.default_rng(4)
    images = (random.standard_normal((300, 6)) * [3, 2, 1, 0.5, 0.1, 0.01]).astype(np.float32)
    values = (images @ random.standard_normal((6, 3)) + 2 * random.standard_normal((300, 3))).astype(np.float32)
    columns = WordColumns.of(torch.from_numpy(np.abs(images)), torch.from_numpy(images), divide(300))
    found = find_words(columns, Array(values), np.zeros(3, int)).explainable.r
    even = images[::2].astype(np.float64) - images[::2].mean(axis=0)
    odd = images[1::2] - images[::2].mean(axis=0)
    scale = np.trace(even.T @ even) / 150 / 6
    for neuron in range(3):
        target = (values[::2, neuron] - values[::2, neuron].mean()) / values[::2, neuron].std()
        losses, answers = [], []
        for penalty in PENALTIES * scale:
            hat = np.linalg.solve(even.T @ even / 150 + penalty * np.eye(6), even.T / 150)
            fitted, freedom = even @ hat @ target, 1 + np.trace(even @ hat)
            losses.append(((target - fitted) ** 2).mean() / (1 - freedom / 150) ** 2)
            answers.append(correlation(odd @ hat @ target, values[1::2, neuron]))
        assert found[neuron] == pytest.approx(answers[int(np.argmin(losses))], abs=1e-4)
