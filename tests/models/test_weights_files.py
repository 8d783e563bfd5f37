"""Files of weights: which are read, which are refused because they could carry code, and how weights are saved."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dissectdb.extract.models import checkpoints, networks
from dissectdb.extract.models.checkpoints import fill, read, save_like
from dissectdb.extract.study import StudyError
from dissectdb.output import OutputError
from tests.support.mistakes import mistake
from tests.support.small_networks import settings_of, small

# ---------------------------------------------------------------- reading

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


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
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
    """Makes a folder when it is unpickled."""

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
def test_a_file_that_is_not_a_checkpoint_is_an_error(tmp_path: Path, suffix: str, content: str) -> None:
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


def test_a_missing_checkpoint_is_an_error_that_names_a_similar_file(checkpoint: Path) -> None:
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


# ---------------------------------------------------------------- saving


@pytest.mark.parametrize("wrap", [*WRAPPERS.values(), None], ids=[*WRAPPERS, "safetensors"])
def test_weights_saved_like_a_checkpoint_are_found_like_in_it(tmp_path: Path, wrap: Callable | None) -> None:
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
def test_a_failed_save_keeps_the_old_file_and_leaves_no_partial_one(
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
