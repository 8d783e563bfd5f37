"""modify: edits tried on validation, one judged on test beside its controls; the original stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

from dissectdb.warehouse import Warehouse
from tests.support.edited_networks import (
    CONTROLS,
    SHUFFLES,
    array,
    controls,
    copied,
    edits,
    logits,
    saved,
    scaled,
    scales,
    state,
)
from tests.support.worlds import CLASSES, World


@pytest.fixture(scope="module")
def named(finished: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """An extracted world with the edit `paper` alone; only to be read or copied."""
    world = copied(finished, tmp_path_factory.mktemp("named"))
    done = world.modify("--edit", "paper")
    assert done.code == 0, done.err
    return world


@pytest.fixture(scope="module")
def opened_twice(named: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose test images were used for `paper`, then for `twin`; only to be read."""
    world = copied(named, tmp_path_factory.mktemp("twice"))
    done = world.modify("--edit", "twin")
    assert done.code == 0, done.err
    return world


# ---------------------------------------------------------------- what an edit makes


def test_a_checkpoint_holds_the_rows_scaled_and_nothing_else_changed(named: World, modified: World) -> None:
    for world in (named, modified):
        [(name, network)] = saved(world).items()
        before, after = state(world.folder / "net.pt"), state(Path(network["weights"]))
        edit = edits(world)[name]
        factors = array(world, edit)
        weight = f"{edit['layer']}.weight"
        assert list(before) == list(after)
        for key in before:
            if key != weight:
                assert torch.equal(before[key], after[key]), key
        assert len(set(factors)) > 1
        for unit, factor in enumerate(factors):
            expected = before[weight][unit] * torch.tensor(factor, dtype=torch.float32)
            assert torch.equal(after[weight][unit], expected), unit


def test_the_original_stays_as_it_was(untouched: World, modified: World) -> None:
    assert (modified.folder / "net.pt").read_bytes() == (untouched.folder / "net.pt").read_bytes()
    assert {Path(row["weights"]).parent for row in saved(modified).values()} == {modified.folder / "edits"}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_results_are_those_of_running_both_networks(named: World, split: str) -> None:
    images = sorted((named.folder / "images" / split).rglob("*.png"))
    truth = torch.tensor([CLASSES.index(path.parent.name) for path in images])
    checkpoint = Path(saved(named)["paper"]["weights"])
    before, after = logits(state(named.folder / "net.pt"), images), logits(state(checkpoint), images)
    right, right_after = before.argmax(1) == truth, after.argmax(1) == truth
    [row] = named.rows(f"select * from edit_results where split = '{split}'")
    assert row["images"] == len(images)
    assert row["correct_before"] == int(right.sum())
    assert row["correct_after"] == int(right_after.sum())
    assert row["gained"] == int((~right & right_after).sum())
    assert row["lost"] == int((right & ~right_after).sum())
    assert row["changed"] == int((before.argmax(1) != after.argmax(1)).sum())
    assert row["loss_before"] == pytest.approx(float(F.cross_entropy(before, truth)), abs=1e-5)
    assert row["loss_after"] == pytest.approx(float(F.cross_entropy(after, truth)), abs=1e-5)
    # The saved network has its predictions as any other has.
    [own] = named.rows(f"select * from network_accuracies where network = 'net+paper' and split = '{split}'")
    assert (own["images"], own["correct"]) == (len(images), row["correct_after"])
    assert own["loss"] == pytest.approx(row["loss_after"], abs=1e-5)


def test_every_edit_and_control_predicts_what_its_scaled_network_predicts(modified: World) -> None:
    """Only the chosen edit was saved. Each edited network is built here and run."""
    said = modified.frame(
        """
        select edit_id, path, edit_predictions.class, confidence, loss from edit_predictions
        inner join images on edit_predictions.image_id = images.image_id order by edit_id, path
        """
    )
    groups = said.partition_by("edit_id", as_dict=True)
    assert len(groups) == 3 + 2 + 2 * CONTROLS
    for (edit_id,), rows in groups.items():
        found = logits(scaled(modified, edit_id), [modified.folder / "images" / path for path in rows["path"]])
        truth = torch.tensor([CLASSES.index(Path(path).parent.name) for path in rows["path"]])
        best = found.softmax(1).topk(2).values
        clear = (best[:, 0] - best[:, 1] > 1e-4).numpy()
        assert (np.array(CLASSES)[found.argmax(1)] == rows["class"].to_numpy())[clear].all(), edit_id
        np.testing.assert_allclose(rows["confidence"], best[:, 0], atol=1e-4)
        np.testing.assert_allclose(rows["loss"], F.cross_entropy(found, truth, reduction="none"), atol=1e-4)


