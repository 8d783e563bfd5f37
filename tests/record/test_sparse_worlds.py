"""Sparse neurons in a warehouse: their nulls, what counts for nothing, and files that schema 2 left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.made import Layer
from bench.noise import sparse_noise
from dissectdb.extract.scoring import labels, nulls, robustness
from dissectdb.extract.scoring.halves import divide
from dissectdb.extract.scoring.problem import Settings
from dissectdb.warehouse import Warehouse
from tests.sql.test_view_rows import images, label, statistics
from tests.support.rows import run_view
from tests.support.worlds import TO_SCHEMA_2, World

LABELS = "select layer, unit, concept, similarity, p, q, sparse, split_half_agrees from neuron_concepts order by all"
NULLS = "select layer, null_group, z, p from null_quantiles inner join named_layers using (layer_id) order by all"


@pytest.fixture
def spiking(finished: World, new_world: World) -> World:
    """An extracted world with a layer of ReLUs, of which unit i fires on 10 + i probing images."""
    rows = finished.rows(
        """
        select unit, rank, value from top_activations
        inner join named_neurons using (neuron_id) inner join splits using (split_id)
        where layer = 'lin' and split = 'train' order by unit, rank
        """
    )
    limits = [next(row["value"] for row in rows if (row["unit"], row["rank"]) == (i, 11 + i)) for i in range(8)]
    new_world.change("self.gate =", "self.spikes = Spikes()\n        self.gate =", "net.py")
    new_world.change("seen = F.relu(self.lin(seen))", "seen = self.lin(seen)\n        self.spikes(seen)\n"
                     "        seen = F.relu(seen)", "net.py")  # fmt: skip
    new_world.change("class Net(", f"""class Spikes(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return F.relu(values - torch.tensor({limits}))


class Net(""", "net.py")  # fmt: skip
    new_world.change('"lin", "gate"]', '"lin", "gate", "spikes"]')
    text = new_world.study.read_text(encoding="utf-8").replace("top_k = 5", "top_k = 20")
    new_world.study.write_text(text, encoding="utf-8")
    done = new_world.extract()
    assert done.code == 0, done.err
    return new_world


def test_relus_of_a_network_that_fire_on_few_images_take_labels_and_schema_2_files_get_them(spiking: World) -> None:
    found = spiking.rows(
        "select unit, concept, p, images_fired from neuron_concepts where layer = 'spikes' order by unit"
    )
    assert [row["images_fired"] for row in found] == list(range(10, 18))
    assert all(row["concept"] and row["p"] is not None for row in found)
    fresh, drawn = spiking.rows(LABELS), spiking.rows(NULLS)
    with Warehouse(spiking.warehouse) as opened:
        sparse = "select dissection_id, neuron_id from dissected_neurons where list_images < 20"
        opened.connection.execute(f"""
            delete from label_checks where (dissection_id, neuron_id) in ({sparse});
            delete from null_quantiles where null_group < 20;
            {TO_SCHEMA_2}""")
    done = spiking.extract()
    assert done.code == 0, done.err
    assert spiking.rows(LABELS) == fresh
    assert {tuple(row.values()) for row in spiking.rows(NULLS)} == {tuple(row.values()) for row in drawn}
    assert spiking.run("check").code == 0
    assert "nothing is stale" in spiking.extract().out


@pytest.mark.parametrize("scorer", ["soft_wpmi", "cos", "pearson", "presence", "cos_cubed", "rank_reorder"])
def test_the_view_groups_neurons_as_the_measurements_do(scorer: str) -> None:
    random = np.random.default_rng(5)
    values, _ = sparse_noise(600, 2, seed=1)
    heavy = np.exp(2 * random.standard_normal((600, 2))).astype(np.float32)
    columns = np.concatenate([values, heavy, random.standard_normal((600, 2), dtype=np.float32)], axis=1)
    asked = {"scorer": scorer, "top_k": 100, "rank_fraction": 0.05, "min_images": 10}
    rows = run_view("dissected_neurons", **statistics(*columns.T.tolist(), **asked))
    layer = Layer(columns, Settings.defaults(scorer, min_images=10))
    assert [row["dead"] or row["sparse"] for row in rows] == layer.dead.tolist()
    groups = [int(row["null_group"]) for row in rows]
    live = ~layer.dead
    assert np.array(groups)[live].tolist() == layer.groups[live].tolist()
    whole = {"soft_wpmi": 100, "rank_reorder": 30}.get(scorer, 256)
    assert groups[-2:] == [whole] * 2, "normal values are ordinary"
    if scorer != "soft_wpmi":
        assert whole not in groups[-4:-2], "heavy tails are not"


@pytest.mark.parametrize("scorer", ["cos", "pearson", "presence", "cos_cubed"])
def test_a_layer_of_ordinary_neurons_has_the_one_null_that_it_had(scorer: str) -> None:
    """That of linear_null or cubed_null alone; nothing is drawn beside it."""
    random = np.random.default_rng(3)
    settings = Settings.defaults(scorer)
    layer = Layer(random.standard_normal((400, 6), dtype=np.float32), settings)
    faces, words = (random.standard_normal((n, 8)).astype(np.float32) for n in (400, 5))
    evidence = labels.Evidence(np.arange(400), *_tensors(faces), np.arange(5), *_tensors(words), None)
    found = labels.draw_null(settings, evidence, [layer], 1000, 0)
    assert list(found.labels[0]) == [256]
    assert nulls.is_ordinary(layer).all()


def _tensors(rows: np.ndarray) -> tuple:
    return (torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)),)


def test_lists_of_one_value_have_no_null_for_rank_reorder() -> None:
    """Every order of equal values is the same: no score, so that p is NULL and nothing is drawn for ever."""
    random = np.random.default_rng(4)
    settings = Settings.defaults("rank_reorder", min_images=5)
    values = np.zeros((400, 3), np.float32)
    for k in range(3):
        values[random.choice(400, 15, replace=False), k] = 1
    layer = Layer(values, settings)
    assert not layer.dead.any()
    faces, words = (random.standard_normal((n, 8)).astype(np.float32) for n in (400, 5))
    evidence = labels.Evidence(np.arange(400), *_tensors(faces), np.arange(5), *_tensors(words), None)
    found = labels.draw_null(settings, evidence, [layer], 1000, 0)
    assert all(len(z) == 0 for z in found.labels[0].values())


def test_min_images_decides_which_neurons_are_sparse() -> None:
    column = np.zeros(60)
    column[:21] = np.arange(1, 22)
    for least, sparse in ((21, False), (22, True)):
        for scorer in ("soft_wpmi", "cos"):
            tables = statistics(column, scorer=scorer, top_k=40, min_images=least)
            [row] = run_view("dissected_neurons", **tables)
            assert (row["sparse"], row["images_fired"]) == (sparse, 21)


def test_images_that_a_neuron_does_not_fire_on_count_nowhere() -> None:
    """It fires on image 1 only, of class a; the four others are of class b, and would come next."""
    tables = statistics([5, 0, 0, 0, 0], [1, 2, 3, 4, 5], top_k=5, accuracy_images=5, images_neurons=2)
    tables["images"] = images("a", "b", "b", "b", "b")
    concepts = {
        "concepts": [{"concept_id": 1, "concept_set_id": 1, "position": 0}],
        "concept_classes": [{"concept_id": 1, "class_": "a"}],
    }
    fired = [label(0, 1, 1.0, images_fired=1)]
    [row] = run_view("judged_neurons", neuron_labels=fired, **(tables | concepts))
    assert row["accuracy"] == 1.0
    rows = run_view("image_concepts", neuron_labels=fired, **tables)
    assert [row["image_id"] for row in rows] == [1]
    rows = run_view("top_images", **tables)
    assert [row["image_id"] for row in rows if row["unit"] == 0] == [1]


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_dead_neuron_has_no_top_images(value: float) -> None:
    """All its images are equal; the first ones would look like images that activate it."""
    rows = run_view("top_images", **statistics([value] * 5, [1, 2, 3, 4, 5], top_k=5))
    assert [(row["unit"], row["image_id"]) for row in rows] == [(1, image) for image in (5, 4, 3, 2, 1)]


def test_halves_with_too_few_images_are_unknown() -> None:
    """Seven images of each half are fewer than the ten that a label takes; 60 are enough."""
    random = np.random.default_rng(6)
    values = np.zeros((400, 3), np.float32)
    values[:14, 0] = 1 + random.random(14)
    values[:120, 1] = 1 + random.random(120)
    values[:, 2] = random.standard_normal(400)
    faces, words = (torch.from_numpy(random.standard_normal((n, 8)).astype(np.float32)) for n in (400, 5))
    for scorer in ("soft_wpmi", "cos"):
        settings = Settings.defaults(scorer, top_k=100)
        agrees = robustness.split_half(settings, Layer(values, settings), faces, words, divide(400))
        assert np.isnan(agrees).tolist() == [True, False, False]


@pytest.mark.parametrize("engine", ["sql", "kernel"])
def test_the_only_neuron_of_a_layer_has_no_label_by_comparison_with_its_layer(new_world: World, engine: str) -> None:
    """soft_wpmi subtracts what the layer says of a concept; of one neuron alone nothing remains, for any concept."""
    new_world.change("top_k = 5\nsoftmax_scale = 40.0", f'top_k = 5\nsoftmax_scale = 40.0\nengine = "{engine}"')
    assert new_world.extract().code == 0
    rows = new_world.rows("select * from neuron_concepts where layer = 'gate'")
    assert [(row["concept"], row["p"], row["interpretable"]) for row in rows] == [(None, None, False)]
    assert new_world.run("check").code == 0
