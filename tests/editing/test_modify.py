"""modify: edits tried on validation, one judged on test beside its controls; the original stays as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

from dissectdb import pipeline
from dissectdb.extract.editing import cut_network
from dissectdb.extract.editing.edits import PlannedEdit, scaled_copy
from dissectdb.extract.editing.layers import EditedLayer
from dissectdb.extract.models.hooks import Tap
from dissectdb.warehouse import Warehouse
from tests.support.killer import kill
from tests.support.worlds import CLASSES, NETWORK, World, command

CONTROLS, SHUFFLES = 12, 3  # as the study of a world says
OTHER_SCALES = "select layer, unit, 1 + unit / 4 as scale"


def copied(world: World, folder: Path) -> World:
    return World(Path(shutil.copytree(world.folder, folder / "world")))


@pytest.fixture(scope="module")
def named(finished: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """An extracted world in which only the edit paper was made; only to be read or copied."""
    world = copied(finished, tmp_path_factory.mktemp("named"))
    done = world.modify("--edit", "paper")
    assert done.code == 0, done.err
    return world


@pytest.fixture(scope="module")
def opened_twice(named: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Where the test images were looked at for paper, then for twin; only to be read."""
    world = copied(named, tmp_path_factory.mktemp("twice"))
    done = world.modify("--edit", "twin")
    assert done.code == 0, done.err
    return world


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["params"]


def edits(world: World) -> dict[str, dict]:
    """The rows of `edits`, by name."""
    return {row["name"]: row for row in world.rows("select * from edits order by edit_id")}


def saved(world: World) -> dict[str, dict]:
    """The rows of `networks` that an edit made, by the edit's name."""
    rows = world.rows(
        """
        select networks.*, edits.name as edit from networks inner join edits on networks.edit_id = edits.edit_id
        """
    )
    return {row["edit"]: row for row in rows}


def scales(world: World, edit_id: int, column: str = "scale") -> dict[tuple[str, int], float]:
    """(layer, unit) → scale, as it was applied."""
    rows = world.rows(
        f"""
        select layer, unit, {column} as scale from edit_scales
        inner join named_neurons on edit_scales.neuron_id = named_neurons.neuron_id where edit_id = {edit_id}
        """
    )
    return {(row["layer"], row["unit"]): row["scale"] for row in rows}


def array(world: World, edit: dict, column: str = "scale") -> np.ndarray:
    """The scales of an edit of one layer, (unit,)."""
    found = scales(world, edit["edit_id"], column)
    return np.array([found[edit["layer"], unit] for unit in range(len(found))])


def scaled(world: World, edit_id: int) -> dict[str, torch.Tensor]:
    """The state of the original network with the rows and biases scaled as `edit_scales` says."""
    values = {key: tensor.clone() for key, tensor in state(world.folder / "net.pt").items()}
    for key, column in (("weight", "scale"), ("bias", "bias_scale")):
        for (layer, unit), scale in scales(world, edit_id, column).items():
            values[f"{layer}.{key}"][unit] *= torch.tensor(scale, dtype=torch.float32)
    return values


def logits(values: dict[str, torch.Tensor], images: list[Path]) -> torch.Tensor:
    """What a network says of image files, by a forward pass of the test's own."""
    import PIL.Image

    scope: dict = {}
    exec(NETWORK, scope)
    model = scope["make"]()
    model.load_state_dict(values)
    pixels = np.stack([np.asarray(PIL.Image.open(path)) for path in images])[:, None] / np.float32(255)
    with torch.inference_mode():
        return model((torch.from_numpy(pixels) - 0.5) / 0.25)


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


def test_every_edit_and_control_predicts_what_a_network_with_its_scales_says(modified: World) -> None:
    """None of them but the chosen one was ever saved; each is made here and run."""
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


# ---------------------------------------------------------------- one is chosen, and only that one is on test


