"""Control networks: the weights of a network in random order, or fresh ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dissectdb.extract import study
from dissectdb.extract.models import networks
from dissectdb.extract.models.control_networks import Kind, control_network, shuffle
from tests.support.mistakes import mistake
from tests.support.worlds import NETWORK, save_network

OWN_WEIGHTS = """
import torch
def make():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 3))
    torch.nn.init.constant_(net[1].weight, 0.5)
    torch.nn.init.constant_(net[1].bias, 0.1)
    return net
"""


@pytest.fixture
def settings(tmp_path: Path) -> study.Network:
    (tmp_path / "net.py").write_text(NETWORK)
    save_network(tmp_path / "net.pt")
    return asked(tmp_path / "net.py", weights=tmp_path / "net.pt")


def asked(code: Path, **more: object) -> study.Network:
    return study.Network(
        name="net", architecture=f"{code}:make", classes=("a", "b", "c"), layers=["lin"],
        input={"size": 16, "mode": "grey"}, **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["shuffled", "initialised"])
def test_a_control_is_another_network_and_the_same_for_the_same_seed(settings: study.Network, kind: Kind) -> None:
    network = networks.load(settings)
    first, again, other = (control_network(network, settings, kind, seed) for seed in (0, 0, 2))
    assert len({network.fingerprint, first.fingerprint, other.fingerprint}) == 3
    assert first.fingerprint == again.fingerprint
    assert (first.name, first.classes, first.answer) == (f"net ({kind})", network.classes, network.answer)
    assert first.control is not None
    assert first.control.original == network.fingerprint


def test_a_shuffled_network_has_the_same_numbers_in_every_weight(settings: study.Network) -> None:
    network = networks.load(settings)
    control = control_network(network, settings, "shuffled", 0)
    before, after = network.model.state_dict(), control.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name in before:
        assert torch.equal(before[name].flatten().sort().values, after[name].flatten().sort().values)


def test_a_network_that_loads_its_own_weights_has_no_fresh_ones(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_WEIGHTS)
    settings = asked(tmp_path / "own.py")
    network = networks.load(settings)
    for kind in ("shuffled", "initialised"):
        said = mistake(lambda kind=kind: control_network(network, settings, kind, 0))
        assert said.startswith(f"controls.networks: the {kind} network has the same weights as net: ")


def test_weights_that_two_modules_share_are_shuffled_once() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    shuffle(model, 0)
    assert model[1].weight is model[0].weight
