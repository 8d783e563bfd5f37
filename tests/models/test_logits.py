"""What networks return: every kind becomes the same logits, or one line that says what to do."""

from __future__ import annotations

import logging
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
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
from tests.support.worlds import CLASSES, World, save_network

RECIPE = Recipe(size=16, mode="grey")
IMAGES = torch.rand(5, *RECIPE.shape, generator=torch.Generator().manual_seed(3))


class Body(nn.Module):
    """Logits as people compute them; `answer` makes of them, the features and the maps what the network returns."""

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
    """What was said to the user, once."""
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
def test_the_logits_are_found_or_named(kind: str, said: Callable[[], str]) -> None:
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
def test_what_holds_no_logits_is_one_line(kind: str) -> None:
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


def test_an_image_alone_that_loses_its_axis_is_answered_as_among_others() -> None:
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


def test_a_softmax_at_the_end_is_noticed_and_undone(said: Callable[[], str]) -> None:
    model = Ends(nn.Softmax(1))
    assert torch.allclose(run(model).softmax(1), logits_of(model).softmax(1), atol=1e-6)
    assert "Ends ends in probabilities" in said()


def test_a_probability_of_nought_has_a_finite_logit() -> None:
    model = Body(lambda y, f, m: F.one_hot(y.argmax(1), 7).float())
    logits = run(model)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits.softmax(1).round(), model(IMAGES))


def test_a_linear_head_is_no_sigmoid_wherever_its_numbers_lie(said: Callable[[], str]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 1))
    nn.init.zeros_(model[1].weight)
    nn.init.constant_(model[1].bias, 0.5)
    assert found(model) == Answer(single=True)
    assert not said()


def test_log_probabilities_are_logits_already(said: Callable[[], str]) -> None:
    model = Ends(nn.LogSoftmax(1))
    assert found(model) == Answer()
    assert not said()


@pytest.mark.parametrize("answer", [
    lambda y, f, m: torch.sigmoid(y), lambda y, f, m: y.sigmoid().squeeze(1), lambda y, f, m: (y.sigmoid()[:, 0], m),
], ids=["(N, 1)", "(N,)", "among parts"])  # fmt: skip
def test_a_sigmoid_at_the_end_is_noticed_and_undone(answer: Callable, said: Callable[[], str]) -> None:
    model = Body(answer, outputs=1)
    assert torch.allclose(run(model).softmax(1)[:, 1], torch.sigmoid(logits_of(model)[:, 0]), atol=1e-6)
    assert "ends in a sigmoid" in said()


def test_a_sigmoid_for_each_class_is_said_to_be_no_softmax(said: Callable[[], str]) -> None:
    model = Ends(nn.Sigmoid())
    assert torch.allclose(run(model), logits_of(model), atol=1e-4)
    assert "a softmax over them, although it was not trained so" in said()


def test_numbers_of_which_nothing_is_known_are_logits_and_that_is_said(said: Callable[[], str]) -> None:
    model = Body(lambda y, f, m: 1 / (1 + torch.exp(-y)))
    assert torch.equal(run(model), model(IMAGES))
    assert "lie between 0 and 1 and are taken for logits" in said()


def test_how_an_answer_is_read_is_part_of_the_fingerprint_where_it_is_not_plain() -> None:
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
    """block, then a head; frozen: a head of zeros, as new networks have them."""

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
def test_a_network_that_does_not_repeat_its_answer_names_the_module(kind: str, frozen: bool) -> None:
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
def test_what_repeats_its_answer_is_let_be(kind: str) -> None:
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
def test_an_edited_network_is_read_as_the_network_is(kind: str, end: str) -> None:
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


def test_a_linear_head_in_a_part_is_still_multiplied_once_for_all_edits() -> None:
    class Head(Body):
        def forward(self, images: Tensor) -> object:
            features = self.relu(self.fc1(self.conv2(self.conv1(images)).mean((2, 3))))
            return {"features": features, "logits": self.fc(features)}

    model = Head()
    taps = hooks.find_taps(model.eval(), [Layer(name="fc1")], RECIPE.shape)
    assert cut_network.cut_at(model, taps, RECIPE.shape, found(model)).last is not None


def test_a_network_with_parts_can_be_trained() -> None:
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


# ---------------------------------------------------------------- whole runs

NETS = """
from collections import OrderedDict

import torch
import torch.nn.functional as F

from net_py import Net


class Parts(Net):
    def forward(self, images):
        return torch.tensor(0.0), super().forward(images).softmax(1)


class Many(Net):
    def __init__(self, classes):
        super().__init__(classes)
        self.relu = torch.nn.ReLU()
        self.backbone = torch.nn.ModuleList([self.conv1, self.lin])

    def forward(self, images):
        seen = self.pool(self.relu(self.conv1(images)))
        seen = F.adaptive_max_pool2d(self.relu(self.conv2(seen)), 2).flatten(1)
        seen = self.relu(self.lin(seen))
        return {"seen": seen, "logits": self.head(seen) * torch.sigmoid(self.gate(seen))}


class Maps(Net):
    def forward(self, images):
        return self.conv1(images)


class Dropping(Net):
    def forward(self, images):
        return F.dropout(super().forward(images))


class Squeezed(Net):
    def __init__(self, classes):
        super().__init__(1)

    def forward(self, images):
        return super().forward(images).squeeze()
"""


def with_network(world: World, name: str) -> World:
    """The world, with another network that has the weights of its own."""
    text = (world.folder / "net.py").read_text().partition("def make")[0]
    nets = NETS.replace("from net_py import Net\n", text.partition("class Net")[1] + text.partition("class Net")[2])
    (world.folder / "nets.py").write_text(f"from torch import nn\n{nets}\n\ndef make():\n    return {name}(3)\n")
    world.change('"net.py:make"', '"nets.py:make"')
    return world