def test_two_edits_with_equal_weights_are_two_edits(modified: World) -> None:
    paper, twin = edits(modified)["paper"], edits(modified)["twin"]
    assert scales(modified, paper["edit_id"]) == scales(modified, twin["edit_id"])
    results = modified.rows("select network, tau, correct_after from edit_results where layer = 'lin' order by tau")
    assert [(row["network"], row["tau"]) for row in results] == [("net+paper", 0.0), ("net+twin", 0.0001)]
    assert results[0]["correct_after"] == results[1]["correct_after"]


# ---------------------------------------------------------------- one edit is chosen, and only this one is tested


def test_the_best_edit_on_validation_is_chosen_and_only_it_is_tested_and_saved(modified: World) -> None:
    tried = modified.rows(
        """
        select name, edits.edit_id, correct_after, loss_after from edit_results
        inner join edits on edit_results.edit_id = edits.edit_id where split = 'validation'
        """
    )
    assert {row["name"] for row in tried} == {"paper", "twin", "mine"}
    best = min(tried, key=lambda row: (-row["correct_after"], row["loss_after"], row["edit_id"]))
    on_test = modified.rows("select edit_id from edit_results where split = 'test'")
    assert on_test == [{"edit_id": best["edit_id"]}]
    assert list(saved(modified)) == [best["name"]]
    assert len(list((modified.folder / "edits").iterdir())) == 1
    [choice] = modified.rows("select edit_id, edits_tried, split from edit_choices natural join splits")
    assert choice == {"edit_id": best["edit_id"], "edits_tried": 3, "split": "validation"}
    [opening] = modified.rows("select edit_id, split from split_openings natural join splits")
    assert opening == {"edit_id": best["edit_id"], "split": "test"}


def test_an_edit_that_was_not_chosen_has_no_test_predictions(modified: World) -> None:
    rows = modified.rows(
        """
        select distinct coalesce(control_of, edits.edit_id) as edit_id
        from edit_predictions
        inner join edits on edit_predictions.edit_id = edits.edit_id
        inner join images on edit_predictions.image_id = images.image_id
        inner join splits on images.split_id = splits.split_id
        where split = 'test'
        """
    )
    assert rows == modified.rows("select edit_id from split_openings")


def test_an_edited_network_is_measured_on_validation_and_test_only(named: World) -> None:
    rows = named.rows("select split, count(*) as n from image_predictions where network = 'net+paper' group by 1")
    assert {row["split"]: row["n"] for row in rows} == {"validation": 21, "test": 18}
    assert saved(named)["paper"]["parent_network_id"] == 1
    assert [name for name, row in edits(named).items() if row["control"] is None] == ["paper"]


def test_every_measured_edit_has_intervals_around_its_changes(modified: World) -> None:
    rows = modified.rows("select * from edit_results")
    assert len(rows) == 3 + 1
    for row in rows:
        change = row["accuracy_after"] - row["accuracy_before"]
        assert row["low"] <= change <= row["high"]
        assert row["loss_low"] <= row["loss_after"] - row["loss_before"] <= row["loss_high"]
    assert modified.rows("select distinct bootstraps, seed from edit_intervals") == [{"bootstraps": 200, "seed": 0}]


def test_every_image_whose_class_the_chosen_edit_changed_has_its_causes(modified: World) -> None:
    [chosen] = modified.rows("select edit_id from split_openings")
    changed = modified.rows(
        f"""
        select edit_flips.image_id, list(rank order by rank) as ranks, list(contribution order by rank) as shares,
            count(distinct neuron_id) as neurons
        from edit_flips left join edit_causes
        on edit_flips.edit_id = edit_causes.edit_id and edit_flips.image_id = edit_causes.image_id
        where edit_flips.edit_id = {chosen["edit_id"]} group by 1
        """
    )
    assert len(changed) > 1
    for row in changed:
        assert row["ranks"] == [1, 2, 3, 4, 5]
        assert row["neurons"] == 5
        assert row["shares"] == sorted(row["shares"], reverse=True)
        assert row["shares"][0] > 0  # something must have brought the new class
    count = modified.rows("select count(*) as n from edit_causes")[0]["n"]
    assert count == 5 * len(changed)  # and no other image has any


