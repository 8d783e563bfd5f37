"""What networks return: every kind becomes the same logits, or one line that says what to do."""

from __future__ import annotations

import logging
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dissectdb.extract.editing import cut_network
from dissectdb.extract.models import hooks
from dissectdb.extract.models.logits import Answer, find_answer
from dissectdb.extract.models.preprocessing import Recipe
from dissectdb.extract.study import Layer, StudyError
from dissectdb.extract.training.fit import fit

RECIPE = Recipe(size=16, mode="grey")
IMAGES = torch.rand(5, *RECIPE.shape, generator=torch.Generator().manual_seed(3))


class Body(nn.Module):
    """A usual network. It returns answer(logits, features, maps)."""

    def __init__(self, answer: Callable = lambda logits, features, maps: logits, outputs: int = 7) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.answer = answer
        self.conv1, self.bn1, self.relu = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(8, outputs, 3)
        self.fc1, self.fc = nn.Linear(outputs, 24), nn.Linear(24, outputs)

    def parts(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.relu(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        features = self.relu(self.fc1(maps.mean((2, 3))))
        return 3 * self.fc(features), features, maps

    def forward(self, images: Tensor) -> object:
        return self.answer(*self.parts(images))


class ModelOutput(OrderedDict):
    logits = property(lambda self: self["logits"])


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


Named = namedtuple("Named", ["scores", "maps"])


def found(model: nn.Module, output: str | int | None = None, classes: int = 7) -> Answer:
    return find_answer(model, RECIPE, output, classes)[0]


def run(model: nn.Module, images: Tensor = IMAGES, **asked: object) -> Tensor:
    answer = found(model, **asked)
    with torch.no_grad():
        return answer.run(model, images)


def logits_of(model: Body, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return model.eval().parts(images)[0]


def mistake(model: nn.Module, **asked: object) -> str:
    with pytest.raises(StudyError) as caught:
        found(model, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """said(): the messages to the user so far."""
    caplog.set_level(logging.INFO, "dissectdb")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


# ---------------------------------------------------------------- where the logits are


TAKEN = {
    "a tensor": (lambda y, f, m: y, None, ""),
    "a mapping": (lambda y, f, m: {"features": f, "logits": y}, None, "part logits"),
    "of transformers": (lambda y, f, m: ModelOutput(logits=y), None, "part logits"),
    "a dataclass": (lambda y, f, m: Output(None, y), None, "part logits"),
    "an object": (lambda y, f, m: SimpleNamespace(logits=y, features=f), None, "part logits"),
    "logits, features": (lambda y, f, m: (y, f), None, "part 0"),
    "loss, logits": (lambda y, f, m: (torch.tensor(0.0), y), None, "part 1"),
    "maps, logits": (lambda y, f, m: [m, y], None, "part 1"),
    "another name": (lambda y, f, m: {"out": y, "maps": m}, None, "part out"),
    "a named tuple": (lambda y, f, m: Named(y, m), None, "part 0"),
    "scores, features": (lambda y, f, m: (y, f[:, :2]), None, "part 0"),
    "parts within parts": (lambda y, f, m: ((y, m), None), None, "part 0.0"),
    "scores beside a single number": (lambda y, f, m: (f[:, :1], y), None, "part 1"),
    "a pooled map": (lambda y, f, m: y[:, :, None, None], None, ""),
    "half precision": (lambda y, f, m: y.bfloat16().float(), None, ""),
    "features, the place of logits": (lambda y, f, m: (f, y), 1, ""),
    "a key": (lambda y, f, m: {"features": f, "scores": y}, "scores", ""),
    "a path": (lambda y, f, m: {"head": [f, {"a.b": y}]}, "head.1.a.b", ""),
    "an attribute": (lambda y, f, m: SimpleNamespace(features=f, scores=y), "scores", ""),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_the_logits_are_found_in_what_a_network_returns(kind: str, said: Callable[[], str]) -> None:
    answer, output, message = TAKEN[kind]
    model = Body(answer)
    expected = logits_of(model)
    expected = expected.bfloat16().float() if kind == "half precision" else expected
    assert torch.equal(run(model, output=output), expected)
    assert message in said() if message else not said()


REFUSED = {
    "features, logits": (lambda y, f, m: (f, y), None, "several parts of what Body returns could be the logits; for 3 "
                         "images it is 0: (3, 24), 1: (3, 7); name one, such as network.output = 1 (as many outputs"),
    "logits, more logits": (lambda y, f, m: (y, 2 * y), None, "several parts of what Body returns could be the logits"),
    "of no known width": (lambda y, f, m: {"a": f, "b": y[:, :5]}, None, "name one, such as network.output = 'b'"),
    "maps": (lambda y, f, m: m, None, "what Body returns is (3, 7, 12, 12) for 3 images, scores at many places"),
    "lists of maps": (lambda y, f, m: [m, m], None, "no part of what Body returns has one number for each class and "),
    "tokens": (lambda y, f, m: m.flatten(2), None, "scores at many places"),
    "classes": (lambda y, f, m: y.argmax(1), None, "holds whole numbers (torch.int64): classes, not scores"),
    "yes or no": (lambda y, f, m: y > 0, None, "holds whole numbers (torch.bool)"),
    "a number": (lambda y, f, m: y.sum(), None, "is () for 3 images and () for 2; its first axis must be the images"),
    "images last": (lambda y, f, m: y.T, None, "is (7, 3) for 3 images and (7, 2) for 2"),
    "nothing": (lambda y, f, m: None, None, "no part of what Body returns"),
    "a text": (lambda y, f, m: "happy", None, "it is str; have it return the logits"),
    "no classes": (lambda y, f, m: y[:, :0], None, "no numbers at all"),
    "logits that are maps": (lambda y, f, m: {"logits": m}, None, "logits of Body is (3, 7, 12, 12)"),
    "a place that is not there": (lambda y, f, m: (f, y), 2, "there is no 2; the network returns 0: (3, 24), 1: (3, "),
    "a key that is not there": (lambda y, f, m: {"a": y}, "b", "there is no b; the network returns a: (3, 7)"),
    "a key of a tensor": (lambda y, f, m: y, "logits", "there is no logits; the network returns (3, 7)"),
    "a part that does not fit": (lambda y, f, m: (m, y), 0, "0 of Body is (3, 7, 12, 12) for 3 images"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_an_answer_without_logits_is_one_line(kind: str) -> None:
    answer, output, message = REFUSED[kind]
    said = mistake(Body(answer), output=output)
    assert said.startswith("network.output: ")
    assert message in said


@pytest.mark.parametrize("answer", [lambda y, f, m: y, lambda y, f, m: y[:, 0]], ids=["(N, 1)", "(N,)"])
def test_one_output_is_two_classes(answer: Callable) -> None:
    model = Body(answer, outputs=1)
    probabilities = run(model).softmax(1)
    assert torch.allclose(probabilities[:, 1], torch.sigmoid(logits_of(model)[:, 0]))
    assert find_answer(model, RECIPE, None, 2)[1] == 2


def test_a_single_image_has_the_logits_that_it_has_in_a_batch() -> None:
    model = Body(lambda y, f, m: y[:, :, None, None].squeeze())  # as is common: no axis is named
    answer, expected = found(model), logits_of(model)
    assert answer.fewest == 2
    with torch.no_grad():
        assert torch.allclose(answer.run(model, IMAGES[:1]), expected[:1], atol=1e-6)
    assert found(Body()).fewest == 1


# ---------------------------------------------------------------- probabilities


class Ends(Body):
    """A body that ends in a module."""

    def __init__(self, end: nn.Module, outputs: int = 7) -> None:
        super().__init__(lambda y, f, m: self.end(y), outputs)
        self.end = end


def test_a_softmax_at_the_end_is_detected_and_undone(said: Callable[[], str]) -> None:
    model = Ends(nn.Softmax(1))
    assert torch.allclose(run(model).softmax(1), logits_of(model).softmax(1), atol=1e-6)
    assert "Ends ends in probabilities" in said()


def test_a_probability_of_zero_has_a_finite_logit() -> None:
    model = Body(lambda y, f, m: F.one_hot(y.argmax(1), 7).float())
    logits = run(model)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits.softmax(1).round(), model(IMAGES))


def test_a_linear_head_is_never_taken_for_a_sigmoid(said: Callable[[], str]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
    nn.init.zeros_(model[1].weight)
    nn.init.constant_(model[1].bias, 0.5)
    assert found(model) == Answer(single=True)
    assert not said()


def test_log_probabilities_are_used_as_logits(said: Callable[[], str]) -> None:
    model = Ends(nn.LogSoftmax(1))
    assert found(model) == Answer()
    assert not said()


@pytest.mark.parametrize("answer", [
    lambda y, f, m: torch.sigmoid(y), lambda y, f, m: y.sigmoid().squeeze(1), lambda y, f, m: (y.sigmoid()[:, 0], m),
], ids=["(N, 1)", "(N,)", "among parts"])  # fmt: skip
def test_a_sigmoid_at_the_end_is_detected_and_undone(answer: Callable, said: Callable[[], str]) -> None:
    model = Body(answer, outputs=1)
    assert torch.allclose(run(model).softmax(1)[:, 1], torch.sigmoid(logits_of(model)[:, 0]), atol=1e-6)
    assert "ends in a sigmoid" in said()


def test_a_sigmoid_for_each_class_is_warned_of(said: Callable[[], str]) -> None:
    model = Ends(nn.Sigmoid())
    assert torch.allclose(run(model), logits_of(model), atol=1e-4)
    assert "a softmax over them, although it was not trained so" in said()


def test_numbers_of_unknown_origin_are_taken_for_logits_with_a_warning(said: Callable[[], str]) -> None:
    model = Body(lambda y, f, m: 1 / (1 + torch.exp(-y)))
    assert torch.equal(run(model), model(IMAGES))
    assert "lie between 0 and 1 and are taken for logits" in said()


def test_the_way_to_read_an_answer_is_in_the_fingerprint_unless_it_is_the_usual_one() -> None:
    assert Answer().marks() == Answer("0.0").marks() == Answer("0", fewest=2).marks() == []
    others = [Answer("1"), Answer(scale="probabilities"), Answer(single=True), Answer(scale="sigmoids", single=True)]
    assert len({tuple(each.marks()) for each in others}) == 4


# ---------------------------------------------------------------- answers that do not repeat


class Block(nn.Module):
    def __init__(self, work: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.outer, self.work = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), work

    def forward(self, images: Tensor) -> Tensor:
        return self.outer(self.work(self.inner(images)))


class Around(nn.Module):
    """A block and a head. frozen: the head's weights are zero, as in new networks."""

    def __init__(self, block: nn.Module, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block, self.head = block, nn.LazyLinear(7)
        self(torch.zeros(2, *RECIPE.shape))
        if frozen:
            nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(images).flatten(1))


class Counting(nn.Module):
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images + self.calls


class AlwaysOn(nn.Dropout):
    def forward(self, images: Tensor) -> Tensor:
        return F.dropout(images, self.p)


UNSTEADY = {
    "dropout in a forward": (Block(F.dropout), "because of block (Block.forward), after block.inner, before block.ou"),
    "dropout of a module": (nn.Sequential(nn.Conv2d(1, 2, 3), AlwaysOn()), "because of block.1 (AlwaysOn);"),
    "noise": (Block(lambda x: x + torch.randn_like(x)), "block (Block.forward), after block.inner"),
    "a state": (Counting(), "because of block (Counting); something in it is random or keeps a state"),
    "batch statistics": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
                         "the other images of its batch, because of block.1 (BatchNorm2d)"),
    "batch statistics in a forward": (Block(lambda x: F.batch_norm(x, None, None, training=True)),
                                      "the other images of its batch, because of block (Block.forward), after block."),
    "a batch's mean": (Block(lambda x: x - x.mean(0)), "the other images of its batch, because of block (Block.forw"),
}  # fmt: skip


@pytest.mark.parametrize("frozen", [False, True], ids=["", "head of zeros"])
@pytest.mark.parametrize("kind", UNSTEADY)
def test_a_network_whose_answers_differ_is_refused_and_its_module_is_named(kind: str, frozen: bool) -> None:
    block, message = UNSTEADY[kind]
    assert message in mistake(Around(block, frozen))


class KeepsTraining(nn.Sequential):
    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)


class Tokens(nn.Module):
    """Attention over tokens that come before the images, as torch has it by default."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images[:, 0].movedim(1, 0)).mean(0)


STEADY = {
    "dropout": nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout2d(), nn.BatchNorm2d(4), nn.AlphaDropout()),
    "kept in training by its own hand": KeepsTraining(nn.Conv2d(1, 4, 3), nn.Dropout(), nn.BatchNorm2d(4)),
    "norms of an image": nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4)),
    "tokens first": Tokens(),
}


@pytest.mark.parametrize("kind", STEADY)
def test_a_network_whose_answers_repeat_is_accepted(kind: str) -> None:
    model = Around(STEADY[kind])
    found(model)
    assert not any(module.training for module in model.modules())


# ---------------------------------------------------------------- edits


def scaled(model: nn.Module, scale: Tensor) -> Tensor:
    with torch.no_grad():
        model.fc1.weight.mul_(scale[:, None])
        model.fc1.bias.mul_(scale)
        return model.eval()(IMAGES)


@pytest.mark.parametrize("kind", ["a tensor", "a mapping", "logits, features", "a pooled map", "of transformers"])
@pytest.mark.parametrize("end", ["logits", "softmax", "single", "squeezed"])
def test_the_logits_of_an_edited_network_are_found_like_those_of_the_original(kind: str, end: str) -> None:
    outer = TAKEN[kind][0]
    last = {"softmax": lambda y: y.softmax(1), "squeezed": lambda y: y.squeeze()}.get(end, lambda y: y)
    model = Body(lambda y, f, m: outer(last(y), f, m) if end != "squeezed" else last(y), 1 if end == "single" else 7)
    answer = found(model, classes=2 if end == "single" else 7)
    taps = hooks.find_taps(model, [Layer(name="fc1")], RECIPE.shape)
    scale = torch.linspace(0, 2, 24)
    change = {"fc1": cut_network.Scaling(scale, scale)}
    with torch.no_grad():
        made = cut_network.cut_at(model, taps, RECIPE.shape, answer)
        logits = made.after(made.before(IMAGES), change)
        alone = made.after(made.before(IMAGES[:1]), change)
        several = made.after_all(made.before(IMAGES), [change])
        expected = answer.logits(scaled(model, scale))
    assert not made.is_slow
    assert logits.shape == (5, 2 if end == "single" else 7)
    for part in (logits, several[0], alone):
        assert torch.allclose(part, expected[: len(part)], atol=1e-4)


def test_a_linear_head_inside_a_dict_is_multiplied_once_for_all_edits() -> None:
    class Head(Body):
        def forward(self, images: Tensor) -> object:
            features = self.relu(self.fc1(self.conv2(self.conv1(images)).mean((2, 3))))
            return {"features": features, "logits": self.fc(features)}

    model = Head()
    taps = hooks.find_taps(model.eval(), [Layer(name="fc1")], RECIPE.shape)
    assert cut_network.cut_at(model, taps, RECIPE.shape, found(model)).last is not None


def test_a_network_that_returns_several_parts_can_be_trained() -> None:
    images = torch.randint(0, 256, (40, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[20:] //= 4
    labels = torch.arange(40) // 20

    class Parts(nn.Sequential):
        def forward(self, images: Tensor) -> object:
            return images, super().forward(images)[:, 0]

    torch.manual_seed(0)
    model = Parts(nn.Flatten(), nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 1))
    answer = found(model, output=1, classes=2)
    records = fit(model, (images, labels), (images, labels), epochs=8, size=16, batch_size=8, answer=answer)
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert max(each["validation_accuracy"] for each in records) == 1


def test_a_call_that_does_not_happen_is_refused() -> None:
    with pytest.raises(StudyError, match="there is no call 4"):
        hooks.find_taps(Body().eval(), [Layer(name="relu", call=4)], RECIPE.shape)


# ---------------------------------------------------------------- faults found by trying


class Causal(Body):
    """A network whose answer to an image depends on the images before it."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).cumsum(0)


class Hidden(Body):
    """A change before a softmax, so that the sums of the answers never change."""

    def __init__(self, change: Callable) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        _, features, _ = self.parts(images)
        return F.softmax(self.fc(self.change(features)), 1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Hidden(lambda features: F.dropout(features, 0.5)), "answered differently each time"),
        (Hidden(lambda features: F.batch_norm(features, None, None, training=True)), "depends on the other images"),
        (Causal(), "after other images in its batch"),
    ],
    ids=["dropout", "batch statistics", "cumsum"],
)
def test_an_answer_that_depends_on_more_than_its_image_is_refused_whatever_follows(
    model: nn.Module, reason: str
) -> None:
    assert reason in mistake(model)


def test_one_number_between_0_and_1_of_unknown_origin_is_refused() -> None:
    clamped = Body(lambda logits, features, maps: logits.sigmoid().clamp(1e-6, 1 - 1e-6), outputs=1)
    assert "nothing tells whether it is a probability" in mistake(clamped, classes=2)


def test_two_parts_that_fit_equally_are_refused() -> None:
    two = Body(lambda logits, features, maps: (0.1 * logits, logits))
    assert "network.output: several parts" in mistake(two)
    assert run(two, output=1).equal(logits_of(two))
