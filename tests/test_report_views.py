"""Views that the report rests on, held against polars and numpy on a small warehouse."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from test_reports import IMAGES, Plan, filled

from warehouse import Warehouse


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
