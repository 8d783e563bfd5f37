"""Numbers that look like logits and are none: percentages, NaN, infinity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from dissectdb.extract.models.logits import Answer
from tests.models.test_logits import IMAGES, Body, found, logits_of, mistake, run, said  # noqa: F401
from tests.support.worlds import World

SCALED = {
    "percentages": (lambda y, f, m: 100 * y.softmax(1), "add up to 100"),
    "rounded percentages": (lambda y, f, m: (100 * y.softmax(1)).round(decimals=2), "add up to 100"),
    "bytes": (lambda y, f, m: 255 * y.softmax(1), "add up to 255"),
    "halves": (lambda y, f, m: y.softmax(1) / 2, "add up to 0.5"),
    "a sum of two": (lambda y, f, m: y.softmax(1) + y.softmax(1), "add up to 2"),
}


@pytest.mark.parametrize("what", SCALED)
def test_probabilities_times_a_number_are_noticed_and_undone(what: str, said: Callable[[], str]) -> None:  # noqa: F811
    answer, message = SCALED[what]
    model = Body(answer)
    assert torch.allclose(run(model).softmax(1), logits_of(model).softmax(1), atol=1e-3)
    assert f"the outputs of Body {message} for each image" in said()


LOGITS = {
    "non-negative logits": Body(lambda y, f, m: y.relu()),
    "a head of zeros": nn.Sequential(nn.Flatten(), nn.Linear(256, 3)),
    "outputs that no image changes": Body(lambda y, f, m: (0 * y + torch.arange(7.0)).abs()),
    "no output at all": Body(lambda y, f, m: 0 * y.abs()),
    "large logits": Body(lambda y, f, m: 1000 + y),
    "a gate": Body(lambda y, f, m: 5 * (y.exp() * y.sigmoid())),
}
nn.init.zeros_(LOGITS["a head of zeros"][1].weight)
nn.init.constant_(LOGITS["a head of zeros"][1].bias, 2.0)


@pytest.mark.parametrize("what", LOGITS)
def test_logits_that_happen_to_be_positive_stay_logits(what: str) -> None:
    model = LOGITS[what]
    assert found(model) == Answer()
    with torch.no_grad():
        assert torch.equal(run(model), model.eval()(IMAGES))


@pytest.mark.parametrize("outputs", [1, 7])
def test_a_sigmoid_times_a_number_is_refused(outputs: int) -> None:
    model = Body(lambda y, f, m: 100 * y.sigmoid(), outputs)
    assert "ends in a sigmoid times a number; have it return the number before" in mistake(
        model, classes=max(outputs, 2)
    )


class Broken(Body):
    """Divides by the size of its features, which is nought for what is black."""

    def __init__(self, broken: Callable) -> None:
        super().__init__()
        self.broken = broken
        self.scale = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.scale(self.broken(self.parts(images)[1])))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused_and_the_place_is_named(value: float) -> None:
    message = mistake(Body(lambda y, f, m: y + value))
    assert message.startswith("network: the logits of Body are NaN or infinite for images of noise")
    assert message.endswith("the network or its input range is not what its weights expect")
    model = Broken(lambda features: features)
    model.scale.register_forward_hook(lambda module, inputs, output: output + value)
    assert "because of scale (Identity)" in mistake(model)


def test_logits_that_are_finite_for_some_noise_are_left_to_the_images() -> None:
    found(Body(lambda y, f, m: y / (torch.arange(len(y)) > 0)[:, None]))


def test_a_masked_class_needs_a_finite_number() -> None:
    mask = torch.tensor([0, 0, -torch.inf, 0, 0, 0, 0])
    message = mistake(Body(lambda y, f, m: y + mask))
    assert "the logits of Body are -infinity for output 2 (from 0); a class that is masked needs a finite" in message
    masked = run(Body(lambda y, f, m: y + mask.clamp(min=-10000)))
    assert torch.equal(masked.softmax(1)[:, 2], torch.zeros(len(IMAGES)))


ENDS = {
    "100 * x.softmax(1)": "add up to 100",
    "x / torch.zeros(3)": "the logits of Scaled are NaN or infinite for images of noise",
    "x + torch.tensor([0, -torch.inf, 0])": "-infinity for output 1",
    "x * torch.randn(3)": "answered differently each time",
    "x * self.factors": "drawn while it is built and that are not in its weights: factors",
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_the_dry_run_says_what_the_numbers_are(new_world: World, end: str) -> None:
    net = new_world.folder / "net.py"
    text, make, rest = net.read_text().partition("def make")
    scaled = (
        "import torch\nclass Scaled(Net):\n    def __init__(self, classes):\n        super().__init__(classes)\n"
        "        self.factors = torch.rand(3)\n    def forward(self, x):\n        x = super().forward(x)\n"
        f"        return {end}\n\n"
    )
    net.write_text(text + scaled + (make + rest).replace("return Net(", "return Scaled("))
    done = new_world.extract("--dry-run")
    assert ENDS[end] in done.err
    assert done.code == (0 if "softmax" in end else 2), done.err
    assert "Traceback" not in done.err
