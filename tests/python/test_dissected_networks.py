"""dissect() with patterns of layers, the transforms of torchvision's weights, and a network without a classifier."""

from __future__ import annotations

import PIL.Image
import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from dissectdb.extract.models import given_input, recipes
from dissectdb.extract.study import Input
from tests.python.conftest import Objects, network
from tests.python.test_dissect import counted
from tests.support.mistakes import mistake
from tests.support.worlds import CLASSES


def test_a_pattern_and_all_stand_for_the_layers(own_objects: Objects) -> None:
    named = own_objects.dissect(network(), layers=["conv1", "conv2"])
    before = counted(named.path, "extractions")
    pattern = own_objects.dissect(network(), layers="conv?")
    assert counted(pattern.path, "extractions") == before, "they are the same layers"
    assert pattern.dissection == named.dissection
    every = own_objects.dissect(network(), layers="all")
    assert sorted(every.layer_summary()["layer"]) == ["conv1", "conv2", "gate", "head", "lin"]


def test_the_transforms_of_torchvisions_weights_prepare_the_images(own_objects: Objects) -> None:
    """Resized to 256 pixels, of which 224 are kept: activations are those of torchvision's own transform."""
    transform = ResNet18_Weights.DEFAULT.transforms()
    torch.manual_seed(0)
    model = resnet18(num_classes=3).eval()
    files = sorted((own_objects.folder / "test").rglob("*.png"))[:4]
    keywords = {"split": "all", "top_k": 2, "min_images": 1, "accuracy_images": 2, "classes": CLASSES}
    opened = own_objects.dissect(model, files, layers=["layer4"], input=transform, **keywords)
    prepared = torch.stack([transform(PIL.Image.open(file).convert("RGB")) for file in files])
    with torch.inference_mode():
        maps = nn.Sequential(*list(model.children())[:-2])(prepared)
    expected = maps.mean((2, 3))
    rows = opened.rows("select value from activations order by image_id, neuron_id")["value"]
    ours = torch.tensor(rows.to_numpy()).view(expected.shape)
    assert (ours - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_network_without_a_classifier_predicts_nothing(own_objects: Objects) -> None:
    model = network()
    model.head = nn.Identity()
    opened = own_objects.dissect(model, layers=["lin"], output="none")
    assert counted(opened.path, "predictions") == 0
    assert opened.top_images()["predicted_class"].null_count() == len(opened.top_images()) > 0


@pytest.mark.parametrize("changes", [{}, {"crop_pct": 1.0}, {"crop_pct": 1.0, "crop_mode": "squash"}])
def test_a_timm_model_prepares_images_as_its_own_transform_does(changes: dict[str, object]) -> None:
    model = timm.create_model("convnext_atto", pretrained_cfg_overlay=changes)
    transform = create_transform(**resolve_model_data_config(model))
    recipe = recipes.of_input(Input.model_validate(given_input.of(model, None)))
    recipes.checked(recipe, transform, "its own")  # raises


def test_a_timm_model_that_crops_in_another_way_is_refused() -> None:
    model = timm.create_model("convnext_atto", pretrained_cfg_overlay={"crop_mode": "border"})
    assert "ConvNeXt crops in another way (border, " in mistake(lambda: given_input.of(model, None))
