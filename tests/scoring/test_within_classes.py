"""z, p and q within classes: against permutations, a layer scored anew, and neurons that know only the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.made import Layer, benjamini_hochberg, embeddings
from dissectdb.extract.scoring import class_null, class_orders
from dissectdb.extract.scoring.problem import Array, Settings
from dissectdb.extract.scoring.problem import Layer as AnyLayer
from dissectdb.extract.scoring.scorers import SCORERS, score_layer
from dissectdb.extract.scoring.within_class import ImageClasses
from tests.record.test_arrays import make
from tests.scoring.test_nulls import small, softmax

# ---------------------------------------------------------------- z


def within(
    asked: Settings,
    layer: AnyLayer,
    images: torch.Tensor,
    concepts: torch.Tensor,
    classes: np.ndarray,
    labels: np.ndarray,
    wanted: int = 100_000,
) -> tuple[np.ndarray, np.ndarray]:
    return class_null.within_classes(ImageClasses(asked, images, concepts, classes), layer, labels, wanted, seed=0)


def shuffled_within(classes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An order of the images in which each takes the place of one of its own class."""
    order = np.arange(len(classes))
    for name in np.unique(classes):
        mine = np.flatnonzero(classes == name)
        order[mine] = random.permutation(mine)
    return order


@pytest.mark.parametrize("scorer", ["soft_wpmi", "wpmi"])
def test_z_within_classes_is_that_of_permutations_inside_classes(scorer):
    random = np.random.default_rng(10)
    layer, images, concepts = small(11)
    classes = random.integers(3, size=60) * 2 + 1
    asked = Settings.defaults(scorer, top_k=20)
    labels = np.array([0, 1, 2, 3, -1])
    found = within(asked, layer, images, concepts, classes, labels)[0]
    P = softmax(images.numpy().astype(np.float64) @ concepts.numpy().T, asked.softmax_scale)
    p = asked.p_first - np.arange(20) / 20 * (asked.p_first - asked.p_last) if scorer == "soft_wpmi" else np.ones(20)
    assert np.isnan(found[4])
    orders = np.stack([shuffled_within(classes, random) for _ in range(6000)])
    for neuron in range(4):
        top = layer.top(20, neuron, neuron + 1)[0][0]
        drawn = np.log(1 + p * (P[orders[:, top], labels[neuron]] - 1) + 1e-7).sum(axis=1)
        mine = np.log(1 + p * (P[top, labels[neuron]] - 1) + 1e-7).sum()
        assert found[neuron] == pytest.approx((mine - drawn.mean()) / drawn.std(), rel=0.05, abs=0.06)


@pytest.mark.parametrize("scorer", ["cos", "cos_cubed", "pearson", "presence"])
def test_z_within_classes_of_a_correlation_is_its_formula(scorer):
    random = np.random.default_rng(12)
    layer, images, concepts = small(13)
    classes = random.integers(3, size=60)
    labels = np.array([0, 1, 2, 3, -1])
    asked = Settings.defaults(scorer)
    found = within(asked, layer, images, concepts, classes, labels)[0]
    s = images.numpy().astype(np.float64) @ concepts.numpy().T
    z = (s - s.mean(axis=0)) / s.std(axis=0)
    columns = {"pearson": softmax(s, 10), "presence": np.maximum(z - 0.5, 0)}.get(scorer, s)
    A = layer.activations.astype(np.float64)
    if scorer == "cos_cubed":
        A, columns = (A - A.mean(axis=0)) ** 3, (columns - columns.mean(axis=0)) ** 3
    inside = np.stack([classes == name for name in np.unique(classes)]).astype(float)
    remove = np.eye(60) - inside.T @ (inside / inside.sum(axis=1, keepdims=True))
    for neuron in range(4):
        a, t = remove @ A[:, neuron], remove @ columns[:, labels[neuron]]
        assert found[neuron] == pytest.approx(a @ t / np.sqrt(a @ a * (t @ t)) * np.sqrt(57), rel=1e-3, abs=1e-3)
    assert np.isnan(found[4])


