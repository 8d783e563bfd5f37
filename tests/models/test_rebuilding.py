"""A network that is built again gives the same answers, or the study says why not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.test_user_code import load, write
from tests.support.mistakes import mistake

NET = """
import random
import numpy as np
import torch
from torch import nn
{before}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(16, 8)
        self.fc = nn.Linear(8, 3)
        {drawn}

    def forward(self, images):
        x = self.lin(images.flatten(1)).relu()
        x = {used}
        return {returned}

def make():
    return Net()
"""

# what is drawn, how it is used, the attribute that is named
DRAWN = {
    "a projection": ("self.proj = torch.randn(8, 8)", "x @ self.proj", "proj"),
    "numpy": ("self.proj = np.random.randn(8)", "x * torch.from_numpy(self.proj).float()", "proj"),
    "numpy's own source": ("self.proj = np.random.default_rng().normal(size=8)",
                           "x * torch.from_numpy(self.proj).float()", "proj"),
    "a number": ("self.factor = random.random()", "x * self.factor", "factor"),
    "an order": ("self.order = random.sample(range(8), 8)", "x[:, self.order]", "order"),
    "an inner module": ("self.lin.noise = torch.randn(8)", "x * self.lin.noise", "lin.noise"),
    "a buffer that is not saved": ("self.register_buffer('b', torch.randn(8), persistent=False)", "x * self.b", "b"),
    "layers in a list": ("self.blocks = [nn.Linear(8, 8)]", "self.blocks[0](x)", "blocks"),
    "layers in a dict": ("self.heads = {'a': nn.Linear(8, 8)}", "self.heads['a'](x)", "heads"),
}  # fmt: skip


SIDE = "self.side = [nn.Linear(8, 8)]; self.tap = nn.Identity()"


def net(drawn: str = "pass", used: str = "x", before: str = "", returned: str = "self.fc(x)") -> str:
    return NET.format(drawn=drawn, used=used, before=before, returned=returned)


def weights(folder: Path) -> Path:
    torch.manual_seed(5)
    state = {"lin.weight": torch.randn(8, 16), "lin.bias": torch.randn(8)}
    torch.save(state | {"fc.weight": torch.randn(3, 8), "fc.bias": torch.randn(3)}, folder / "w.pt")
    return folder / "w.pt"


@pytest.mark.parametrize("what", DRAWN)
def test_what_is_drawn_while_the_network_is_built_is_named(tmp_path: Path, what: str) -> None:
    drawn, used, attribute = DRAWN[what]
    write(tmp_path, {"net.py": net(drawn, used)})
    said = mistake(lambda: load(tmp_path / "net.py", weights=weights(tmp_path)))
    assert "net.py:make depend on random numbers that are drawn while it is built" in said
    assert f"not in its weights: {attribute}; make it a parameter or a buffer" in said


@pytest.mark.parametrize("what", [*DRAWN])
def test_a_seed_settles_what_is_drawn(tmp_path: Path, what: str) -> None:
    drawn, used, attribute = DRAWN[what]
    write(tmp_path, {"net.py": net(drawn, used)})

    def build() -> Any:
        return load(tmp_path / "net.py", weights="random", seed=3)

    if "default_rng" in drawn:
        assert f"weights: {attribute}; network.seed seeds torch, numpy's global generator" in mistake(build)
        return
    images = torch.rand(2, 1, 4, 4)
    with torch.no_grad():
        assert torch.equal(build().model(images), build().model(images))


def test_what_the_code_seeds_itself_is_allowed(tmp_path: Path) -> None:
    own = "self.proj = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))"
    write(tmp_path, {"net.py": net(own, "x @ self.proj")})
    load(tmp_path / "net.py", weights=weights(tmp_path))


def test_what_is_drawn_and_changes_no_answer_is_allowed(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": net("self.mask = torch.rand(8) > 0.5", "x * self.mask if self.training else x")})
    load(tmp_path / "net.py", weights=weights(tmp_path))


@pytest.mark.parametrize("returned", ["SimpleNamespace(logits=x[:, :3] @ P)", "Output(x[:, :3] @ P)"])
def test_what_is_drawn_outside_the_modules_is_noticed(tmp_path: Path, returned: str) -> None:
    before = (
        "from dataclasses import dataclass\nfrom types import SimpleNamespace\nP = torch.randn(3, 3)\n"
        "@dataclass\nclass Output:\n    logits: torch.Tensor\n"
    )
    write(tmp_path, {"net.py": net(before=before, returned=returned)})
    said = mistake(lambda: load(tmp_path / "net.py", weights=weights(tmp_path)))
    assert "and that are not in its weights; make it" in said


def test_the_layer_that_alone_differs_is_noticed(tmp_path: Path) -> None:
    """A study records layers, so a layer that no answer depends on counts too."""
    write(
        tmp_path,
        {"net.py": net(SIDE, "x + 0 * self.tap(self.side[0](x))")},
    )
    assert "weights: side;" in mistake(lambda: load(tmp_path / "net.py", weights=weights(tmp_path)))


def test_functions_that_bring_their_weights_are_looked_at_as_well(tmp_path: Path) -> None:
    path = weights(tmp_path)
    text = net("self.proj = torch.randn(8, 8)", "x @ self.proj").replace(
        "return Net()", f"net = Net()\n    net.load_state_dict(torch.load({str(path)!r}))\n    return net"
    )
    write(tmp_path, {"net.py": text})
    assert "not in its weights: proj;" in mistake(lambda: load(tmp_path / "net.py"))


def test_the_random_numbers_of_the_caller_go_on_as_they_would(tmp_path: Path) -> None:
    import random

    import numpy as np

    write(tmp_path, {"net.py": net("self.proj = torch.randn(8) * np.random.rand() * random.random()", "x * self.proj")})
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    load(tmp_path / "net.py", weights="random", seed=3)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


REGISTRY = (
    "import sys\nif 'a_registry' in sys.modules:\n    raise KeyError('already registered')\n"
    "sys.modules['a_registry'] = sys\n"
)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "a_registry", sys)
    del sys.modules["a_registry"]


@pytest.mark.usefixtures("registry")
def test_a_file_that_cannot_be_loaded_twice_is_called_twice(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": net(before=REGISTRY)})
    load(tmp_path / "net.py", weights=weights(tmp_path))
    del sys.modules["a_registry"]
    write(tmp_path, {"net.py": net("self.proj = torch.randn(8, 8)", "x @ self.proj", before=REGISTRY)})
    assert "weights: proj;" in mistake(lambda: load(tmp_path / "net.py", weights=weights(tmp_path)))


@pytest.mark.usefixtures("registry")
def test_a_function_that_works_once_is_taken_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = net().replace("def make():\n", f"def make():\n    {REGISTRY.strip().replace(chr(10), chr(10) + '    ')}\n")
    write(tmp_path, {"net.py": text})
    load(tmp_path / "net.py", weights=weights(tmp_path))
    assert "net.py:make cannot be called twice, so it is not known whether" in caplog.text
    del sys.modules["a_registry"]
    assert "already registered" in mistake(lambda: load(tmp_path / "net.py"))
