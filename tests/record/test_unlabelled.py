"""What extract says of neurons without a label, of layers that get another name, and of folders that are numbers."""

from __future__ import annotations

import logging

import pytest

from dissectdb.extract.models import classes
from tests.models.test_classes import network
from tests.sql.test_view_rows import statistics
from tests.support.rows import run_view
from tests.support.worlds import World, save_network

GATE = "self.gate ="
SEEN = "seen = F.relu(self.lin(seen))"


@pytest.fixture
def binary(finished: World, new_world: World) -> World:
    """A world with a layer of four: constant, on for 3 and for 40 of 72 images, and graded."""
    rows = finished.rows(
        """
        select value from activations inner join named_neurons using (neuron_id)
        inner join images using (image_id) inner join splits using (split_id)
        where layer = 'lin' and unit = 0 and split = 'train' order by value desc
        """
    )
    values = [row["value"] for row in rows]
    few, many = (values[2] + values[3]) / 2, (values[39] + values[40]) / 2
    new_world.change(GATE, "self.features = Features()\n        self.gate =", "net.py")
    new_world.change(SEEN, "seen = self.lin(seen)\n        self.features(seen)\n        seen = F.relu(seen)", "net.py")
    new_world.change("class Net(", f"""class Features(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        first = F.relu(values[:, 0])
        return torch.stack([0 * first, 1.0 * (first > {few}), 1.0 * (first > {many}), first, F.relu(values[:, 1])], 1)


class Net(""", "net.py")  # fmt: skip
    new_world.change('"lin", "gate"]', '"lin", "features"]')  # gate, a lone neuron, has no best concept
    return new_world


def test_neurons_without_a_label_are_counted_by_reason(binary: World) -> None:
    done = binary.extract()
    assert done.code == 0, done.err
    for number, concept_set in ((1, "looks"), (2, "shapes")):
        [line] = [line for line in done.err.splitlines() if f"without a label by soft_wpmi with {concept_set}" in line]
        assert f"{concept_set}: 3, of which 1 dead (one value on all images)" in line
        assert "1 firing on too few images (min_images = 5)" in line
        assert "1 tied (more images are equally high than the list holds; cos and pearson look at all images)" in line
        assert line.endswith(f"; to see them: select * from unlabelled_neurons where dissection_id = {number}")
    rows = binary.rows(
        "select layer, unit, reason, images_fired from unlabelled_neurons where dissection_id = 1 order by 2"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("features", 0, "dead", 0), ("features", 1, "too few images", 3), ("features", 2, "ties", 40),
    ]  # fmt: skip
    again = binary.extract()
    assert "neurons without a label" in again.err
    assert "nothing is stale" in again.out
    assert binary.run("check").code == 0
    text = binary.study.read_text(encoding="utf-8")
    binary.study.write_text(text.replace('"looks"\nscorer = "soft_wpmi"', '"looks"\nscorer = "pearson"'))
    done = binary.extract()
    assert done.code == 0, done.err
    [line] = [line for line in done.err.splitlines() if "without a label by pearson" in line]
    assert "looks: 2, of which 1 dead" in line, "pearson labels the one that ties, and looks at no list"


def test_a_lone_neuron_has_no_best_concept_and_where_all_have_labels_nothing_is_said(world: World) -> None:
    rows = world.rows("select layer, reason from unlabelled_neurons where dissection_id = 1")
    assert rows == [{"layer": "gate", "reason": "no best concept"}]
    assert "1 without a best concept" in world.extract().err
    world.change('"lin", "gate"]', '"lin"]')
    world.change('weights = "net.pt"', 'weights = "other.pt"')
    save_network(world.folder / "other.pt", seed=3)
    done = world.extract()
    assert done.code == 0, done.err
    assert "without a label" not in done.err


@pytest.mark.parametrize(
    ("values", "sparse", "tied"),
    [
        ([1.0] * 5 + [0.0] * 5, True, True),
        ([1.0] * 1 + [0.0] * 9, True, False),
        ([1.0] * 3 + [0.0] * 7, False, False),
        ([2.0, 2.0, 1.0, 1.0] + [0.0] * 6, False, False),
        ([0.0] * 10, False, False),
    ],
)
def test_a_neuron_is_tied_where_equal_images_alone_keep_it_from_a_label(
    values: list[float], sparse: bool, tied: bool
) -> None:
    [row] = run_view("dissected_neurons", **statistics(values, top_k=3, min_images=2))
    assert (row["sparse"], row["tied"]) == (sparse, tied)


def test_a_layer_that_gets_another_name_is_named(world: World) -> None:
    old = '{ name = "conv2", pooling = "max" }'
    world.change(old, f'"conv2", {old}')
    world.change('layer = "conv2"\nsql', 'layer = "conv2 (max)"\nsql')
    done = world.extract()
    assert done.code == 0, done.err
    assert done.err.count("conv2 is now named conv2 (max) in views and reports: it is recorded in two ways") == 1
    assert "is now named" not in world.extract().err


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ([str(number) for number in range(12)], '"0", "1", "2", "3"'),
        ([f"class_{number}" for number in (1, 2, 10)], '"class_1", "class_2", "class_10"'),
        ([f"{number:02}" for number in range(12)], None),
        (["n01440764", "n01443537"], None),
        (["a", "b", "c"], None),
        (["١٠", "2", "x"], None),
    ],
)
def test_folders_that_count_are_in_the_order_of_their_text_and_that_is_said(
    names: list[str], line: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = classes.name_outputs(network(), len(names), tuple(sorted(names)))
    assert found == tuple(sorted(names))
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (line is not None)
    if line:
        assert "as torchvision's ImageFolder has them" in warned[0]
        assert f"network.classes = [{line}" in warned[0]