def test_the_best_on_validation_is_chosen_and_only_that_one_is_opened_and_saved(modified: World) -> None:
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


def test_no_test_image_was_looked_at_for_an_edit_that_was_not_chosen(modified: World) -> None:
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


def test_an_edited_network_is_judged_on_validation_and_test_only(named: World) -> None:
    rows = named.rows("select split, count(*) as n from image_predictions where network = 'net+paper' group by 1")
    assert {row["split"]: row["n"] for row in rows} == {"validation": 21, "test": 18}
    assert saved(named)["paper"]["parent_network_id"] == 1
    assert [name for name, row in edits(named).items() if row["control"] is None] == ["paper"]


def test_every_edit_that_was_measured_has_intervals_around_what_it_changed(modified: World) -> None:
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


def test_a_p_after_one_opening_is_that_of_the_random_edits(named: World) -> None:
    [row] = named.rows("select edits_tried, p_random, p_corrected from edit_results where split = 'test'")
    assert row["edits_tried"] == 1
    assert row["p_corrected"] == pytest.approx(row["p_random"])


# ---------------------------------------------------------------- controls


def controls(world: World, kind: str) -> list[dict]:
    return [row for row in edits(world).values() if row["control"] == kind]


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


def test_all_is_every_neuron_by_the_factor_and_bias_the_biases_alone(named: World) -> None:
    edit = edits(named)["paper"]
    [everything], [bias] = controls(named, "all"), controls(named, "bias")
    assert set(array(named, everything)) == {1.5}
    assert set(array(named, everything, "bias_scale")) == {1.0}
    assert set(array(named, bias)) == {1.0}
    assert (array(named, bias, "bias_scale") == array(named, edit)).all()


def test_a_query_of_ones_own_has_no_shuffled_controls_and_all_takes_its_commonest_scale(modified: World) -> None:
    assert controls(modified, "shuffled") == []
    [everything] = controls(modified, "all")
    own = array(modified, edits(modified)["mine"])
    assert len(set(array(modified, everything))) == 1
    assert array(modified, everything)[0] in own[own != 1]


def test_shuffled_controls_are_the_rule_on_labels_of_images_that_changed_places(named: World, tmp_path: Path) -> None:
    """The embeddings change places in the warehouse itself, and the views say the labels."""
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


# ---------------------------------------------------------------- each rule

RULES = """
[[edits]]
name = "paper down"
layer = "lin"
tau = {middle}
factor = 2.0
factor_down = 4.0
bias = true

[[edits]]
name = "calibrated"
rule = "calibrated"
layer = "lin"
factor = 3.0

[[edits]]
name = "weight_l1"
rule = "weight_l1"
layers = ["conv1", "lin"]
factor = 1.5
factor_down = 1.0

[[edits]]
name = "proportional"
rule = "proportional"
layer = "conv2"
factor = 2.5

[[edits]]
name = "silent"
rule = "ablate"
layers = ["conv2", "lin"]

[[edits]]
name = "silent nothing"
rule = "ablate"
layer = "lin"
concepts = ["nothing"]
bias = false

[[edits]]
name = "query"
rule = "sql"
layers = ["conv2", "gate"]
sql = "select layer, unit, 1 + unit / 4 as scale from neuron_concepts where layer in ('conv2', 'gate')"
bias = true

[[edits]]
name = "file"
rule = "sql"
layer = "conv2"
sql = "mine.sql"

[[sweeps]]
name = "grid"
rules = ["paper", "calibrated", "weight_l1", "proportional"]
layers = ["conv2", "lin"]
taus = [0.0, {middle}]
factors = [1.5, 2.0]
factors_down = [1.0, 3.0]

[protocol]
controls = 1
shuffles = 1
bootstraps = 100
"""
FILE = "-- every second one\nselect layer, unit, unit % 2 as scale from neuron_concepts where layer = 'conv2'\n"
SWEPT = 2 * (2 * 2 * 2 + 2 * 2 + 2 * 2 + 2)  # layers × (paper + calibrated + weight_l1 + proportional)
LABELS = """
    select layer, unit, similarity, q, concept, calibrated, interpretable
    from neuron_labels
    inner join named_neurons on neuron_labels.neuron_id = named_neurons.neuron_id
    left join concepts on neuron_labels.concept_id = concepts.concept_id
    where dissection_id = {} order by layer, unit
"""


