"""Preprocessing from the metadata of weights is what the libraries' own transforms do to an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor
from torchvision.models import get_model_weights, resnet18
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from dissectdb.extract.models import networks, recipes
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import Input, StudyError
from tests.models.test_preprocessing import picture
from tests.support.mistakes import mistake
from tests.support.small_networks import settings_of
from tests.support.studies import mistakes

CPU = torch.device("cpu")
SIZES = [(300, 451, 3), (451, 300, 3), (256, 257, 3), (40, 31, 3), (600, 333, 3)]  # portrait, landscape, tiny


def levels(ours: Tensor, theirs: Tensor, std: Any) -> Tensor:
    return (ours - theirs).abs() * torch.tensor(std).view(-1, 1, 1) * 255


@pytest.fixture(scope="module")
def pooled() -> Callable[[Tensor], Tensor]:
    """Embeddings of images: the pooled features of a ResNet with random weights."""
    torch.manual_seed(0)
    model = resnet18().eval()
    model.fc = torch.nn.Identity()
    return torch.inference_mode()(lambda image: model(image[None])[0])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (64, 55)])
def test_resize_and_crop_are_torchvisions(
    resize: int, crop: int, interpolation: str, pooled: Callable[[Tensor], Tensor]
) -> None:
    transform = ImageClassification(crop_size=crop, resize_size=resize, interpolation=InterpolationMode(interpolation))
    given = Input.model_validate({
        "resize": resize, "crop": crop, "interpolation": interpolation, "mean": transform.mean, "std": transform.std
    })  # fmt: skip
    recipe, cosines = recipes.of_input(given), []
    for seed, shape in enumerate(SIZES):
        image = picture(shape, seed)
        ours, theirs = recipe.apply([image], CPU)[0], transform(Image.fromarray(image))
        assert levels(ours, theirs, transform.std).mean() < 0.35
        assert levels(ours, theirs, transform.std).max() < 4.01
        cosines.append(torch.cosine_similarity(pooled(ours), pooled(theirs), dim=0))
    assert torch.stack(cosines).mean() >= 0.999


def test_without_rounding_a_resize_and_a_crop_of_a_tensor_are_exact() -> None:
    """Activations of weights that were trained on resized tensors come out within 1e-3."""
    transform = ImageClassification(crop_size=224, resize_size=256)
    recipe = Recipe(224, resize="shortest", scaled=256, mean=transform.mean, std=transform.std, rounding=False)
    torch.manual_seed(0)
    model = resnet18().eval()
    for seed, shape in enumerate(SIZES):
        image = picture(shape, seed)
        theirs = transform(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
        ours = recipe.apply([image], CPU)[0]
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
        with torch.inference_mode():
            torch.testing.assert_close(model(ours[None]), model(theirs[None]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16", "vit_h_14", "inception_v3", "efficientnet_b3", "swin_t"])
def test_the_recipe_of_torchvisions_weights_is_their_transform(name: str) -> None:
    settings = settings_of(f"torchvision:{name}", weights="pretrained", input=None)
    recipe = recipes.find(settings, torch.nn.Identity())
    transform = get_model_weights(name).DEFAULT.transforms()
    for seed, shape in enumerate(SIZES[:3]):
        image = picture(shape, seed)
        ours, theirs = recipe.apply([image], CPU)[0], transform(Image.fromarray(image))
        assert levels(ours, theirs, recipe.std).max() < 4.01


TIMM = ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0", "coatnet_nano_rw_224", "resnet18d"]


@pytest.mark.parametrize("name", [*TIMM, "convnext_small.fb_in22k_ft_in1k_384", "regnetz_c16.ra3_in1k"])
def test_the_recipe_of_a_timm_network_is_timms_transform(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    recipe = recipes.find(settings_of(f"timm:{name}", weights="net.pt", input=None), model)
    transform = create_transform(**resolve_model_data_config(model))
    for seed, shape in enumerate(SIZES[:3]):
        image = picture(shape, seed)
        ours, theirs = recipe.apply([image], CPU)[0], transform(Image.fromarray(image))
        assert levels(ours, theirs, recipe.std).max() < 4.01


def test_a_timm_network_without_input_says_whose_preprocessing_it_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dissectdb")
    arguments = {"depth": 1, "embed_dim": 12, "num_heads": 3, "img_size": 32, "num_classes": 2}
    settings = settings_of("timm:vit_tiny_patch16_224", arguments=arguments, weights="random", input=None)
    network = networks.load(settings)
    assert network.recipe == Recipe(
        32, resize="shortest", interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, scaled=35
    )
    assert network.preprocessing() == network.recipe.as_json()
    assert (
        "network.input is left out; the default of timm:vit_tiny_patch16_224 has: "
        "32 × 32 rgb, the centre of shortest 35, bicubic, mean 0.5 0.5 0.5, std 0.5 0.5 0.5"
    ) in caplog.text


def test_metadata_that_a_recipe_cannot_say_are_refused() -> None:
    recipe = Recipe(32, resize="shortest", scaled=36)
    transform = ImageClassification(crop_size=32, resize_size=40, mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(StudyError, match=r"^network.input is missing, and the weights cannot say it: its images "):
        recipes.checked(recipe, transform, "the weights")
    settings = settings_of("timm:vit_tiny_patch16_224", weights="net.pt", input=None, arguments={"in_chans": 1})
    with torch.device("meta"):
        model = timm.create_model("vit_tiny_patch16_224", in_chans=1)
    said = mistake(lambda: recipes.find(settings, model))
    assert said.startswith("network.input is missing, and the default of timm:vit_tiny_patch16_224 cannot say it: ")


def test_older_recipes_keep_their_fingerprints() -> None:
    assert recipes.of_input(Input(size=40)).as_dict() == {
        "size": 40, "mode": "rgb", "resize": "squash", "interpolation": "bilinear", "mean": (), "std": (),
        "rounding": True, "fill": 0.0,
    }  # fmt: skip
    assert recipes.of_input(Input(size=40, resize=40)) == Recipe(40, resize="shortest")
    assert recipes.of_input(Input(size=40, resize=50)).as_dict()["scaled"] == 50


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("resize = 30", "network.input: resize = 30 leaves no crop of 40 × 40 pixels"),
        ("resize = 0", "network.input.resize: must be from 1 to 4096 pixels, not 0"),
        ("resize = true", "network.input.resize: True is not allowed; allowed: squash, shortest, or the pixels"),
        ('resize = "fit"', "network.input.resize: 'fit' is not allowed; allowed: squash, shortest, or the pixels"),
        ("crop = 30", "network.input.crop is not a setting; "),
    ],
)
def test_a_resize_that_makes_no_sense_is_named(tmp_path: Any, keys: str, message: str) -> None:
    from tests.support.studies import NETWORK_STUDY

    [line] = mistakes(tmp_path, {}, NETWORK_STUDY.replace("size = 40", f"size = 40\n{keys}"))
    assert message in line


def test_input_may_be_left_out_where_metadata_are_known(tmp_path: Any) -> None:
    from tests.support.studies import NETWORK_STUDY

    bare = NETWORK_STUDY.replace("[network.input]\nsize = 40\n", "")
    [line] = mistakes(tmp_path, {}, bare)
    assert line.endswith("network.input is missing")
    [line] = mistakes(tmp_path, {"network.architecture": "torchvision:resnet18", "network.weights": "a.pt"}, bare)
    assert line.endswith("network.input is missing")


@pytest.mark.parametrize("shape", [(1, 30_000), (30_000, 1)])
def test_a_sliver_is_not_scaled_to_gigabytes(shape: tuple[int, int]) -> None:
    batch = Recipe(16, "grey", "shortest", scaled=400).apply([np.full(shape, 255, np.uint8)], CPU)
    assert batch.shape == (1, 1, 16, 16)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fasterrcnn_resnet50_fpn", "ObjectDetection"),
        ("deeplabv3_resnet50", "SemanticSegmentation"),
        ("raft_small", "OpticalFlow"),
    ],
)
def test_torchvision_networks_of_images_of_any_size_need_an_input(name: str, kind: str) -> None:
    settings = settings_of(f"torchvision:{name}").model_copy(update={"input": None})
    assert mistake(lambda: recipes.of_metadata(settings, torch.nn.Module())) == (
        f"network.input is missing, and the weights of torchvision:{name} cannot say it: {kind} makes no images of one "
        "fixed size; write [network.input]"
    )
