"""The views that charts draw, held against polars and numpy: confusion matrices, histograms, groups of concepts."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from dissectdb.warehouse import Warehouse
from tests.support.report_warehouses import IMAGES, Plan, filled
from tests.support.rows import dissection_row, finished, probe, run_view, sums_of


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """A warehouse whose labels were held against chance, with one edit."""
    with filled(tmp_path_factory.mktemp("views") / "warehouse.duckdb", Plan(tested=True)) as warehouse:
        yield warehouse


def test_confusion_matrices_count_every_image_once(tested):
    rows = tested.rows("select * from confusion_matrices where network = 'vggnet' and split = 'validation'")
    said = tested.rows("select * from image_predictions where network = 'vggnet' and split = 'validation'")
    expected = said.group_by("true_class", "predicted_class").len().sort("true_class", "predicted_class")
    assert rows.select("true_class", "predicted_class", "images").sort("true_class", "predicted_class").rows() == (
        expected.rows()
    )
    assert rows["images"].sum() == IMAGES
    for share in rows.group_by("true_class").agg(pl.col("share").sum())["share"]:
        assert share == pytest.approx(1)


def test_images_without_a_class_are_in_no_confusion_matrix(tmp_path):
    with filled(tmp_path / "warehouse.duckdb", Plan(truth=False)) as warehouse:
        assert warehouse.rows("select * from confusion_matrices").is_empty()
        assert warehouse.rows("select * from edit_confusions").is_empty()


def test_edit_confusions_hold_what_was_said_before_and_after(tested):
    rows = tested.rows("select * from edit_confusions order by split_id, true_class, predicted_class")
    for column, table, key in (
        ("images_before", "predictions", "network_id = 1"),
        ("images_after", "edit_predictions", "edit_id = 1"),
    ):
        said = tested.rows(
            f"""
            select images.split_id, images.class as true_class, said.class as predicted_class, count(*) as images
            from {table} as said inner join images on said.image_id = images.image_id where said.{key}
            group by all order by all
            """
        )
        keys = ["split_id", "true_class", "predicted_class"]
        assert rows.filter(pl.col(column) > 0).select(*keys, column).rows() == said.select(*keys, "images").rows()
    assert rows["change"].to_list() == (rows["images_after"] - rows["images_before"]).to_list()
    assert rows["change"].sum() == 0


def test_a_histogram_of_z_holds_every_label_and_what_chance_gives(tested):
    bars = tested.rows("select * from calibration_histogram order by layer, low")
    labels = tested.rows(
        """
        select neuron_labels.z, layers.layer, layers.layer_id from neuron_labels
        inner join layers on neuron_labels.layer_id = layers.layer_id where z is not null
        """
    )
    steps = tested.rows("select layer_id, z, p from null_quantiles")
    edges = np.linspace(labels["z"].min(), labels["z"].max(), 41)
    for (layer,), of_layer in labels.group_by("layer"):
        found = bars.filter(pl.col("layer") == layer)
        assert len(found) == 40
        assert found["neurons"].sum() == len(of_layer)
        counted = np.histogram(of_layer["z"], edges)[0]
        assert np.abs(np.cumsum(found["neurons"]) - np.cumsum(counted)).max() <= 1  # one may lie on an edge
        of_null = steps.filter(pl.col("layer_id") == of_layer["layer_id"][0])
        p = [min([1.0, *of_null.filter(pl.col("z") <= low)["p"]]) for low in found["low"]]
        p = np.array([1.0, *p[1:], 0.0])
        np.testing.assert_allclose(found["expected"], len(of_layer) * (p[:-1] - p[1:]), atol=1e-12)
        assert found["expected"].sum() == pytest.approx(len(of_layer))


def test_labels_that_nothing_was_drawn_for_have_no_histogram_of_z(tmp_path):
    with filled(tmp_path / "warehouse.duckdb", Plan()) as warehouse:
        assert warehouse.rows("select * from calibration_histogram").is_empty()


def test_activation_histograms_count_the_images_of_each_class(tested):
    rows = tested.rows("select * from activation_histograms where layer = 'lin1'")
    values = tested.rows(
        """
        select neurons.unit, images.class, activations.value from activations
        inner join neurons on activations.neuron_id = neurons.neuron_id
        inner join layers on neurons.layer_id = layers.layer_id
        inner join images on activations.image_id = images.image_id
        where layers.layer = 'lin1'
        """
    )
    assert rows["images"].sum() == len(values)
    for (unit, of_class), found in rows.group_by("unit", "class"):
        mine = values.filter(pl.col("unit") == unit)
        expected = mine.filter(pl.col("class") == of_class)["value"].to_numpy().astype(float)
        lowest, highest = mine["value"].min(), mine["value"].max()
        bars = np.minimum(np.floor((expected - lowest) / ((highest - lowest) / 20)), 19)
        places = np.round((found["low"].to_numpy() - lowest) / ((highest - lowest) / 20)).astype(int)
        counted = dict(zip(places.tolist(), found["images"].to_list(), strict=True))
        assert counted == {int(bar): int((bars == bar).sum()) for bar in np.unique(bars)}


def test_concepts_that_say_the_same_follow_the_commonest(tmp_path):
    plan = Plan(concepts=("Smile", "Grin", "Frown", "Wide Open Eyes"), classes=("happy", "sad", "surprise"))
    with filled(tmp_path / "warehouse.duckdb", plan) as warehouse:
        rows = warehouse.rows("select * from concept_groups")
        images = np.array(
            warehouse.rows(
                """
                select embedding from image_embeddings inner join images using (image_id)
                where split_id = 1 and defect is null order by image_id
                """
            )["embedding"].to_list()
        )
        concepts = warehouse.rows(
            "select concept, embedding from concepts inner join concept_embeddings using (concept_id)"
        )
        cosines = dict(zip(concepts["concept"], (images @ np.array(concepts["embedding"].to_list()).T).T, strict=True))
        order = rows.sort(["neurons", "concept"], descending=[True, False])["concept"].to_list()
        for row in rows.to_dicts():
            follows = [
                other
                for other in order
                if other == row["concept"] or np.corrcoef(cosines[row["concept"]], cosines[other])[0, 1] >= 0.8
            ]
            assert row["leader"] == follows[0]
            expected = np.corrcoef(cosines[row["concept"]], cosines[row["leader"]])[0, 1]
            assert row["correlation"] == pytest.approx(expected, abs=1e-6)


def test_an_empty_warehouse_has_empty_views(tmp_path):
    views = (
        "confusion_matrices",
        "edit_confusions",
        "calibration_histogram",
        "concept_groups",
        "activation_histograms",
    )
    with Warehouse(tmp_path / "warehouse.duckdb") as warehouse:
        list(warehouse.build())
        for view in views:
            assert warehouse.rows(f"select * from {view}").is_empty()


# ---------------------------------------------------------------- over rows written down


def test_a_row_of_a_confusion_matrix_is_shared_out_and_an_image_without_a_class_is_in_none():
    truth, said = ["a", "a", "a", "b", None], ["a", "b", "a", "c", "a"]
    rows = run_view(
        "confusion_matrices",
        networks=[dict(network_id=1, name="net", classes=["a", "c"])],
        splits=[dict(split_id=1, split="test")],
        images=[dict(image_id=i, split_id=1, class_=name) for i, name in enumerate(truth)],
        predictions=[dict(network_id=1, image_id=i, class_=name) for i, name in enumerate(said)],
    )
    assert [(row["true_class"], row["predicted_class"], row["images"], row["share"]) for row in rows] == [
        ("a", "a", 2, pytest.approx(2 / 3)), ("a", "b", 1, pytest.approx(1 / 3)), ("b", "c", 1, 1)
    ]  # fmt: skip
    assert [row["is_correct"] for row in rows] == [True, False, None]


def test_edit_confusions_leave_out_controls_and_images_that_the_edit_was_not_asked_about():
    truth, before, after = ["a", "a", None, "a"], ["a", "b", "a", "a"], ["c", "b", "b"]
    rows = run_view(
        "edit_confusions",
        splits=[dict(split_id=1, split="test")],
        images=[dict(image_id=i, split_id=1, class_=name) for i, name in enumerate(truth)],
        predictions=[dict(network_id=1, image_id=i, class_=name) for i, name in enumerate(before)],
        edits=[
            dict(edit_id=1, network_id=1, dissection_id=7, control=None),
            dict(edit_id=2, network_id=1, dissection_id=7, control="random"),
        ],
        edit_predictions=[
            dict(edit_id=edit, image_id=i, class_=name) for edit in (1, 2) for i, name in enumerate(after)
        ],
    )
    assert [(r["edit_id"], r["predicted_class"], r["images_before"], r["images_after"], r["change"]) for r in rows] == [
        (1, "a", 1, 0, -1), (1, "b", 1, 1, 0), (1, "c", 0, 1, 1)
    ]  # fmt: skip


def test_only_layers_with_a_null_have_a_histogram_of_z_and_a_dead_neuron_is_in_no_bar():
    z = [0.0, 1.0, 1.0, 4.0, None, 2.0]
    rows = run_view(
        "calibration_histogram",
        networks=[dict(network_id=1, name="net")],
        layers=[dict(layer_id=i, network_id=1, layer=f"layer {i}", position=i) for i in (1, 2)],
        neurons=[dict(neuron_id=i, layer_id=1 if i < 5 else 2, unit=i) for i in range(len(z))],
        dissections=[dissection_row()],
        neuron_labels=[
            dict(dissection_id=1, neuron_id=i, layer_id=1 if i < 5 else 2, z=x, null_group=3) for i, x in enumerate(z)
        ],
        null_quantiles=[
            dict(dissection_id=1, layer_id=1, null_group=3, z=x, p=p) for x, p in ((-1.0, 0.9), (1.05, 0.5), (9.0, 0.1))
        ],
    )
    assert {row["layer"] for row in rows} == {"layer 1"}
    assert len(rows) == 40
    assert {i: row["neurons"] for i, row in enumerate(rows) if row["neurons"]} == {0: 1, 10: 2, 39: 1}
    expected = {i: row["expected"] for i, row in enumerate(rows) if row["expected"]}
    # From 1 to 0.9 at the second bar's low, from 0.9 to 0.5 at 1.1; the rest lies in the last.
    assert expected == {0: pytest.approx(0.4), 10: pytest.approx(1.6), 39: pytest.approx(2.0)}


def histogram(**more: Any) -> list[dict[str, Any]]:
    """Of a neuron with values 0, 1, 2, 2 and a dead one; the second image has no class."""
    values = np.array([[0, 0.5], [1, 0.5], [2, 0.5], [2, 0.5]])
    tables = probe({"conv": values}, np.eye(4), np.eye(4)[:1], classes=["a", None, "a", "b"])
    tables["neurons"] += more.pop("neurons", [])
    tables["activations"] += more.pop("activations", [])
    tables |= more
    rows = run_view("activation_histograms", **tables | sums_of(tables))
    return [row | dict(bar=(row["neuron_id"], row["class"], row["low"], row["high"], row["images"])) for row in rows]


def test_an_activation_histogram_keeps_images_without_a_class_and_dead_neurons():
    rows = histogram()
    assert [row["bar"] for row in rows if row["unit"] == 0] == [
        (1, "a", 0, pytest.approx(0.1), 1), (1, "a", pytest.approx(1.9), 2, 1), (1, "b", pytest.approx(1.9), 2, 1),
        (1, None, 1, pytest.approx(1.1), 1)
    ]  # fmt: skip
    assert [row["bar"] for row in rows if row["unit"] == 1] == [
        (2, "a", 0.5, 0.5, 2), (2, "b", 0.5, 0.5, 1), (2, None, 0.5, 0.5, 1)
    ]  # fmt: skip


def test_another_network_over_the_same_images_is_in_no_activation_histogram():
    rows = histogram(
        networks=[dict(network_id=1, name="net"), dict(network_id=2, name="other")],
        layers=[dict(layer_id=i, network_id=i, layer="conv", position=0) for i in (1, 2)],
        neurons=[dict(neuron_id=9, layer_id=2, unit=0)],
        activations=[dict(neuron_id=9, image_id=i, value=float(i)) for i in range(1, 5)],
        **finished([1, 2], {1: 4}),
    )
    assert {row["neuron_id"] for row in rows} == {1, 2}


def groups(cosines: np.ndarray, neurons: list[int]) -> dict[str, tuple[str, float | None]]:
    """Of concepts with these cosines (image, concept), each the label of so many neurons: leader and correlation."""
    tables = probe({"conv": np.zeros((len(cosines), 1))}, cosines, np.eye(cosines.shape[1]))
    by_place = {row["position"]: row["concept_id"] for row in tables["concepts"]}
    said = [by_place[place] for place, count in enumerate(neurons) for _ in range(count)]
    labels = [dict(dissection_id=1, neuron_id=i, concept_id=concept) for i, concept in enumerate([*said, None])]
    rows = run_view("concept_groups", **tables | dict(neuron_labels=labels))
    assert {row["concept"]: row["neurons"] for row in rows} == {
        f"concept {i}": count for i, count in enumerate(neurons) if count
    }
    return {row["concept"]: (row["leader"], row["correlation"]) for row in rows}


def test_a_concept_follows_the_commonest_it_runs_along_with_and_equals_go_by_name():
    first, second = np.random.default_rng(0).normal(size=(2, 50))
    cosines = np.stack([first, first + 0.3 * second, -first, second, second - 0.1 * first], axis=1)
    found = groups(cosines, [2, 2, 3, 1, 5])
    expected = np.corrcoef(cosines.T)
    assert found == {
        "concept 0": ("concept 0", 1),
        "concept 1": ("concept 0", pytest.approx(expected[0, 1])),
        "concept 2": ("concept 2", 1),
        "concept 3": ("concept 4", pytest.approx(expected[3, 4])),
        "concept 4": ("concept 4", 1),
    }


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_a_concept_that_is_equally_near_to_all_images_leads_only_itself(constant):
    cosines = np.stack([np.full(20, constant), np.linspace(-1, 1, 20)], axis=1)
    assert groups(cosines, [2, 1]) == {"concept 0": ("concept 0", 1), "concept 1": ("concept 1", 1)}
    assert groups(cosines, [1, 2]) == {"concept 0": ("concept 0", 1), "concept 1": ("concept 1", 1)}


def test_the_sixty_commonest_labels_are_grouped():
    cosines = np.random.default_rng(0).normal(size=(30, 61))
    tables = probe({"conv": np.zeros((30, 1))}, cosines, np.eye(61))
    labels = [
        dict(dissection_id=1, neuron_id=i, concept_id=row["concept_id"]) for i, row in enumerate(tables["concepts"])
    ]
    rows = run_view("concept_groups", **tables | dict(neuron_labels=labels))
    assert {row["concept"] for row in rows} == set(sorted(row["concept"] for row in tables["concepts"])[:60])
