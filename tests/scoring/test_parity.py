"""Our scorers against what CLIP-Dissect's own functions gave; golden/README.md says how that was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dissectdb.extract.scoring.problem import Array, Scores, ScoringProblem, Settings, ties_raised
from dissectdb.extract.scoring.scorers import score_layer

CLOSE = 1e-4  # absolute
IMAGES, NEURONS, CONCEPTS, DIMENSIONS = 2400, 12, 40, 32
FUNCTIONS = {
    "soft_wpmi": "soft_wpmi",
    "wpmi": "wpmi",
    "cos": "cos_similarity",
    "cos_cubed": "cos_similarity_cubed",
    "rank_reorder": "rank_reorder",
}


def inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations (image, neuron), embeddings of images and of concepts: the same on every machine and version.

    Sums of uniform numbers from the generator that numpy has frozen. Cosines are 0.25 ± 0.06, about those of CLIP; two
    neurons in three follow the concept of their own number, the others nothing.
    """
    random = np.random.RandomState(2204)

    def bell(*shape: int) -> np.ndarray:
        return random.random_sample((8, *shape)).sum(axis=0) - 4

    def unit_length(rows: np.ndarray) -> np.ndarray:
        return (rows / np.sqrt((rows * rows).sum(axis=1, keepdims=True))).astype(np.float32)

    shared = unit_length(bell(1, DIMENSIONS)).astype(np.float64)
    images = unit_length(shared + 0.07 * bell(IMAGES, DIMENSIONS))
    concepts = unit_length(0.3 * shared + 0.2 * bell(CONCEPTS, DIMENSIONS))
    followed = images.astype(np.float64) @ concepts[:NEURONS].astype(np.float64).T
    noise = bell(IMAGES, NEURONS)
    strength = np.where(np.arange(NEURONS) % 3 == 2, 0, 20)
    return (1 + strength * followed + noise).astype(np.float32), images, concepts


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parent / "golden" / "clip_dissect.npz") as file:
        return dict(file)


def matrix(scores: Scores, concepts: int) -> np.ndarray:
    """(neuron, concept); NaN where a neuron has no score."""
    full = np.full((len(scores.concepts), concepts), np.nan)
    rows, columns = np.nonzero(scores.concepts >= 0)
    full[rows, scores.concepts[rows, columns]] = scores.similarities[rows, columns]
    return full


@pytest.mark.parametrize("scorer", FUNCTIONS)
def test_our_scores_are_theirs(scorer, golden):
    activations, images, concepts = inputs()
    scores = score_layer(
        Settings.defaults(scorer), Array(activations), images, concepts, permutations=golden["permutations"]
    )
    theirs = golden[FUNCTIONS[scorer]]
    assert np.abs(matrix(scores, CONCEPTS) - theirs).max() <= CLOSE
    np.testing.assert_array_equal(scores.concepts[:, 0], ties_raised(theirs).argmax(axis=1))


def test_in_float32_their_own_rounding_is_larger_than_ours(golden):
    """1 - p + p P is as small as 0.002, and is left over from subtracting in float32: theirs errs by 1e-4.

    So it cannot tell apart concepts at the ceiling of the score, ln K; ours takes the one that float64 takes.
    """
    activations, images, concepts = inputs()
    ours = matrix(score_layer(Settings.defaults("soft_wpmi"), Array(activations), images, concepts), CONCEPTS)
    assert np.abs(ours - golden["soft_wpmi_float32"]).max() <= 3 * CLOSE
    assert np.abs(ours - golden["soft_wpmi"]).max() < np.abs(golden["soft_wpmi_float32"] - golden["soft_wpmi"]).max()
    theirs = golden["soft_wpmi_float32"]
    assert (theirs[np.arange(NEURONS), ours.argmax(axis=1)] >= theirs.max(axis=1) - CLOSE).all()


def test_the_planted_concepts_are_found_by_their_scores_and_ours(golden):
    """The parity above would mean little on noise: the inputs hold something to find."""
    planted = np.arange(NEURONS) % 3 != 2
    for function in ("soft_wpmi", "cos_similarity_cubed"):
        assert (golden[function].argmax(axis=1) == np.arange(NEURONS))[planted].sum() >= 7


# ---------------------------------------------------------------- where we differ, on purpose


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
def test_a_dead_neuron_counts_only_where_their_prior_is_asked_for(scorer, golden):
    activations, images, concepts = inputs()
    dead = np.arange(NEURONS) == 5
    theirs = golden[FUNCTIONS[scorer]]
    found = {}
    for include_dead in (True, False):
        settings = Settings.defaults(scorer, include_dead=include_dead)
        found[include_dead] = matrix(score_layer(settings, Array(activations, dead), images, concepts), CONCEPTS)
        assert np.isnan(found[include_dead][5]).all(), "a dead neuron takes no label"
    assert np.abs(found[True] - theirs)[~dead].max() <= CLOSE
    assert np.abs(found[False] - theirs)[~dead].max() > 100 * CLOSE


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
def test_a_score_does_not_change_with_the_chunk_as_theirs_does(scorer, golden, monkeypatch):
    """CLIP-Dissect scores a layer that is passed in two halves differently: recorded as *_in_halves."""
    activations, images, concepts = inputs()
    theirs, halves = golden[FUNCTIONS[scorer]], golden[f"{FUNCTIONS[scorer]}_in_halves"]
    assert np.abs(theirs - halves).max() > 100 * CLOSE
    monkeypatch.setattr(ScoringProblem, "chunk_width", lambda problem, fixed, per_concept: 7)
    small = matrix(score_layer(Settings.defaults(scorer), Array(activations), images, concepts), CONCEPTS)
    assert np.abs(small - theirs).max() <= CLOSE


def test_equal_activations_go_to_the_smaller_image_and_repeated_concepts_to_the_first():
    """torch.topk and argmax take any of those that tie; which, differs between devices."""
    _, images, concepts = inputs()
    concepts = np.concatenate([concepts[:3], concepts[:3]])
    activations = np.repeat([3.0, 2.0, 1.0], 800)[:, None] * [[1.0, -1.0]]
    scores = score_layer(Settings.defaults("soft_wpmi", top_k=100), Array(activations), images, concepts)
    firsts = np.where(np.arange(IMAGES) < 100, 1.0 + np.arange(IMAGES)[::-1], 0)
    lasts = np.where((np.arange(IMAGES) >= 1600) & (np.arange(IMAGES) < 1700), 1.0 + np.arange(IMAGES)[::-1], 0)
    alone = Array(np.stack([firsts, lasts], axis=1))
    expected = score_layer(Settings.defaults("soft_wpmi", top_k=100), alone, images, concepts)
    np.testing.assert_array_equal(scores.similarities, expected.similarities)
    assert (scores.concepts[:, 0] < 3).all()
    assert (scores.concepts[:, 1] == scores.concepts[:, 0] + 3).all()


def test_a_mean_cosine_below_zero_is_no_label_where_theirs_is_not_a_number(golden):
    activations, images, concepts = inputs()
    concepts = np.concatenate([concepts, -concepts[:1]])
    scores = score_layer(
        Settings.defaults("rank_reorder"), Array(activations), images, concepts, permutations=golden["permutations"]
    )
    full = matrix(scores, CONCEPTS + 1)
    assert np.isnan(golden["rank_reorder_negative"]).all()
    assert np.isnan(full[:, -1]).all()
    assert (scores.concepts[:, -1] == -1).all()
    assert np.abs(full[:, :-1] - golden["rank_reorder"]).max() <= CLOSE
