"""Halves of the images: even and odd, but a group whole; and what that does to labels of copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.extract.scoring import robustness
from dissectdb.extract.scoring.halves import divide, group_numbers
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from tests.support.worlds import World, with_groups

CLIPS, FRAMES, CONCEPTS = 40, 20, 12


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcdef")), min_size=1, max_size=60))
def test_no_group_is_in_both_halves_and_they_differ_by_at_most_the_largest(groups: list[str | None]) -> None:
    numbers = group_numbers(groups)
    first, second = divide(len(groups), numbers)
    assert sorted([*first, *second]) == list(range(len(groups)))
    assert list(first) == sorted(first)
    assert list(second) == sorted(second)
    assert not {groups[i] for i in first} & {groups[i] for i in second} - {None}
    largest = max([groups.count(group) for group in groups if group is not None], default=1)
    assert abs(len(first) - len(second)) <= largest


@given(st.integers(0, 50))
def test_without_groups_they_are_the_even_and_the_odd_images(count: int) -> None:
    assert group_numbers([None] * count) is None
    for groups in (None, np.arange(count)) if count else (None,):
        first, second = divide(count, groups)
        assert first.tolist() == list(range(0, count, 2))
        assert second.tolist() == list(range(1, count, 2))


def films() -> tuple[Array, torch.Tensor, torch.Tensor, np.ndarray]:
    """Films of nearly equal frames, and neurons that fire on films at random: no concept has to do with them."""
    chance = np.random.default_rng(1)
    scenes = np.repeat(chance.normal(size=(CLIPS, 16)), FRAMES, axis=0)
    frames = torch.from_numpy((scenes + 0.01 * chance.normal(size=scenes.shape)).astype(np.float32))
    words = torch.from_numpy(chance.normal(size=(CONCEPTS, 16)).astype(np.float32))
    fired = np.repeat(chance.normal(size=(CLIPS, 60)), FRAMES, axis=0) + 0.01 * chance.normal(size=(len(scenes), 60))
    groups = np.repeat(np.arange(CLIPS), FRAMES)
    unit = torch.nn.functional.normalize
    return Array(fired.astype(np.float32)), unit(frames, dim=1), unit(words, dim=1), groups


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_noise_agrees_with_its_own_copies_but_not_across_groups(scorer: str) -> None:
    layer, images, concepts, groups = films()
    asked = Settings.defaults(scorer, top_k=20)
    copies = robustness.split_half(asked, layer, images, concepts, divide(layer.images))
    whole = robustness.split_half(asked, layer, images, concepts, divide(layer.images, groups))
    assert np.nanmean(copies) > (0.4 if scorer == "rank_reorder" else 0.9), "it reads ranks, in which frames differ"
    assert np.nanmean(whole) < 0.35, "by chance one of 12 concepts, more if some are favoured"


def test_one_group_has_no_halves_and_no_resamples() -> None:
    layer, images, concepts, _ = films()
    asked, one = Settings.defaults("soft_wpmi", top_k=20), np.zeros(layer.images, int)
    labels = score_layer(asked, layer, images, concepts, keep=1).concepts[:, 0]
    assert np.isnan(robustness.split_half(asked, layer, images, concepts, divide(layer.images, one))).all()
    assert np.isnan(robustness.bootstrap(asked, layer, images, concepts, labels, 5, 0, one)).all()


@pytest.mark.parametrize("scorer", ["soft_wpmi", "cos"])
def test_a_bootstrap_draws_whole_groups(scorer: str) -> None:
    layer, images, concepts, groups = films()
    asked = Settings.defaults(scorer, top_k=20)
    labels = score_layer(asked, layer, images, concepts, keep=1).concepts[:, 0]
    found = robustness.bootstrap(asked, layer, images, concepts, labels, 6, 4, groups)
    drawn, same = np.random.default_rng(4), np.zeros(layer.neurons)
    for _ in range(6):
        picked = np.sort(drawn.integers(CLIPS, size=CLIPS))
        pick = np.concatenate([np.flatnonzero(groups == group) for group in picked])
        part = Array(layer.activations[pick], layer.dead)
        same += score_layer(asked, part, images[pick], concepts, keep=1).concepts[:, 0] == labels
    np.testing.assert_allclose(found, same / 6)


# ---------------------------------------------------------------- in a run


def test_images_of_one_group_have_no_halves_and_that_is_said(new_world: World) -> None:
    with_groups(new_world, lambda number: "all")
    done = new_world.extract()
    assert done.code == 0, done.err
    assert "all probing images of dissection 1 are of one group, so none can judge the labels" in done.err
    [row] = new_world.rows("select count(*) as labels, count(split_half_agrees) as halved from label_checks")
    assert row["labels"] > 0
    assert row["halved"] == 0
    assert new_world.rows("select * from label_quality where judged_on = 'halves'") == []
    assert new_world.run("check").code == 0
    assert new_world.extract().out.startswith("nothing is stale")


def test_groups_reach_the_checks_and_the_measures(new_world: World, finished: World) -> None:
    with_groups(new_world, lambda number: str(number // 12))
    assert new_world.extract().code == 0
    query = "select neuron_id, concept_id, split_half_agrees from label_checks where dissection_id = 1 order by all"
    grouped, single = new_world.frame(query), finished.frame(query)
    assert grouped["split_half_agrees"].null_count() < len(grouped)
    labels = ["neuron_id", "concept_id"]
    assert grouped.select(labels).rows() == single.select(labels).rows(), "labels count each image"
    assert grouped["split_half_agrees"].to_list() != single["split_half_agrees"].to_list()
    query = "select dissection_id, neuron_id, reference, same_halves from label_measures order by all"
    assert new_world.rows(query) != finished.rows(query)
