"""Attention heads as units: each head's share of its layer's output, against a network with that head alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from dissectdb.extract.models import hooks
from dissectdb.extract.models.layer_patterns import resolve
from dissectdb.extract.study import StudyError
from tests.models.test_families import SIZES, VIT, by_library, extract, recorded
from tests.support.mistakes import mistake
from tests.support.small_networks import settings_of
from tests.support.worlds import World

SHAPE = (3, 32, 32)


def of_torchvision() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 16, 2, 3, 12, 24, num_classes=3)


def of_timm() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **VIT)


def of_eva() -> nn.Module:
    return timm.create_model("eva02_tiny_patch14_224", depth=2, embed_dim=24, num_heads=3, img_size=28, num_classes=3)


def of_transformers() -> nn.Module:
    import transformers

    return transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=32, patch_size=16))


def of_dinov2() -> nn.Module:
    import transformers

    config = transformers.Dinov2Config(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, image_size=32, patch_size=16
    )
    return transformers.Dinov2Model(config)


def of_open_clip() -> nn.Module:
    return open_clip.transformer.VisionTransformer(32, 16, 12, 2, 3, 2.0, output_dim=8)


class Sequence_first(nn.Module):
    """torch's attention with tokens first, called by keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 3, bias=False)
        self.embed = nn.Conv2d(3, 12, 16, 16)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).permute(2, 0, 1)
        return self.attn(query=tokens, key=tokens, value=tokens, need_weights=True)[0].mean(0)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {  # network, layer, the weight of its projection
    "torchvision": (of_torchvision, "encoder.layers.encoder_layer_1.self_attention", "out_proj.weight"),
    "timm": (of_timm, "blocks.1.attn", "proj.weight"),
    "timm eva": (of_eva, "blocks.1.attn", "proj.weight"),
    "transformers": (of_transformers, "layers.1.attention", "o_proj.weight"),
    "dinov2": (of_dinov2, "layer.1.attention", "o_proj.weight"),
    "open_clip": (of_open_clip, "transformer.resblocks.1.attn", "out_proj.weight"),
    "tokens first": (Sequence_first, "attn", "out_proj.weight"),
}


def built(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(3)
    model = build().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def layer_of(model: nn.Module, ending: str) -> str:
    """The module's full path; the libraries differ in what lies above it."""
    [name] = [name for name, _ in model.named_modules() if name == ending or name.endswith(f".{ending}")]
    return name


def seen(model: nn.Module, images: Tensor, **layer: Any) -> Tensor:
    """(image, unit) of a layer."""
    taps = hooks.find_taps(model, settings_of(layers=[layer]).layers, SHAPE)
    with torch.inference_mode(), hooks.record(model, taps) as outputs:
        model(images)
    return outputs[taps[0].name]


def outputs_of(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """The layer's output, the images first."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _m, _i, out: kept.append(hooks.first_tensor(out, layer))
    )
    with torch.inference_mode():
        model(images)
    handle.remove()
    return kept[0] if len(kept[0]) == len(images) else kept[0].transpose(0, 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["avg", "max", "cls"])
def test_a_head_s_value_is_the_norm_of_what_it_adds_to_the_output(family: str, pooling: str) -> None:
    build, ending, weight = FAMILIES[family]
    model = built(build)
    layer = layer_of(model, ending)
    images = torch.rand(
        5, 3, *((28, 28) if family == "timm eva" else (32, 32)), generator=torch.Generator().manual_seed(1)
    )
    asked = settings_of(layers=[{"name": layer, "units": "heads", "pooling": pooling}]).layers
    taps = hooks.find_taps(model, asked, images.shape[1:])
    with torch.inference_mode(), hooks.record(model, taps) as outputs:
        model(images)
    values = outputs[layer]
    assert values.shape == (5, 3)

    def alone(head: int | None) -> Tensor:
        """The output (image, token, channel) with the columns of one head's projection, or none."""
        only = copy.deepcopy(model)
        parameter = only.get_submodule(layer).get_parameter(weight)
        width = parameter.shape[1] // 3
        for other in {0, 1, 2} - {head}:
            parameter.data[:, other * width : (other + 1) * width] = 0
        return outputs_of(only, layer, images)

    without = alone(None)  # the bias
    norms = torch.stack([(alone(head) - without).norm(dim=-1) for head in range(3)], -1)  # (image, token, head)
    expected = {"avg": norms.mean(1), "max": norms.amax(1), "cls": norms[:, 0]}[pooling]
    assert expected.min() > 0
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def test_turning_a_head_s_channels_against_its_projection_changes_no_unit() -> None:
    model = built(of_timm)
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    before = seen(model, images, name="blocks.1.attn", units="heads")
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2)))
    turn = turn @ torch.diag(torch.tensor([0.5, 2.0, 3.0, 1.0]))
    attn = model.get_submodule("blocks.1.attn")
    attn.qkv.weight.data[24:28] = turn @ attn.qkv.weight.data[24:28]  # the values of head 0
    attn.qkv.bias.data[24:28] = turn @ attn.qkv.bias.data[24:28]
    attn.proj.weight.data[:, :4] = attn.proj.weight.data[:, :4] @ turn.inverse()
    torch.testing.assert_close(seen(model, images, name="blocks.1.attn", units="heads"), before, rtol=1e-4, atol=1e-5)


