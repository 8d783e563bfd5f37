"""Checkpoints as people have them: found, filled in, left out or refused, by their names and their kind."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dissectdb.extract.models.checkpoints import fill, read, save_like
from tests.support.mistakes import mistake
from tests.support.worlds import World

State = dict[str, Tensor]


def block(inner: int) -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(inner, inner, 3, padding=1, bias=False), bn=nn.BatchNorm2d(inner)))


def net(seed: int = 0, blocks: int = 2, outputs: int = 7) -> nn.Module:
    """Named like a ResNet: conv1, layer1.0, layer1.1, fc."""
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 4, 3),
            layer1=nn.Sequential(*(block(4) for _ in range(blocks))),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(4, outputs),
        )
    )


GIVEN = net(1).state_dict()


def put(prefix: str, state: State | None = None) -> State:
    return {prefix + name: tensor for name, tensor in (GIVEN if state is None else state).items()}


def without(state: State, word: str) -> State:
    return {name: tensor for name, tensor in state.items() if word not in name}


def other(state: State | None = None) -> State:
    return {name: tensor + 1 for name, tensor in (state or GIVEN).items()}


def filled(path: Path, **settings: Any) -> str:
    """Fill another network, check that it has the weights GIVEN, and return the message."""
    model = net(2)
    said = fill(model, path, **settings)
    for name, tensor in model.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, GIVEN[name]), name
    return said


# ---------------------------------------------------------------- where the weights are

EMA = {"n_averaged": torch.tensor(9)}
FOUND: dict[str, tuple[Any, str]] = {
    "at the top": (GIVEN, ""),
    "DataParallel": ({"state_dict": put("module."), "epoch": 3}, 'without the prefix "module."'),
    "Lightning": (
        {"state_dict": put("model."), "pytorch-lightning_version": "2.4.0", "callbacks": {}, "loops": {"fit": {}}},
        'without the prefix "model."',
    ),
    "Lightning with a loss": (
        {"state_dict": put("model.") | {"criterion.weight": torch.ones(7)}},
        'without the prefix "model."; left out: criterion.weight',
    ),
    "a loss with a matrix": (put("net.") | {"loss_fn.centres": torch.ones(7, 4)},
                             'without the prefix "net."; left out: loss_fn.centres'),
    "a loss beside the layers": (GIVEN | {"criterion.weight": torch.ones(7)}, "left out: criterion.weight"),
    "compiled": (put("_orig_mod."), 'without the prefix "_orig_mod."'),
    "compiled and distributed": ({"model": put("module._orig_mod.")}, 'without the prefix "module._orig_mod."'),
    "any name": ({"weights_of_mine": put("backbone.trunk.body.")}, 'without the prefix "backbone.trunk.body."'),
    "wrapped in the middle": (
        {name.replace("layer1.", "layer1.module."): tensor for name, tensor in GIVEN.items()}, ""),
    "before torch 0.4.1": ({"state_dict": put("module.", without(GIVEN, "num_batches"))}, 'the prefix "module."'),
    "net": ({"net": GIVEN, "acc": torch.tensor(71.0)}, ""),
    "the network's own name": ({"resnet_faces": GIVEN, "optimizer": {"state": {}, "param_groups": []}}, ""),
    "with its optimizer": ({"epoch": 5, "model_state_dict": GIVEN, "optimizer_state_dict": {
        "state": {0: {"exp_avg": torch.ones(4, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]}, "loss": 0.4}, ""),
    "deep": ({"a": {"b": {"c": GIVEN}}}, ""),
    "profiled": (GIVEN | {"total_ops": torch.zeros(1), "layer1.total_ops": torch.zeros(1),
                          "layer1.0.total_params": torch.zeros(1)}, "left out: total_ops, layer1.* (2 tensors)"),
    "averaged": (EMA | put("module."), 'without the prefix "module."; left out: n_averaged'),
    "an average beside it": (put("model.") | put("model_ema.", other()),
                             '"model" is taken; also there: model_ema (see network.weights_key)'),
    "an average in a dict": ({"state_dict": GIVEN, "ema_state_dict": other()},
                             '"state_dict" is taken; also there: ema_state_dict (see network.weights_key)'),
    "a teacher": ({"student": put("module."), "teacher": put("module.", other())}, "also there: teacher"),
    "a teacher without its head": (put("student.") | put("teacher.", without(other(), "fc")),
                                   'without the prefix "student."; left out: teacher.* ('),
    "an average within": (GIVEN | put("ema.", without(other(), "fc")), "left out: ema.* ("),
    "the same twice": (put("model.") | put("net."), 'without the prefix "model."'),
    "indices": (GIVEN | {"layer1.0.index": torch.arange(9)}, "left out: layer1.0.index"),
}  # fmt: skip


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("what", FOUND)
def test_weights_are_found_in_every_kind_of_checkpoint(tmp_path: Path, what: str, old: bool) -> None:
    content, said = FOUND[what]
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    found = filled(tmp_path / "net.pt")
    assert said in found if said else found == ""


@pytest.mark.parametrize("what", FOUND)
def test_weights_saved_like_a_checkpoint_load_in_its_place(tmp_path: Path, what: str) -> None:
    torch.save(FOUND[what][0], tmp_path / "example.pt")
    edited = net(5)
    save_like(edited, tmp_path / "new" / "edited.pt", tmp_path / "example.pt")
    model = net(6)
    fill(model, tmp_path / "new" / "edited.pt")
    for (name, one), two in zip(model.state_dict().items(), edited.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    names = {entry.dotted for entry in read(tmp_path / "example.pt")}
    assert {entry.dotted for entry in read(tmp_path / "new" / "edited.pt")} <= names


def test_half_precision_is_widened(tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in GIVEN.items()}
    torch.save({"model": half}, tmp_path / "net.pt")
    model = net()
    fill(model, tmp_path / "net.pt")
    assert torch.equal(model.fc.weight, GIVEN["fc.weight"].half().float())


def test_a_network_that_is_wrapped_itself_takes_weights_without_the_prefix(tmp_path: Path) -> None:
    torch.save({"net": GIVEN}, tmp_path / "net.pt")
    model = nn.Module()
    model.backbone = net(3)
    assert fill(model, tmp_path / "net.pt") == 'with "backbone." put before its names'
    assert torch.equal(model.backbone.fc.weight, GIVEN["fc.weight"])
    parallel = nn.DataParallel(net(3))
    assert fill(parallel, tmp_path / "net.pt") == ""
    assert torch.equal(parallel.module.fc.weight, GIVEN["fc.weight"])
    save_like(model, tmp_path / "again.pt", tmp_path / "net.pt")
    assert filled(tmp_path / "again.pt") == ""


def test_shared_weights_need_to_be_there_once(tmp_path: Path) -> None:
    model = nn.Module()
    model.one = model.two = nn.Linear(3, 3)
    model.head = nn.Linear(3, 2)
    state = model.state_dict()
    torch.save(without(state, "two."), tmp_path / "net.pt")
    assert fill(model, tmp_path / "net.pt") == ""


@pytest.mark.parametrize("key", ["ema_state_dict", "nets.student"])
def test_the_study_chooses_among_several(tmp_path: Path, key: str) -> None:
    content = {"state_dict": other(), "ema_state_dict": GIVEN} if key[0] == "e" else {
        "nets": put("student.") | put("teacher.", other())}  # fmt: skip
    torch.save(content, tmp_path / "net.pt")
    filled(tmp_path / "net.pt", key=key)
    save_like(net(4), tmp_path / "edited.pt", tmp_path / "net.pt", key)
    model = net(6)
    fill(model, tmp_path / "edited.pt", key)
    assert torch.equal(model.fc.weight, net(4).fc.weight)


def test_weights_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    torch.save(put("encoder_q.") | put("encoder_k.", other()), tmp_path / "net.pt")
    assert mistake(lambda: filled(tmp_path / "net.pt")) == (
        f"{tmp_path / 'net.pt'} holds several sets of weights that fit: encoder_q, encoder_k; "
        "choose one by network.weights_key"
    )
    assert mistake(lambda: filled(tmp_path / "net.pt", key="encoder")) == (
        f"network.weights_key: {tmp_path / 'net.pt'} has no 'encoder'; it has encoder_k, encoder_q"
    )


def test_safetensors_are_known_by_content_and_may_have_a_prefix(tmp_path: Path) -> None:
    save_file(put("model."), tmp_path / "net.pt")
    assert filled(tmp_path / "net.pt") == 'without the prefix "model."'
    torch.save(GIVEN, tmp_path / "net.safetensors")
    assert filled(tmp_path / "net.safetensors") == ""
    save_like(net(1), tmp_path / "edited.pt", tmp_path / "net.pt")
    assert load_file(tmp_path / "edited.pt").keys() == put("model.").keys()


# ---------------------------------------------------------------- weights that must not be used

UNFIT: dict[str, tuple[Any, str]] = {
    "a deeper network": (net(1, blocks=3).state_dict(), "5 unexpected: layer1.2.conv.weight, "),
    "a deeper network with a prefix": (put("model.", net(1, blocks=3).state_dict()), "5 unexpected: layer1.2.conv.w"),
    "one more layer": (GIVEN | {"fc2.weight": torch.ones(7, 7), "fc2.bias": torch.ones(7)},
                       "2 unexpected: fc2.weight, fc2.bias; build the network that they belong to, or name them"),
    "an auxiliary head": (put("model.") | {"model.aux.weight": torch.ones(7, 4)}, "1 unexpected: aux.weight; build"),
    "a shallower network": (net(1, blocks=1).state_dict(), "5 missing: layer1.1.conv.weight"),
    "a bias more": (GIVEN | {"layer1.0.conv.bias": torch.ones(4)}, "1 unexpected: layer1.0.conv.bias"),
    "another head": (net(1, outputs=1000).state_dict(), "2 of another shape: fc.weight (1000, 4) instead of (7, 4), "
                     "fc.bias (1000,) instead of (7,); the head (fc) is another's: 1000 outputs instead of 7"),
    "no head": ({"state_dict": put("module.", without(GIVEN, "fc."))},
                "2 missing: fc.weight, fc.bias; the head (fc) is absent: the file holds only what comes before it"),
    "a head of another name": (without(GIVEN, "fc.") | {"head.weight": torch.ones(7, 4)}, "1 unexpected: head.weight"),
    "another network": ({"a.weight": torch.ones(2), "b.weight": torch.ones(2)}, "2 unexpected: a.weight, b.weight"),
    "an optimizer only": ({"optimizer": {"exp_avg": torch.ones(2)}}, "1 unexpected: exp_avg"),
    "no tensors": ({"state_dict": {}, "epoch": 3}, "no state dict (names with tensors), at the top or in a dict "
                   "inside; it is a dict of state_dict, epoch"),
    "numbers of NumPy for weights": ({name: tensor.numpy() for name, tensor in GIVEN.items()}, "no state dict"),
}  # fmt: skip


@pytest.mark.parametrize("what", UNFIT)
def test_weights_of_another_network_are_refused(tmp_path: Path, what: str) -> None:
    content, said = UNFIT[what]
    torch.save(content, tmp_path / "net.pt")
    model = net(2)
    assert said in mistake(lambda: fill(model, tmp_path / "net.pt"))
    assert all(torch.equal(tensor, net(2).state_dict()[name]) for name, tensor in model.state_dict().items())


def test_the_study_can_name_weights_that_the_network_does_not_need(tmp_path: Path) -> None:
    torch.save({"model": put("module.") | {"module.aux.weight": torch.ones(7, 4)}}, tmp_path / "net.pt")
    assert "left out: aux.weight" in filled(tmp_path / "net.pt", left_out=["aux"])
    save_like(net(4), tmp_path / "edited.pt", tmp_path / "net.pt")
    fill(net(), tmp_path / "edited.pt")


def test_a_resnet34_does_not_fill_a_resnet18(tmp_path: Path) -> None:
    import torchvision

    torch.save({"state_dict": put("model.", torchvision.models.resnet34().state_dict())}, tmp_path / "net.pt")
    said = mistake(lambda: fill(torchvision.models.resnet18(), tmp_path / "net.pt"))
    assert "96 unexpected: layer1.2.conv1.weight" in said or "unexpected: layer1.2" in said


def test_a_module_of_the_network_called_loss_must_be_complete(tmp_path: Path) -> None:
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "loss_head": nn.Linear(2, 2)})
    torch.save(model.state_dict() | {"loss_head.scale": torch.ones(2)}, tmp_path / "net.pt")
    assert "1 unexpected: loss_head.scale" in mistake(lambda: fill(model, tmp_path / "net.pt"))


def test_a_dict_that_holds_itself_or_another_many_times_is_read_once(tmp_path: Path) -> None:
    wide: dict[str, Any] = {"net": GIVEN}
    for _ in range(3):
        wide = {f"k{place}": wide for place in range(300)}
    wide["self"] = wide
    torch.save(wide, tmp_path / "net.pt")
    assert len(read(tmp_path / "net.pt")) in (0, len(GIVEN))


# ---------------------------------------------------------------- other values beside the weights


class AttributeDict(dict):
    """A dict like that in which Lightning stores hyperparameters."""


AttributeDict.__module__ = "pytorch_lightning.utilities.parsing"
AttributeDict.__qualname__ = "AttributeDict"

BESIDE: dict[str, Any] = {
    "a number of NumPy": np.float64(71.2),
    "a whole number of NumPy": np.int64(3),
    "an array": np.arange(4.0),
    "a type of NumPy": np.dtype("float32"),
    "options": argparse.Namespace(lr=0.1, arch="resnet18", best=np.float32(3)),
    "a path": pathlib.PurePosixPath("/data/faces"),
    "a date": datetime.datetime(2024, 5, 1),
    "a default dict": collections.defaultdict(list, a=[1]),
    "a counter": collections.Counter("abc"),
    "a slice": slice(1, 2),
    "hyperparameters": AttributeDict(lr=0.1),
    "a version": torch.__version__,
}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("what", BESIDE)
def test_plain_values_beside_the_weights_are_ignored(
    tmp_path: Path, what: str, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "hyperparameters":  # of a package that is not installed here
        for name in ("pytorch_lightning", "pytorch_lightning.utilities", AttributeDict.__module__):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        monkeypatch.setattr(sys.modules[AttributeDict.__module__], "AttributeDict", AttributeDict, raising=False)
    content = {"best": BESIDE[what], "state_dict": GIVEN, "history": [{"x": BESIDE[what]}]}
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=not old)
    assert filled(tmp_path / "net.pt") == ""


class Call:
    """Calls a function of NumPy when it is unpickled."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def test_nothing_beside_the_weights_is_called(tmp_path: Path) -> None:
    calls = [Call(np.zeros, 10**15), Call(np.savetxt, str(tmp_path / "written"), [1.0])]
    torch.save({"calls": calls, "state_dict": GIVEN}, tmp_path / "net.pt")
    assert filled(tmp_path / "net.pt") == ""
    assert not (tmp_path / "written").exists()


