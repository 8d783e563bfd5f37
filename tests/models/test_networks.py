"""Networks: built by name, filled from files that cannot carry code, known by their content."""

from __future__ import annotations

import os
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dissectdb.extract import study
from dissectdb.extract.models import checkpoints, networks
from dissectdb.extract.models.checkpoints import fill, read, save_like
from dissectdb.extract.models.vggnet import VGGNet
from dissectdb.extract.study import StudyError
from dissectdb.output import OutputError

SMALL = {"channels": [2, 2, 2, 2], "hidden": 4}
TIMM = {"depth": 1, "embed_dim": 12, "num_heads": 3, "img_size": 32, "num_classes": 2}


def settings_of(architecture: str = "vggnet", **changes: Any) -> study.Network:
    values: dict[str, Any] = {"name": "net", "architecture": architecture, "layers": ["lin1"]}
    values |= {"input": {"size": 40, "mode": "grey"}, "classes": list("abcdefg")}
    values |= {"arguments": SMALL if architecture == "vggnet" else {}}
    return study.Network.model_validate(values | changes)


def small(seed: int = 0) -> VGGNet:
    torch.manual_seed(seed)
    return VGGNet(**SMALL)


def mistake(call: Callable[[], object]) -> str:
    with pytest.raises(StudyError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(small().state_dict(), path)
    return path


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
        ("vgnet", "network.architecture: 'vgnet' is not one of vggnet, torchvision:NAME, timm:NAME, path/to/file.py:"),
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
    assert said == "network.weights: 'pretrained' is for torchvision: and timm:; vggnet needs a file"


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


# ---------------------------------------------------------------- checkpoints

WRAPPERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda state: state,
    "params": lambda state: {"params": state, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state, "best": 0.5},
    "model": lambda state: {"model": state},
    "data_parallel": lambda state: {"params": {f"module.{name}": tensor for name, tensor in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("old", [True, False])
def test_weights_are_found_where_checkpoints_keep_them(tmp_path: Path, wrap: Callable, old: bool) -> None:
    path = tmp_path / "net.pt"
    torch.save(wrap(small(1).state_dict()), path, _use_new_zipfile_serialization=not old)
    model = small(2)
    fill(model, path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), small(1).state_dict().values(), strict=True)
    )


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(small().half().state_dict(), path)
    model = networks.load(settings_of(weights=path)).model
    assert model.lin1.weight.dtype == torch.float32
    assert torch.equal(model.lin1.weight, small().half().lin1.weight.float())


def test_weights_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    state = small().state_dict()
    state["head.weight"] = state.pop("lin3.weight")
    state["lin1.bias"] = torch.zeros(9)
    torch.save(state, path)
    assert mistake(lambda: fill(small(), path)) == (
        f"{path} does not fit VGGNet: 1 missing: lin3.weight; 1 unexpected: head.weight; "
        "1 of another shape: lin1.bias (9,) instead of (4,)"
    )


def test_a_long_list_of_keys_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({f"x{place}": torch.zeros(1) for place in range(7)}, path)
    said = mistake(lambda: fill(small(), path))
    assert "missing: conv1a.weight, conv1a.bias, bn1a.weight, bn1a.bias, bn1a.running_mean, …; " in said
    assert said.endswith("7 unexpected: x0, x1, x2, x3, x4, …")


def test_weights_that_do_not_fit_leave_the_model_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({**small(1).state_dict(), "lin1.bias": torch.zeros(9)}, path)
    model = small(2)
    mistake(lambda: fill(model, path))
    assert torch.equal(model.lin3.weight, small(2).lin3.weight)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old", [True, False])
def test_a_pickle_that_carries_code_is_refused_and_the_code_is_not_run(tmp_path: Path, old: bool) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "trap.pt"
    torch.save({"params": small().state_dict(), "trap": Trap(sprung)}, path, _use_new_zipfile_serialization=not old)
    said = mistake(lambda: networks.load(settings_of(weights=path)))
    assert said == (
        f"{path}: holds more than tensors (posix.mkdir), and loading it could run code; save its state_dict() only"
    )
    assert not sprung.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert sprung.exists()


def test_a_pickle_of_a_newer_kind_that_carries_code_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "trap.pt"
    path.write_bytes(pickle.dumps({"trap": Trap(tmp_path / "sprung")}, protocol=5))
    said = mistake(lambda: read(path))
    assert said.endswith(
        "not a readable checkpoint: it holds more or other things than tensors; save its state_dict() only"
    )
    assert not (tmp_path / "sprung").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(nn.Linear(2, 2), path)
    assert "holds more than tensors (torch.nn.modules.linear.Linear)" in mistake(lambda: read(path))


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert "holds more than tensors (TorchScript)" in mistake(lambda: read(path))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", ["", "hello world", "cut", "{}"])
def test_a_file_that_is_no_checkpoint_is_an_error(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"net{suffix}"
    if content == "cut":
        save_like(small(), path, None) if suffix == ".safetensors" else torch.save(small().state_dict(), path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_text(content)
    assert mistake(lambda: read(path)).startswith(f"{path}: not a readable checkpoint: ")


@pytest.mark.parametrize("values", [[torch.zeros(1)], {"epoch": 3}, {3: torch.zeros(1)}, torch.zeros(2), None])
def test_a_checkpoint_without_a_state_dict_is_an_error(tmp_path: Path, values: Any) -> None:
    path = tmp_path / "net.pt"
    torch.save(values, path)
    assert "no state dict (names with tensors), at the top or in a dict inside" in mistake(lambda: fill(small(), path))


def test_a_missing_checkpoint_is_an_error_with_what_is_near(checkpoint: Path) -> None:
    path = checkpoint.with_name("net.safetensor")
    assert mistake(lambda: read(path)) == f"{path}: no such checkpoint; did you mean net.safetensors?"
    assert mistake(lambda: read(checkpoint.parent / "no" / "x.pt")).endswith("x.pt: no such checkpoint")


def test_a_folder_is_not_a_checkpoint(tmp_path: Path) -> None:
    assert mistake(lambda: read(tmp_path)) == f"{tmp_path}: is a folder, not a checkpoint"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_or_infinity_are_refused_by_name(checkpoint: Path, value: float) -> None:
    state = load_file(checkpoint)
    state["lin2.weight"][1, 1] = value
    save_file(state, checkpoint)
    said = mistake(lambda: networks.load(settings_of(weights=checkpoint)))
    assert said == f"network net: lin2.weight holds NaN or infinity in {checkpoint}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6), old=st.booleans())
def test_any_damage_to_a_checkpoint_is_a_state_dict_or_a_study_error(
    tmp_path: Path, changes: list[tuple[int, int]], old: bool
) -> None:
    path = tmp_path / "net.pt"
    torch.save({"w": torch.zeros(3)}, path, _use_new_zipfile_serialization=not old)
    content = bytearray(path.read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    path.write_bytes(content)
    try:
        entries = read(path)
    except StudyError:
        return
    assert all(isinstance(entry.tensor, Tensor) for entry in entries)


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


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), None], ids=[*WRAPPERS, "safetensors"])
def test_what_is_saved_like_a_checkpoint_is_read_like_it(tmp_path: Path, wrap: Callable | None) -> None:
    example = tmp_path / ("example.pt" if wrap else "example.safetensors")
    torch.save(wrap(small().state_dict()), example) if wrap else save_file(small().state_dict(), example)
    path = tmp_path / "new" / example.name
    save_like(small(5), path, example)
    model = small(6)
    fill(model, path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), small(5).state_dict().values(), strict=True)
    )
    assert [(e.keys, e.name) for e in read(path)] == [(e.keys, e.name) for e in read(example)]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_without_an_example_weights_are_saved_as_safetensors(tmp_path: Path) -> None:
    save_like(small(), tmp_path / "net.safetensors", None)
    assert load_file(tmp_path / "net.safetensors").keys() == small().state_dict().keys()


def test_weights_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    save_like(model, tmp_path / "tied.safetensors", None)
    fill(model, tmp_path / "tied.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_failed_save_leaves_the_old_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path, example = tmp_path / f"net{suffix}", tmp_path / f"example{suffix}"
    torch.save(small().state_dict(), example)

    def fail(values: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    path.write_bytes(b"old")
    monkeypatch.setattr(checkpoints.torch, "save", fail)
    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OutputError, match="no space"):
        save_like(small(), path, example)
    assert path.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, example.name])


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
