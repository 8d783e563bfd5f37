"""Silenced neurons: what the tables say is what the network without them says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract.editing import ablations as editing_ablations
from dissectdb.extract.editing import cut_network
from dissectdb.extract.editing.ablations import Ablation
from dissectdb.extract.editing.layers import KnownLayer
from dissectdb.extract.models import hooks
from dissectdb.extract.models.vggnet import VGGNet
from dissectdb.extract.record.blocks import Block, ProbingImage
from dissectdb.extract.study import Effects, Layer
from tests.support.worlds import CLASSES, NETWORK, World


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return np.log(np.exp(logits).sum(-1)) - logits[..., np.arange(len(truth)), truth]


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), images=st.integers(1, 30), classes=st.integers(2, 5), ablations=st.integers(1, 4))
def test_changes_are_counted_by_true_class(seed, images, classes, ablations):
    random = np.random.default_rng(seed)
    before = random.normal(size=(images, classes)).astype(np.float32)
    after = (before + random.normal(0, 0.7, size=(ablations, images, classes))).astype(np.float32)
    truth = random.integers(classes, size=images)
    found = editing_ablations.measure(torch.from_numpy(before), torch.from_numpy(after), torch.from_numpy(truth))
    for name in range(classes):
        mine = truth == name
        assert found.images[name] == mine.sum()
        if not mine.any():
            continue
        was, now = before[mine].argmax(1), after[:, mine].argmax(2)
        assert (found.gained[:, name] == ((now == name) & (was != name)).sum(1)).all()
        assert (found.lost[:, name] == ((now != name) & (was == name)).sum(1)).all()
        assert (found.flips[:, name] == (now != was).sum(1)).all()
        change = cross_entropy(after[:, mine], truth[mine]) - cross_entropy(before[mine], truth[mine])
        np.testing.assert_allclose(found.loss_change[:, name], change.mean(1), atol=1e-5)
        np.testing.assert_allclose(found.loss_change_sd[:, name], change.std(1), atol=1e-5)


# ---------------------------------------------------------------- exact before a linear head


def stub(layer: str) -> tuple[editing_ablations.Layer, torch.nn.Module, torch.Tensor, np.ndarray]:
    """A layer of a small VGGNet over eleven images of noise, as the command sees it."""
    torch.manual_seed(8)
    model = VGGNet(channels=(4, 6, 8, 8), hidden=12).eval()
    shape = (1, 40, 40)
    [tap] = hooks.find_taps(model, [Layer(name=layer)], shape)
    found = cut_network.cut_at(model, [tap], shape)
    images = torch.rand(11, *shape, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        kept = found.before(images)
    classes = [f"class {place}" for place in range(7)]
    truth = np.arange(11) % 7
    block = Block(0, [ProbingImage(i, i, None, classes[name]) for i, name in enumerate(truth)])
    search = SimpleNamespace(
        cut=lambda name: found,
        pieces=lambda name, split_id, block: iter([kept]),
        plan=SimpleNamespace(
            study=SimpleNamespace(effects=Effects(layers=[layer], images=11)),
            network=SimpleNamespace(classes=classes),
            device=torch.device("cpu"),
        ),
    )
    return (
        editing_ablations.Layer(search, search.plan.study.effects, KnownLayer(layer, 1, 100, tap.units), 1, [block]),
        model,
        images,
        truth,
    )


def silenced(model: torch.nn.Module, layer: str, units: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    """What the network says when these outputs of a layer are 0."""

    def hook(module, inputs, output):
        output = output.clone()
        output[:, units] = 0
        return output

    handle = model.get_submodule(layer).register_forward_hook(hook)
    try:
        with torch.no_grad():
            return model(images)
    finally:
        handle.remove()


@pytest.mark.parametrize(("layer", "exact"), [("lin2", True), ("lin1", False), ("conv4b", False)])
def test_an_ablation_is_the_network_with_the_units_silenced(layer, exact):
    found, model, images, truth = stub(layer)
    assert found.is_exact == exact
    ablations = [Ablation(np.array([unit]), neuron_id=100 + unit) for unit in range(8)]
    several = [Ablation(np.array([0, 3, 5]), concept_id=1), Ablation(np.array([1, 2, 7]), draw=1)]
    with torch.no_grad():
        before = model(images)
    for asked in (ablations, several):
        [part] = found.measured(asked, lambda done, total: None)
        after = torch.stack([silenced(model, layer, each.units, images) for each in asked])
        expected = editing_ablations.measure(before, after, torch.from_numpy(truth))
        np.testing.assert_allclose(part.loss_change, expected.loss_change, atol=1e-5)
        for name in ("images", "gained", "lost", "flips"):
            np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))


# ---------------------------------------------------------------- the command

EFFECTS = """
[effects]
layers = ["lin", "conv2"]
images = 15
neurons = 3
controls = 4

