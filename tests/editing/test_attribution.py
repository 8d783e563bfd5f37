"""Which neurons brought a new class: the shares of all units add up to the change that an edit made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dissectdb.extract.editing import attribution, cut_network
from dissectdb.extract.editing.cut_network import Scaling
from dissectdb.extract.models.hooks import Tap
from tests.editing.test_cut_network import GREY, dynamic, edited, taps_of, vggnet

IMAGES = 12


def rule(units: int, seed: int) -> Scaling:
    """Two factors and a few silent units, biases scaled too."""
    random = torch.Generator().manual_seed(seed)
    scales = torch.where(torch.rand(units, generator=random) < 0.5, 1.5, 1 / 1.5)
    scales[torch.rand(units, generator=random) < 0.1] = 0
    return Scaling(scales, scales)


def margin(logits: Tensor, new: Tensor, old: Tensor) -> Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, new] - logits[rows, old]


CASES = [
    (vggnet, ["conv1b"], False),
    (vggnet, ["conv4a"], False),
    (vggnet, ["lin2"], False),
    (vggnet, ["conv3a", "conv4b", "lin2"], False),
    (dynamic, ["second"], True),
    (dynamic, ["first", "second"], True),
]


@pytest.mark.parametrize(("make", "layers", "is_slow"), CASES)
def test_contributions_add_up_to_the_change_of_the_margin(make, layers, is_slow) -> None:
    model = make()
    taps = taps_of(model, layers, GREY)
    found = cut_network.cut_at(model, taps, GREY)
    assert found.is_slow == is_slow
    images = torch.rand(IMAGES, *GREY, generator=torch.Generator().manual_seed(4))
    change = {tap.layer: rule(tap.units, seed) for seed, tap in enumerate(taps)}
    with torch.no_grad():
        before, after, kept = model(images), edited(model, change)(images), found.before(images)
    # The classes whose logits rose most and fell most: what an edit that changes a class does.
    new, old = (after - before).argmax(1), (after - before).argmin(1)
    changed = margin(after, new, old) - margin(before, new, old)
    shares = attribution.contributions(found, kept, change, new, old)
    assert {layer: each.shape for layer, each in shares.items()} == {t.layer: (IMAGES, t.units) for t in taps}
    total = sum(each.sum(1) for each in shares.values())
    assert (changed > 0).all()
    assert ((total - changed).abs() <= 0.02 * changed).all(), (total / changed).tolist()
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_before_a_linear_head_a_contribution_is_the_units_own_change_times_its_weights() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.layer(images))

    torch.manual_seed(11)
    model = Head().eval()
    images = torch.rand(6, 5)
    found = cut_network.cut_at(model, [Tap("layer", 4, "none", 0, 1)], (5,))
    scaling = Scaling(torch.tensor([2.0, 0.5, 1.0, 0.0]), torch.tensor([1.0, 3.0, 1.0, 0.0]))
    new, old = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 2, 0, 2, 0, 1])
    with torch.no_grad():
        shares = attribution.contributions(found, found.before(images), {"layer": scaling}, new, old)["layer"]
        change = edited(model, {"layer": scaling}).layer(images) - model.layer(images)
        expected = change * (model.head.weight[new] - model.head.weight[old])
    torch.testing.assert_close(shares, expected, rtol=1e-4, atol=1e-6)
    assert (shares[:, 2] == 0).all()  # it was not scaled
