"""modify over other studies, layers and checkpoints, and after a run that was killed."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dissectdb import pipeline
from dissectdb.extract.editing import cut_network
from dissectdb.extract.editing.edits import PlannedEdit, scaled_copy
from dissectdb.extract.editing.layers import EditedLayer
from dissectdb.extract.models.hooks import Tap
from tests.support.edited_networks import OTHER_SCALES, array, edits, logits, saved, scaled, state
from tests.support.explorers import explored
from tests.support.killer import kill
from tests.support.worlds import CLASSES, World, command

# ---------------------------------------------------------------- which edits


def test_a_dry_run_writes_nothing_and_names_the_checkpoints_to_be(world: World) -> None:
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


def test_a_layer_that_the_study_no_longer_names_is_not_chosen(world: World) -> None:
    """The warehouse still holds the other layers, and one of them has the most interpretable neurons."""
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


def test_a_query_reads_the_dissection_of_its_study(world: World) -> None:
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


def test_the_same_query_over_different_rows_is_a_different_edit(world: World) -> None:
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


def test_an_edit_that_scales_all_neurons_alike_is_not_compared_with_itself(world: World) -> None:
    """Its random neurons are all neurons. Only the biases are another edit."""
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"\nlayer = "lin"\ntau = -1000')
    done = world.modify("--edit", "paper")
    assert done.code == 0, done.err
    said = (
        "Every draw of all, matched, random and shuffled scales lin exactly as the edit does, so it compares nothing. "
        "Choose a tau or a rule that scales some neurons more than others."
    )
    assert said in " ".join(done.out.split())
    assert "percentile of random edits" not in done.out
    for row in world.rows("select control, percentile, p from edit_controls"):
        assert [row["percentile"] is None, row["p"] is None] == [row["control"] != "bias"] * 2
    for row in world.rows("select percentile, p_random, p_mcnemar, p_corrected from edit_results"):
        assert row["percentile"] is row["p_random"] is None
        assert row["p_corrected"] == pytest.approx(row["p_mcnemar"])
    assert world.run("report", "-o", world.folder / "report.html").code == 0
    report = (world.folder / "report.html").read_text(encoding="utf-8")
    assert said in report
    assert "of random edits" not in report
    assert re.findall(r"of (\d+) controls? do(?:es)? at least as well as the edit", report)[:1] == ["1"]
    with explored(world.warehouse) as explorer:
        assert said in explorer.page("/edit?id=1").text


def test_a_result_on_the_images_that_made_the_labels_is_marked(new_world: World) -> None:
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
        stopped = new_world.extract()
    assert stopped.code == 3
    assert "is not computed yet" in stopped.err
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


def test_a_killed_run_that_is_repeated_gives_the_same_tables(
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
