"""Patterns of layers: which modules they stand for, and what is left out and said."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dissectdb.extract.models.hooks import find_taps
from dissectdb.extract.models.layer_patterns import compiled, resolve
from dissectdb.extract.study import Layer
from tests.support.mistakes import mistake
from tests.support.small_networks import settings_of, small


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("blocks.*.mlp", ["blocks.0.mlp", "blocks.11.mlp"], ["blocks.0.a.mlp", "blocks.mlp", "blocks.0.mlp.fc1"]),
        ("layer?", ["layer1", "layerx"], ["layer", "layer12", "layer.", "layer1.0"]),
        ("**.mlp", ["mlp", "a.mlp", "a.b.mlp"], ["a.xmlp", "mlp.fc1"]),
        ("blocks.**", ["blocks.0", "blocks.0.mlp.fc1"], ["blocks", "xblocks.0"]),
        ("blocks.[0-2]", ["blocks.0", "blocks.2"], ["blocks.3", "blocks.10"]),
        ("conv+[", [], ["conv", "convv"]),
        ("**", ["a", "a.b.c"], []),
    ],
)
def test_a_star_does_not_cross_a_dot_and_two_stars_do(pattern: str, fits: Sequence[str], others: Sequence[str]) -> None:
    fitting = compiled(pattern)
    assert [name for name in [*fits, *others] if fitting.fullmatch(name)] == list(fits)


def names_of(layers: object, model: nn.Module, shape: Sequence[int] = (1, 40, 40)) -> list[str]:
    asked = settings_of(layers=layers).layers
    resolved = resolve(model.eval(), asked, shape)
    assert len(find_taps(model, resolved, shape)) == len(resolved)  # each can be recorded, and is another layer
    return [layer.name for layer in resolved]


def test_a_pattern_becomes_the_modules_that_it_fits_in_the_order_of_the_network(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "dissectdb")
    assert names_of(["lin?", "conv1*"], small()) == ["conv1a", "conv1b", "lin1", "lin2", "lin3"]
    said = "network.layers: lin? and conv1* came to 5 modules: conv1a, conv1b, lin1, lin2, lin3"
    assert said in caplog.messages


def test_all_is_every_convolution_linear_layer_and_block() -> None:
    model = torchvision.models.resnet18(num_classes=3)
    named = names_of("all", model, (3, 32, 32))
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert sorted(named) == sorted([*convolutions, "fc", *blocks])
    assert names_of([{"name": "**", "kind": "block"}], model, (3, 32, 32)) == blocks


def test_a_layer_by_name_keeps_its_own_pooling_beside_a_pattern() -> None:
    asked = settings_of(layers=["conv1*", {"name": "conv1a", "pooling": "max"}, "conv1b"]).layers
    resolved = resolve(small().eval(), asked, (1, 40, 40))
    assert sorted((layer.name, layer.pooling) for layer in resolved) == [
        ("conv1a", "avg"), ("conv1a", "max"), ("conv1b", "avg")
    ]  # fmt: skip


def test_an_output_without_places_is_one_layer_whatever_the_pooling() -> None:
    assert names_of(["lin1", {"name": "lin*", "pooling": "max"}], small()) == ["lin1", "lin2", "lin3"]


class Odd(nn.Module):
    """Maps that end in channels, a module that does not run, one that returns no tensor, one without an image axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 1)
        self.last = nn.ReLU()
        self.unused = nn.Linear(2, 2)
        self.named = nn.Identity()
        self.bias = nn.Linear(2, 4)
        self.head = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.last(self.conv(images).movedim(1, 3))
        self.named({"maps": maps})
        return self.head(maps.mean((1, 2))) + self.bias(torch.ones(7, 2)).mean()


def test_what_cannot_be_recorded_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dissectdb")
    resolved = resolve(Odd().eval(), settings_of(layers=["*"]).layers, (1, 6, 6))
    assert [(layer.name, layer.layout) for layer in resolved] == [
        ("conv", "auto"), ("last", "channels_last"), ("head", "auto")
    ]  # fmt: skip
    taps = {tap.name: tap for tap in find_taps(Odd().eval(), resolved, (1, 6, 6))}
    assert (taps["last"].unit_axis, taps["last"].units) == (3, 5)
    assert "network.layers: the maps of last end in channels: their first two sizes are equal" in caplog.messages
    [left_out] = [message for message in caplog.messages if "cannot be recorded" in message]
    assert left_out.startswith(
        "network.layers: 3 modules cannot be recorded: bias, unused, named; the first: the output"
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["conv9*"], "network.layers: conv9* fits no module of VGGNet; did you mean conv"),
        (["lin?", "norm.**"], "network.layers: norm.** fits no module of VGGNet; it has "),
        (["lin?", "lin9"], "network.layers: VGGNet has no layer lin9; did you mean lin"),
        ([{"name": "conv*", "kind": "linear"}], "network.layers: conv*, kind linear, fits no module of VGGNet; "),
        (
            [{"name": "conv1*", "pooling": "cls"}],
            "network.layers: no module of conv1* can be recorded; conv1a has maps (2, 2, 40, 40); pooling 'cls' is for",
        ),
    ],
)
def test_a_pattern_that_comes_to_nothing_is_refused(layers: object, message: str) -> None:
    asked = settings_of(layers=layers).layers
    assert mistake(lambda: resolve(small().eval(), asked, (1, 40, 40))).startswith(message)


def test_a_kind_is_for_patterns() -> None:
    with pytest.raises(ValueError, match="kind would do nothing: conv1a is one module"):
        Layer(name="conv1a", kind="conv")
