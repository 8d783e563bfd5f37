"""modify: an edited copy of the network, saved, entered and measured; the original stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from killer import kill
from worlds import CLASSES, NETWORK, World, command

import cli

pytest_plugins = ["world_fixtures"]


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["params"]


def edits(world: World) -> dict[str, dict]:
    """The rows of `edits` with their network, by name."""
    rows = world.rows(
        """
        select edits.*, networks.weights, networks.network_id as edited_network_id, networks.name as network,
            networks.parent_network_id
        from edits inner join networks on edits.edit_id = networks.edit_id order by edits.edit_id
        """
    )
    return {row["name"]: row for row in rows}


def scales(world: World, edit_id: int) -> dict[int, float]:
    """unit → scale, as it was applied."""
    rows = world.rows(f"select unit, scale from edit_scales natural join neurons where edit_id = {edit_id}")
    return {row["unit"]: row["scale"] for row in rows}


@pytest.mark.parametrize("name", ["paper", "twin", "mine"])
def test_a_checkpoint_holds_the_rows_scaled_and_nothing_else_changed(modified: World, name: str) -> None:
    edit = edits(modified)[name]
    before, after = state(modified.folder / "net.pt"), state(Path(edit["weights"]))
    factors = scales(modified, edit["edit_id"])
    weight = f"{edit['layer']}.weight"
    assert list(before) == list(after)
    for key in before:
        if key != weight:
            assert torch.equal(before[key], after[key]), key
    assert sorted(factors) == list(range(len(before[weight])))
    assert len(set(factors.values())) > 1
    for unit, factor in factors.items():
        expected = before[weight][unit] * torch.tensor(factor, dtype=torch.float32)
        assert torch.equal(after[weight][unit], expected), unit


def test_the_paper_scales_interpretable_neurons_up_and_the_others_down(modified: World) -> None:
    rows = modified.rows("select unit, interpretable from neuron_concepts where layer = 'lin'")
    expected = {row["unit"]: 1.5 if row["interpretable"] else 1 / 1.5 for row in rows}
    assert scales(modified, edits(modified)["paper"]["edit_id"]) == expected


def test_what_was_applied_is_what_the_view_says(modified: World) -> None:
    query = """
        select edit_id, unit, scale from weight_scales
        except select edit_id, unit, scale from edit_scales natural join neurons
    """
    assert modified.rows(query) == []
    assert modified.rows("select count(*) as n from weight_scales") == [{"n": 8 + 8 + 6}]


def test_the_original_stays_as_it_was(untouched: World, modified: World) -> None:
    assert (modified.folder / "net.pt").read_bytes() == (untouched.folder / "net.pt").read_bytes()
    assert {Path(row["weights"]).parent for row in edits(modified).values()} == {modified.folder / "edits"}


def logits(checkpoint: Path, images: list[Path]) -> torch.Tensor:
    """What the network of a checkpoint says of image files, by a forward pass of the test's own."""
    import PIL.Image

    scope: dict = {}
    exec(NETWORK, scope)
    model = scope["make"]()
    model.load_state_dict(state(checkpoint))
    values = np.stack([np.asarray(PIL.Image.open(path)) for path in images])[:, None] / np.float32(255)
    with torch.inference_mode():
        return model((torch.from_numpy(values) - 0.5) / 0.25)


