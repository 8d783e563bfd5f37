"""Hooks: what is recorded of a layer is a number that one can work out on paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from dissectdb.extract.models.hooks import Tap, find_taps, record, weight_norms
from dissectdb.extract.models.vggnet import VGGNet
from dissectdb.extract.study import Layer, StudyError


class Paper(nn.Module):
    """Two channels: the image and twice the image plus one; then their sums, added and subtracted."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.relu = nn.ReLU(inplace)
        self.head = nn.Linear(2, 2)
        self.last = nn.ReLU(inplace)
        self.unused = nn.Linear(1, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.0, 1.0]))
            self.head.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
            self.head.bias.copy_(torch.tensor([0.5, 0.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.head(self.relu(self.conv(images)).sum((2, 3))))


IMAGES = torch.tensor([[[[-1.0, 3.0], [0.0, 2.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])


class Returns(nn.Module):
    """A network with one layer, `inner`, that returns what a function makes of the images."""

    def __init__(self, make: Callable[[Tensor], object], inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner = inner or nn.Identity()
        self.inner.forward = make
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.inner(images)
        return images.flatten(1)


def layer(name: str, pooling: str = "avg", layout: str = "auto") -> Layer:
    return Layer(name=name, pooling=pooling, layout=layout)


def tap_of(model: nn.Module, name: str = "inner", shape: Sequence[int] = (1, 2, 2), **options: str) -> Tap:
    [tap] = find_taps(model.eval(), [layer(name, **options)], shape)
    return tap


def seen_in(model: nn.Module, images: Tensor, name: str = "inner", **options: str) -> Tensor:
    tap = tap_of(model, name, images.shape[1:], **options)
    with torch.no_grad(), record(model, [tap]) as seen:
        model(images)
    return seen[tap.name]


def mistake(model: nn.Module, layers: Sequence[Layer], shape: Sequence[int] = (1, 2, 2)) -> str:
    with pytest.raises(StudyError) as caught:
        find_taps(model.eval(), layers, shape)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("pooling", "expected"), [("avg", [[1.0, 3.0], [1.0, 3.0]]), ("max", [[3.0, 7.0], [1.0, 3.0]])]
)
def test_the_maps_of_a_convolution_are_pooled_before_its_relu(pooling: str, expected: list[list[float]]) -> None:
    assert seen_in(Paper(), IMAGES, "conv", pooling=pooling).tolist() == expected


@pytest.mark.parametrize("inplace", [False, True])
def test_a_linear_layer_is_recorded_as_it_is_also_before_a_relu_that_works_in_place(inplace: bool) -> None:
    # relu'd channels sum to (5, 13) and (4, 12): -2x+1 of -1 is cut to 0, so 0 + 7 + 1 + 5 = 13.
    assert seen_in(Paper(inplace), IMAGES, "head").tolist() == [[18.5, -8.0], [16.5, -8.0]]
    assert seen_in(Paper(inplace), IMAGES, "conv").tolist() == [[1.0, 3.0], [1.0, 3.0]]


TOKENS = torch.arange(24.0).view(2, 4, 3)  # (image, token, unit)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("avg", [4.5, 5.5, 6.5]), ("max", [9.0, 10.0, 11.0]), ("cls", [0.0, 1.0, 2.0])],
)
@pytest.mark.parametrize("batch_first", [True, False])
def test_tokens_are_pooled_over_their_axis_wherever_the_images_are(
    pooling: str, expected: list[float], batch_first: bool
) -> None:
    def tokens(images: Tensor) -> Tensor:
        made = images.view(-1, 4, 3)
        return made if batch_first else made.transpose(0, 1)

    seen = seen_in(Returns(tokens), TOKENS.view(2, 1, 4, 3), pooling=pooling)
    assert seen.tolist() == [expected, [value + 12 for value in expected]]


@pytest.mark.parametrize("tokens", [2, 3, 4])
def test_as_many_tokens_as_images_are_still_told_apart(tokens: int) -> None:
    def token_first(images: Tensor) -> Tensor:
        return images.flatten(1).mean(1).view(1, -1, 1).expand(tokens, -1, 5)

    tap = tap_of(Returns(token_first))
    assert (tap.image_axis, tap.unit_axis, tap.units) == (1, 2, 5)
    images = torch.arange(float(tokens)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)  # as many images as tokens
    assert seen_in(Returns(token_first), images).tolist() == [[float(i)] * 5 for i in range(tokens)]


def test_attention_with_tokens_first_gives_each_image_its_own_mean() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(4, 2, batch_first=False)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).permute(2, 0, 1)  # (token, image, unit)
            return self.inner(tokens, tokens, tokens)[0].mean(0)

    model, images = Attends().eval(), torch.rand(3, 4, 2, 3)
    tap = tap_of(model, shape=(4, 2, 3))
    assert (tap.image_axis, tap.unit_axis, tap.units, tap.pooling) == (1, 2, 4, "avg")
    torch.testing.assert_close(seen_in(model, images), model(images))


def test_of_a_tuple_or_list_of_outputs_the_first_counts() -> None:
    assert seen_in(Returns(lambda images: (images, None)), IMAGES).tolist() == [[1.0], [1.0]]
    assert seen_in(Returns(lambda images: [(images * 2, 3), 1]), IMAGES).tolist() == [[2.0], [2.0]]


def test_channels_last_maps_are_pooled_with_their_layout() -> None:
    model = Returns(lambda images: torch.stack([images[:, 0], -images[:, 0], images[:, 0] * 3], dim=3))
    assert seen_in(model, IMAGES, layout="channels_last").tolist() == [[1.0, -1.0, 3.0], [1.0, -1.0, 3.0]]
    seen = seen_in(model, IMAGES, layout="channels_last", pooling="max")
    assert seen.tolist() == [[3.0, 1.0, 9.0], [1.0, -1.0, 3.0]]


def test_the_last_run_of_a_module_that_runs_twice_counts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu, self.second = nn.Identity(), nn.ReLU(), nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            return self.second(self.relu(self.first(self.relu(images)) - 1)).flatten(1)

    model = Twice()
    taps = find_taps(model, [layer("relu"), layer("second"), layer("first")], (1, 2, 2))
    assert [tap.layer for tap in taps] == ["first", "relu", "second"]
    with record(model, taps) as seen:
        model(IMAGES)
    assert seen[taps[1].name].tolist() == seen[taps[2].name].tolist() == [[0.75], [0.0]]


def test_taps_come_in_the_order_in_which_layers_run() -> None:
    names = ["lin2", "conv4a", "bn1a", "lin1", "conv1a"]
    taps = find_taps(VGGNet((2, 2, 2, 2), 4).eval(), [layer(name) for name in names], (1, 40, 40))
    assert [tap.layer for tap in taps] == ["conv1a", "bn1a", "conv4a", "lin1", "lin2"]
    assert [tap.pooling for tap in taps] == ["avg", "avg", "avg", "none", "none"]
    assert [tap.units for tap in taps] == [2, 2, 2, 4, 4]


# ---------------------------------------------------------------- which axis


@pytest.mark.parametrize(
    ("module", "make", "axis"),
    [
        (nn.Conv1d(1, 4, 1), lambda x: x.new_zeros(len(x), 4, 4), 1),
        (nn.BatchNorm1d(4), lambda x: x.new_zeros(len(x), 4, 4), 1),
        (nn.GroupNorm(1, 4), lambda x: x.new_zeros(len(x), 4, 7), 1),
        (nn.Linear(1, 4), lambda x: x.new_zeros(len(x), 4, 4, 4), 3),
        (nn.LayerNorm(4), lambda x: x.new_zeros(len(x), 4, 4, 4), 3),
        (nn.Conv3d(1, 4, 1), lambda x: x.new_zeros(len(x), 4, 2, 2, 2), 1),
        (nn.Identity(), lambda x: x.new_zeros(len(x), 5, 4), 2),
        (nn.Identity(), lambda x: x.new_zeros(4, len(x)), 0),
    ],
    ids=["conv1d", "batch norm", "group norm", "linear on maps", "layer norm on maps", "conv3d", "tokens", "turned"],
)
def test_a_module_that_knows_its_units_decides_their_axis(module: nn.Module, make: Callable, axis: int) -> None:
    tap = tap_of(Returns(make, module))
    assert (tap.unit_axis, tap.units) == (axis, 4)


def test_maps_that_end_in_channels_are_refused_without_their_layout() -> None:
    model = Returns(lambda images: images.new_zeros(len(images), 7, 7, 96))
    assert mistake(model, [layer("inner")]) == (
        "network.layers: inner has outputs (2, 7, 7, 96), which end in channels; set layout = 'channels_last'"
    )
    assert tap_of(model, layout="channels_last").units == 96


def test_a_layout_that_contradicts_the_module_is_refused() -> None:
    said = mistake(Paper(), [layer("conv", layout="channels_last")], (1, 3, 3))
    assert said.startswith("network.layers: conv declares 2 units, but its output is (2, 2, 3, 3) with 3 on axis 3")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda images: {"out": images}, "inner returns dict, not a tensor; name a module inside it"),
        (lambda images: (), "inner returns tuple, not a tensor"),
        (lambda images: (None, images), "inner returns NoneType, not a tensor"),
        (
            lambda images: images.new_zeros(1, 4, 3),
            "the output of inner has no axis of images ((1, 4, 3) for two, (1, 4, 3) for three)",
        ),
        (
            lambda images: images.new_zeros(4 * len(images), 3),
            "the output of inner has no axis of images ((8, 3) for two, (12, 3) for three)",
        ),
        (lambda images: images.new_zeros(len(images), len(images)), "the output of inner has no axis of images"),
        (lambda images: images.new_zeros(len(images)), "inner has outputs (2,); a neuron needs maps, tokens or units"),
        (lambda images: images.new_zeros(()), "the output of inner has no axis of images (() for two, () for three)"),
    ],
)
def test_outputs_that_are_no_units_of_images_are_an_error(make: Callable, message: str) -> None:
    assert mistake(Returns(make), [layer("inner")]).startswith(f"network.layers: {message}")