def test_z_within_classes_of_rank_reorder_is_that_of_permutations_inside_classes():
    random = np.random.default_rng(14)
    layer, images, concepts = small(15)
    layer.dead[3] = True
    classes = random.integers(3, size=60) * 2 + 1
    asked = Settings.defaults("rank_reorder", rank_fraction=0.4)
    labels = np.array([0, 1, 2, 3, -1])
    found = within(asked, layer, images, concepts, classes, labels)[0]
    assert np.isnan(found[3:]).all()
    orders = np.stack([shuffled_within(classes, random) for _ in range(4000)])
    s = images.numpy().astype(np.float64) @ concepts.numpy().T
    for neuron in range(3):
        [top], [values] = layer.top(24, neuron, neuron + 1)
        drawn = np.concatenate([top[None], orders[:, top]])
        cosines = s[drawn, labels[neuron]]
        order = np.argsort(cosines, axis=1, kind="stable")
        values = values.astype(np.float64)
        moved = np.abs(values[order] - values[::-1]) ** 3
        scores = -moved.mean(axis=1) / cosines.mean(axis=1) ** 0.5  # the chance is the same for all draws
        expected = (scores[0] - scores[1:].mean()) / scores[1:].std()
        assert found[neuron] == pytest.approx(expected, rel=0.1, abs=0.12)  # of 1,366 draws


# ---------------------------------------------------------------- scores after images changed places


def changed(layer: Array, neuron: int, order: np.ndarray) -> Array:
    """The layer with the activations of one neuron in another order: those of image i at image order[i]."""
    activations = layer.activations.copy()
    activations[order, neuron] = layer.activations[:, neuron]
    return Array(activations, layer.dead, layer.lengths, layer.groups)


@pytest.mark.parametrize("lists", ["whole", "short"])
@pytest.mark.parametrize("scorer", list(SCORERS))
def test_a_neuron_takes_the_label_that_the_layer_gives_it_after_its_images_changed_places(scorer, lists):
    """Also with the prior of soft_wpmi, in which it counts with its new activations and the others with their own."""
    layer, images, concepts = small(21, neurons=8)
    layer.dead[5] = True
    if lists == "short":
        layer.lengths = np.array([8, 8, 5, 5, 8, 8, 8, 5])
    asked = Settings.defaults(scorer, top_k=8, rank_fraction=0.15)
    classes = ImageClasses(asked, images, concepts, np.arange(60) % 3)
    [orders] = class_null.class_orders(classes, 3, 8, np.random.default_rng(22))
    in_orders = SCORERS[scorer].in_orders(classes, layer)
    [(scores_of_orders, _)] = in_orders(slice(0, 8), [orders])
    for scores, order in zip(scores_of_orders, orders, strict=True):
        back = np.argsort(order) if scorer in ("cos", "cos_cubed", "pearson", "presence") else order
        for neuron in (0, 2, 4, 7):
            anew = score_layer(asked, changed(layer, neuron, back), images, concepts)
            found = anew.concepts[neuron] >= 0
            best = anew.concepts[neuron, found]
            own = scores[neuron].numpy().astype(np.float64)
            assert np.isneginf(np.delete(own, best)).all()
            gaps, expected = own[best] - own[best[0]], anew.similarities[neuron, found]
            scale = np.ptp(own[best]) / np.ptp(expected)  # products are in a unit of the neuron's own
            np.testing.assert_allclose(gaps, scale * (expected - expected[0]), atol=1e-4 * np.ptp(own[best]))


