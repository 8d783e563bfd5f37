"""Networks of each family, tiny and with random weights: from a saved file to labels of what a pattern came to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_model
from torch import nn

from tests.support.worlds import STUDY, Done, World

FAMILIES = """
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.swin_transformer import SwinTransformer


def densenet():
    return DenseNet(growth_rate=4, block_config=(1, 2), num_init_features=8, bn_size=2, num_classes=3)


def efficientnet():
    return EfficientNet([MBConvConfig(2, 3, 2, 8, 8, 2, 1.0, 1.0)], dropout=0.0, num_classes=3)


def swin():
    return SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=3)
"""
VIT = {"depth": 2, "embed_dim": 12, "num_heads": 3, "img_size": 32, "num_classes": 3}
CONVNEXT: dict[str, list[int]] = {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8]}
INPUT = '[network.input]\nresize = 36\ncrop = 32\ninterpolation = "bicubic"\nmean = [0.5, 0.5, 0.5]\n'


def toml(values: dict[str, object]) -> str:
    return f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in values.items())} }}"


def extract(world: World, network: str, given: str = INPUT) -> Done:
    """Run extract on the world's first 8 images of a split, with this [network]."""
    text = STUDY.partition("[[edits]]")[0].replace('kind = "folder"', 'kind = "folder"\nimages = 8')
    text = re.sub(
        r"\[network\].*(?=\[clip\])", lambda _: f'[network]\nname = "net"\n{network}\n{given}\n', text, flags=re.S
    )
    world.study.write_text(text, encoding="utf-8")
    return world.extract()


def recorded(world: World) -> dict[str, int]:
    """The neurons of each layer, all of which were labelled, or are dead."""
    rows = world.rows("select layer, count(*) as units, count(similarity) as scored from neuron_concepts group by all")
    assert all(row["scored"] for row in rows)
    return {row["layer"]: row["units"] for row in rows}


def save(world: World, model: nn.Module) -> None:
    torch.manual_seed(5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    save_model(model, str(world.folder / "family.safetensors"))


def by_function(world: World, name: str) -> str:
    (world.folder / "families.py").write_text(FAMILIES, encoding="utf-8")
    scope: dict[str, Callable[[], nn.Module]] = {}
    exec(FAMILIES, scope)
    save(world, scope[name]())
    return f'architecture = "families.py:{name}"\nweights = "family.safetensors"\n'


def by_library(world: World, architecture: str, arguments: dict[str, object]) -> str:
    library, _, name = architecture.partition(":")
    build = torchvision.models.get_model if library == "torchvision" else timm.create_model
    save(world, build(name, **arguments))
    named = f'architecture = "{architecture}"\narguments = {toml(arguments)}\n'
    return f'{named}weights = "family.safetensors"\n'


BLOCKS_OF_RESNET = {f"layer{stage}.{block}": 32 * 2**stage for stage in range(1, 5) for block in range(2)}


def test_a_resnet_by_its_blocks(new_world: World) -> None:
    network = by_library(new_world, "torchvision:resnet18", {"num_classes": 3})
    done = extract(new_world, network + 'layers = ["layer?.*", "fc"]')
    assert done.code == 0, done.err
    assert recorded(new_world) == BLOCKS_OF_RESNET | {"fc": 3}
    assert "network.layers: layer?.* came to 8 modules: layer1.0, layer1.1, " in done.err
    assert "32 × 32 rgb, the centre of shortest 36, bicubic" in done.err
    [stored] = new_world.rows("select preprocessing from networks")
    assert json.loads(stored["preprocessing"])["scaled"] == 36


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("densenet", {"features.conv0": 8, "features.denseblock2": 14, "features.denseblock2.denselayer2": 4}),
        ("efficientnet", {"features.0": 8, "features.1.0": 8, "features.1.0.block.0": 16, "classifier.1": 3}),
        ("swin", {"features.1.0": 12, "features.3.0": 24, "features.1.0.mlp.0": 48, "head": 3}),
    ],
)  # fmt: skip
def test_all_layers_of_a_function_s_network(new_world: World, name: str, some: dict[str, int]) -> None:
    done = extract(new_world, by_function(new_world, name) + 'layers = "all"')
    assert done.code == 0, done.err
    layers = recorded(new_world)
    assert {layer: layers.get(layer) for layer in some} == some