@pytest.mark.parametrize("name", ["paper", "mine"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_results_are_those_of_running_both_networks(modified: World, name: str, split: str) -> None:
    edit = edits(modified)[name]
    folder = modified.folder / "images" / split
    images = sorted(folder.rglob("*.png"))
    truth = torch.tensor([CLASSES.index(path.parent.name) for path in images])
    before, after = logits(modified.folder / "net.pt", images), logits(Path(edit["weights"]), images)
    right, right_after = before.argmax(1) == truth, after.argmax(1) == truth
    [row] = modified.rows(f"select * from edit_results where edit_id = {edit['edit_id']} and split = '{split}'")
    assert row["images"] == len(images)
    assert row["correct_before"] == int(right.sum())
    assert row["correct_after"] == int(right_after.sum())
    assert row["gained"] == int((~right & right_after).sum())
    assert row["lost"] == int((right & ~right_after).sum())
    loss = torch.nn.functional.cross_entropy
    assert row["loss_before"] == pytest.approx(float(loss(before, truth)), abs=1e-5)
    assert row["loss_after"] == pytest.approx(float(loss(after, truth)), abs=1e-5)


def test_an_edited_network_is_judged_on_validation_and_test_only(modified: World) -> None:
    rows = modified.rows("select split, count(*) as n from image_predictions where network = 'net+paper' group by 1")
    assert {row["split"]: row["n"] for row in rows} == {"validation": 21, "test": 18}
    assert edits(modified)["paper"]["parent_network_id"] == 1


def test_two_edits_with_equal_weights_are_two_edits(modified: World) -> None:
    paper, twin = edits(modified)["paper"], edits(modified)["twin"]
    assert scales(modified, paper["edit_id"]) == scales(modified, twin["edit_id"])
    assert paper["edited_network_id"] != twin["edited_network_id"]
    results = modified.rows("select edit_id, network, tau from edit_results where layer = 'lin' order by 1")
    assert {(row["network"], row["tau"]) for row in results} == {("net+paper", 0.0), ("net+twin", 0.0001)}


def test_a_second_run_does_nothing_new(edited_world: World) -> None:
    # A copy of a world has its checkpoints elsewhere than its warehouse says, but in the same place beside it.
    files = {path.name: path.stat().st_mtime_ns for path in (edited_world.folder / "edits").iterdir()}
    before = edited_world.tables()
    done = edited_world.modify()
    assert done.code == 0, done.err
    assert edited_world.tables() == before
    assert {path.name: path.stat().st_mtime_ns for path in (edited_world.folder / "edits").iterdir()} == files


def test_only_the_named_edit_is_made(world: World) -> None:
    assert world.modify("--edit", "mine").code == 0
    assert list(edits(world)) == ["mine"]


def test_a_dry_run_writes_nothing(world: World) -> None:
    before = world.bytes()
    done = world.modify("--dry-run")
    assert done.code == 0, done.err
    assert "net-paper-" in done.out
    assert world.bytes() == before
    # ... and says which checkpoints there will be.
    planned = {word for word in done.out.split() if word.endswith(".pt")}
    assert world.modify().code == 0
    assert {row["weights"] for row in edits(world).values()} == planned


def test_the_layer_is_chosen_where_the_study_names_none(world: World) -> None:
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"')
    assert world.modify("--edit", "paper").code == 0
    [choice] = world.rows("select layer from layer_choices where dissection_id = 2 and rank = 1")
    assert edits(world)["paper"]["layer"] == choice["layer"]


def test_a_rule_of_ones_own_sees_the_studys_dissection(world: World) -> None:
    """neuron_concepts shows the newest dissection; an edit reads the one that its study declares last."""
    world.change("select layer, unit, 1 + unit / 4 as scale", "select layer, unit, 2 + similarity / 10 as scale")
    study = world.study.read_text()
    other = world.folder / "other.toml"
    other.write_text(study.replace("softmax_scale = 40.0", "softmax_scale = 2.0"))
    assert command("extract", other).code == 0
    assert world.modify("--edit", "mine").code == 0
    rows = world.rows(
        """
        select unit, 2 + similarity / 10 as scale from neuron_labels natural join named_neurons
        where dissection_id = 2 and layer = 'conv2'
        """
    )
    found = scales(world, edits(world)["mine"]["edit_id"])
    assert found == pytest.approx({row["unit"]: row["scale"] for row in rows})
    assert edits(world)["mine"]["dissection_id"] == 2


def test_the_same_query_over_other_rows_is_another_edit(world: World) -> None:
    world.change("select layer, unit, 1 + unit / 4 as scale", "select layer, unit, 1 + abs(similarity) as scale")
    assert world.modify("--edit", "mine").code == 0
    world.change('{ name = "conv2", pooling = "max" }', '"conv2"')  # the same dissection with other labels
    assert world.extract().code == 0
    assert world.modify("--edit", "mine").code == 0
    assert world.rows("select count(*) as edits, count(distinct weights) as files from networks where edit_id > 0") == [
        {"edits": 2, "files": 2}
    ]
    assert world.run("check").code == 0


def test_an_edited_network_can_be_probed_itself(edited_world: World) -> None:
    checkpoint = next((edited_world.folder / "edits").glob("net-paper-*.pt"))
    done = edited_world.extract("--set", f"network.weights={checkpoint.relative_to(edited_world.folder)}")
    assert done.code == 0, done.err
    [row] = edited_world.rows(
        """
        select count(*) as neurons from neuron_concepts
        inner join dissections on neuron_concepts.dissection_id = dissections.dissection_id
        where dissections.network_id = (select max(network_id) from networks)
        """
    )
    assert row["neurons"] == 19
    query = "select split, correct, loss from network_accuracies where network_id = {} and split <> 'train' order by 1"
    edited = edits(edited_world)["paper"]["edited_network_id"]
    probed = edited_world.rows("select max(network_id) as id from networks")[0]["id"]
    assert edited_world.rows(query.format(edited)) == edited_world.rows(query.format(probed))


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
        patch.setattr(cli, "_build", lambda opened, **options: None)
        assert new_world.extract().code == 0
    assert new_world.rows("select * from neuron_concepts") == []
    assert new_world.modify("--edit", "paper").code == 0
    assert len(new_world.rows("select * from neuron_concepts")) == 19


MOMENTS = {
    "before its checkpoint is whole": ("replace", "", 1),
    "inside the edit's transaction": ("insert", "edit_scales", 2),
    "inside a block's transaction": ("insert", "predictions", 3),
}


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    finished: World, modified: World, copy_world: Callable[[World, str], World]
) -> None:
    worlds = {name: copy_world(finished, name) for name in MOMENTS}
    kill("modify", {str(worlds[name].study): moment for name, moment in MOMENTS.items()})
    expected = modified.tables()
    for name, world in worlds.items():
        assert world.modify().code == 0, name
        assert world.tables() == expected, name
        assert world.run("check").code == 0, name
        files = sorted(path.name for path in (world.folder / "edits").iterdir())
        assert files == sorted(path.name for path in (modified.folder / "edits").iterdir()), name
