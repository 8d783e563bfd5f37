"""Networks without a classifier: their neurons get labels, and nothing is predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from dissectdb.extract.models.logits import find_answer
from tests.models.test_families import CONVNEXT, IMAGES, SIZES, VIT, extract, toml
from tests.models.test_logits import RECIPE, Body
from tests.support.mistakes import mistake
from tests.support.worlds import World

SAID = "has no classifier: no predictions are stored, accuracy is unknown"


def refuse_edits(world: World) -> None:
    """modify and effects end with one line, and nothing of the warehouse changes."""
    text = world.study.read_text(encoding="utf-8")
    layer = world.rows("select layer from named_layers order by position, layer limit 1")[0]["layer"]
    edits = f'[[edits]]\nname = "louder"\nlayer = "{layer}"\n[effects]\nlayers = ["{layer}"]\n'
    world.study.write_text(f"{text}\n{edits}", encoding="utf-8")
    before = world.tables()
    for command in ("modify", "effects"):
        done = world.run(command, world.study)
        assert done.code == 2
        assert done.err.splitlines()[-1] == (
            f"dissectdb: {command} needs a network that predicts classes; net has no classifier"
        )
    assert world.tables() == before


def hold(world: World, folder: Path) -> None:
    """Nothing is predicted, views show that nothing is known of it, and all else holds."""
    assert world.rows("select classes from networks") == [{"classes": []}]
    assert world.rows("select count(*) as predictions from predictions") == [{"predictions": 0}]
    assert world.rows("select accuracy from network_accuracies where accuracy is not null") == []
    [top] = world.rows("select count(*) as rows, count(predicted_class) as predicted from top_images")
    assert top["rows"] > 0
    assert top["predicted"] == 0
    for arguments in (("check",), ("check", "--deep", world.study)):
        checked = world.run(*arguments)
        assert checked.code == 0, checked.out + checked.err
    reported = world.run("report", "-o", folder / "report.html")
    assert reported.code == 0, reported.err
    assert "how often it is right is unknown" in " ".join((folder / "report.html").read_text(encoding="utf-8").split())
    refuse_edits(world)
    again = world.extract()
    assert again.out.startswith("nothing is stale"), again.out + again.err


def test_dinov2_of_transformers_predicts_nothing(new_world: World, tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(5)
    config = transformers.Dinov2Config(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=3, mlp_ratio=2, **IMAGES
    )
    folder = new_world.folder / "model"
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    done = extract(new_world, 'architecture = "hf:model"\nlayers = ["encoder.layer.*"]\n', given="")
    assert done.code == 0, done.err
    assert f"network: Dinov2Model {SAID}" in done.err
    assert "outputs are" not in done.err
    hold(new_world, tmp_path)


def test_a_timm_model_without_classes_predicts_nothing(new_world: World, tmp_path: Path) -> None:
    arguments = toml({**CONVNEXT, "num_classes": 0})
    network = f'architecture = "timm:convnext_atto"\narguments = {arguments}\nweights = "random"\n'
    done = extract(new_world, network + 'layers = ["stages.*.blocks.*"]')
    assert done.code == 0, done.err
    assert f"network: ConvNeXt {SAID}" in done.err
    hold(new_world, tmp_path)


def test_a_study_says_that_its_network_has_no_classifier(new_world: World) -> None:
    """The world's network without its head. Its features are taken for logits until the study says otherwise."""
    new_world.change("return self.head(seen) * torch.sigmoid(self.gate(seen))", "return seen", "net.py")
    new_world.change('"lin", "gate"]', '"lin"]')
    done = new_world.extract("--dry-run")
    assert "name them with network.classes, or set network.output = 'none' if they are features" in done.err
    named = new_world.extract("--dry-run", "--set", "network.output=none", "--set", 'network.classes=["a", "b"]')
    assert named.code == 2
    assert "dissectdb: network.classes names 2 classes, but net has no classifier" in named.err
    new_world.change('name = "net"', 'name = "net"\noutput = "none"')
    done = new_world.extract()
    assert done.code == 0, done.err
    assert f"network: Net {SAID}" in done.err
    hold(new_world, new_world.folder)


def test_a_control_of_a_network_without_classifier_predicts_nothing_either(new_world: World) -> None:
    new_world.change("return self.head(seen) * torch.sigmoid(self.gate(seen))", "return seen", "net.py")
    new_world.change('"lin", "gate"]', '"lin"]')
    new_world.change('name = "net"', 'name = "net"\noutput = "none"')
    new_world.change('[[edits]]\nname = "paper"', '[controls]\nnetworks = ["shuffled"]\n[[edits]]\nname = "paper"')
    done = new_world.extract()
    assert done.code == 0, done.err
    assert new_world.rows("select len(classes) as outputs from networks") == [{"outputs": 0}] * 2
    assert new_world.rows("select * from predictions") == []


# ---------------------------------------------------------------- what counts as none


def features_of(output: Callable[[Tensor, Tensor, Tensor], object]) -> nn.Module:
    return Body(output)


@pytest.mark.parametrize(
    ("output", "part"),
    [
        (lambda logits, features, maps: features, ""),
        (lambda logits, features, maps: [maps, features], "0"),
        (lambda logits, features, maps: {"loss": torch.zeros(()), "maps": maps}, "maps"),
        (lambda logits, features, maps: (maps.transpose(0, 1), features), "1"),
    ],
)
def test_whatever_has_the_images_on_its_first_axis_is_features(output: Callable, part: str) -> None:
    model = Body(output)
    answer, outputs = find_answer(model, RECIPE, "none", 7)
    assert (answer.part, answer.scale, outputs) == (part, "features", 0)
    images = torch.rand(5, *RECIPE.shape)
    with torch.no_grad():
        assert len(answer.run(model, images)) == 5


def test_a_network_that_returns_no_tensor_is_refused_also_without_a_classifier() -> None:
    model = Body(lambda logits, features, maps: "maps")
    assert mistake(lambda: find_answer(model, RECIPE, "none", 7)).startswith(
        "network: no part of what Body returns has the images on its first axis; for 3 images it is str"
    )


def test_maps_are_refused_with_the_way_to_say_that_they_are_no_logits() -> None:
    for output in (lambda logits, features, maps: maps, lambda logits, features, maps: [maps, maps]):
        assert "network.output = 'none'" in mistake(lambda output=output: find_answer(Body(output), RECIPE, None, 7))


def test_a_timm_model_with_classes_keeps_them_and_a_network_around_a_backbone_is_a_classifier() -> None:
    from dissectdb.extract.models.preprocessing import Recipe

    recipe = Recipe(size=32)
    vit = timm.create_model("vit_tiny_patch16_224", **VIT)
    assert find_answer(vit, recipe, None, 3)[1] == 3
    backbone = timm.create_model("vit_tiny_patch16_224", **{**VIT, "num_classes": 0})
    assert find_answer(backbone, recipe, None, 3)[1] == 0
    assert find_answer(nn.Sequential(backbone, nn.Linear(12, 3)), recipe, None, 3)[1] == 3


def test_a_classifier_of_transformers_that_is_an_object_keeps_its_classes() -> None:
    import transformers

    from dissectdb.extract.models.preprocessing import Recipe

    config = transformers.ViTConfig(**SIZES, **IMAGES, num_labels=3)
    recipe = Recipe(size=32)
    assert find_answer(transformers.ViTForImageClassification(config), recipe, None, 3)[1] == 3
    assert find_answer(transformers.ViTModel(config), recipe, None, 3)[1] == 0
