"""Networks: built by name or by the user's function, and identified by their content."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dissectdb.extract.models import networks
from dissectdb.extract.models.vggnet import VGGNet
from tests.support.mistakes import mistake
from tests.support.small_networks import SMALL, settings_of, small

TIMM = {"depth": 1, "embed_dim": 12, "num_heads": 3, "img_size": 32, "num_classes": 2}


# ---------------------------------------------------------------- building


def test_the_vggnet_has_the_shape_and_names_of_the_published_one() -> None:
    with torch.device("meta"):
        model = VGGNet()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    assert shapes["conv1a.weight"] == (64, 1, 3, 3)
    assert shapes["conv4b.weight"] == (512, 512, 3, 3)
    assert shapes["bn4b.bias"] == (512,)
    assert shapes["lin1.weight"] == (4096, 2048)
    assert shapes["lin3.weight"] == (7, 4096)
    assert sum(parameter.numel() for parameter in model.parameters()) == 29_890_759
    assert model(torch.zeros(2, 1, 40, 40, device="meta")).shape == (2, 7)


def test_a_network_comes_in_eval_mode_and_float32(checkpoint: Path) -> None:
    network = networks.load(settings_of(weights=checkpoint))
    assert not any(module.training for module in network.model.modules())
    assert {parameter.dtype for parameter in network.model.parameters()} == {torch.float32}
    images = torch.rand(3, 1, 40, 40)
    torch.testing.assert_close(network.model(images), small().eval()(images))


def test_torchvision_networks_are_built_by_name() -> None:
    network = networks.load(settings_of("torchvision:resnet18", arguments={"num_classes": 3}, weights="random"))
    assert network.model.fc.out_features == 3


def test_timm_networks_are_built_by_name() -> None:
    network = networks.load(settings_of("timm:vit_tiny_patch16_224", arguments=TIMM, weights="random"))
    assert network.model.head.out_features == 2


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("vgnet", "network.architecture: 'vgnet' is not one of vggnet, torchvision:NAME, timm:NAME, hf:NAME, path/"),
        ("torchvison:resnet18", "network.architecture: 'torchvison:resnet18' is not one of vggnet, torchvision:NAME, "),
        ("torchvision:resnet19", "network.architecture: torchvision:resnet19: no such network; did you mean resnet1"),
        ("timm:resnet18x", "network.architecture: timm:resnet18x: no such network; did you mean resnet18"),
        ("none.py:make", "network.architecture: none.py: no such file"),
    ],
)
def test_an_unknown_architecture_is_an_error_with_what_is_near(architecture: str, message: str) -> None:
    said = mistake(lambda: networks.load(settings_of(architecture, weights="random")))
    assert said.startswith(message)
    assert "did you mean" in said or "no such file" in said


def test_arguments_that_the_network_does_not_take_are_named() -> None:
    said = mistake(lambda: networks.load(settings_of(arguments={"chanels": [1]})))
    assert said.startswith("network net: vggnet could not be built: ")
    assert "'chanels'" in said


def test_pretrained_is_only_for_libraries_that_have_weights() -> None:
    said = mistake(lambda: networks.load(settings_of(weights="pretrained")))
    assert said == "network.weights: 'pretrained' is for torchvision:, timm: and hf:; vggnet needs a file"


# ---------------------------------------------------------------- a user's own function

USERS = """
from __future__ import annotations
from dataclasses import dataclass
import torch

@dataclass
class Options:
    width: int = 2

def make(**options):
    return torch.nn.Linear(Options(**options).width, 1)

def make_list():
    return [1]

def broken():
    raise SystemError("two\\nlines")
