"""Whole runs over networks that return more than logits, or something else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.worlds import CLASSES, World, save_network

NETS = """
from collections import OrderedDict

import torch
import torch.nn.functional as F

from net_py import Net


class Parts(Net):
    def forward(self, images):
        return torch.tensor(0.0), super().forward(images).softmax(1)


class Many(Net):
    def __init__(self, classes):
        super().__init__(classes)
        self.relu = torch.nn.ReLU()
        self.backbone = torch.nn.ModuleList([self.conv1, self.lin])

    def forward(self, images):
        seen = self.pool(self.relu(self.conv1(images)))
        seen = F.adaptive_max_pool2d(self.relu(self.conv2(seen)), 2).flatten(1)
        seen = self.relu(self.lin(seen))
        return {"seen": seen, "logits": self.head(seen) * torch.sigmoid(self.gate(seen))}


class Maps(Net):
    def forward(self, images):
        return self.conv1(images)


class Dropping(Net):
    def forward(self, images):
        logits = super().forward(images)
        return logits + F.dropout(logits) + torch.rand(())  # few logits may be dropped alike twice


class Squeezed(Net):
    def __init__(self, classes):
        super().__init__(1)

    def forward(self, images):
        return super().forward(images).squeeze()
"""


def with_network(world: World, name: str) -> World:
    """The world, with another network in the place of its own, filled with the same weights."""
    text = (world.folder / "net.py").read_text().partition("def make")[0]
    nets = NETS.replace("from net_py import Net\n", text.partition("class Net")[1] + text.partition("class Net")[2])
    (world.folder / "nets.py").write_text(f"from torch import nn\n{nets}\n\ndef make():\n    return {name}(3)\n")
    world.change('"net.py:make"', '"nets.py:make"')
    return world


@pytest.mark.parametrize(
    ("name", "message"), [("Maps", "scores at many places"), ("Dropping", "Dropping.forward, after gate")]
)
def test_a_network_that_cannot_be_read_is_refused_before_anything_is_computed(
    new_world: World, name: str, message: str
) -> None:
    world = with_network(new_world, name)
    for options in (["--dry-run"], []):
        done = world.extract(*options)
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err
    assert not world.warehouse.exists()


PREDICTIONS = "select image_id, class, confidence, loss, probabilities from predictions order by image_id"


def test_probabilities_in_a_part_give_the_predictions_of_their_logits(new_world: World, finished: World) -> None:
    done = with_network(new_world, "Parts").extract()
    assert done.code == 0, done.err
    assert "ends in probabilities" in done.err
    assert "part 1 of what" in done.err
    ours, theirs = new_world.frame(PREDICTIONS), finished.frame(PREDICTIONS)
    assert ours["class"].to_list() == theirs["class"].to_list()
    for column in ("confidence", "loss"):
        assert np.allclose(ours[column], theirs[column], atol=1e-5)
    assert np.allclose(ours["probabilities"].to_list(), theirs["probabilities"].to_list(), atol=1e-6)
    assert new_world.run("check", "--deep", new_world.study).code == 0


def test_a_binary_network_has_the_accuracy_of_its_two_classes(new_world: World) -> None:
    for folder in new_world.folder.glob("images/*/ring"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    save_network(new_world.folder / "net.pt", classes=1)
    done = with_network(new_world, "Squeezed").extract()
    assert done.code == 0, done.err
    assert "taken for two classes: bar below 0, disc above" in done.err
    rows = new_world.rows(
        """
        select predictions.class, images.class as truth, probabilities, loss, split
        from predictions inner join images on predictions.image_id = images.image_id
        inner join splits on images.split_id = splits.split_id
        """
    )
    right = {}
    for row in rows:
        truth = CLASSES.index(row["truth"])
        assert row["class"] == CLASSES[row["probabilities"][1] > 0.5]
        assert sum(row["probabilities"]) == pytest.approx(1)
        assert row["loss"] == pytest.approx(-np.log(row["probabilities"][truth]), abs=1e-5)
        right.setdefault(row["split"], []).append(row["class"] == row["truth"])
    accuracies = new_world.rows("select split, accuracy from network_accuracies")
    assert {row["split"]: row["accuracy"] for row in accuracies} == pytest.approx(
        {split: np.mean(each) for split, each in right.items()}
    )


def test_second_names_and_later_calls_of_a_module_are_layers_that_can_be_edited(
    new_world: World, finished: World
) -> None:
    world = with_network(new_world, "Many")
    values = torch.load(world.folder / "net.pt", weights_only=True)["params"]  # torch saves each name of a module
    for name, other in (("backbone.0", "conv1"), ("backbone.1", "lin")):
        values |= {f"{name}.{key}": values[f"{other}.{key}"] for key in ("weight", "bias")}
    torch.save(values, world.folder / "net.pt")
    world.change(
        '["conv1", { name = "conv2", pooling = "max" }, "lin", "gate"]',
        '["backbone.0", { name = "relu", call = 1 }, { name = "relu", call = 2 }, "relu", "backbone.1"]',
    )
    study = world.study.read_text()
    start, end = study.index("[[edits]]"), study.index("[protocol]")
    world.study.write_text(study[:start] + '[[edits]]\nname = "paper"\nlayer = "backbone.1"\n' + study[end:])
    world.change("controls = 12\nshuffles = 3", "controls = 1\nshuffles = 0")
    done = world.extract()
    assert done.code == 0, done.err
    assert "relu runs 3 times in a pass, and its last output is recorded" in done.err
    layers = world.rows("select layer, call, position from layers order by layer_id")
    assert [(row["layer"], row["call"]) for row in layers] == [
        ("backbone.0", None), ("relu", 1), ("relu", 2), ("backbone.1", None), ("relu", None),
    ]  # fmt: skip
    neurons = "neurons natural join layers where"
    values = f"select image_id, unit, value from activations natural join {neurons} {{}} order by all"
    for ours, theirs in (("layer = 'backbone.0'", "layer = 'conv1'"), ("layer = 'backbone.1'", "layer = 'lin'")):
        assert world.frame(values.format(ours)).equals(finished.frame(values.format(theirs)))
    last = world.frame(values.format("layer = 'relu' and call is null"))["value"].to_numpy()
    assert np.array_equal(last, finished.frame(values.format("layer = 'lin'"))["value"].to_numpy().clip(0))
    counts = f"select call, count(*) as units from {neurons} layer = 'relu' group by call order by call"
    assert [row["units"] for row in world.rows(counts)] == [4, 6, 8]
    assert world.run("check").code == 0
    assert "nothing is stale" in (again := world.extract()).out + again.err
    modified = world.modify()
    assert modified.code == 0, modified.err
    assert world.run("check").code == 0