def test_cls_is_only_for_tokens() -> None:
    said = mistake(Paper(), [layer("conv", pooling="cls")])
    assert said == "network.layers: conv has maps (2, 2, 2, 2); pooling 'cls' is for tokens, use avg or max"


def test_a_layer_that_is_not_there_is_an_error_with_what_is_near() -> None:
    assert mistake(Paper(), [layer("conw")]) == (
        "network.layers: Paper has no layer conw; did you mean conv? it has conv, relu, head, last, unused"
    )


def test_a_layer_that_does_not_run_is_an_error() -> None:
    said = mistake(Paper(), [layer("conv"), layer("unused")])
    assert said == "network.layers: unused did not run in a forward pass"


def test_images_that_the_network_does_not_take_are_an_error() -> None:
    said = mistake(VGGNet((2, 2, 2, 2), 4), [layer("lin1")], (3, 40, 40))
    assert said.startswith("network.input: VGGNet does not take 3 × 40 × 40 images: ")
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=12, num_heads=3, num_classes=2)
    said = mistake(vit, [layer("norm")], (3, 40, 40))
    assert said.startswith("network.input: VisionTransformer does not take 3 × 40 × 40 images: ")


# ---------------------------------------------------------------- hooks come and go


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_are_gone_after_the_block_also_after_an_exception() -> None:
    model = Paper()
    tap = tap_of(model, "conv")
    with record(model, [tap]):
        assert hooks_of(model) == 1
    with pytest.raises(KeyboardInterrupt), record(model, [tap]):
        raise KeyboardInterrupt
    mistake(model, [layer("conv"), layer("unused")])
    mistake(model, [layer("conv")], (5, 2, 2))
    mistake(Returns(lambda images: {}), [layer("inner")])
    assert hooks_of(model) == 0


