"""Halves of the images: even and odd, but a group whole; and what that does to labels of copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench import stored
from bench.made import Layer as made_layer
from bench.made import embeddings
from dissectdb.extract.scoring import labels, robustness, version_lists
from dissectdb.extract.scoring.halves import divide, group_numbers
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.study import Dissection
from dissectdb.warehouse import Warehouse
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


# ---------------------------------------------------------------- lists of a half's own best images


def unrelated(images: int, seed: int = 3) -> tuple[Array, torch.Tensor, torch.Tensor]:
    """200 neurons that have nothing to do with the images."""
    chance, unit = np.random.default_rng(seed), torch.nn.functional.normalize
    seen, words = (torch.from_numpy(chance.normal(size=(n, 16)).astype(np.float32)) for n in (images, 20))
    return Array(chance.normal(size=(images, 200)).astype(np.float32)), unit(seen, dim=1), unit(words, dim=1)


def two_sites(dimmer: float) -> tuple[Array, torch.Tensor, torch.Tensor, np.ndarray]:
    """Neurons that follow a word on 500 images of each of two sites, of which the second is dimmer."""
    _, images, words = unrelated(1000)
    site = np.repeat([0, 1], 500)
    cosines = (images @ words.T).numpy()[:, np.arange(40) % 20]
    noise = np.random.default_rng(4).normal(size=cosines.shape)
    return Array((4 * cosines + 0.3 * noise - dimmer * site[:, None]).astype(np.float32)), images, words, site


class OnlyLists(Array):
    """A layer of which only the stored top images are known."""

    def has_activations(self) -> bool:
        return False

    def block(self, first: int, last: int) -> np.ndarray:
        raise AssertionError("there are none")


def labels_alone(
    asked: Settings, layer: Array, images: torch.Tensor, words: torch.Tensor, part: np.ndarray
) -> list[int]:
    """The labels (K,) that some images give on their own."""
    alone = replace(asked, top_k=version_lists.list_limit(asked, layer.images, len(part)))
    scores = score_layer(alone, Array(layer.activations[part], layer.dead), images[part], words, keep=1)
    return scores.concepts[:, 0].tolist()


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
@pytest.mark.parametrize(("count", "top_k"), [(120, 100), (250, 200), (1000, 200), (1000, 256), (2000, 128)])
def test_each_half_labels_by_its_own_best_images_however_many_are_asked_for(
    scorer: str, count: int, top_k: int
) -> None:
    layer, images, words = unrelated(count)
    asked, halves = Settings.defaults(scorer, top_k=top_k), divide(count)
    *of_halves, is_untested = robustness.half_labels(asked, layer, images, words, halves)
    assert not is_untested.any()
    for found, half in zip(of_halves, halves, strict=True):
        assert found.tolist() == labels_alone(asked, layer, images, words, half)
    assert robustness.split_half(asked, layer, images, words, halves).mean() < 0.2, "by chance one of 20 words"


@pytest.mark.parametrize(
    ("top_k", "images", "part", "most"),
    [(100, 5000, 2500, 100), (100, 400, 200, 100), (100, 300, 150, 75), (100, 120, 60, 50), (100, 100, 50, 50),
     (100, 1000, 40, 20), (100, 1000, 12, 10), (100, 1000, 6, 6), (20, 84, 42, 20), (100, 1000, 1500, 100),
     (256, 300, 300, 256)],
)  # fmt: skip
def test_a_small_half_lists_half_of_its_images_or_as_large_a_share_as_all(top_k, images, part, most) -> None:
    assert version_lists.list_limit(Settings.defaults("soft_wpmi", top_k=top_k), images, part) == most


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
@pytest.mark.parametrize("dimmer", [0.5, 1.2, 5.0])
def test_a_half_of_which_few_or_no_images_are_stored_is_labelled_by_its_own(scorer: str, dimmer: float) -> None:
    layer, images, words, site = two_sites(dimmer)
    asked = Settings.defaults(scorer, top_k=100)
    assert robustness.split_half(asked, layer, images, words, divide(1000, site)).mean() == 1
    labels = score_layer(asked, layer, images, words, keep=1).concepts[:, 0]
    assert labels.tolist() == [k % 20 for k in range(40)]
    assert robustness.bootstrap(asked, layer, images, words, labels, 12, 0, site).min() == 1


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
def test_without_activations_a_half_labels_only_what_its_stored_images_suffice_for(scorer: str) -> None:
    layer, images, words, site = two_sites(1.0)
    layer, halves = OnlyLists(layer.activations), divide(1000, site)
    known = (site[layer.top(256, 0, 40)[0]] == 1).sum(axis=1)
    asked = Settings.defaults(scorer, top_k=60)
    assert 0 < (known < 60).sum() < 40
    first, second, is_untested = robustness.half_labels(asked, layer, images, words, halves)
    assert is_untested.tolist() == (known < 60).tolist()
    assert set(second[is_untested]) == {-1}
    right = np.arange(40) % 20
    assert (first == right).all()
    assert (second == right)[~is_untested].all()
    assert np.isnan(robustness.split_half(asked, layer, images, words, halves)).tolist() == is_untested.tolist()
    share = robustness.bootstrap(asked, layer, images, words, right, 12, 0, site)
    assert np.nanmin(share) == 1, "resamples without the first site are left out"
    noise, images, words = unrelated(1000)
    only = OnlyLists(noise.activations)
    agrees = robustness.split_half(Settings.defaults(scorer, top_k=200), only, images, words, divide(1000))
    assert np.isnan(agrees).all()


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_a_half_or_resample_of_too_few_images_labels_nothing(scorer: str) -> None:
    layer, images, words, _ = two_sites(0)
    asked = Settings.defaults(scorer, top_k=20, rank_fraction=0.3)
    for few, is_told in ((9, False), (10, True)):
        groups = np.concatenate([np.zeros(1000 - few, int), np.arange(few) + 1])
        halves = divide(1000, groups)
        assert halves.smaller == few
        tested = ~np.isnan(robustness.split_half(asked, layer, images, words, halves))
        assert tested.any() == is_told
    groups = np.concatenate([np.zeros(997, int), [1, 2, 3]])  # a resample without the first group has four images
    labels = score_layer(asked, layer, images, words, keep=1).concepts[:, 0]
    drawn = np.random.default_rng(0).integers(4, size=(12, 4))
    assert 0 < (drawn > 0).all(axis=1).sum() < 12
    share = robustness.bootstrap(asked, layer, images, words, labels, 12, 0, groups)
    assert share[labels >= 0].mean() > 0.9, "the others are the images again, a few of them more often"


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_a_neuron_that_fires_on_too_few_images_of_a_half_is_not_tested(scorer: str) -> None:
    layer, images, words, site = two_sites(0)
    values = layer.activations - layer.activations.min() + 1
    values[np.random.default_rng(5).random(values.shape) < 0.3] = 0
    for few, neurons in ((9, slice(0, 20)), (11, slice(20, 40))):
        values[500 + few :, neurons] = 0
        values[500 : 500 + few, neurons] = np.linspace(1, 2, few)[:, None] + np.linspace(0, 0.1, 20)
    asked = Settings.defaults(scorer)
    made = made_layer(values, asked)
    assert (made.fired == 256).all()
    assert not made.dead.any()
    untested = np.isnan(robustness.split_half(asked, made, images, words, divide(1000, site)))
    assert untested[:20].all()
    assert not untested[20:].all()
    values[500:, :20] = 0
    on_none = made_layer(values, asked)
    assert np.isnan(robustness.split_half(asked, on_none, images, words, divide(1000, site)))[:20].all()


# ---------------------------------------------------------------- in a run


def test_without_activations_it_is_said_how_many_labels_the_halves_do_not_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, noise = tmp_path / "warehouse.duckdb", np.random.default_rng(1).standard_normal((1000, 8), dtype=np.float32)
    stored.fill(path, noise, embeddings(1000, 4, seed=2, dimensions=16))
    with Warehouse(path) as opened:
        stored.ask(opened, Dissection(concepts="made", scorer="soft_wpmi", top_k=200, null_draws=1000, bootstraps=2))
        opened.connection.execute("delete from activations")
        list(opened.build(select=[*labels.READS, "unlabelled_layers"]))
        [unit] = labels.run(opened, torch.device("cpu"))
    checks = unit["label_checks"]
    assert isinstance(checks, pa.Table)
    assert checks["split_half_agrees"].null_count == 8
    assert "8 labels of dissection 1 are not tested on halves of the images" in caplog.text


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
