"""A network cut at a layer says what the network with scaled weights says, whatever the network."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dissectdb.extract.editing import cut_network
from dissectdb.extract.editing.cut_network import Scaling
from dissectdb.extract.models import hooks
from dissectdb.extract.models.vggnet import VGGNet
from dissectdb.extract.study import Layer

GREY, COLOUR = (1, 40, 40), (3, 32, 32)


def vggnet() -> nn.Module:
    torch.manual_seed(1)
    return VGGNet(channels=(4, 6, 8, 8), hidden=16).eval()


def resnet() -> nn.Module:
    torch.manual_seed(2)
    return torchvision.models.resnet18(num_classes=5).eval()


class Dynamic(nn.Module):
    """Its way depends on values, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.second = nn.Linear(6, 7)
        self.head = nn.Linear(7, 3)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.first(images).mean((2, 3))
        if seen.sum() > 1e9:
            seen = -seen
        return self.head(torch.relu(self.second(seen)))


def dynamic() -> nn.Module:
    torch.manual_seed(3)
    return Dynamic().eval()


def edited(model: nn.Module, change: cut_network.Change) -> nn.Module:
    """A copy with scaled weights and biases."""
    model = deepcopy(model)
    for layer, scaling in change.items():
        module = model.get_submodule(layer)
        with torch.no_grad():
            module.weight *= scaling.weight.view(-1, *[1] * (module.weight.ndim - 1))
            if module.bias is not None:
                module.bias *= scaling.bias
    return model


def taps_of(model: nn.Module, layers: list[str], shape: tuple[int, ...]) -> list[hooks.Tap]:
    return hooks.find_taps(model, [Layer(name=name) for name in layers], shape)


def changes(taps: list[hooks.Tap], seed: int) -> list[cut_network.Change]:
    """Every kind of edit: two factors, with and without biases; everything; silence; any scales; biases only."""
    random = torch.Generator().manual_seed(seed)

    def one(weight, bias):
        return {tap.layer: Scaling(weight(tap.units), bias(tap.units)) for tap in taps}

    def factors(units: int) -> Tensor:
        return torch.where(torch.rand(units, generator=random) < 0.4, 1.5, 1 / 1.5)

    def continuous(units: int) -> Tensor:
        return 2 * torch.rand(units, generator=random)

    with_biases = {tap.layer: Scaling(s, s) for tap in taps for s in [factors(tap.units)]}
    silent = {
        tap.layer: Scaling(s, s) for tap in taps for s in [(torch.rand(tap.units, generator=random) > 0.3).float()]
    }
    return [
        one(torch.ones, torch.ones),
        one(factors, torch.ones),
        with_biases,
        one(lambda units: torch.full((units,), 1.5), torch.ones),
        silent,
        one(continuous, torch.ones),
        one(continuous, continuous),
        one(torch.ones, factors),
    ]


CASES = [
    (vggnet, GREY, ["conv1a"], False, False),
    (vggnet, GREY, ["conv4b"], False, False),
    (vggnet, GREY, ["lin1"], False, False),
    (vggnet, GREY, ["lin2"], False, True),
    (vggnet, GREY, ["conv2a", "lin2"], False, False),
    (resnet, COLOUR, ["conv1"], False, False),
    (resnet, COLOUR, ["layer2.0.conv2"], False, False),
    (resnet, COLOUR, ["layer4.1.bn2"], False, False),  # a skip joins it, in place
    (resnet, COLOUR, ["layer2.0.downsample.0", "layer4.0.conv1", "fc"], False, False),
    (resnet, COLOUR, ["fc"], False, False),
    (dynamic, GREY, ["first"], True, False),
    (dynamic, GREY, ["second"], True, False),
]


@pytest.mark.parametrize(("make", "shape", "layers", "is_slow", "is_last"), CASES)
def test_the_rest_of_a_cut_network_says_what_the_network_with_scaled_weights_says(
    make, shape, layers, is_slow, is_last
) -> None:
    model = make()
    taps = taps_of(model, layers, shape)
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(4))
    found = cut_network.cut_at(model, taps, shape)
    assert (found.is_slow, found.last is not None) == (is_slow, is_last)
    with torch.no_grad():
        kept = found.before(images)
        copies = [each.clone() for each in kept]
        every = changes(taps, 5)
        together = found.after_all(kept, every)
        for change, logits in zip(every, together, strict=True):
            expected = edited(model, change)(images)
            assert (found.after(kept, change) - expected).abs().max() < 1e-4
            assert (logits - expected).abs().max() < 1e-4
        # Nothing that was kept is touched, and the network is as it was.
        assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))
        assert torch.equal(model(images), make()(images))


def test_half_of_a_change_lies_between_none_and_all_of_it() -> None:
    model = vggnet()
    [tap] = taps_of(model, ["conv4a"], GREY)
    images = torch.rand(3, *GREY, generator=torch.Generator().manual_seed(6))
    found = cut_network.cut_at(model, [tap], GREY)
    scaling = Scaling(torch.full((tap.units,), 3.0), torch.ones(tap.units))
    with torch.no_grad():
        kept = found.before(images)
        none = found.after(kept, {"conv4a": scaling}, {"conv4a": torch.zeros(3, tap.units)})
        half = found.after(kept, {"conv4a": scaling}, {"conv4a": torch.full((3, tap.units), 0.5)})
        assert torch.allclose(none, model(images), atol=1e-5)
        twice = Scaling(torch.full((tap.units,), 2.0), torch.ones(tap.units))
        assert torch.allclose(half, found.after(kept, {"conv4a": twice}), atol=1e-4)


def test_a_layer_that_runs_twice_is_not_cut() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.layer(torch.relu(self.layer(images))))

    torch.manual_seed(7)
    model = Twice().eval()
    images = torch.rand(3, 4)
    found = cut_network.cut_at(model, [hooks.Tap("layer", 4, "none", 0, 1)], (4,))
    change = {"layer": Scaling(torch.tensor([2.0, 0.5, 1, 0]), torch.ones(4))}
    assert found.is_slow
    with torch.no_grad():
        assert torch.allclose(found.after(found.before(images), change), edited(model, change)(images), atol=1e-5)