@pytest.fixture(scope="module")
def ruled(finished: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with an edit by each rule, and thresholds that some neurons pass and some do not."""
    world = copied(finished, tmp_path_factory.mktemp("ruled"))
    lin = world.frame(LABELS.format(2)).filter(layer="lin")
    middle, limit = float(lin["similarity"].median()), float(lin["q"].min() + lin["q"].median()) / 2
    world.change("softmax_scale = 40.0", f"softmax_scale = 40.0\ntau = {middle}\nq_limit = {limit}")
    text = world.study.read_text().partition("[[edits]]")[0]
    world.study.write_text(text + RULES.format(middle=middle))
    (world.folder / "mine.sql").write_text(FILE)
    for done in (world.extract(), world.modify()):
        assert done.code == 0, done.err
    return world


def labels(world: World, layer: str) -> dict[str, np.ndarray]:
    rows = world.frame(LABELS.format("(select max(dissection_id) from dissections)")).filter(layer=layer)
    return {name: rows[name].to_numpy() for name in rows.columns}


def by_unit(world: World, edit: str, layer: str, column: str = "scale") -> np.ndarray:
    found = scales(world, edits(world)[edit]["edit_id"], column)
    return np.array([scale for (name, _), scale in sorted(found.items()) if name == layer])


def test_paper_scales_neurons_above_tau_up_and_the_others_down(ruled: World) -> None:
    of = labels(ruled, "lin")
    above = of["similarity"] > np.median(of["similarity"])
    assert 0 < above.sum() < len(above)
    expected = np.where(above, 2.0, 0.25)
    np.testing.assert_allclose(by_unit(ruled, "paper down", "lin"), expected, rtol=1e-12)
    np.testing.assert_allclose(by_unit(ruled, "paper down", "lin", "bias_scale"), expected, rtol=1e-12)


def test_paper_divides_by_its_factor_where_no_other_is_given(named: World) -> None:
    rows = named.frame(LABELS.format(2)).filter(layer="lin")
    expected = np.where(rows["similarity"].to_numpy() > 0, 1.5, 1 / 1.5)
    np.testing.assert_allclose(array(named, edits(named)["paper"]), expected, rtol=1e-12)
    assert set(array(named, edits(named)["paper"], "bias_scale")) == {1.0}


def test_calibrated_scales_labels_within_the_limit_of_q_up(ruled: World) -> None:
    [limit] = ruled.frame("select q_limit from dissections order by dissection_id desc limit 1")["q_limit"]
    passed = labels(ruled, "lin")["q"] <= limit
    assert 0 < passed.sum() < len(passed)
    np.testing.assert_allclose(by_unit(ruled, "calibrated", "lin"), np.where(passed, 3.0, 1 / 3), rtol=1e-12)


@pytest.mark.parametrize("layer", ["conv1", "lin"])
def test_weight_l1_scales_rows_above_the_mean_of_their_own_layer_up(ruled: World, layer: str) -> None:
    norms = state(ruled.folder / "net.pt")[f"{layer}.weight"].flatten(1).abs().sum(1).numpy()
    assert (by_unit(ruled, "weight_l1", layer) == np.where(norms > norms.mean(), 1.5, 1.0)).all()


def test_proportional_is_the_factor_times_the_place_between_lowest_and_highest(ruled: World) -> None:
    score = labels(ruled, "conv2")["similarity"]
    expected = 2.5 * (score - score.min()) / (score.max() - score.min())
    np.testing.assert_allclose(by_unit(ruled, "proportional", "conv2"), expected, rtol=1e-9)


def test_ablate_silences_interpretable_neurons_with_their_biases(ruled: World) -> None:
    for layer in ("conv2", "lin"):
        expected = np.where(labels(ruled, layer)["interpretable"], 0.0, 1.0)
        assert (by_unit(ruled, "silent", layer) == expected).all()
        assert (by_unit(ruled, "silent", layer, "bias_scale") == expected).all()
    assert 0 in expected
    assert 1 in expected


def test_ablate_silences_only_the_concepts_that_are_named(ruled: World) -> None:
    of = labels(ruled, "lin")
    chosen = of["interpretable"] & (of["concept"] == "nothing")
    assert 0 < chosen.sum() < of["interpretable"].sum()
    assert (by_unit(ruled, "silent nothing", "lin") == np.where(chosen, 0.0, 1.0)).all()
    assert set(by_unit(ruled, "silent nothing", "lin", "bias_scale")) == {1.0}


def test_a_query_scales_as_it_says_whether_in_the_study_or_in_a_file_beside_it(ruled: World) -> None:
    expected = 1 + np.arange(6) / 4
    assert (by_unit(ruled, "query", "conv2") == expected).all()
    assert (by_unit(ruled, "query", "conv2", "bias_scale") == expected).all()
    assert (by_unit(ruled, "query", "gate") == [1.0]).all()
    assert (by_unit(ruled, "file", "conv2") == np.arange(6) % 2).all()
    assert edits(ruled)["file"]["sql"] == FILE


def test_what_was_applied_is_what_the_view_says(ruled: World, modified: World) -> None:
    for world in (ruled, modified):
        both = [
            f"select edit_id, neuron_id, scale, bias_scale from {name}" for name in ("weight_scales", "edit_scales")
        ]
        assert world.rows(f"({both[0]} except {both[1]}) union all ({both[1]} except {both[0]})") == []
        [row] = world.rows(f"select count(*) as n from ({both[0]})")
        assert row["n"] == world.counts()["edit_scales"] > 0


def test_a_sweep_is_every_combination_once_and_all_are_measured(ruled: World) -> None:
    swept = [row for name, row in edits(ruled).items() if name.startswith("grid: ") and row["control"] is None]
    distinct = {(r["rule"], r["layer"], r["tau"], r["factor"], r["factor_down"]) for r in swept}
    assert len(swept) == len(distinct) == SWEPT
    assert {row["tau"] is None for row in swept if row["rule"] != "paper"} == {True}
    assert {row["factor_down"] for row in swept if row["rule"] == "proportional"} == {None}
    assert "grid: paper, lin, tau 0, factor 1.5, factor_down 1" in edits(ruled)
    [row] = ruled.rows("select count(*) as n, max(edits_tried) as tried from edit_results where split = 'validation'")
    assert row == {"n": SWEPT + 8, "tried": SWEPT + 8}
    assert len(saved(ruled)) == 1


@pytest.mark.parametrize("edit", ["paper down", "weight_l1", "silent", "query", "file"])
def test_edits_of_biases_and_of_several_layers_are_measured_as_they_are(ruled: World, edit: str) -> None:
    images = sorted((ruled.folder / "images" / "validation").rglob("*.png"))
    edit_id = edits(ruled)[edit]["edit_id"]
    found = logits(scaled(ruled, edit_id), images)
    truth = torch.tensor([CLASSES.index(path.parent.name) for path in images])
    [row] = ruled.rows(f"select loss_after from edit_results where edit_id = {edit_id} and split = 'validation'")
    assert row["loss_after"] == pytest.approx(float(F.cross_entropy(found, truth)), abs=1e-4)


# ---------------------------------------------------------------- which edits


def test_a_dry_run_writes_nothing_and_says_where_a_network_would_be_saved(world: World) -> None:
    before = world.bytes()
    done = world.modify("--dry-run")
    assert done.code == 0, done.err
    assert world.bytes() == before
    planned = {word for word in done.out.split() if word.endswith(".pt")}
    assert len(planned) == 3
    assert world.modify().code == 0
    [network] = saved(world).values()
    assert network["weights"] in planned


def test_the_layer_is_chosen_where_the_study_names_none(world: World) -> None:
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"')
    assert world.modify("--edit", "paper").code == 0
    [choice] = world.rows("select layer from layer_choices where dissection_id = 2 and rank = 1")
    assert edits(world)["paper"]["layer"] == choice["layer"]


def test_no_layer_is_chosen_that_the_study_does_not_name_any_more(world: World) -> None:
    """The warehouse still holds the others, one of which has the most interpretable neurons."""
    world.change('["conv1", { name = "conv2", pooling = "max" }, "lin", "gate"]', '["conv1"]')
    world.study.write_text(
        world.study.read_text().partition("[[edits]]")[0]
        + '[[edits]]\nname = "paper"\n[protocol]\ncontrols = 1\nshuffles = 0\n'
    )
    assert world.modify().code == 0
    assert edits(world)["paper"]["layer"] == "conv1"
    [first] = world.rows("select layer from layer_choices where dissection_id = 2 and rank = 1")
    assert first["layer"] != "conv1"


def test_layers_that_do_not_depend_on_each_other_are_edited_together(world: World) -> None:
    world.change('"lin", "gate"]', '"lin", "gate", "head"]')
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"\nlayers = ["gate", "head"]\nbias = true')
    assert world.extract().code == 0
    done = world.modify("--edit", "paper")
    assert done.code == 0, done.err
    for split in ("validation", "test"):
        images = sorted((world.folder / "images" / split).rglob("*.png"))
        truth = torch.tensor([CLASSES.index(path.parent.name) for path in images])
        expected = float(F.cross_entropy(logits(scaled(world, 1), images), truth))
        [row] = world.rows(f"select loss_before, loss_after from edit_results where split = '{split}'")
        assert row["loss_after"] == pytest.approx(expected, abs=1e-5)
        assert abs(row["loss_after"] - row["loss_before"]) > 1e-3


def test_a_layer_without_biases_is_scaled() -> None:
    layers = (EditedLayer("0", 1, 1, np.array([2.0, 0.0, 1.0]), np.array([5.0, 5.0, 5.0])),)
    model = torch.nn.Sequential(torch.nn.RMSNorm(3), torch.nn.Linear(3, 2)).eval()
    edited = scaled_copy(model, PlannedEdit({}, layers))
    assert edited[0].weight.tolist() == [2, 0, 1]
    images = torch.rand(4, 3)
    with torch.no_grad():
        found = cut_network.cut_at(model, [Tap("0", 3, "none", 0, 1)], (3,))
        [said] = found.after_all(found.before(images), [PlannedEdit({}, layers).change(torch.device("cpu"))])
        torch.testing.assert_close(said, edited(images))


def test_a_rule_of_ones_own_sees_the_studys_dissection(world: World) -> None:
    """neuron_concepts shows the newest dissection; an edit reads the one that its study declares last."""
    world.change(OTHER_SCALES, "select layer, unit, 2 + similarity / 10 as scale")
    study = world.study.read_text()
    other = world.folder / "other.toml"
    other.write_text(study.replace("softmax_scale = 40.0", "softmax_scale = 2.0"))
    assert command("extract", other).code == 0
    assert world.modify("--edit", "mine").code == 0
    rows = world.rows(
        """
        select unit, 2 + similarity / 10 as scale from neuron_labels natural join named_neurons
        where dissection_id = 2 and layer = 'conv2' order by unit
        """
    )
    assert array(world, edits(world)["mine"]) == pytest.approx([row["scale"] for row in rows])
    assert edits(world)["mine"]["dissection_id"] == 2


def test_the_same_query_over_other_rows_is_another_edit(world: World) -> None:
    world.change(OTHER_SCALES, "select layer, unit, 1 + abs(similarity) as scale")
    world.change("where layer = 'conv2'", "where layer like 'conv2%' and layer not like '%max%'")
    assert world.modify("--edit", "mine").code == 0
    world.change('{ name = "conv2", pooling = "max" }', '"conv2"')  # the same dissection with other labels
    assert world.extract().code == 0
    assert world.modify("--edit", "mine").code == 0
    assert world.rows("select count(*) as edits, count(distinct weights) as files from networks where edit_id > 0") == [
        {"edits": 2, "files": 2}
    ]
    assert world.rows("select edits_tried from edit_results where split = 'test'") == [{"edits_tried": 2}] * 2
    assert world.run("check").code == 0


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


def test_labels_that_were_made_on_the_test_images_are_said_to_be(new_world: World) -> None:
    new_world.change('path = "images"', 'path = "images"\nprobing_split = "test"')
    assert new_world.extract().code == 0
    done = new_world.modify("--edit", "paper")
    assert done.code == 0, done.err
    said = {line.partition(":")[0]: line for line in done.out.splitlines() if line.startswith(("test:", "validation:"))}
    assert said["test"].endswith("; the labels were made on these very images")
    assert "labels were made" not in said["validation"]


def test_a_safetensors_network_gets_a_safetensors_checkpoint(new_world: World) -> None:
    from safetensors.torch import load_file, save_file

    save_file(state(new_world.folder / "net.pt"), new_world.folder / "net.safetensors")
    new_world.change('weights = "net.pt"', 'weights = "net.safetensors"')
    assert new_world.extract().code == 0
    assert new_world.modify("--edit", "paper").code == 0
    [checkpoint] = (new_world.folder / "edits").iterdir()
    assert checkpoint.suffix == ".safetensors"
    assert load_file(checkpoint).keys() == state(new_world.folder / "net.pt").keys()


def test_views_that_a_killed_run_left_stale_are_built_first(new_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "label", lambda opened, *rest, **options: None)
        assert new_world.extract().code == 0
    assert new_world.rows("select * from neuron_concepts") == []
    assert new_world.modify("--edit", "paper").code == 0
    assert len(new_world.rows("select * from neuron_concepts")) == 19


# ---------------------------------------------------------------- a run that is killed

MOMENTS = {
    "inside the edits' transaction": ("insert", "edit_scales", 1),
    "inside a block of validation": ("insert", "edit_predictions", 2),
    "when what the edits did is counted": ("build", "", 1),
    "inside the controls' transaction": ("insert", "edit_scales", 2),
    "after the opening": ("commit", "split_openings", 1),
    "inside a block of test": ("insert", "edit_predictions", 4),
    "inside the causes": ("insert", "edit_causes", 1),
    "before its checkpoint is whole": ("replace", "", 1),
    "inside the network's predictions": ("insert", "predictions", 1),
}


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    finished: World, modified: World, copy_world: Callable[[World, str], World]
) -> None:
    worlds = {name: copy_world(finished, name) for name in MOMENTS}
    kill("modify", {str(worlds[name].study): moment for name, moment in MOMENTS.items()})
    on_test = "select 1 from edit_blocks natural join splits where split = 'test'"
    assert worlds["after the opening"].rows(on_test) == worlds["inside a block of test"].rows(on_test) == []
    assert worlds["inside the causes"].rows(on_test) != []
    expected = modified.tables()
    for name, world in worlds.items():
        assert world.modify().code == 0, name
        assert world.tables() == expected, name
        assert world.run("check").code == 0, name
        files = sorted(path.name for path in (world.folder / "edits").iterdir())
        assert files == sorted(path.name for path in (modified.folder / "edits").iterdir()), name
