"""Scores within a millionth of the best tie with it, and the first concept is the label: in kernels and views."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.scoring.nulls import DrawnLabels, sampled_moments
from dissectdb.extract.scoring.problem import (
    TIE,
    Array,
    BestConcepts,
    ConceptEmbeddings,
    LabelsSoFar,
    Settings,
    first_of_best,
    ties_raised,
)
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.warehouse.schema import SQL
from tests.support.rows import run_view

LEVELS = [2.0, 2 * (1 - TIE / 3), 1.0, -1.0, -np.inf]  # the first two tie; no third score ties with one of them only


def rule(scores: np.ndarray) -> np.ndarray:
    """The label of each row, written down: the first of the scores that are close to the highest."""
    return np.array([next(c for c, s in enumerate(row) if s >= max(row) - TIE * abs(max(row))) for row in scores])


@st.composite
def scores_and_cuts(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    concepts = draw(st.integers(1, 12))
    rows = st.lists(st.sampled_from(LEVELS), min_size=concepts, max_size=concepts)
    scores = np.array(draw(st.lists(rows, min_size=1, max_size=6)))
    scores[~np.isfinite(scores).any(axis=1), 0] = 1
    return scores * draw(st.sampled_from([1.0, -1.0, 1e-9])), sorted(draw(st.sets(st.integers(1, concepts))))


@given(scores_and_cuts(), st.integers(1, 12), st.sampled_from([torch.float32, torch.float64]))
def test_the_label_is_the_first_that_ties_however_the_concepts_are_cut_and_however_few_are_kept(case, keep, dtype):
    scores, cuts = case
    scores = np.where(np.isposinf(scores), -np.inf, scores)
    scores[~np.isfinite(scores).any(axis=1), 0] = 1
    rows, concepts = scores.shape
    expected = rule(scores)
    assert first_of_best(torch.tensor(scores, dtype=dtype))[1].tolist() == expected.tolist()
    best = BestConcepts(np.arange(rows), min(keep, concepts), torch.device("cpu"))
    drawn, z = DrawnLabels(rows), torch.arange(rows * concepts, dtype=torch.float64).view(rows, -1)
    for first, last in zip([0, *cuts], [*cuts, concepts], strict=True):
        if first < last:
            part = torch.tensor(scores[:, first:last], dtype=dtype)
            best.update(part, first)
            drawn.update(part, z[:, first:last])
    values, kept = ConceptEmbeddings.one_each(torch.zeros(concepts, 1)).positions(*best.of_layer(rows), keep)
    assert kept[:, 0].tolist() == expected.tolist()
    scored = np.isfinite(values)
    np.testing.assert_allclose(values[scored], np.take_along_axis(scores, kept, axis=1)[scored], rtol=1e-6)
    assert drawn.z.tolist() == z[range(rows), expected].tolist()


def test_an_earlier_concept_keeps_its_label_while_it_ties_with_a_later_chunk():
    labels = LabelsSoFar(1)
    for first, score in enumerate([1, 1 + TIE / 2, 1 + 3 * TIE]):
        labels.update(torch.tensor([[score]], dtype=torch.float64), first)
        assert labels.concepts.item() == (0, 0, 2)[first]


@pytest.mark.parametrize("scorer", SCORERS)
def test_a_layer_has_the_same_labels_however_many_concepts_are_kept(scorer: str):
    """Two neurons far above the others, whose soft_wpmi is ln 12 for several concepts."""
    random = np.random.default_rng(3)
    images, concepts = random.normal(size=(400, 8)) + 1, random.normal(size=(12, 8)) + 1
    images, concepts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, concepts))
    activations = random.normal(size=(400, 12))
    activations[:, :2] = 30 * (images @ concepts[:2].T)
    settings, layer = Settings.defaults(scorer), Array(activations)
    every = score_layer(settings, layer, images, np.concatenate([concepts, concepts[:5]]), keep=99)
    assert every.concepts[:, 0].tolist() == rule(in_columns(every.concepts, every.similarities)).tolist()
    for keep in (1, 2, 5):
        few = score_layer(settings, layer, images, np.concatenate([concepts, concepts[:5]]), keep=keep)
        assert few.concepts[:, 0].tolist() == every.concepts[:, 0].tolist()


def in_columns(concepts: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = np.full(values.shape, -np.inf)
    neurons, places = np.nonzero(concepts >= 0)
    scores[neurons, concepts[neurons, places]] = values[neurons, places]
    return scores


def test_a_sampled_null_takes_the_z_of_the_first_that_ties():
    scores = np.array([[1.0, 2.0], [3.0, 3.0 + 1e-7], [2.0, 5.0]])
    mean, sd = scores.mean(axis=0), scores.std(axis=0)
    np.testing.assert_allclose(sampled_moments(scores)[0], (scores - mean)[[0, 1, 2], [1, 0, 1]] / sd[[1, 0, 1]])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.floats(-3e-6, 3e-6))
def test_sql_raises_the_scores_that_python_raises(scores: list[float], distance: float):
    scores = [*scores, max(scores) * (1 + distance)]
    with duckdb.connect() as connection:
        connection.execute((SQL / "engines" / "duckdb.sql").read_text(encoding="utf-8"))
        query = "select nd_tied(score, max(score) over ()) from (select unnest($scores) as score)"
        raised = [value for (value,) in connection.execute(query, {"scores": scores}).fetchall()]
    assert sorted(raised) == sorted(ties_raised(np.array([scores]))[0].tolist())


def test_spark_has_the_same_rule():
    bodies = [
        next(line for line in (SQL / "engines" / name).read_text(encoding="utf-8").splitlines() if "nd_tied(" in line)
        for name in ("duckdb.sql", "spark.sql")
    ]
    assert bodies[0] == bodies[1]


def test_a_ranking_begins_with_those_that_tie_in_the_order_of_their_set():
    similarities = [1.0, 3.0 - 1e-6, 2.0, 3.0, 2.0 + 1e-7]
    rows = run_view(
        "similarity_rankings",
        shown_dissection=[{"dissection_id": 1}],
        named_neurons=[{"neuron_id": 7, "network": "net", "layer": "conv", "unit": 0}],
        concepts=[{"concept_id": i, "concept": "abcde"[i], "position": i} for i in range(5)],
        concept_scores=[
            {"dissection_id": 1, "neuron_id": 7, "concept_id": i, "similarity": s} for i, s in enumerate(similarities)
        ],
    )
    assert "".join(row["concept"] for row in sorted(rows, key=lambda row: row["rank"])) == "bdeca"