@pytest.mark.parametrize("scorer", ["cos", "presence"])
def test_a_scorer_without_a_faster_way_is_scored_anew_with_the_same_z(scorer, monkeypatch):
    layer, images, concepts = small(23)
    asked = Settings.defaults(scorer)
    classes = ImageClasses(asked, images, concepts, np.arange(60) % 2)
    labels = score_layer(asked, layer, images, concepts, keep=1).concepts[:, 0]
    faster = class_null.z_of_draws(classes, layer, labels, 20, seed=1)
    functions = SCORERS[scorer]
    monkeypatch.setitem(SCORERS, scorer, type(functions)(score=functions.score, null=functions.null))
    anew = class_null.z_of_draws(classes, layer, labels, 20, seed=1)
    np.testing.assert_allclose(anew, faster, rtol=1e-3, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 6),
    spread=st.sampled_from([0.0, 1.0, 50.0, 500.0]),
)
def test_a_sum_of_the_others_leaves_out_its_own_row_also_if_that_is_nearly_all(seed, rows, spread):
    sums = np.random.default_rng(seed).normal(0, 1, (rows, 3)) * spread - 300
    found = class_orders.log_sums_of_others(torch.from_numpy(sums)).numpy()
    for row in range(rows):
        others = np.delete(sums, row, axis=0)
        np.testing.assert_allclose(found[row], np.logaddexp.reduce(others, axis=0), rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), draws=st.integers(9, 30), missing=st.sampled_from([0.0, 0.2]))
def test_each_draw_is_standardised_by_the_others(seed, draws, missing):
    random = np.random.default_rng(seed)
    values = random.normal(5, 2, (1 + draws, 3, 4))
    values[random.random(values.shape) < missing] = -np.inf
    labels = random.integers(4, size=(1 + draws, 3))
    found = class_null.standardised(values, labels)
    for row in range(1 + draws):
        others = [other for other in range(1, 1 + draws) if other != row]
        for neuron in range(3):
            of_others = values[others, neuron, labels[row, neuron]]
            of_others = of_others[np.isfinite(of_others)]
            own = values[row, neuron, labels[row, neuron]]
            if len(of_others) < class_null.MIN_SCORES or not np.isfinite(own):
                assert np.isnan(found[row, neuron])
            else:
                expected = (own - of_others.mean()) / of_others.std()
                assert found[row, neuron] == pytest.approx(expected, rel=1e-9, abs=1e-9)


# ---------------------------------------------------------------- p


IMAGES, NEURONS = 1200, 300