@pytest.mark.parametrize(
    ("name", "message"), [("Maps", "scores at many places"), ("Dropping", "Dropping.forward, after gate")]
)
def test_a_network_that_cannot_be_read_is_refused_before_anything_is_computed(
    new_world: World, name: str, message: str
) -> None:
    world = with_network(new_world, name)
    for options in (["--dry-run"], []):
        done = world.extract(*options)
        assert done.code == 2
        assert message in done.err.splitlines()[-1]
        assert "Traceback" not in done.err
    assert not world.warehouse.exists()


PREDICTIONS = "select image_id, class, confidence, loss, probabilities from predictions order by image_id"


def test_probabilities_in_a_part_are_predicted_as_their_logits_are(new_world: World, finished: World) -> None:
    done = with_network(new_world, "Parts").extract()
    assert done.code == 0, done.err
    assert "ends in probabilities" in done.err
    assert "part 1 of what" in done.err
    ours, theirs = new_world.frame(PREDICTIONS), finished.frame(PREDICTIONS)
    assert ours["class"].to_list() == theirs["class"].to_list()
    for column in ("confidence", "loss"):
        assert np.allclose(ours[column], theirs[column], atol=1e-5)
    assert np.allclose(ours["probabilities"].to_list(), theirs["probabilities"].to_list(), atol=1e-6)
    assert new_world.run("check", "--deep", new_world.study).code == 0


def test_a_binary_network_has_the_accuracy_of_its_two_classes(new_world: World) -> None:
    for folder in new_world.folder.glob("images/*/ring"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    save_network(new_world.folder / "net.pt", classes=1)
    done = with_network(new_world, "Squeezed").extract()
    assert done.code == 0, done.err
    assert "taken for two classes: bar below 0, disc above" in done.err
    rows = new_world.rows(
        """
        select predictions.class, images.class as truth, probabilities, loss, split
        from predictions inner join images on predictions.image_id = images.image_id
        inner join splits on images.split_id = splits.split_id
        """
    )
    right = {}
    for row in rows:
        truth = CLASSES.index(row["truth"])
        assert row["class"] == CLASSES[row["probabilities"][1] > 0.5]
        assert sum(row["probabilities"]) == pytest.approx(1)
        assert row["loss"] == pytest.approx(-np.log(row["probabilities"][truth]), abs=1e-5)
        right.setdefault(row["split"], []).append(row["class"] == row["truth"])
    accuracies = new_world.rows("select split, accuracy from network_accuracies")
    assert {row["split"]: row["accuracy"] for row in accuracies} == pytest.approx(
        {split: np.mean(each) for split, each in right.items()}
    )


def test_other_names_and_other_runs_of_a_module_are_layers_that_can_be_edited(
    new_world: World, finished: World
) -> None:
    world = with_network(new_world, "Many")
    values = torch.load(world.folder / "net.pt", weights_only=True)["params"]  # torch saves each name of a module
    for name, other in (("backbone.0", "conv1"), ("backbone.1", "lin")):
        values |= {f"{name}.{key}": values[f"{other}.{key}"] for key in ("weight", "bias")}
    torch.save(values, world.folder / "net.pt")
    world.change(
        '["conv1", { name = "conv2", pooling = "max" }, "lin", "gate"]',
        '["backbone.0", { name = "relu", call = 1 }, { name = "relu", call = 2 }, "relu", "backbone.1"]',
    )
    study = world.study.read_text()
    start, end = study.index("[[edits]]"), study.index("[protocol]")
    world.study.write_text(study[:start] + '[[edits]]\nname = "paper"\nlayer = "backbone.1"\n' + study[end:])
    world.change("controls = 12\nshuffles = 3", "controls = 1\nshuffles = 0")
    done = world.extract()
    assert done.code == 0, done.err
    assert "relu runs 3 times in a pass, and its last output is recorded" in done.err
    layers = world.rows("select layer, call, position from layers order by layer_id")
    assert [(row["layer"], row["call"]) for row in layers] == [
        ("backbone.0", None), ("relu", 1), ("relu", 2), ("backbone.1", None), ("relu", None),
    ]  # fmt: skip
    neurons = "neurons natural join layers where"
    values = f"select image_id, unit, value from activations natural join {neurons} {{}} order by all"
    for ours, theirs in (("layer = 'backbone.0'", "layer = 'conv1'"), ("layer = 'backbone.1'", "layer = 'lin'")):
        assert world.frame(values.format(ours)).equals(finished.frame(values.format(theirs)))
    last = world.frame(values.format("layer = 'relu' and call is null"))["value"].to_numpy()
    assert np.array_equal(last, finished.frame(values.format("layer = 'lin'"))["value"].to_numpy().clip(0))
    counts = f"select call, count(*) as units from {neurons} layer = 'relu' group by call order by call"
    assert [row["units"] for row in world.rows(counts)] == [4, 6, 8]
    assert world.run("check").code == 0
    assert "nothing is stale" in (again := world.extract()).out + again.err
    modified = world.modify()
    assert modified.code == 0, modified.err
    assert world.run("check").code == 0


def test_a_call_that_does_not_happen_is_refused() -> None:
    with pytest.raises(StudyError, match="there is no call 4"):
        hooks.find_taps(Body().eval(), [Layer(name="relu", call=4)], RECIPE.shape)


# ---------------------------------------------------------------- faults that were found by trying


class Causal(Body):
    """The answer to an image depends on those before it."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).cumsum(0)


class Hidden(Body):
    """Dropout that is left on, and statistics of the batch, before a softmax: the sums of the answer never change."""

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
        (Causal(), "after other images of its batch"),
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