def test_recording_changes_neither_outputs_nor_gradients() -> None:
    model = Paper()
    taps = find_taps(model, [layer("conv"), layer("head")], (1, 2, 2))
    expected = model(IMAGES)
    with record(model, taps) as seen:
        outputs = model(IMAGES)
    assert torch.equal(outputs, expected)
    assert outputs.requires_grad
    assert not any(values.requires_grad for values in seen.values())


def test_each_forward_pass_replaces_what_was_seen() -> None:
    model = Paper()
    tap = tap_of(model, "conv")
    with record(model, [tap]) as seen:
        model(IMAGES)
        model(IMAGES[1:])
        assert seen[tap.name].tolist() == [[1.0, 3.0]]


# ---------------------------------------------------------------- networks as they are


def test_the_last_maps_of_a_resnet_are_what_its_head_averages() -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=4).eval()
    images = torch.rand(2, 3, 32, 32)
    seen = seen_in(model, images, "layer4")
    assert seen.shape == (2, 512)
    torch.testing.assert_close(model.fc(seen), model(images))


def test_the_class_token_of_a_vision_transformer_is_what_its_head_reads() -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=12, num_heads=3, num_classes=4)
    vit.eval()
    images = torch.rand(3, 3, 32, 32)
    seen = seen_in(vit, images, "norm", pooling="cls")
    torch.testing.assert_close(vit.head(seen), vit(images))
    assert tap_of(vit, "blocks.1.mlp.fc1", (3, 32, 32)).units == 48
    assert tap_of(vit, "patch_embed.proj", (3, 32, 32)).units == 12
    assert not torch.allclose(seen_in(vit, images, "norm", pooling="avg"), seen)