"""


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USERS)
    return path


def test_a_users_function_is_called_with_the_arguments(users_file: Path) -> None:
    network = networks.load(settings_of(f"{users_file}:make", arguments={"width": 5}, weights="random"))
    assert network.model.weight.shape == (1, 5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("makes", "has no function makes; did you mean make?"),
        ("make_list", "make_list returned list, not a torch module"),
        ("broken", "broken could not be built: two"),
        ("torch", "torch could not be built: 'module' object is not callable"),
    ],
)
def test_a_users_function_that_makes_no_network_is_an_error(users_file: Path, function: str, message: str) -> None:
    assert mistake(lambda: networks.load(settings_of(f"{users_file}:{function}"))).endswith(message)


def test_a_users_file_with_a_typo_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("def make(:\n")
    assert "could not be built: invalid syntax" in mistake(
        lambda: networks.load(settings_of(f"{tmp_path / 'typo.py'}:make"))
    )


# ---------------------------------------------------------------- fingerprints


def test_the_fingerprint_is_of_the_content_not_of_names_or_formats(checkpoint: Path, tmp_path: Path) -> None:
    first = networks.load(settings_of(weights=checkpoint)).fingerprint
    other = tmp_path / "deeper" / "other.pt"
    other.parent.mkdir()
    torch.save({"params": {f"module.{name}": tensor for name, tensor in load_file(checkpoint).items()}}, other)
    assert networks.load(settings_of(name="another", weights=other)).fingerprint == first


def test_the_fingerprint_changes_with_any_byte_of_the_weights(checkpoint: Path) -> None:
    seen = {networks.load(settings_of(weights=checkpoint)).fingerprint}
    whole = load_file(checkpoint)
    for name in whole:
        state = {key: tensor.clone() for key, tensor in whole.items()}
        state[name].view(-1).view(torch.uint8)[-4 if state[name].is_floating_point() else -8] ^= 1
        save_file(state, checkpoint)
        seen.add(networks.load(settings_of(weights=checkpoint)).fingerprint)
    assert len(seen) == 1 + len(whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": {**SMALL, "dropout": 0.1}},
        {"classes": list("abcdefh")},
        {"classes": list("bacdefg")},
        {"input": {"size": 40, "mode": "grey", "rounding": False}},
        {"input": {"size": 40, "mode": "grey", "mean": [0.5]}},
        {"input": {"size": 40, "mode": "grey", "resize": "shortest"}},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_whatever_outputs_depend_on(checkpoint: Path, changes: dict[str, Any]) -> None:
    before, after = (networks.load(settings_of(weights=checkpoint, **c)).fingerprint for c in ({}, changes))
    assert before != after


def test_the_fingerprint_changes_with_a_users_code_but_not_with_its_place(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import torch
        def make():
            torch.manual_seed(0)
            return torch.nn.Linear(2, 1)
        """
    )
    prints = []
    for name, text in (("a.py", code), ("b.py", code), ("a.py", code + "\n")):
        (tmp_path / name).write_text(text)
        prints.append(networks.load(settings_of(f"{tmp_path / name}:make")).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_weights_of_every_kind_have_a_fingerprint_of_their_own() -> None:
    tensors = [torch.zeros(2, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.bool, torch.int64)]
    tensors += [torch.zeros(()), torch.zeros(0), torch.zeros(1), torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(6)]
    tensors += [torch.arange(6.0).view(2, 3), torch.arange(6.0).view(3, 2).T]
    states = [{"w": tensor} for tensor in tensors] + [{"v": torch.zeros(2, 3)}, {}]
    assert len({networks.fingerprints.of_weights(state) for state in states}) == len(states)


# ---------------------------------------------------------------- the order of weights in memory


class TakesAView(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).view(len(images), -1)


@pytest.mark.parametrize(("model", "kept"), [(nn.Sequential(nn.Conv2d(3, 4, 3)), True), (TakesAView(), False)])
def test_weights_are_kept_channels_last_where_the_network_runs_so(model: nn.Module, kept: bool) -> None:
    images = torch.rand(2, 3, 8, 8)
    before = model(images)
    networks.prefer_channels_last(model, lambda: model(images))
    [weights] = [each for each in model.parameters() if each.ndim == 4]
    assert weights.is_contiguous(memory_format=torch.channels_last) is kept
    assert torch.allclose(model(images), before, atol=1e-6)


def test_weights_over_volumes_are_left_as_they_are() -> None:
    model = nn.Conv3d(1, 1, 3)
    networks.prefer_channels_last(model, lambda: pytest.fail("it was run"))
    assert model.weight.is_contiguous()