[[edits]]
name = "paper"
"""


def with_effects(world: World) -> World:
    world.change('\n[[edits]]\nname = "paper"\n', EFFECTS)
    done = world.run("effects", world.study)
    assert done.code == 0, done.err
    return world


def test_sampled_layers_say_the_size_of_their_samples(world: World) -> None:
    with_effects(world)
    rows = world.rows(
        """
        select layer, class is null as whole, images, count(distinct unit) as n
        from neuron_effects group by layer, class, images
        """
    )
    assert {row["n"] for row in rows} == {3}
    assert {row["images"] for row in rows if row["whole"]} == {15}
    draws = world.rows("select distinct draws from concept_effects")
    assert draws == [{"draws": 4}]
    assert world.run("check").code == 0


def test_effects_are_those_of_the_network_without_the_neuron(world: World) -> None:
    with_effects(world)
    scope: dict = {}
    exec(NETWORK, scope)
    model = scope["make"]()
    model.load_state_dict(torch.load(world.folder / "net.pt", weights_only=True)["params"])
    model.eval()
    found = world.rows("select unit, class, delta_accuracy, delta_loss, flips, images from neuron_effects "
                       "where layer = 'lin' and class is not null")  # fmt: skip
    sample = np.random.default_rng([0, 0]).choice(21, 15, replace=False)
    validation = world.rows("select position, path, class from images natural join splits "
                            "where split = 'validation' and defect is null order by position")  # fmt: skip
    chosen = [validation[place] for place in np.sort(sample)]
    import PIL.Image

    pixels = np.stack([np.asarray(PIL.Image.open(world.folder / "images" / row["path"])) for row in chosen])
    images = (torch.from_numpy(pixels[:, None] / np.float32(255)) - 0.5) / 0.25
    truth = np.array([CLASSES.index(row["class"]) for row in chosen])
    with torch.no_grad():
        before = model(images)
    for row in found:
        mine = truth == CLASSES.index(row["class"])
        after = silenced(model, "lin", np.array([row["unit"]]), images)
        change = cross_entropy(after.numpy(), truth) - cross_entropy(before.numpy(), truth)
        assert row["images"] == mine.sum()
        assert row["delta_loss"] == pytest.approx(change[mine].mean(), abs=1e-4)
        right = (after.argmax(1).numpy() == truth).astype(int) - (before.argmax(1).numpy() == truth)
        assert row["delta_accuracy"] == pytest.approx(right[mine].mean())
        assert row["flips"] == (after.argmax(1) != before.argmax(1)).numpy()[mine].sum()


def test_a_second_run_measures_nothing_again(world: World) -> None:
    before = with_effects(world).tables()
    assert world.run("effects", world.study).code == 0
    assert world.tables() == before


def test_a_study_without_effects_says_what_to_add(world: World) -> None:
    done = world.run("effects", world.study)
    assert done.code == 2
    assert "[effects]" in done.err
