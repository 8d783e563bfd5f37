"""Every scorer in SQL against its formula in numpy, and against torch.

The formulas here are written from docs/methods.md and not from the SQL.
"""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.rank_reorder import draw_permutations
from dissectdb.extract.scoring.scorers import score_layer
from dissectdb.extract.study.scorers import SCORERS
from tests.support.rows import (
    Tables,
    dissection_row,
    filled,
    list_images,
    possible_groups,
    probe,
    run_view,
    store,
    unit_length,
)

CLOSE = 1e-4
Row = dict[str, Any]
Answer = tuple[np.ndarray, np.ndarray]  # scores and z of one neuron for every concept; NaN where there is none


# ---------------------------------------------------------------- the formulas


def cosines(images: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """(image, concept) in float64; summed one by one, so that equal images have equal cosines."""
    return (images.astype(np.float64)[:, None] * concepts.astype(np.float64)).sum(axis=2)


def shares(s: np.ndarray, row: Row) -> np.ndarray:
    weights = np.exp(row["softmax_scale"] * (s - s.max(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


def best_images(column: np.ndarray, count: int) -> list[int]:
    return sorted(range(len(column)), key=lambda i: (-column[i], i))[:count]


def gains(s: np.ndarray, row: Row, length: int | None = None) -> np.ndarray:
    """g_r(i) of every rank of a list, of each image and concept: (rank, image, concept)."""
    length = length or row["top_k"]
    r = np.arange(min(length, len(s)))
    p = row["p_first"] - r / length * (row["p_first"] - row["p_last"])
    return np.log(1 + p[:, None, None] * (shares(s, row) - 1) + 1e-7)


def likelihoods(values: np.ndarray, s: np.ndarray, row: Row) -> dict[int, Answer]:
    """A neuron of another list length counts in a prior with the L of the same z, or of the same share for an image."""
    lengths = {unit: list_images(column, row) for unit, column in enumerate(values.T)}
    live = [unit for unit, length in lengths.items() if length]
    lengths = {unit: length or row["top_k"] for unit, length in lengths.items()}
    known = {length: expected(s, row, length) for length in lengths.values()}
    every, z = {}, {}
    for unit, column in enumerate(values.T):
        g = gains(s, row, lengths[unit])
        every[unit] = g[np.arange(len(g)), best_images(column, len(g))].sum(axis=0)
        mean, sd = known[lengths[unit]]
        z[unit] = (every[unit] - mean) / np.where(sd > 0, sd, np.nan)
    answers = {}
    for unit in live:
        mean, sd = known[lengths[unit]]
        prior = np.stack(
            [
                every[other]
                if lengths[other] == lengths[unit]
                else np.minimum(mean + np.nan_to_num(z[other]) * sd, every[other] * lengths[unit] / lengths[other])
                for other in (every if row["include_dead"] else live)
            ]
        )
        prior = np.logaddexp.reduce(prior, axis=0) - np.log(len(prior))
        answers[unit] = every[unit] - row["prior_weight"] * prior, z[unit]
    return answers


def expected(s: np.ndarray, row: Row, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of L of `length` random images, for each concept."""
    g = gains(s, row, length)
    variance = g.var(axis=1).sum(axis=0)
    variance = variance - (g.sum(axis=0).var(axis=0) - variance) / max(len(s) - 1, 1)
    varies = np.ptp(shares(s, row), axis=0) > 1e-9
    return g.mean(axis=1).sum(axis=0), np.sqrt(np.where(varies, np.maximum(variance, 0), 0))


def correlation(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a column with each column; NaN for a constant one."""
    left, right = left - left.mean(), right - right.mean(axis=0)
    lengths = np.sqrt((right**2).sum(axis=0))
    return left @ right / np.sqrt(left @ left) / np.where(lengths > 1e-9, lengths, np.nan)


def cos(column: np.ndarray, s: np.ndarray, row: Row) -> Answer:
    similarity = column @ s / np.sqrt(column @ column) / np.sqrt((s**2).sum(axis=0))
    return similarity, correlation(column, s) * np.sqrt(len(s) - 1)


def cos_cubed(column: np.ndarray, s: np.ndarray, row: Row) -> Answer:
    column, s = (column - column.mean()) ** 3, (s - s.mean(axis=0)) ** 3
    lengths = [np.maximum(np.sqrt((each**2).sum(axis=0)), 1e-3) for each in (column, s)]
    return column @ s / lengths[0] / lengths[1], correlation(column, s) * np.sqrt(len(s) - 1)


def pearson(column: np.ndarray, s: np.ndarray, row: Row) -> Answer:
    r = correlation(column, shares(s, row))
    return np.nan_to_num(r), r * np.sqrt(len(s))


def presence(column: np.ndarray, s: np.ndarray, row: Row) -> Answer:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.nan_to_num((s - s.mean(axis=0)) / np.where(np.ptp(s, axis=0) > 1e-9, s.std(axis=0), np.nan))
    r = correlation(column, np.maximum(z - 0.5, 0))
    return np.nan_to_num(r), r * np.sqrt(len(s))


def rank_reorder(column: np.ndarray, s: np.ndarray, row: Row) -> Answer:
    n = list_images(column, row)
    best = best_images(column, n)
    rising = np.sort(column[best])
    orders = draw_permutations(5, int(row["rank_fraction"] * len(s)), row["seed"])
    orders = np.stack([order[order < n] for order in orders])
    chance = (np.abs(rising - rising[orders]) ** row["rank_power"]).mean()
    scores = np.full(s.shape[1], np.nan)
    for c, mean in enumerate(s[best].mean(axis=0)):
        if chance > 0 and (mean > 0 or row["rank_scale"] == 0):
            ranks = np.argsort(np.argsort(s[best, c], kind="stable"))
            error = (np.abs(column[best] - rising[ranks]) ** row["rank_power"]).mean()
            scores[c] = -error / chance / mean ** row["rank_scale"]
    return scores, (scores + 1.5) / 0.5  # the null that Case stores


def each_neuron(formula: Callable[[np.ndarray, np.ndarray, Row], Answer]) -> Callable[..., dict[int, Answer]]:
    def of_layer(values: np.ndarray, s: np.ndarray, row: Row) -> dict[int, Answer]:
        live = (unit for unit in range(values.shape[1]) if list_images(values[:, unit], row))
        return {unit: formula(values[:, unit].astype(np.float64), s, row) for unit in live}

    return of_layer


FORMULAS = {
    "soft_wpmi": likelihoods,
    "wpmi": likelihoods,
    "cos": each_neuron(cos),
    "cos_cubed": each_neuron(cos_cubed),
    "rank_reorder": each_neuron(rank_reorder),
    "pearson": each_neuron(pearson),
    "presence": each_neuron(presence),
}


def in_torch(values: np.ndarray, images: np.ndarray, concepts: np.ndarray, row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Scores (neuron, concept) and labels (neuron,) of the kernel; NaN and -1 where there is none."""
    lengths = np.array([list_images(column, row) for column in values.T])
    dead = lengths == 0
    known = {name: row[name] for name in Settings.__dataclass_fields__ if name in row and name != "scorer"}
    found = score_layer(Settings.defaults(row["scorer"], **known), Array(values, dead, lengths), images, concepts)
    scores = np.full((len(dead), len(concepts)), np.nan)
    neurons, places = np.nonzero(found.concepts >= 0)
    scores[neurons, found.concepts[neurons, places]] = found.similarities[neurons, places]
    return scores, found.concepts[:, 0]


# ---------------------------------------------------------------- random files


def random_layer(random: np.random.Generator, images: int, units: int) -> np.ndarray:
    """Activations, some with ties, some after a ReLU, some constant, some of few values or far from zero."""
    values = random.normal(size=(images, units))
    for unit, column in enumerate(values.T.copy()):
        kinds = (column, column, column.round(1), column.round(), column.clip(0), np.full(images, 0.1), column + 30)
        values[:, unit] = kinds[random.integers(len(kinds))]
    return values.astype(np.float32)


def random_embeddings(random: np.random.Generator, count: int, shift: float) -> np.ndarray:
    """Unit vectors, some of them twice; their cosines are of both signs without a shift."""
    rows = unit_length(random.normal(size=(count, 6)) + shift)
    return rows[np.where(random.random(count) < 0.8, np.arange(count), random.integers(count, size=count))]


@dataclass
class Case:
    """Three layers and a dissection by every scorer, whose settings differ."""

    layers: dict[str, np.ndarray]
    images: np.ndarray
    concepts: np.ndarray
    asked: list[Row]

    @classmethod
    def random(cls, seed: int) -> Case:
        random = np.random.default_rng(seed)
        count = int(random.integers(12, 40))
        shift = random.choice([0.0, 1.0])
        return cls(
            {name: random_layer(random, count, units) for name, units in (("conv", 6), ("one", 1), ("head", 3))},
            random_embeddings(random, count, shift),
            random_embeddings(random, int(random.integers(1, 6)), shift),
            [dissection_row(i, **random_settings(random, scorer)) for i, scorer in enumerate(FORMULAS, 1)],
        )

    def tables(self) -> Tables:
        tables = probe(self.layers, self.images, self.concepts) | dict(dissections=self.asked)
        for row in self.asked:
            if row["scorer"] == "rank_reorder":
                orders = draw_permutations(5, int(row["rank_fraction"] * len(self.images)), row["seed"])
                tables["rank_permutations"] = order_rows(row["dissection_id"], orders)
                tables["null_samples"] = [
                    dict(dissection_id=row["dissection_id"], layer_id=layer["layer_id"],
                         concept_id=concept["concept_id"], null_group=group, mean=-1.5, sd=0.5)
                    for layer in tables["layers"] for concept in tables["concepts"]
                    for group in possible_groups(int(row["rank_fraction"] * len(self.images)))
                ]  # fmt: skip
        return tables


def order_rows(dissection_id: int, orders: np.ndarray) -> list[Row]:
    return [
        dict(dissection_id=dissection_id, permutation=number, place=place, taken=int(taken))
        for number, order in enumerate(orders)
        for place, taken in enumerate(order)
    ]


def random_settings(random: np.random.Generator, scorer: str) -> Row:
    row = dict(
        scorer=scorer,
        top_k=int(random.integers(3, 10)),
        min_images=int(random.integers(1, 4)),
        softmax_scale=float(random.choice([0.5, 2.0, 10.0, 25.0])),
        prior_weight=float(random.choice([0.0, 0.6, 1.0, 2.5])),
        p_first=float(random.choice([1.0, 0.998, 0.5])),
        p_last=float(random.choice([0.97, 0.5])),
        include_dead=bool(random.integers(2)),
        rank_fraction=float(random.choice([0.2, 0.5, 1.0])),
        rank_power=float(random.choice([1.0, 3.0, 2.5])),
        rank_scale=float(random.choice([0.0, 0.5, 2.0])),
        seed=int(random.integers(100)),
    )
    return row | (dict(p_first=1.0, p_last=1.0) if scorer == "wpmi" else {})


SCORES = """
select s.dissection_id, layers.layer, neurons.unit, concepts.position, s.similarity, s.z
from concept_scores as s
inner join concepts using (concept_id)
inner join neurons using (neuron_id)
inner join layers using (layer_id)
"""
LABELS = """
select neuron_labels.dissection_id, layers.layer, neurons.unit, concepts.position
from neuron_labels
inner join concepts using (concept_id)
inner join neurons using (neuron_id)
inner join layers on neurons.layer_id = layers.layer_id
"""
Place = tuple[int, str, int]  # dissection, layer, unit


def in_sql(connection: duckdb.DuckDBPyConnection, concepts: int) -> tuple[dict[Place, np.ndarray], dict[Place, int]]:
    """Scores and z (2, concept) of every neuron that has any, and the labels."""
    scores: dict[Place, np.ndarray] = {}
    for *place, position, similarity, z in connection.execute(SCORES).fetchall():
        both = scores.setdefault(tuple(place), np.full((2, concepts), np.nan))
        assert np.isnan(both[0, position]), "one score for each pair"
        both[:, position] = similarity, np.nan if z is None else z
        assert z is None or np.isfinite(z)
    labels = {tuple(place): position for *place, position in connection.execute(LABELS).fetchall()}
    return scores, labels


def kernel_tolerance(s: np.ndarray, row: Row) -> np.ndarray:
    """How near the kernel comes to the formula for each concept: CLOSE, but for a limit of float32.

    The kernel's shares are float32, off by up to 1e-6 of themselves. Of a concept that takes nearly all of every
    image, little more than that varies, so its correlation is off by more.
    """
    if row["scorer"] != "pearson":
        return np.full(s.shape[1], CLOSE)
    p = shares(s, row)
    spread = p.std(axis=0) / p.mean(axis=0)
    return np.where(spread > 1e-9, np.clip(1e-6 / np.maximum(spread, 1e-9), CLOSE, 2), CLOSE)


def assert_close(found: np.ndarray, expected: np.ndarray, place: Place, tolerance: Any = CLOSE) -> None:
    assert (np.isnan(found) == np.isnan(expected)).all(), place
    allowed = tolerance * np.maximum(1, np.abs(np.nan_to_num(expected)))
    assert (np.nan_to_num(np.abs(found - expected)) <= allowed).all(), (place, found, expected)


def assert_is_best(label: int, scores: np.ndarray, concepts: np.ndarray, tolerance: float = CLOSE) -> None:
    best = np.nanmax(scores)
    assert scores[label] >= best - 2 * tolerance * max(1, abs(best))
    twins = np.flatnonzero((concepts == concepts[label]).all(axis=1))
    assert label == twins[0], "of equal concepts the first by position"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
@example(seed=2307662426)  # a concept that takes 0.9999 of every image
@example(seed=2439)  # a first weight of 1, and lists of several lengths
@example(seed=1377728099)  # the same
def test_views_formulas_and_kernels_give_the_same_scores_and_labels(seed):
    case = Case.random(seed)
    tables = case.tables()
    with filled(**tables) as connection:
        store(connection, "neuron_labels", tables)
        found, labels = in_sql(connection, len(case.concepts))
    expected_places, labelled = set(), set()
    for row in case.asked:
        for layer, values in case.layers.items():
            kernel, kernel_labels = in_torch(values, case.images, case.concepts, row)
            s = cosines(case.images, case.concepts)
            formula, tolerance = FORMULAS[row["scorer"]](values, s, row), kernel_tolerance(s, row)
            for unit, (scores, z) in formula.items():
                if np.isnan(scores).all():
                    assert kernel_labels[unit] == -1
                    continue
                assume(np.nanmax(np.abs(scores)) < 1e5)  # rank_reorder divides by a mean cosine, here one near 0
                place = (row["dissection_id"], layer, unit)
                expected_places.add(place)
                known = found[place][0][~np.isnan(found[place][0])].astype(np.float32)
                if len(known) > 1 and np.ptp(known) == 0:
                    assert place not in labels  # all concepts are alike to it
                    continue
                labelled.add(place)
                assert_close(found[place][0], scores, place)
                assert_close(kernel[unit], scores, place, tolerance)
                np.testing.assert_allclose(found[place][1], np.where(np.isnan(scores), np.nan, z), 1e-3, 1e-3)
                assert_is_best(labels[place], scores, case.concepts)
                assert_is_best(kernel_labels[unit], scores, case.concepts, tolerance.max())
            assert (kernel_labels >= 0).sum() == sum(p[:2] == (row["dissection_id"], layer) for p in expected_places)
    assert found.keys() == expected_places
    assert labels.keys() == labelled


# ---------------------------------------------------------------- single claims


def small(scorer: str, values: np.ndarray, s: np.ndarray, **changes: Any) -> list[Row]:
    """The rows of a scorer's view where image i has cosine s[i, c] with concept c (concepts are unit axes)."""
    rest = np.sqrt(1 - (s**2).sum(axis=1, keepdims=True))
    images, concepts = np.hstack([s, rest]).astype(np.float32), np.eye(s.shape[1], s.shape[1] + 1, dtype=np.float32)
    row = SCORERS[scorer].defaults | dict(scorer=scorer, top_k=5, rank_fraction=0.5, seed=3) | changes
    tables = probe({"conv": np.asarray(values, dtype=float)}, images, concepts, dissection=row)
    n = int(row["rank_fraction"] * len(s))
    return run_view("soft_wpmi" if scorer == "wpmi" else scorer, **tables, rank_permutations=order_rows(
        1, draw_permutations(5, n, row["seed"])))  # fmt: skip


def random_cosines(images: int, concepts: int, seed: int = 1) -> np.ndarray:
    return 0.25 + 0.05 * np.random.default_rng(seed).normal(size=(images, concepts))


def test_wpmi_is_soft_wpmi_with_every_image_at_full_weight():
    values, s = np.random.default_rng(1).normal(size=(40, 5)), random_cosines(40, 3)
    same = dict(top_k=7, softmax_scale=2.0, prior_weight=0.6, p_first=1.0, p_last=1.0)
    assert small("wpmi", values, s, **same) == small("soft_wpmi", values, s, **same) != []


def test_a_concept_unlike_the_best_images_has_no_score_by_rank_reorder():
    """Neuron 0's best four images have a mean cosine of 0 with concept 0 (id 2) and below 0 with concept 1."""
    s = np.array([[0.25, -0.5], [-0.25, -0.25], [0.5, 0.0], [-0.5, 0.25]] + [[0.5, 0.5]] * 4)
    values = np.array([8, 7, 6, 5, 4, 3, 2, 1])[:, None] * [1, -1]
    assert {row["neuron_id"] for row in small("rank_reorder", values, s)} == {2}
    rows = small("rank_reorder", values, s, rank_scale=0.0)
    assert [(row["neuron_id"], row["concept_id"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_neuron_whose_best_images_are_equally_active_has_no_score_by_rank_reorder_nor_a_label():
    s = random_cosines(8, 2)
    values = np.array([[9, 9, 9, 9, 1, 2, 3, 4], [9, 9, 9, 8, 1, 2, 3, 4]]).T
    assert {row["neuron_id"] for row in small("rank_reorder", values, s)} == {2}


def test_an_order_that_is_kept_scores_zero_and_the_reverse_scores_worst():
    s = np.stack([np.linspace(0.1, 0.3, 12), np.linspace(0.3, 0.1, 12), np.full(12, 0.2)], axis=1)
    rows = small("rank_reorder", np.arange(12.0)[:, None], s, rank_scale=0.0)
    kept, reversed_, equal = (row["similarity"] for row in rows[::-1])  # ids fall while positions rise
    assert kept == 0
    assert reversed_ == pytest.approx(equal), "equally near images count as in the reverse order"
    assert reversed_ < -1


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_no_power_overflows_or_vanishes_whatever_the_scale_of_activations(scale):
    values, s = np.random.default_rng(2).normal(size=(20, 2)), random_cosines(20, 2)
    rows = small("rank_reorder", scale * values, s, rank_power=80.0)
    expected = small("rank_reorder", values.astype(np.float32), s, rank_power=80.0)
    assert len(rows) == 4
    assert [row["similarity"] for row in rows] == pytest.approx([row["similarity"] for row in expected], rel=1e-3)


@pytest.mark.parametrize("scorer", FORMULAS)
def test_a_concept_that_is_equally_near_to_all_images_has_no_z(scorer):
    values = np.random.default_rng(3).normal(size=(20, 3))
    s = np.full((20, 1), 0.3)
    rows = small(scorer, values, s)
    assert [row["z"] for row in rows] == [None] * 3
    assert np.isfinite([row["similarity"] for row in rows]).all()


def test_a_set_of_one_concept_has_a_pearson_correlation_of_zero():
    rows = small("pearson", np.random.default_rng(4).normal(size=(20, 2)), random_cosines(20, 1))
    assert [(row["similarity"], row["z"]) for row in rows] == [(0, None)] * 2


def test_a_concept_at_right_angles_to_all_images_has_a_cosine_of_zero():
    rows = small("cos", np.random.default_rng(4).normal(size=(20, 2)), np.zeros((20, 1)))
    assert [(row["similarity"], row["z"]) for row in rows] == [(0, None)] * 2


def test_what_a_kernel_scores_the_views_leave_alone():
    values, s = np.random.default_rng(5).normal(size=(20, 2)), random_cosines(20, 2)
    for scorer in FORMULAS:
        assert small(scorer, values, s, engine="kernel") == []


def test_every_view_holds_its_own_scorers_dissections(scored):
    held = {"soft_wpmi": [1, 2, 3], "cos": [4], "cos_cubed": [5], "rank_reorder": [6], "pearson": [7], "presence": [8]}
    for view, dissections in held.items():
        found = scored.rows(f"select distinct dissection_id from {view} order by all")["dissection_id"].to_list()
        assert found == dissections, view
    every = scored.rows("select dissection_id, count(*) as n from concept_scores group by all order by all")
    assert every["dissection_id"].to_list() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    # Seven live neurons and four concepts, or two; the best four images of conv's second are equally active.
    assert every["n"].to_list() == [28, 14, 28, 28, 28, 24, 28, 28, 28]


# ---------------------------------------------------------------- z is that of a neuron unrelated to the images


def moments(s: np.ndarray, row: Row) -> np.ndarray:
    """Mean and standard deviation that null_moments says (2, concept), of concepts in order."""
    rest = np.sqrt(1 - (s**2).sum(axis=1, keepdims=True))
    images, concepts = np.hstack([s, rest]).astype(np.float32), np.eye(s.shape[1], s.shape[1] + 1, dtype=np.float32)
    tables = probe({"conv": np.arange(float(len(s)))[:, None]}, images, concepts, dissection=row)
    rows = run_view("null_moments", **tables)[::-1]  # ids fall while positions rise
    return np.array([[row["mean"], row["variance"] ** 0.5] for row in rows]).T


LIKELIHOODS = {
    "soft_wpmi": dict(softmax_scale=10.0, p_first=0.998, p_last=0.97),
    "wpmi": dict(softmax_scale=2.0, p_first=1.0, p_last=1.0),
    "steep": dict(softmax_scale=50.0, p_first=0.9, p_last=0.1),
}


@pytest.mark.parametrize("case", LIKELIHOODS)
def test_the_moments_are_those_of_all_ordered_samples(case):
    s, row = random_cosines(6, 3, seed=6), dict(top_k=3) | LIKELIHOODS[case]
    g = gains(s, row)
    every = np.array([g[np.arange(3), list(sample)].sum(axis=0) for sample in permutations(range(6), 3)])
    np.testing.assert_allclose(moments(s, row), [every.mean(axis=0), every.std(axis=0)], rtol=CLOSE)


@pytest.mark.parametrize("case", LIKELIHOODS)
def test_the_moments_are_those_of_many_random_samples(case):
    s, row = random_cosines(120, 4, seed=7), dict(top_k=30) | LIKELIHOODS[case]
    g, random = gains(s, row), np.random.default_rng(8)
    draws = np.stack([g[np.arange(30), random.permutation(120)[:30]].sum(axis=0) for _ in range(6000)])
    mean, sd = moments(s, row)
    assert np.abs((draws.mean(axis=0) - mean) / sd).max() < 5 / np.sqrt(len(draws))
    assert np.abs(draws.std(axis=0) / sd - 1).max() < 0.04


@pytest.mark.parametrize("scorer", ["cos", "cos_cubed"])
def test_z_of_a_cosine_is_over_all_orders_of_the_images(scorer):
    values, s = np.random.default_rng(9).normal(size=(6, 2)) + 0.5, random_cosines(6, 3, seed=9)
    rows = small(scorer, values, s)
    formula = {"cos": cos, "cos_cubed": cos_cubed}[scorer]
    for unit in (0, 1):
        column = values[:, unit].astype(np.float32).astype(np.float64)
        orders = np.array([formula(column[list(order)], s, {})[0] for order in permutations(range(6))])
        z = (formula(column, s, {})[0] - orders.mean(axis=0)) / orders.std(axis=0)
        found = [row["z"] for row in rows if row["neuron_id"] == unit + 1][::-1]
        assert found == pytest.approx(z.tolist(), rel=1e-3)


def test_z_of_a_correlation_is_its_square_root_of_images_fold():
    rows = small("pearson", np.random.default_rng(10).normal(size=(50, 3)), random_cosines(50, 3))
    assert [row["z"] for row in rows] == pytest.approx([row["similarity"] * 50**0.5 for row in rows])
    assert max(abs(row["z"]) for row in rows) > 0.1


def test_the_null_of_rank_reorder_is_the_sampled_one_and_without_it_there_is_no_z():
    values, s = np.random.default_rng(11).normal(size=(20, 1)), random_cosines(20, 2)
    assert [row["z"] for row in small("rank_reorder", values, s)] == [None, None]