def test_the_same_weights_in_another_checkpoint_are_the_same_network(world: World) -> None:
    path = world.folder / "net.pt"
    state = torch.load(path, weights_only=True)
    state = state.get("params", state)
    torch.save({"best": np.float64(1), "state_dict": put("model.", state)}, path)
    done = world.extract()
    assert done.code == 0
    assert "nothing is stale" in done.out + done.err
    assert 'network net, weights net.pt: without the prefix "model."' in done.err
    assert world.modify().code == 0
    [edited] = [each for each in world.folder.rglob("*.pt") if each != path]
    assert {entry.keys for entry in read(edited)} == {("state_dict",)}
    assert world.extract("--set", f"network.weights={edited}", "--dry-run").code == 0


def test_a_clip_with_numbers_of_numpy_beside_its_weights_is_the_same_clip(world: World) -> None:
    state = load_file(world.folder / "clip.safetensors")
    torch.save({"best": np.float64(1), "name": "tiny", "state_dict": put("module.", state)}, world.folder / "clip.pt")
    world.change("clip.safetensors", "clip.pt")
    done = world.extract()
    assert done.code == 0, done.err
    assert "nothing is stale" in done.out + done.err


def test_a_clip_file_of_another_kind_is_refused_and_its_kind_is_named(world: World) -> None:
    (world.folder / "clip.pt").write_text("<!doctype html><title>Sign in</title>")
    world.change("clip.safetensors", "clip.pt")
    done = world.extract()
    assert done.code == 2
    assert "clip.pt: not a readable checkpoint: it is an HTML page; the download failed" in done.err


def test_names_of_older_numpy_are_known(tmp_path: Path) -> None:
    torch.save({"best": np.float64(2), "state_dict": GIVEN}, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "net.pt", "w") as old:
        for part in new.infolist():
            old.writestr(part.filename, new.read(part).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert filled(tmp_path / "net.pt") == ""


def test_no_placeholder_is_left_behind(tmp_path: Path) -> None:
    torch.save({"best": np.float64(2), "state_dict": GIVEN}, tmp_path / "net.pt")
    before = set(torch.serialization.get_safe_globals())
    filled(tmp_path / "net.pt")
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "net.pt", weights_only=True)


# ---------------------------------------------------------------- files of other kinds


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_a_checkpoint_is_not_taken_for_a_file_of_another_kind(tmp_path: Path, old: bool) -> None:
    torch.save(GIVEN, tmp_path / "net.tar", _use_new_zipfile_serialization=not old)
    assert filled(tmp_path / "net.tar") == ""


def test_whole_numbers_are_not_weights(tmp_path: Path) -> None:
    state = {name: (100 * tensor).to(torch.int8) for name, tensor in net().state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    assert "not real numbers" in mistake(lambda: filled(tmp_path / "w.pt"))