class Shared(nn.Module):
    """Attention in which nothing is returned by a linear layer, layers whose heads cannot be told, and maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 16, 16)
        self.scaled, self.masked, self.uneven = Scaled(), Masked(), Uneven()

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.conv(images).flatten(2).transpose(1, 2)
        return self.uneven(self.masked(self.scaled(tokens))).mean(1)


class Scaled(nn.Module):
    num_heads = 3

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(12, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        return 2 * self.proj(tokens)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attn(tokens, tokens, tokens, attn_mask=torch.zeros(4, 4, dtype=torch.bool))[0]


class Uneven(nn.Module):
    heads = 5

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(12, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.proj(tokens)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("conv", "conv has no heads that can be recorded: Conv2d is no attention layer"),
        ("scaled", "Scaled does not return what a linear layer in it computes last; name the module with the output"),
        (
            "masked.attn",
            "masked.attn has no heads that can be recorded: they cannot be computed from its inputs: it has a",
        ),
        ("uneven", "its projection takes 12 numbers, which 5 heads do not share evenly"),
    ],
)
def test_a_layer_without_heads_is_refused(layer: str, why: str) -> None:
    asked = settings_of(layers=[{"name": layer, "units": "heads"}]).layers
    assert why in mistake(lambda: hooks.find_taps(Shared().eval(), asked, SHAPE))


def test_windows_are_no_images_and_a_block_is_no_attention() -> None:
    swin = torchvision.models.swin_transformer.SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=3).eval()
    windows = settings_of(layers=[{"name": "features.1.0.attn", "units": "heads"}]).layers
    with pytest.raises(StudyError, match=r"features\.1\.0\.attn has no heads that can be recorded: ShiftedWindow"):
        hooks.find_taps(swin, windows, SHAPE)
    block = settings_of(layers=[{"name": "blocks.0", "units": "heads"}]).layers
    with pytest.raises(StudyError, match=r"blocks\.0 has no heads that can be recorded: Block does not return"):
        hooks.find_taps(of_timm().eval(), block, SHAPE)


def names_of(model: nn.Module, layers: Sequence[object]) -> list[tuple[str, str]]:
    resolved = resolve(model, settings_of(layers=layers).layers, SHAPE)
    return [(tap.name, tap.read_as) for tap in hooks.find_taps(model, resolved, SHAPE)]


def test_a_pattern_of_attention_layers_gives_their_heads_beside_their_channels() -> None:
    both = ["blocks.1.attn", {"name": "**", "kind": "attention", "units": "heads", "pooling": "cls"}]
    assert names_of(of_timm().eval(), both) == [
        ("blocks.0.attn", "cls of heads"),
        ("blocks.1.attn (avg)", "avg"),
        ("blocks.1.attn (cls of heads)", "cls of heads"),
    ]


def test_heads_are_recorded_labelled_and_found_again_and_cannot_be_silenced(new_world: World, tmp_path: Path) -> None:
    network = by_library(new_world, "timm:vit_tiny_patch16_224", VIT)
    layers = 'layers = ["blocks.1.attn", { name = "blocks.?.attn", units = "heads" }]'
    done = extract(new_world, network + layers, given="")
    assert done.code == 0, done.err
    assert recorded(new_world) == {"blocks.0.attn": 3, "blocks.1.attn (avg)": 12, "blocks.1.attn (avg of heads)": 3}
    assert new_world.extract().out.startswith("nothing is stale")
    [row] = new_world.rows("select min(value) as low, count(*) as n from activations join neurons using (neuron_id) "
                           "join layers using (layer_id) where pooling = 'avg of heads'")  # fmt: skip
    assert row["n"] > 0
    assert row["low"] > 0
    checked = new_world.run("check", "--deep", new_world.study)
    assert checked.code == 0, checked.out + checked.err
    for name in ("blocks.0.attn", "blocks.1.attn (avg of heads)"):
        new_world.change(new_world.study.read_text(), f"{new_world.study.read_text().partition('[effects]')[0]}\n"
                         f'[effects]\nlayers = ["{name}"]\n')  # fmt: skip
        refused = new_world.run("effects", new_world.study)
        assert refused.code == 2
        assert f"effects.layers: the units of {name} are heads, which cannot be changed" in refused.err