def test_a_second_run_adds_no_rows_and_touches_no_file(edited_world: World) -> None:
    # A copy of a world has its checkpoints elsewhere than its warehouse says, but in the same place beside it.
    files = {path.name: path.stat().st_mtime_ns for path in (edited_world.folder / "edits").iterdir()}
    before = edited_world.tables()
    done = edited_world.modify()
    assert done.code == 0, done.err
    assert edited_world.tables() == before
    assert {path.name: path.stat().st_mtime_ns for path in (edited_world.folder / "edits").iterdir()} == files


def test_a_second_opening_of_test_is_counted_and_weakens_both(opened_twice: World) -> None:
    rows = opened_twice.rows("select * from edit_results order by edit_id, split_id")
    assert len(rows) == 4
    for row in rows:
        assert row["edits_tried"] == 2
        assert 0 < row["p_random"] <= 1
        assert row["p_corrected"] == pytest.approx(1 - (1 - row["p_random"]) ** 2)
    assert opened_twice.rows("select count(*) as n from split_openings") == [{"n": 2}]
    assert sorted(saved(opened_twice)) == ["paper", "twin"]
    tried = opened_twice.rows("select edits_tried from edit_choices order by edit_id")
    assert tried == [{"edits_tried": 1}, {"edits_tried": 2}]


def test_after_one_opening_p_is_that_of_the_random_edits(named: World) -> None:
    [row] = named.rows("select edits_tried, p_random, p_corrected from edit_results where split = 'test'")
    assert row["edits_tried"] == 1
    assert row["p_corrected"] == pytest.approx(row["p_random"])


# ---------------------------------------------------------------- controls


def test_an_edit_has_as_many_controls_as_the_study_says(named: World) -> None:
    rows = named.rows("select control, count(*) as n, count(distinct draw) as d from edits group by 1 order by 1")
    assert {row["control"]: (row["n"], row["d"]) for row in rows} == {
        None: (1, 0), "all": (1, 0), "bias": (1, 0), "matched": (CONTROLS, CONTROLS), "random": (CONTROLS, CONTROLS),
        "shuffled": (SHUFFLES, SHUFFLES),
    }  # fmt: skip
    own = named.rows("select split, control, draws from edit_controls where edit_id = 1")
    assert {(row["split"], row["control"]): row["draws"] for row in own} == {
        (split, control): draws
        for split in ("validation", "test")
        for control, draws in [
            ("all", 1), ("bias", 1), ("matched", CONTROLS), ("random", CONTROLS), ("shuffled", SHUFFLES)
        ]
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["random", "matched"])
def test_random_controls_are_the_edits_scales_on_other_neurons(modified: World, kind: str) -> None:
    edit = edits(modified)["mine"]  # six different scales, so that every permutation shows
    own = array(modified, edit)
    drawn = [array(modified, row) for row in controls(modified, kind)]
    assert len(drawn) == CONTROLS
    for each in drawn:
        assert sorted(each) == sorted(own)
    different = {tuple(each) for each in drawn}
    assert len(different) > CONTROLS / 4
    assert different != {tuple(own)}
    assert {scale for row in controls(modified, kind) for scale in array(modified, row, "bias_scale")} == {1.0}


def test_matched_controls_keep_each_scale_among_neurons_of_about_the_same_norm(modified: World) -> None:
    weight = state(modified.folder / "net.pt")["conv2.weight"]
    order = np.argsort(weight.flatten(1).norm(dim=1).numpy())
    own = array(modified, edits(modified)["mine"])
    strata = [set(order[start : start + 2]) for start in (0, 2, 4)]  # six neurons: pairs of neighbours
    for row in controls(modified, "matched"):
        each = array(modified, row)
        for units in map(list, strata):
            assert sorted(each[units]) == sorted(own[units])


