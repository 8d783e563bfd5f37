"""Soft-WPMI in SQL against its formula in numpy, written from the paper and not from the SQL."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.test_scorer_views import likelihoods
from tests.support.rows import (
    Tables,
    dissection_row,
    filled,
    finished,
    layer_rows,
    merged,
    probe,
    run_view,
    store,
    sums_of,
    unit_length,
)

NETWORKS = {1: ["conv", "one", "head"], 2: ["conv"]}  # two networks may well use the same names
CLOSE = 1e-4


# ---------------------------------------------------------------- the formula


def soft_wpmi(
    values: np.ndarray, images: np.ndarray, concepts: np.ndarray, settings: Mapping[str, Any]
) -> dict[int, np.ndarray]:
    """{unit: score of every concept} of the scored neurons of one layer: values (image, unit)."""
    cosines = images.astype(np.float64) @ concepts.astype(np.float64).T
    row = {"scorer": "soft_wpmi", "rank_fraction": 0.05, **settings}
    return {unit: scores for unit, (scores, _) in likelihoods(values, cosines, row).items()}


# ---------------------------------------------------------------- random files


def random_layer(random: np.random.Generator, images: int, units: int) -> np.ndarray:
    """Activations with ties in some neurons, and some dead ones: constant, or of few values."""
    values = random.normal(size=(images, units))
    for unit, column in enumerate(values.T.copy()):
        kind = random.integers(5)
        if kind < 3:
            values[:, unit] = (np.full(images, 0.1), column.round(1), column.round())[kind]
    return values.astype(np.float32)


def random_embeddings(random: np.random.Generator, count: int) -> np.ndarray:
    """Unit vectors, some of them twice."""
    rows = unit_length(random.normal(size=(count, 6)))
    return rows[np.where(random.random(count) < 0.8, np.arange(count), random.integers(count, size=count))]


question = st.fixed_dictionaries(
    dict(
        top_k=st.integers(3, 12),
        min_images=st.integers(1, 3),
        softmax_scale=st.sampled_from([0.5, 2.0, 10.0, 25.0]),
        prior_weight=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
        p_first=st.sampled_from([1.0, 0.998, 0.5]),
        p_last=st.sampled_from([0.97, 0.5, 0.0]),
        include_dead=st.booleans(),
    )
)


class Case:
    """A file with two networks, two splits and two dissections; `asked` holds the latters' settings."""

    def __init__(self, seed: int, asked: list[dict[str, Any]]) -> None:
        random = np.random.default_rng(seed)
        self.asked = [
            row | dict(network_id=int(random.integers(1, 3)), split_id=int(random.integers(1, 3))) for row in asked
        ]
        self.splits = np.sort(random.integers(1, 3, size=random.integers(6, 40)))
        self.images = random_embeddings(random, len(self.splits))
        self.concepts = random_embeddings(random, int(random.integers(1, 6)))
        sizes = dict(conv=int(random.integers(2, 7)), one=1, head=3)
        self.layers = {
            network: {name: random_layer(random, len(self.splits), sizes[name]) for name in names}
            for network, names in NETWORKS.items()
        }

    def tables(self) -> Tables:
        first = probe(self.layers[1], self.images, self.concepts)
        for image, split_id in zip(first["images"], self.splits, strict=True):
            image["split_id"] = int(split_id)
        first["dissections"] = [dissection_row(i, **row) for i, row in enumerate(self.asked, 1)]
        second = layer_rows(self.layers[2], range(1, len(self.images) + 1), network_id=2, first_id=100)
        counts = {split_id: int((self.splits == split_id).sum()) for split_id in (1, 2)}
        layer_ids = [row["layer_id"] for row in first["layers"] + second["layers"]]
        tables = merged(first, second) | finished(layer_ids, counts)
        return tables | sums_of(tables)

    def expected(self) -> dict[tuple[int, str, int], np.ndarray]:
        """{(dissection, layer, unit): scores}, each layer worked out as if there were nothing else."""
        scores = {}
        for number, row in enumerate(self.asked, 1):
            here = self.splits == row["split_id"]
            for layer, values in self.layers[row["network_id"]].items():
                if here.any():
                    for unit, score in soft_wpmi(values[here], self.images[here], self.concepts, row).items():
                        scores[number, layer, unit] = score
        return scores