# ---------------------------------------------------------------- weight norms


def test_weight_norms_are_those_of_each_units_row() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    linear.bias.data = torch.tensor([0.5, -1.0])
    assert weight_norms(linear, 2) == [(7.0, 5.0, 0.5), (1.0, 1.0, -1.0)]


def test_a_convolutions_row_is_all_of_a_channels_kernel() -> None:
    conv = nn.Conv2d(2, 3, 2, bias=False)
    conv.weight.data = torch.ones(3, 2, 2, 2) * torch.tensor([1.0, -2.0, 0.0]).view(3, 1, 1, 1)
    assert weight_norms(conv, 3) == [(8.0, 8**0.5, None), (16.0, 2 * 8**0.5, None), (0.0, 0.0, None)]
    grouped = nn.Conv2d(4, 4, 3, groups=4)
    assert weight_norms(grouped, 4)[0][0] == pytest.approx(grouped.weight[0].abs().sum().item())


def test_batch_norm_has_rows_of_one() -> None:
    norm = nn.BatchNorm2d(2)
    norm.weight.data = torch.tensor([2.0, -3.0])
    assert weight_norms(norm, 2) == [(2.0, 2.0, 0.0), (3.0, 3.0, 0.0)]


class Odd(nn.Module):
    """A weight row for each unit, and one bias for all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize(
    "module",
    [nn.ConvTranspose2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2, affine=False), nn.Embedding(9, 2), nn.PReLU()],
    ids=lambda module: type(module).__name__,
)
def test_a_module_without_a_weight_row_for_each_unit_has_no_norms(module: nn.Module) -> None:
    assert weight_norms(module, 2) == [(None, None, None)] * 2


def test_a_bias_that_is_not_one_a_unit_is_left_out() -> None:
    assert weight_norms(Odd(), 2) == [(3.0, pytest.approx(3**0.5), None)] * 2


def test_norms_of_half_precision_weights_do_not_overflow() -> None:
    linear = nn.Linear(1000, 1).half()
    linear.weight.data.fill_(1000.0)
    assert weight_norms(linear, 1)[0][0] == 1_000_000.0