def test_the_control_all_scales_every_neuron_and_the_control_bias_only_biases(named: World) -> None:
    edit = edits(named)["paper"]
    [everything], [bias] = controls(named, "all"), controls(named, "bias")
    assert set(array(named, everything)) == {1.5}
    assert set(array(named, everything, "bias_scale")) == {1.0}
    assert set(array(named, bias)) == {1.0}
    assert (array(named, bias, "bias_scale") == array(named, edit)).all()


def test_a_query_has_no_shuffled_controls_and_the_control_all_takes_its_commonest_scale(modified: World) -> None:
    assert controls(modified, "shuffled") == []
    [everything] = controls(modified, "all")
    own = array(modified, edits(modified)["mine"])
    assert len(set(array(modified, everything))) == 1
    assert array(modified, everything)[0] in own[own != 1]


def test_shuffled_controls_apply_the_rule_to_labels_of_permuted_images(named: World, tmp_path: Path) -> None:
    """The test permutes the embeddings in the warehouse, and the views compute the labels."""
    world = copied(named, tmp_path)
    drawn = {row["draw"]: array(world, row) for row in controls(world, "shuffled")}
    [embeddings] = [world.frame("select image_id, embedding from image_embeddings order by image_id")]
    for draw in (1, 2):
        order = np.random.default_rng([0, draw, 2]).permutation(len(embeddings))
        moved = pl.DataFrame({"image_id": embeddings["image_id"], "moved": embeddings["embedding"][order.tolist()]})
        with Warehouse(world.warehouse) as opened:
            opened.connection.register("moved", moved.to_arrow())
            opened.connection.execute(
                "update image_embeddings set embedding = moved.moved from moved "
                "where image_embeddings.image_id = moved.image_id"
            )
            list(opened.build(full_refresh=True))
            found = opened.rows("select scale from weight_scales where edit_id = 1 order by unit")["scale"]
        assert drawn[draw].tolist() == found.to_list()
    assert any(tuple(each) != tuple(array(world, edits(world)["paper"])) for each in drawn.values())


def test_a_study_may_ask_for_no_random_controls(world: World) -> None:
    world.change("controls = 12\nshuffles = 3", "controls = 0\nshuffles = 0")
    done = world.modify("--edit", "paper")
    assert done.code == 0, done.err
    assert [row["control"] for row in edits(world).values()] == [None, "all", "bias"]
    for row in world.rows("select p_random, p_mcnemar, p_corrected from edit_results"):
        assert row["p_random"] is None
        assert row["p_corrected"] == pytest.approx(row["p_mcnemar"])
    assert "percentile of random edits" not in done.out


# ---------------------------------------------------------------- an edit of an edited network


def test_an_edited_network_can_be_probed_and_edited_itself(named: World, tmp_path: Path) -> None:
    world = copied(named, tmp_path)
    [checkpoint] = (world.folder / "edits").iterdir()
    world.change('weights = "net.pt"', f'weights = "{checkpoint.relative_to(world.folder)}"')
    world.change('name = "net"', 'name = "second"')
    done = world.extract()
    assert done.code == 0, done.err
    query = "select split, correct, loss from network_accuracies where network = '{}' and split <> 'train' order by 1"
    for own, probed in zip(world.rows(query.format("net+paper")), world.rows(query.format("second")), strict=True):
        assert own | {"loss": 0} == probed | {"loss": 0}
        assert own["loss"] == pytest.approx(probed["loss"], abs=1e-5)
    done = world.modify("--edit", "mine")
    assert done.code == 0, done.err
    assert "Edit mine of second, itself an edit of net, layer " in done.out
    [edited] = world.rows("select * from networks where name = 'second+mine'")
    [probed] = world.rows("select * from networks where name = 'second'")
    assert (edited["parent_network_id"], probed["parent_network_id"]) == (probed["network_id"], 1)
    before, after = state(checkpoint), state(Path(edited["weights"]))
    for unit in range(6):
        assert torch.equal(after["conv2.weight"][unit], before["conv2.weight"][unit] * (1 + unit / 4))
    # Both networks were opened on test once each: neither weakens the other.
    assert world.rows("select edits_tried from edit_results where split = 'test'") == [{"edits_tried": 1}] * 2
    assert world.run("check").code == 0