def test_a_convnext_by_its_blocks(new_world: World) -> None:
    network = by_library(new_world, "timm:convnext_atto", {**CONVNEXT, "num_classes": 3})
    done = extract(new_world, network + 'layers = ["stages.*.blocks.*", "**.fc1"]')
    assert done.code == 0, done.err
    widths = dict(enumerate(CONVNEXT["dims"]))
    blocks = {f"stages.{stage}.blocks.0": width for stage, width in widths.items()}
    assert recorded(new_world) == blocks | {f"{block}.mlp.fc1": 4 * width for block, width in blocks.items()}


def test_a_vit_with_cls_and_avg_in_one_study_and_its_default_preprocessing(new_world: World) -> None:
    network = by_library(new_world, "timm:vit_tiny_patch16_224", VIT)
    layers = 'layers = ["blocks.?", { name = "blocks.?", pooling = "cls" }, "head"]'
    done = extract(new_world, network + layers, given="")
    assert done.code == 0, done.err
    both = {f"blocks.{block} ({pooling})": 12 for block in range(2) for pooling in ("avg", "cls")}
    assert recorded(new_world) == both | {"head": 3}
    assert (
        "network.input is left out; the default of timm:vit_tiny_patch16_224 has: 32 × 32 rgb, the centre" in done.err
    )
    assert new_world.extract().out.startswith("nothing is stale")


# ---------------------------------------------------------------- transformers

SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 24}
IMAGES = {"image_size": 32, "patch_size": 16}


@pytest.fixture
def folder(new_world: World) -> Path:
    return new_world.folder / "model"


def vit(folder: Path, **settings: object) -> None:
    import transformers

    torch.manual_seed(5)
    names = {0: "disc", 1: "Ring", 2: "bar"}
    transformers.ViTForImageClassification(
        transformers.ViTConfig(**SIZES, **IMAGES, id2label=names, initializer_range=0.4, **settings)
    ).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def test_a_transformers_vit_from_a_folder(new_world: World, folder: Path) -> None:
    vit(folder)
    network = 'architecture = "hf:model"\nlayers = ["vit.layers.*", "**.o_proj", "classifier"]\n'
    done = extract(new_world, network, given="")
    assert done.code == 0, done.err
    blocks = [f"vit.layers.{block}" for block in range(2)]
    assert recorded(new_world) == {
        name: 12 for block in blocks for name in (block, f"{block}.attention.o_proj")
    } | {"classifier": 3}  # fmt: skip
    [stored] = new_world.rows("select architecture, classes, preprocessing from networks")
    assert stored["classes"] == ["disc", "ring", "bar"]  # from its configuration, spelt as the folders are
    assert new_world.extract().out.startswith("nothing is stale")
    vit(folder, layer_norm_eps=1e-3)
    assert not new_world.extract().out.startswith("nothing is stale")


def test_dinov2_has_features_and_no_classes(new_world: World, folder: Path) -> None:
    import transformers

    torch.manual_seed(5)
    config = transformers.Dinov2Config(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, **IMAGES
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 37}, crop_size={"height": 32, "width": 32}, resample=3
    ).save_pretrained(folder)
    done = extract(new_world, 'architecture = "hf:model"\nlayers = "all"\n', given="")
    assert done.code == 0, done.err
    assert recorded(new_world)["encoder.layer.1"] == 12
    assert "network: Dinov2Model has no classifier: no predictions are stored, accuracy is unknown" in done.err
    assert "the image processor of hf:" in done.err
    assert "32 × 32 rgb, the centre of shortest 37, bicubic" in done.err


def test_the_image_tower_of_a_clip(new_world: World, folder: Path) -> None:
    import transformers

    torch.manual_seed(5)
    text = transformers.CLIPTextConfig(**SIZES, vocab_size=50, max_position_embeddings=8)
    vision = transformers.CLIPVisionConfig(**SIZES, **IMAGES)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    layers = 'layers = ["**.encoder.layers.*", { name = "**.encoder.layers.*", pooling = "cls" }]\n'
    done = extract(new_world, f'architecture = "hf:model"\n{layers}', given="")
    assert done.code == 0, done.err
    assert set(recorded(new_world).values()) == {12}
    assert len(recorded(new_world)) == 4
