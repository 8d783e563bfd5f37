"""The fingerprint of a network that is given as an object: what changes it, what does not, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dissectdb.extract.models import given_model
from dissectdb.extract.study import StudyError
from tests.support.small_networks import settings_of

CODE = """
import torch
import torch.nn.functional as F
from torch import nn

SCALE = 2.0
TABLE = {"a": 1}
LOADER = iter([1])


def act(x):
    return F.relu(x) * SCALE


class Kept:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.head = nn.Linear(3, 7)
        self.slope = 0.1
        self.kept = Kept(1.5)
        self.hidden = [nn.Linear(7, 7)]
        self.register_buffer("unsaved", torch.ones(1), persistent=False)

    def forward(self, x):
        self.last = act(self.conv(x)).mean((2, 3))
        return self.kept(self.hidden[0](self.head(self.last))) * self.unsaved + self.offset()

    def offset(self):
        return self.slope

    def training_step(self, batch):
        return next(LOADER)
"""


LOADER = iter([2])


def net(code: str = CODE, change: Callable[[Any], object] | None = None) -> Any:
    """A network of the code, which has no file, as a class of a notebook has none."""
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "of_a_notebook"}
    exec(compile(code, "<cell>", "exec"), names)
    model = names["Net"]()
    if change is not None:
        change(model)
    return model


def fingerprint(model: nn.Module) -> str:
    settings = settings_of(architecture="object:Net", layers=["conv"], input={"size": 12, "mode": "grey"})
    return given_model.load(model, settings).fingerprint


def test_the_same_network_has_the_same_fingerprint_however_it_was_used() -> None:
    model = net()
    assert fingerprint(model) == fingerprint(net())
    model.train()
    model(torch.rand(2, 1, 12, 12))  # it keeps what it has computed, with its graph
    model.to(memory_format=torch.channels_last)
    assert model.last.grad_fn is not None
    assert fingerprint(model) == fingerprint(net())
    assert model.training
    assert model.last.grad_fn is not None, "the user's model stays as it is"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SCALE = 2.0", "SCALE = 2.5"),
        ("F.relu(x)", "F.gelu(x)"),
        ("return x * self.factor", "return x + self.factor"),
        ("return self.slope", "return -self.slope"),
        ("self.last = act(", "self.last = abs("),
    ],
)
def test_code_that_forward_uses_counts(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert fingerprint(net(CODE.replace(old, new))) != fingerprint(net())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nclass Kept", "\n\n# a comment\nclass Kept"),
        ('TABLE = {"a": 1}', 'TABLE = {"a": 2}'),
        ("return next(LOADER)", "return 0"),
        ("def training_step", "def other"),
    ],
)
def test_code_that_forward_does_not_use_does_not_count(old: str, new: str) -> None:
    assert CODE.count(old) == 1
    assert fingerprint(net(CODE.replace(old, new))) == fingerprint(net())


def set_to(name: str, value: object) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, value)


CHANGES: dict[str, Callable[[Any], object]] = {
    "a weight": lambda model: model.head.weight.data[0, 0].add_(1e-7),
    "a weight in a plain list": lambda model: model.hidden[0].bias.data.add_(1),
    "a setting": set_to("slope", 0.2),
    "a setting of torch's module": lambda model: setattr(model.conv, "stride", (2, 2)),
    "an attribute of an object": lambda model: setattr(model.kept, "factor", 1.25),
    "an unsaved buffer": lambda model: model.unsaved.add_(1),
    "a lambda": set_to("kept", lambda x: x * 3),
    "another lambda": set_to("kept", lambda x: x * 4),
    "a hook": lambda model: model.conv.register_forward_hook(lambda module, inputs, output: output * 2),
    "another forward": set_to("forward", lambda x: x.mean((2, 3)).repeat(1, 7)),
}


def test_everything_that_changes_answers_changes_the_fingerprint() -> None:
    prints = {name: fingerprint(net(change=change)) for name, change in CHANGES.items()}
    prints["as it is"] = fingerprint(net())
    assert len(set(prints.values())) == len(prints), prints


def test_what_a_closure_holds_counts() -> None:
    def times(factor: float) -> Callable[[Any], Any]:
        return lambda x: x * factor

    prints = [fingerprint(net(change=set_to("kept", times(factor)))) for factor in (2.0, 2.0, 3.0)]
    assert prints[0] == prints[1] != prints[2]


def test_a_method_that_the_user_puts_into_a_librarys_class_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(net())
    names: dict[str, Any] = {"__name__": "of_a_notebook"}
    exec("def forward(self, x):\n    return self._conv_forward(x, self.weight, self.bias) + 1", names)
    monkeypatch.setattr(nn.Conv2d, "forward", names["forward"])
    assert fingerprint(net()) != before


def test_the_wrappers_of_torch_are_taken_off() -> None:
    assert fingerprint(nn.DataParallel(net())) == fingerprint(net())
    assert fingerprint(torch.compile(net())) == fingerprint(net())


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:The .grad")
def test_what_cannot_be_hashed_is_refused_with_its_place_and_a_way_out() -> None:
    for change, what in [
        (set_to("source", iter([1, 2])), r"Net\.source is or holds a list_iterator, which cannot be hashed"),
        (lambda model: setattr(model.conv, "made", map(abs, [1])), r"conv\.made is or holds a map, which"),
        (set_to("kept", lambda x, it=LOADER: x), r"Net\.kept is or holds a list_iterator"),
    ]:
        with pytest.raises(StudyError, match=what) as caught:
            fingerprint(net(change=change))
        assert "network.architecture" in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(StudyError, match="its LOADER is or holds a list_iterator"):
        fingerprint(net(CODE.replace("return self.slope", "return next(LOADER)")))
    with pytest.raises(StudyError, match="cannot be copied"):
        fingerprint(net(change=set_to("file", open(__file__))))  # noqa: SIM115
    with pytest.raises(StudyError, match="TorchScript"):
        fingerprint(torch.jit.trace(nn.Conv2d(1, 7, 12), torch.rand(1, 1, 12, 12)))
    with pytest.raises(StudyError, match="a function was given, not a torch module"):
        fingerprint(lambda x: x)  # type: ignore[arg-type]


def test_a_copy_leaves_the_model_as_it_was() -> None:
    model = net().double()
    before = copy.deepcopy(model.state_dict())
    loaded = given_model.load(model, settings_of("object:Net", layers=["conv"], input={"size": 12, "mode": "grey"}))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}
    assert not loaded.model.training
