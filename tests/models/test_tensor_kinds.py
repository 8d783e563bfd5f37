"""What looks like weights but is not, weights that are stored in two parts, and what beside them changes a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from dissectdb.extract.models.checkpoints import fill, save_like
from tests.models.test_checkpoints import GIVEN, block, filled, net, other, put
from tests.support.mistakes import mistake

Content = dict[str, Any]


def saved(tmp_path: Path, content: Any) -> Path:
    torch.save(content, tmp_path / "net.pt")
    return tmp_path / "net.pt"


def refusal(path: Path, **settings: Any) -> str:
    """The message of a refusal, after which the network is as it was."""
    model = net(2)
    said = mistake(lambda: fill(model, path, **settings))
    assert all(torch.equal(tensor, net(2).state_dict()[name]) for name, tensor in model.state_dict().items())
    return said


# ---------------------------------------------------------------- what is none

NO_WEIGHTS: dict[str, Content] = {
    "grads": {"grads": GIVEN},
    "accumulated_grads": {"accumulated_grads": GIVEN, "epoch": 3},
    "exp_avg": {"exp_avg": GIVEN, "step": 9},
    "optimizer.exp_avg": {"optimizer": {"exp_avg": GIVEN}},
    "optimizer.momentum_buffer": {"optimizer": put("momentum_buffer.")},
    "optimizer_state_dict.state.module": {"optimizer_state_dict": {"state": put("module.")}},
    "momentum": put("momentum."),
    "optimizers.0.exp_avg_sq": {"optimizers": [{"exp_avg_sq": GIVEN}]},
    "masks": {"masks": GIVEN},
    "lora_delta": {"lora_delta": GIVEN},
}


@pytest.mark.parametrize("key", NO_WEIGHTS)
def test_what_an_optimizer_keeps_is_no_weights(tmp_path: Path, key: str) -> None:
    said = refusal(saved(tmp_path, NO_WEIGHTS[key]))
    assert (
        f": only {key} fits Sequential, and by its name it holds an optimizer's state, gradients, masks or upda" in said
    )
    assert said.endswith(
        "save the network's state_dict(), or name this one in network.weights_key if it does hold weights"
    )
    filled(tmp_path / "net.pt", key=key)


@pytest.mark.parametrize("beside", [{"grads": other()}, {"optimizer": {"exp_avg": other(), "exp_avg_sq": other()}}])
def test_an_optimizers_state_is_no_rival_of_the_weights(tmp_path: Path, beside: Content) -> None:
    assert filled(saved(tmp_path, beside | {"resnet_faces": GIVEN})) == ""


def test_a_number_is_no_adapter(tmp_path: Path) -> None:
    assert filled(saved(tmp_path, {"model": GIVEN, "delta": torch.tensor(0.1)})) == ""
    assert filled(saved(tmp_path, GIVEN | {"criterion.delta": torch.tensor(0.1)})) == "left out: criterion.delta"


@pytest.mark.parametrize("name", ["momentum_encoder", "optimized_model", "gradual", "options_net"])
def test_a_network_of_a_similar_name_is_one(tmp_path: Path, name: str) -> None:
    filled(saved(tmp_path, {name: GIVEN}))


@pytest.mark.parametrize("name", ["ema", "model_ema", "state_dict_ema", "teacher"])
def test_an_average_is_taken_last_and_said(tmp_path: Path, name: str) -> None:
    assert filled(saved(tmp_path, {name: GIVEN})) == (
        f'"{name}" is taken, by its name an average or another copy of the weights; no others fit'
    )
    assert filled(saved(tmp_path, {name: other(), "state_dict": GIVEN})) == (
        f'"state_dict" is taken; also there: {name} (see network.weights_key)'
    )
    assert filled(tmp_path / "net.pt", key="state_dict") == ""


# ---------------------------------------------------------------- which of several

TIES: dict[str, Content] = {
    "generator, discriminator": {"generator": GIVEN, "discriminator": other()},
    "state_dict.generator, state_dict.discriminator": {
        "state_dict": put("generator.") | put("discriminator.", other())
    },
    "state_dict.net_a.module, state_dict.net_b.module": {
        "state_dict": put("net_a.module.") | put("net_b.module.", other())
    },
    "models.0, models.1": {"models": [GIVEN, other()]},
    "models.0.net, models.1.net": {"models": [{"net": GIVEN}, {"net": other()}]},
    "a, extras.0": {"a": GIVEN, "extras": [other()]},
}


@pytest.mark.parametrize("keys", TIES)
def test_a_tie_is_refused_wherever_it_is_and_the_study_breaks_it(tmp_path: Path, keys: str) -> None:
    path = saved(tmp_path, TIES[keys])
    assert f"holds several sets of weights that fit: {keys}; choose one by network.weights_key" in refusal(path)
    first = keys.partition(",")[0]
    filled(path, key=first)
    save_like(net(4), tmp_path / "edited.pt", path, first)
    model = net(6)
    fill(model, tmp_path / "edited.pt", first)
    assert torch.equal(model.fc.weight, net(4).fc.weight)


def test_the_student_of_a_lightning_module_is_taken_and_its_teacher_said(tmp_path: Path) -> None:
    content = {"state_dict": put("model.") | put("teacher.", other()), "pytorch-lightning_version": "2.4.0"}
    said = filled(saved(tmp_path, content))
    assert '"state_dict.model" is taken; also there: state_dict.teacher (see network.weights_key)' in said


# ---------------------------------------------------------------- weights in two parts


def convolutions(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def pruned(model: nn.Module) -> None:
    for module in convolutions(model):
        prune.random_unstructured(module, "weight", amount=0.4)


def pruned_twice(model: nn.Module) -> None:
    pruned(model)
    for module in convolutions(model):
        prune.l1_unstructured(module, "weight", amount=0.4)


def normed(model: nn.Module) -> None:
    for module in convolutions(model):
        weight_norm(module)
        module.weight_g.data *= 1.5


def normed_as_a_whole(model: nn.Module) -> None:
    for module in convolutions(model):
        weight_norm(module, dim=None)
        module.weight_g.data *= 1.5


def parametrized(model: nn.Module) -> None:
    for module in convolutions(model):
        parametrizations.weight_norm(module)
        module.parametrizations.weight.original0.data *= 0.5


PARTS = {
    "pruned": (pruned, "pruned: weight_orig × weight_mask (4 tensors)"),
    "pruned twice": (pruned_twice, "pruned: weight_orig × weight_mask (4 tensors)"),
    "weight norm": (normed, "weight norm: g · v/|v| (4 tensors)"),
    "weight norm over all": (normed_as_a_whole, "weight norm: g · v/|v| (4 tensors)"),
    "weight norm as a parametrization": (parametrized, "weight norm: g · v/|v| (4 tensors)"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("prefix", ["", "model.module."])
@pytest.mark.parametrize("what", PARTS)
def test_weights_in_two_parts_are_computed(tmp_path: Path, what: str, prefix: str) -> None:
    theirs = net(1)
    PARTS[what][0](theirs)
    theirs.eval()
    path = saved(tmp_path, {"state_dict": put(prefix, theirs.state_dict())})
    model = net(2).eval()
    assert PARTS[what][1] in fill(model, path)
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(model(images), theirs(images))
    assert not torch.allclose(model.fc.weight, net(1).fc.weight)
    save_like(model, tmp_path / "edited.pt", path)
    again = net(5).eval()
    fill(again, tmp_path / "edited.pt")
    assert torch.equal(again(images), model(images))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("what", PARTS)
def test_a_network_that_has_the_parts_itself_takes_them(tmp_path: Path, what: str) -> None:
    theirs, model = net(1), net(2)
    for each in (theirs, model):
        PARTS[what][0](each)
    assert fill(model, saved(tmp_path, theirs.state_dict())) == ""
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in model.state_dict().items())


def spectral(model: nn.Module) -> None:
    spectral_norm(model.fc)


def spectral_parametrization(model: nn.Module) -> None:
    parametrizations.spectral_norm(model.fc)


def orthogonal(model: nn.Module) -> None:
    parametrizations.orthogonal(model.fc)


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


def halved_after_its_norm(model: nn.Module) -> None:
    parametrizations.weight_norm(model.fc)
    halved = Halved()
    halved.register_buffer("by", torch.tensor(2.0))
    nn.utils.parametrize.register_parametrization(model.fc, "weight", halved)


@pytest.mark.parametrize(
    ("change", "way_out"),
    [
        (spectral, "remove_spectral_norm"),
        (spectral_parametrization, "call torch.nn.utils.parametrize.remove_parametrizations on each module and save"),
        (orthogonal, "remove_parametrizations"),
        (halved_after_its_norm, "remove_parametrizations"),
    ],
)
def test_other_parts_are_refused_with_the_way_out(tmp_path: Path, change: Any, way_out: str) -> None:
    theirs = net(1)
    change(theirs)
    said = refusal(saved(tmp_path, put("model.", theirs.state_dict())))
    assert "1 missing: fc.weight; " in said
    assert way_out in said


# ---------------------------------------------------------------- masks, numbers and flags

MASK = torch.rand(GIVEN["layer1.0.conv.weight"].shape, generator=torch.Generator().manual_seed(0)) > 0.5
WHERE = "layer1.0.conv."
APPLIED = {name: tensor * MASK if name == f"{WHERE}weight" else tensor for name, tensor in GIVEN.items()}
MASKS: dict[str, Content] = {
    "a buffer": {f"{WHERE}weight_mask": MASK},
    "a buffer of bytes": {f"{WHERE}weight_mask": MASK.to(torch.uint8)},
    "a buffer of floats": {f"{WHERE}mask": MASK.float()},
    "a dict": {"masks": {f"{WHERE}weight": MASK}},
    "a dict by module": {"mask": {f"module.{WHERE[:-1]}": MASK.float()}},
}


@pytest.mark.parametrize("what", MASKS)
def test_a_mask_is_left_out_only_if_the_weights_have_it_already(tmp_path: Path, what: str) -> None:
    content = MASKS[what]
    nested = "dict" in what
    for state in (GIVEN, APPLIED):
        path = saved(tmp_path, {"state_dict": state} | content if nested else state | content)
        if state is GIVEN:
            said = refusal(path)
            assert "mask" in said
            assert "multiply the weights by it (torch.nn.utils.prune.remove) and save, or name them in network." in said
        else:
            model = net(2)
            assert "left out: " in fill(model, path)
            assert torch.equal(model.layer1[0].conv.weight, APPLIED[f"{WHERE}weight"])


IN_MODULES: dict[str, Tensor] = {
    "attention mask": torch.ones(4, 4, dtype=torch.bool).tril(),
    "mask": torch.ones(9, dtype=torch.bool),
    "zero_point": torch.zeros(4, dtype=torch.int32),
    "weight_zero_point": torch.tensor(7),
    "permutation": torch.tensor([2, 0, 1, 3]),
    "flag": torch.tensor(True),
    "weight_scale": torch.ones(4),
    "adapter.weight": torch.ones(2, 4),
    "phase": torch.ones(4, dtype=torch.complex64),
}


@pytest.mark.parametrize("name", IN_MODULES)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_what_lies_in_a_module_and_may_change_it_is_refused(tmp_path: Path, name: str, prefix: str) -> None:
    path = saved(tmp_path, put(prefix, GIVEN | {WHERE + name: IN_MODULES[name]}))
    assert f"1 unexpected: {WHERE}{name}; " in refusal(path)
    assert f"left out: {WHERE}{name}" in filled(path, left_out=[WHERE + name])


COUNTS: dict[str, Tensor] = {
    "layer1.0.position_ids": torch.arange(9)[None],
    "layer1.0.attn.relative_position_index": torch.tensor([[4, 3], [1, 0]]),
    "layer1.0.steps": torch.tensor(100),
    "fc.initialized": torch.tensor(True),
    "layer1.0.conv.total_ops": torch.zeros(1, dtype=torch.float64),
    "n_averaged": torch.tensor(3),
    "global_step": torch.tensor([1000]),
    "criterion.weight": torch.ones(7),
    "val_metrics.confmat": torch.tensor([[3, 1], [0, 2]]),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_losses_are_left_out(tmp_path: Path, name: str) -> None:
    assert f"left out: {name}" == filled(saved(tmp_path, GIVEN | {name: COUNTS[name]}))


# ---------------------------------------------------------------- adapters and other parts of the network

LOW = {"layer1.0.conv.lora_A": torch.ones(2, 4), "layer1.0.conv.lora_B": torch.ones(4, 2)}
ADAPTERS: dict[str, Content] = {
    "in two dicts": {"base": GIVEN, "lora": LOW},
    "in two dicts with other names": {"state_dict": GIVEN, "weights_update": {"conv.lora_up.weight": torch.ones(4, 2)}},
    "adapter": {"model": GIVEN, "adapter": {"down": torch.ones(2, 4)}},
    "delta": {"base": GIVEN, "delta": other()},
    "beside the weights": GIVEN | LOW,
    "outside the prefix": {"state_dict": put("backbone.") | {"adapters.0.weight": torch.ones(4, 4)}},
    "as peft has it": {
        f"base_model.model.{name.replace('conv.weight', 'conv.base_layer.weight')}": tensor
        for name, tensor in GIVEN.items()
    }
    | {"base_model.model.layer1.0.conv.lora_A.default.weight": torch.ones(2, 4, 1, 1)},
}


@pytest.mark.parametrize("what", ADAPTERS)
def test_an_adapter_that_is_not_merged_is_refused(tmp_path: Path, what: str) -> None:
    said = refusal(saved(tmp_path, ADAPTERS[what]))
    assert "an adapter is not merged: merge it into the weights (in peft: merge_and_unload()) and save them" in said


def test_the_network_without_its_adapter_can_be_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, ADAPTERS["in two dicts"])
    assert "left out: lora.* (2 tensors)" in filled(path, left_out=["lora"])
    assert filled(path, key="base") == ""


def test_a_dict_of_a_module_beside_its_other_tensors_is_refused(tmp_path: Path) -> None:
    assert "1 unexpected: fc.scale" in refusal(saved(tmp_path, GIVEN | {"fc": {"scale": torch.ones(7)}}))
    assert filled(saved(tmp_path, {"net": GIVEN, "fc": torch.ones(9, 4)})) == "left out: fc"


def test_what_another_dict_holds_is_said(tmp_path: Path) -> None:
    content = {"backbone": GIVEN, "head": {"weight": torch.ones(7, 7), "bias": torch.ones(7)}, "rng": torch.arange(9)}
    assert filled(saved(tmp_path, content)) == "left out: head.* (2 tensors)"


# ---------------------------------------------------------------- numbers of another kind


def test_complex_weights_are_refused_by_name_but_for_a_complex_network(tmp_path: Path) -> None:
    path = saved(tmp_path, GIVEN | {"fc.weight": GIVEN["fc.weight"] + 0.5j})
    said = refusal(path)
    assert (
        "has complex weights where the network's are real (fc.weight), and their imaginary parts would be lost" in said
    )
    theirs, model = (nn.Linear(3, 2, dtype=torch.complex64) for _ in range(2))
    fill(model, saved(tmp_path, theirs.state_dict()))
    assert torch.equal(model.weight, theirs.weight)


def test_fractions_do_not_become_whole_numbers(tmp_path: Path) -> None:
    model = block(4)
    model.register_buffer("order", torch.arange(4))
    state = model.state_dict()
    assert fill(model, saved(tmp_path, state | {"order": torch.arange(4.0)})) == ""
    path = saved(tmp_path, state | {"order": torch.arange(4.0) + 0.5})
    assert "order holds fractions, where the network has torch.int64" in mistake(lambda: fill(model, path))
