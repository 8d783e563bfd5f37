"""p of labels where images come in groups: of one image of each group, so that copies prove nothing."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.made import Judged, embeddings, judge
from bench.noise import film_noise, films
from dissectdb.extract.scoring.evidence import Evidence
from dissectdb.extract.scoring.halves import group_numbers
from dissectdb.extract.scoring.one_per_group import OnePerGroup, fitted, one_of_each
from dissectdb.extract.scoring.part_layer import Part
from dissectdb.extract.scoring.problem import Array, ScoringProblem, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from tests.support.worlds import OTHER_TABLES, TO_SCHEMA_6, World, with_groups

FILMS, CONCEPTS, NEURONS, DRAWS = 100, 12, 300, 4000


# ---------------------------------------------------------------- the images and the layer


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=40), st.integers(0, 5))
def test_one_image_of_each_group_is_chosen(groups: list[str | None], seed: int) -> None:
    chosen = one_of_each(group_numbers(groups), seed)
    named = [group for group in groups if group is not None]
    if len(named) == len(set(named)):
        assert chosen is None, "every image is a group of its own"
        return
    assert chosen is not None
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert sorted(groups[i] for i in chosen if groups[i] is not None) == sorted(set(named))
    assert sum(groups[i] is None for i in chosen) == groups.count(None)


def test_every_image_of_a_group_has_the_same_chance() -> None:
    picked = np.concatenate([one_of_each(np.array([0, 0, 0, 1]), seed) for seed in range(600)])
    assert all(150 < count < 250 for count in np.bincount(picked)[:3])


def test_a_part_is_the_layer_on_its_images() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((400, 5)).astype(np.float32)
    values[:, 1] = np.where(random.random(400) < 0.1, values[:, 1], 0)
    values[:, 2] = 0
    values[0, 2] = 1  # not chosen
    chosen, asked = np.arange(1, 400, 2), Settings.defaults("cos_cubed", min_images=1)
    part, alone = Part(Array(values), chosen, asked), Array(values[chosen])
    assert part.dead.tolist() == [False, False, True, False, False]
    np.testing.assert_array_equal(part.block(1, 4), alone.block(1, 4))
    np.testing.assert_array_equal(part.rows(1, 4), alone.rows(1, 4))
    np.testing.assert_array_equal(part.fired, alone.fired)
    np.testing.assert_array_equal(part.lowest, alone.lowest)
    for name in ("spread", "cube_spread"):
        np.testing.assert_allclose(getattr(part, name).mean, getattr(alone, name).mean, atol=1e-6)
        np.testing.assert_allclose(getattr(part, name).sd, getattr(alone, name).sd, atol=1e-6)
    for k in (7, 200):
        for own, expected in zip(part.top(k, 1, 4), alone.top(k, 1, 4), strict=True):
            np.testing.assert_array_equal(own, expected)


def test_of_a_layer_without_activations_the_listed_images_count() -> None:
    random = np.random.default_rng(0)
    values = np.where(random.random((600, 3)) < [0.05, 0.2, 1], random.random((600, 3)), 0).astype(np.float32)
    chosen, asked = np.arange(0, 600, 3), Settings.defaults("soft_wpmi", min_images=1)
    part = Part(Array(values), chosen, asked, from_lists=True)
    listed = np.sort(values, axis=0)[::-1][255]
    expected = np.where(values > np.maximum(listed, 0), values, values.min(axis=0))[chosen]
    np.testing.assert_array_equal(part.block(0, 3), expected)
    assert part.fired[0] == (values[chosen, 0] > 0).sum(), "a sparse neuron is known as a whole"


# ---------------------------------------------------------------- one concept of each neuron


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_the_score_of_one_concept_is_that_among_all(scorer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world, random = embeddings(150, 9, seed=3, dimensions=16), np.random.default_rng(1)
    layer, asked = Array(random.standard_normal((150, 20)).astype(np.float32)), Settings.defaults(scorer, top_k=20)
    concepts = world.concepts[[0, 1, 2, 3, 4, 5, 6, 7, 8, 2]]  # one is there twice
    wanted = np.append(random.integers(10, size=19), -1)
    whole = score_layer(asked, layer, world.images, concepts)
    for width in (9, 4):  # concepts at a time
        monkeypatch.setattr(ScoringProblem, "chunk_width", lambda *_, width=width: width)
        alone = score_layer(asked, layer, world.images, concepts, only=wanted)
        assert alone.concepts[:, 0].tolist() == wanted.tolist()
        assert np.isneginf(alone.similarities[-1, 0])
        for k, concept in enumerate(wanted[:-1]):
            expected = whole.similarities[k][whole.concepts[k] == concept]
            np.testing.assert_allclose(alone.similarities[k], expected, rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------- p


def share(judged: Judged) -> float:
    """The share of labels with p of at most 0.05."""
    return float((judged.p[judged.label >= 0] <= 0.05).mean())


@pytest.mark.parametrize("alike", [0.99, 0.0], ids=["frames that are copies", "frames that differ"])
@pytest.mark.parametrize("scorer", list(SCORERS))
def test_noise_that_knows_films_has_the_p_of_chance(scorer: str, alike: float) -> None:
    world, groups = films(FILMS, CONCEPTS, alike, seed=1)
    activations, asked = film_noise(groups, NEURONS, alike, seed=1), Settings.defaults(scorer)
    counted = judge(asked, activations, world, DRAWS, 1)
    known = judge(asked, activations, world, DRAWS, 1, groups=groups)
    assert share(known) < 0.09, "5 % by chance, with a standard error of 1.3 %"
    assert (share(counted) > 0.5) == (alike > 0.5), "p of all images takes copies for evidence"
    np.testing.assert_array_equal(counted.label, known.label)
    np.testing.assert_array_equal(counted.z, known.z)


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_neurons_of_a_concept_are_still_found(scorer: str) -> None:
    world, groups = films(200, CONCEPTS, 0.5, seed=2)
    cosines, of_neuron = world.images @ world.concepts.T, np.arange(60) % CONCEPTS
    seen = ((cosines - cosines.mean(axis=0)) / cosines.std(axis=0))[:, of_neuron]
    activations = (3 * seen + film_noise(groups, 60, 0, seed=2)).astype(np.float32)
    judged = judge(Settings.defaults(scorer), activations, world, DRAWS, 1, groups=groups)
    right = judged.label == of_neuron
    enough = 0.4 if scorer == "rank_reorder" else 0.95  # it reads the order of 20 images
    assert (right & (judged.q <= 0.05)).mean() > enough


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_without_groups_of_two_nothing_changes(scorer: str) -> None:
    world = embeddings(300, 6, seed=1, dimensions=16)
    activations = np.random.default_rng(2).standard_normal((300, 20)).astype(np.float32)
    asked = Settings.defaults(scorer)
    none, single = (judge(asked, activations, world, 2000, 1, groups=groups) for groups in (None, np.arange(300)))
    np.testing.assert_array_equal(none.p, single.p)


def test_a_neuron_that_fires_on_no_chosen_image_has_p_1_and_one_without_a_label_none() -> None:
    world, groups = films(40, CONCEPTS, 0.5, seed=1)
    chosen = one_of_each(groups, 0)
    values = film_noise(groups, 3, 0.5, seed=1)
    values[:, 0], values[:, 1] = world.images @ world.concepts[0], 0
    values[np.setdiff1d(np.arange(len(groups)), chosen)[:30], 1] = np.arange(30) + 1
    images, concepts = torch.from_numpy(world.images), torch.from_numpy(world.concepts)
    evidence = Evidence(np.arange(len(groups)), images, np.arange(CONCEPTS), concepts, None, groups)
    apart = OnePerGroup.of(Settings.defaults("soft_wpmi"), evidence, chosen, [Array(values)], 2000, 0)
    p = apart.p(0, np.array([0, 0, -1]))
    assert 0 < p[0] < 0.01
    assert p[1] == 1
    assert np.isnan(p[2])


@pytest.mark.parametrize(
    ("scorer", "images", "chosen", "listed"),
    [
        ("soft_wpmi", 10_000, 5000, 50),
        ("soft_wpmi", 700, 40, 10),
        ("rank_reorder", 10_000, 5000, 250),
        ("rank_reorder", 700, 40, 20),
        ("rank_reorder", 300, 24, 12),
        ("wpmi", 20_000, 40, 10),
    ],
)
def test_as_large_a_share_is_listed_but_not_too_few(scorer: str, images: int, chosen: int, listed: int) -> None:
    asked = fitted(Settings.defaults(scorer), images, chosen)
    list_images = asked.declaration.list_images
    assert list_images is not None
    assert list_images(asked, chosen) == listed
    few = fitted(replace(Settings.defaults("soft_wpmi"), top_k=5), images, chosen)
    assert few.top_k == 5


# ---------------------------------------------------------------- in a run

LABELS = (
    "select neuron_id, concept_id, similarity, z, p, q from neuron_labels where dissection_id = 1 order by neuron_id"
)
CHECKS = "select * from label_checks order by all"


def test_a_run_has_p_of_one_image_of_each_group_and_labels_anew_what_an_earlier_version_labelled(
    new_world: World, finished: World
) -> None:
    with_groups(new_world, lambda number: str(number // 2))
    assert new_world.extract().code == 0
    grouped, single = new_world.frame(LABELS), finished.frame(LABELS)
    same = ["neuron_id", "concept_id"]
    assert grouped.select(same).rows() == single.select(same).rows(), "labels and scores are of all images"
    np.testing.assert_allclose(grouped["z"].to_numpy(), single["z"].to_numpy(), rtol=1e-5)
    stored = new_world.frame("select neuron_id, p from label_checks where dissection_id = 1 order by neuron_id")
    assert stored["p"].null_count() == 0
    labelled = grouped.drop_nulls("concept_id").select("neuron_id", "p").rows()
    assert len(labelled) > 10
    assert set(labelled) <= set(stored.rows())
    assert grouped["p"].to_list() != single["p"].to_list()
    assert grouped["q"].count() == grouped["p"].count() > 0
    assert new_world.rows("select * from null_quantiles") == []
    checks = new_world.rows(CHECKS)
    assert sum(row["p_within"] is not None for row in checks) > 0
    assert new_world.run("check").code == 0
    assert new_world.extract().out.startswith("nothing is stale")

    with duckdb.connect(str(new_world.warehouse)) as connection:  # as a version that counted each image left it
        connection.execute("update labelled_layers set null_groups = null_groups - 2")
        connection.execute("update label_checks set p_within = 0.5")
        connection.execute("delete from completed_runs")
        connection.execute(f"{TO_SCHEMA_6} {OTHER_TABLES}")
    assert new_world.extract().code == 0
    assert new_world.rows(CHECKS) == checks
    assert new_world.extract().out.startswith("nothing is stale")


def test_of_few_groups_p_and_q_are_null_and_that_is_said(new_world: World) -> None:
    with_groups(new_world, lambda number: str(number // 12))
    done = new_world.extract()
    assert done.code == 0, done.err
    assert "dissection 1 are of 7 groups; p and q are computed from one image of each and need 20" in done.err
    rows = new_world.rows("select p, q, z, interpretable, p_within, z_within_class from neuron_concepts")
    assert all(row[name] is None for row in rows for name in ("p", "q", "p_within", "z_within_class"))
    assert any(row["z"] is not None for row in rows)
    assert new_world.run("check").code == 0
