"""bench.truth: its measures are the textbooks', and its tables have every scorer, the random label and the oracles."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import truth
from bench.made import World, unit
from bench.truth_measures import MEASURES, measures, ratio
from bench.truth_worlds import Probe
from dissectdb.extract.study.scorers import SCORERS


def by_hand(activation: np.ndarray, shown: np.ndarray) -> list[float]:
    """The four measures of one neuron and one concept, by their definitions."""
    positive, negative = activation[shown], activation[~shown]
    pairs = [(high > low) + (high == low) / 2 for high in positive for low in negative]
    share, precision, f1, recall = shown.mean(), 0.0, 0.0, 0.0
    for threshold in sorted(set(activation), reverse=True):
        called = activation >= threshold
        hits = (called & shown).sum()
        precision += (hits / shown.sum() - recall) * hits / called.sum()
        recall = hits / shown.sum()
        f1 = max(f1, 2 * hits / (called.sum() + shown.sum()))
    base = 2 * share / (1 + share)
    r = np.corrcoef(activation, shown)[0, 1] if len(set(activation)) > 1 else 0.0
    return [np.mean(pairs) - 0.5, (precision - share) / (1 - share), r, (f1 - base) / (1 - base)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 4), st.booleans(), st.integers(0, 30)), min_size=2, max_size=25))
def test_measures_are_those_of_their_definitions(rows: list[tuple[int, bool, int]]) -> None:
    few, shown, many = (np.array(column) for column in zip(*rows, strict=True))
    activations = np.stack([few, many], axis=1).astype(np.float32)
    found = measures(activations, np.stack([shown, ~shown], axis=1))
    assert found.shape == (len(MEASURES), 2, 2)
    for concept, truth_of in enumerate((shown, ~shown)):
        for neuron in range(2):
            expected = by_hand(activations[:, neuron], truth_of) if 0 < shown.sum() < len(shown) else [0.0] * 4
            np.testing.assert_allclose(found[:, neuron, concept], expected, atol=1e-6)


def test_a_neuron_that_is_the_concept_reaches_the_most_by_every_measure() -> None:
    shown = np.arange(40)[:, None] % np.array([2, 5]) == 0
    np.testing.assert_allclose(measures(shown.astype(np.float32), shown)[:, [0, 1], [0, 1]].T, [[0.5, 1, 1, 1]] * 2)


def test_a_ratio_has_an_interval_over_neurons_and_a_spread_over_seeds() -> None:
    random = np.random.default_rng(0)
    truths = (random.random((2, 1000)) < [[0.4], [0.6]]).astype(float)
    truths[:, :100] = np.nan
    found = ratio(truths, ~np.isnan(truths))
    seeds = np.nanmean(truths, axis=1)
    assert found.value == pytest.approx(seeds.mean())
    assert found.spread == pytest.approx(seeds[1] - seeds[0])
    assert found.half == pytest.approx(1.96 * (0.24 / 1800) ** 0.5, rel=0.15)  # of 1,800 answers
    assert np.isnan(ratio(truths[:, :100], truths[:, :100])).all()


def test_a_neuron_without_a_label_is_not_right_and_reaches_nothing() -> None:
    shown = np.arange(60)[:, None] % np.array([2, 3, 5]) == 0
    world = World(unit(np.ones((60, 4))), unit(np.ones((3, 4))), shown)
    activations = shown.astype(np.float32)
    answers = truth.answer(np.array([0, -1, 1]), measures(activations, shown), Probe([activations], world))
    for measure in MEASURES:
        assert answers["right", measure].tolist() == [1, 0, 0]
        assert answers["got", measure][0] == answers["best", measure][0]
        assert answers["got", measure][1] == 0
    assert sum(answers["given", group][1] for group in truth.GROUPS) == 0


def test_the_small_run_has_every_scorer_in_every_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.truth", "--small"])
    truth.main()
    tables = [part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n")]
    titles, grids = [part[0] for part in tables[::2]], [[line.split(" | ") for line in part] for part in tables[1::2]]
    assert len(titles) == len(grids) == 7  # four worlds, their means, and two tables of what is missed
    assert sum("used to choose" in title for title in titles) == 2
    for grid in grids:
        assert set(SCORERS) <= {cell.strip("| ") for row in grid for cell in row[:2]}
        assert all(len(row) == len(grid[0]) for row in grid[2:])
        assert not any("nan" in cell for row in grid for cell in row)
    for grid in grids[:4]:
        shares = {row[0].strip("| "): [float(cell.split(" ±")[0]) for cell in row[1:]] for row in grid[2:]}
        assert shares["random"][0] in (4.0, 14.3)  # of 25 concepts, of 7
        assert max(map(max, shares.values())) <= 100
        assert shares["oracle, all"][1] > shares["random"][1] + 50
    for row in grids[4][2:]:
        for measure, name in enumerate(truth.ORACLES):
            if row[1] == name:
                assert row[2 + 2 * measure : 4 + 2 * measure] == ["100.0", "100.0"]
    found = {row[1]: int(row[5].split(" ±")[0]) for row in grids[6][2:] if "600 × 25" in row[0]}
    assert found["cos"] > 90, "ten per cent of the images show the concept"