QUERY = """
select s.dissection_id, n.layer, n.unit, c.position, s.similarity, l.position as label
from soft_wpmi as s
inner join concepts as c on s.concept_id = c.concept_id
inner join (select neurons.*, layers.layer from neurons inner join layers using (layer_id)) as n
    using (neuron_id)
inner join neuron_labels using (dissection_id, neuron_id)
left join concepts as l on neuron_labels.concept_id = l.concept_id
"""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), asked=st.lists(question, min_size=2, max_size=2))
def test_every_score_and_label_is_the_formulas_whatever_else_is_in_the_file(seed, asked):
    case = Case(seed, asked)
    tables = case.tables()
    with filled(**tables) as connection:
        store(connection, "neuron_labels", tables)
        rows = connection.execute(QUERY).fetchall()
    found: dict[tuple[int, str, int], dict[int, float]] = {}
    labels = {}
    for dissection_id, layer, unit, position, similarity, label in rows:
        found.setdefault((dissection_id, layer, unit), {})[position] = similarity
        labels[dissection_id, layer, unit] = label
    expected = case.expected()
    assert found.keys() == expected.keys()
    for neuron, scores in expected.items():
        mine = np.array([found[neuron][position] for position in range(len(case.concepts))])
        np.testing.assert_allclose(mine, scores, atol=CLOSE, rtol=CLOSE)
        label = labels[neuron]
        if len(mine) > 1 and np.ptp(mine.astype(np.float32)) == 0:
            assert label is None  # all concepts are alike to it
            continue
        assert scores[label] >= scores.max() - 2 * CLOSE
        twins = np.flatnonzero((case.concepts == case.concepts[label]).all(axis=1))
        assert label == twins[0], "of equal concepts the first by position"


# ---------------------------------------------------------------- single claims


def scores_of(layers: dict[str, np.ndarray], **changes: Any) -> list[dict[str, Any]]:
    random = np.random.default_rng(5)
    count = len(next(iter(layers.values())))
    images, concepts = unit_length(random.normal(size=(count, 4))), unit_length(random.normal(size=(3, 4)))
    return run_view("soft_wpmi", **probe(layers, images, concepts, dissection=changes))


def test_the_score_of_a_layer_does_not_change_when_another_layer_is_added():
    random = np.random.default_rng(6)
    first, second = random.normal(size=(20, 4)), random.normal(size=(20, 5))
    alone = scores_of({"conv": first}, top_k=5)
    together = scores_of({"conv": first, "head": second}, top_k=5)
    mine = [row for row in together if row["neuron_id"] <= 4]
    assert [row["similarity"] for row in mine] == pytest.approx([row["similarity"] for row in alone], abs=1e-12)


def test_a_lone_neuron_has_nothing_beyond_its_layer_and_takes_no_label():
    layers = {"one": np.arange(8.0)[:, None]}
    assert [row["similarity"] for row in scores_of(layers)] == [0, 0, 0]
    images = unit_length(np.random.default_rng(1).normal(size=(8, 4)))
    [label] = run_view("neuron_labels", **probe(layers, images, images[:3]))
    assert (label["concept_id"], label["p"], label["interpretable"]) == (None, None, False)


def test_a_hundred_images_of_an_unlikely_concept_do_not_underflow():
    values = np.random.default_rng(2).normal(size=(120, 3))
    rows = scores_of({"conv": values}, top_k=100, softmax_scale=100.0, p_first=1.0, p_last=1.0)
    assert len(rows) == 9
    assert np.isfinite([row["similarity"] for row in rows]).all()
    assert min(row["similarity"] for row in rows) < -50


def test_a_layer_that_is_a_thousand_nats_below_another_keeps_its_prior():
    """conv sees only images of the first concept, head only those of the second; exp(-900) is zero to a double."""
    first = np.arange(120) < 60
    images = unit_length(np.where(first[:, None], [1, 0], [0, 1]))
    noise = np.random.default_rng(7).normal(size=(120, 3))
    layers = {"conv": (10 * first[:, None] + noise), "head": (-10 * first[:, None] + noise)}
    asked = dict(top_k=60, softmax_scale=1000.0, prior_weight=1.0, p_first=1.0, p_last=1.0, include_dead=False)
    concepts = unit_length([[1, 0], [0, 1]])
    rows = run_view("soft_wpmi", **probe(layers, images, concepts, dissection=asked))
    assert len(rows) == 12
    assert [row["similarity"] for row in rows] == pytest.approx([0.0] * 12, abs=CLOSE)


def test_a_dissection_of_fewer_images_than_top_k_takes_all_of_them():
    layers = {"conv": np.random.default_rng(3).normal(size=(8, 4))}
    assert scores_of(layers, top_k=9, min_images=5) == scores_of(layers, top_k=8, min_images=5)
    assert len(scores_of(layers, top_k=8)) == 12


@pytest.mark.parametrize(("include_dead", "same"), [(False, True), (True, False)])
def test_a_dead_neuron_moves_the_others_only_where_it_is_asked_for(include_dead, same):
    values = np.random.default_rng(4).normal(size=(20, 3))
    dead = np.column_stack([values, np.ones(20)])
    without = scores_of({"conv": values}, top_k=5, include_dead=include_dead)
    beside = scores_of({"conv": dead}, top_k=5, include_dead=include_dead)
    assert {row["neuron_id"] for row in beside} == {1, 2, 3}
    scores = [[row["similarity"] for row in rows] for rows in (beside, without)]
    assert (scores[0] == pytest.approx(scores[1], abs=1e-12)) is same