def classed_world(seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    """Images (N, D) of 4 classes of uneven sizes, 9 concepts (C, D) and the classes; and activations of neurons.

    The first NEURONS know the class alone, some well and some hardly; the next 40 also see a concept within it.
    """
    random = np.random.default_rng(seed)
    world = embeddings(IMAGES, 9, seed, dimensions=24)
    classes = random.choice(4, IMAGES, p=[0.5, 0.3, 0.15, 0.05])
    leans = random.standard_normal((4, 24)).astype(np.float32)
    images = world.images.copy()
    images[:, 1:] += 0.15 * leans[classes]
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    strength = np.repeat([0.0, 0.3, 3.0], [100, 100, NEURONS - 200])
    activations = random.standard_normal((IMAGES, NEURONS)) + strength * random.standard_normal((4, NEURONS))[classes]
    cosines = images @ world.concepts.T
    cosines -= np.stack([cosines[classes == each].mean(axis=0) for each in range(4)])[classes]
    seen = cosines[:, random.integers(9, size=40)] / cosines.std() + 0.5 * random.standard_normal((IMAGES, 40))
    values = np.concatenate([activations, 2 * seen], axis=1).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(world.concepts), classes, values


@pytest.mark.parametrize("scorer", list(SCORERS))
def test_a_twentieth_of_neurons_that_know_only_the_class_has_a_p_of_a_twentieth_and_none_is_believed(scorer):
    images, concepts, classes, activations = classed_world(31)
    asked = Settings.defaults(scorer, top_k=60, rank_fraction=0.1)
    only = Layer(activations[:, : activations.shape[1] - 40], asked)
    labels = score_layer(asked, only, images, concepts, keep=1).concepts[:, 0]
    _, p = within(asked, only, images, concepts, classes, labels)
    assert 0.02 <= (p <= 0.05).mean() <= 0.08
    assert (benjamini_hochberg(p) <= 0.05).sum() <= 1

    both = Layer(activations, asked)
    labels = score_layer(asked, both, images, concepts, keep=1).concepts[:, 0]
    _, p = within(asked, both, images, concepts, classes, labels)
    believed = benjamini_hochberg(p) <= 0.05
    assert believed[-40:].mean() >= 0.8
    assert believed[:-40].sum() <= 4


def test_a_neuron_that_is_the_same_on_all_images_of_a_class_says_nothing_beyond_it():
    layer, images, concepts = small(24)
    classes = np.arange(60) % 3
    layer.activations[:, 0] = np.float32([0.1, 0.7, 0.3])[classes]
    for scorer in ("cos", "pearson", "presence", "cos_cubed"):
        z, p = within(Settings.defaults(scorer), layer, images, concepts, classes, np.zeros(5, int))
        assert (np.isnan(z[0]), p[0]) == (True, 1)
        assert (np.isfinite(z[1:]) & (p[1:] <= 1)).all()


@pytest.mark.parametrize("scorer", ["soft_wpmi", "cos", "rank_reorder"])
def test_dead_neurons_that_are_scored_on_their_own_have_no_p_and_change_no_others(scorer, monkeypatch):
    layer, images, concepts = small(26)
    layer.dead[:2] = True
    asked, chosen = Settings.defaults(scorer, top_k=10, rank_fraction=0.3), np.array([-1, -1, 1, 2, 3])
    monkeypatch.setattr(class_null, "NEURONS_AT_ONCE", 1)
    z, p = within(asked, layer, images, concepts, np.arange(60) % 2, chosen)
    assert np.isnan(z).tolist() == np.isnan(p).tolist() == [True, True, False, False, False]


def test_without_two_images_of_a_class_or_without_a_label_there_is_no_p():
    layer, images, concepts = small(25)
    asked = Settings.defaults("cos")
    z, p = within(asked, layer, images, concepts, np.arange(60), np.zeros(5, int))
    assert np.isnan(z).all()
    assert np.isnan(p).all()
    z, p = within(asked, layer, images, concepts, np.arange(60) % 2, np.array([0, -1, 2, -1, 0]))
    assert np.isnan(p).tolist() == np.isnan(z).tolist() == [False, True, False, True, False]


# ---------------------------------------------------------------- robust labels, through the public door


STUDY = """
warehouse = "warehouse.duckdb"
device = "cpu"
[arrays]
path = "features.safetensors"
name = "sae"
classes = ["sad", "happy", "calm", "odd"]
[[concept_sets]]
name = "words"
source = "words.toml"
[[dissections]]
concepts = "words"
scorer = "{scorer}"
top_k = 60
null_draws = 4000
"""
WORDS = "[concepts]\n" + "".join(f'"word {i}" = []\n' for i in range(9))


@pytest.mark.parametrize("scorer", ["presence", "soft_wpmi", "cos_cubed"])
def test_a_layer_that_knows_only_the_classes_has_no_robust_label_and_one_that_knows_more_has(
    tmp_path: Path, scorer: str
) -> None:
    images, concepts, classes, activations = classed_world(32)
    world = make(
        tmp_path / "world",
        {
            "image_embedding": images,
            "concept_embedding": concepts,
            "layer/classes": torch.from_numpy(activations[:, 200:NEURONS].copy()),
            "layer/more": torch.from_numpy(activations[:, NEURONS:].copy()),
            "class": torch.from_numpy(classes),
        },
        STUDY.format(scorer=scorer),
    )
    (world.folder / "words.toml").write_text(WORDS)
    result = world.extract()
    assert result.code == 0, result.err
    [only, more] = world.rows(
        """
        select layer, count(*) filter (where beats_chance) as calibrated, count(*) filter (where robust) as robust,
            count(q_within) as tested
        from label_tests group by layer order by layer
        """
    )
    assert only["calibrated"] > 50, "the classes alone explain these labels"
    assert (only["tested"], more["tested"]) == (100, 40)
    assert only["robust"] <= 1
    assert more["robust"] >= 24
    assert world.run("check").code == 0
