"""open(): views as methods, guarded queries, cards and charts; and the examples in the docstrings."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

import dissectdb
from dissectdb import Warehouse, dissecting
from dissectdb import opened as module
from dissectdb.warehouse.guard import QueryRefused
from dissectdb.warehouse.view_files import load_views
from tests.python.conftest import Objects

PUBLIC = sorted(view.name for view in load_views() if view.public)


@pytest.mark.parametrize("view", PUBLIC)
def test_each_public_view_is_a_method_with_its_header_and_all_its_rows(
    opened: dissectdb.OpenWarehouse, view: str
) -> None:
    method = getattr(opened, view)
    assert view in dir(opened)
    assert method.__name__ == view
    with Warehouse(opened.path, read_only=True) as warehouse:
        rows = warehouse.rows(f"select * from {view}")
    assert method().columns == rows.columns
    title, grain = next((each.title, list(each.grain)) for each in load_views() if each.name == view)
    assert_frame_equal(method(), rows.sort(grain, nulls_last=True))
    assert " ".join(inspect.getdoc(method).split()).startswith(title)
    assert "materialized" not in method.__doc__


def test_keywords_keep_rows_and_are_bound(opened: dissectdb.OpenWarehouse) -> None:
    rows = opened.neuron_concepts(layer="lin", unit=3)
    assert rows.select("layer", "unit").rows() == [("lin", 3)]
    assert len(opened.neuron_concepts(layer="x' or 'a' = 'a")) == 0
    everyone = opened.neuron_concepts()
    assert len(opened.neuron_concepts(judged_by=None)) == everyone["judged_by"].null_count()
    assert len(opened.neuron_concepts(dead=False)) == len(everyone) - everyone["dead"].sum()
    with pytest.raises(TypeError, match="neuron_concepts has no column 'layr'; did you mean layer"):
        opened.neuron_concepts(layr="lin")
    with pytest.raises(TypeError, match="has no column"):
        opened.neuron_concepts(**{'layer" = 1 --': 3})
    with pytest.raises(AttributeError, match="no view 'neuron_concept'; did you mean neuron_concepts"):
        _ = opened.neuron_concept


def test_queries_only_read_and_their_values_are_bound(opened: dissectdb.OpenWarehouse) -> None:
    query = "select count(*) as n from neuron_concepts where layer = $layer"
    assert opened.sql(query, {"layer": "lin"})["n"].to_list() == [8]
    assert opened.sql(query, {"layer": "x' or true --"})["n"].to_list() == [0]
    assert opened.sql(f"explain {query}", {"layer": "lin"}).columns == ["plan"]
    for refused, why in [
        ("drop table images", "DROP is refused"),
        ("select * from read_csv('/etc/passwd')", "refused"),
        ("copy images to 'x.csv'", "COPY is refused"),
        (query, "there is no value for them; write the value"),
        ("select $layer, $unit", "unit has no value; there is one for layer"),
        ("select ?", "1 has no value"),
    ]:
        with pytest.raises(QueryRefused, match=why):
            opened.sql(refused, {"layer": "lin"} if "$unit" in refused or "?" in refused else None)


def test_the_file_is_free_between_two_reads(opened: dissectdb.OpenWarehouse) -> None:
    opened.layer_summary()
    with Warehouse(opened.path) as writer:
        assert len(list(writer.build(dry_run=True))) == 0


def test_a_card_shows_label_scores_and_images(opened: dissectdb.OpenWarehouse) -> None:
    [row] = opened.neuron_concepts(layer="lin", dead=False, sparse=False).head(1).to_dicts()
    card = opened.neuron("lin", row["unit"])
    assert card.label["concept"] == row["concept"] == card.concepts[0]["concept"]
    assert [image["rank"] for image in card.images] == list(range(1, 9))
    html = card._repr_html_()
    assert html.count('<img src="data:image/png;base64,') == 8
    assert f"<bdi>{row['concept']}</bdi>" in html
    assert "<script" not in html
    assert "http" not in html
    assert f"lin, unit {row['unit']}: {row['concept']}" in repr(card)
    with pytest.raises(LookupError, match="no layer 'lim'; did you mean lin"):
        opened.neuron("lim", 0)
    with pytest.raises(LookupError, match="lin has no unit 8; it has 8, from 0"):
        opened.neuron("lin", 8)


def test_a_card_escapes_what_users_write(objects: Objects, tmp_path: Path) -> None:
    from tests.python.conftest import network

    bad = "<script>alert(1)</script>"
    opened = objects.dissect(network(), concepts=[bad, "a disc"], warehouse=tmp_path / "bad.duckdb", name="<b>net</b>")
    html = "".join(opened.neuron("lin", unit)._repr_html_() for unit in range(8)) + opened._repr_html_()
    assert "<script" not in html
    assert "<b>net" not in html
    assert "&lt;script&gt;" in html


def test_dead_and_sparse_neurons_and_those_without_a_label_say_so() -> None:
    from dissectdb.reports.card import NeuronCard

    row = {"dead": True, "sparse": False, "tied": False, "concept": None, "layer": "lin", "unit": 0, "images_fired": 3}
    assert "It is dead" in NeuronCard(row, [], []).sentence
    assert (
        "It fires on 3 images, which are too few" in NeuronCard(row | {"dead": False, "sparse": True}, [], []).sentence
    )
    tied = NeuronCard(row | {"dead": False, "sparse": True, "tied": True}, [], []).sentence
    assert "equal on too many images" in tied
    assert "too few" not in tied
    assert "the same score" in NeuronCard(row | {"dead": False}, [], []).sentence
    html = NeuronCard(row | {"network": "net"}, [], [{"value": 0.0}])._repr_html_()  # one of many equal images
    assert "<img" not in html
    assert "<table" not in html


def test_charts_are_methods(opened: dissectdb.OpenWarehouse) -> None:
    chart = opened.layer_chart()
    assert chart.to_dict()["$schema"].startswith("https://vega.github.io/schema/vega-lite")
    assert {"layer_chart", "confusion_chart"} <= set(dir(opened))
    with pytest.raises(ValueError, match="no data for the chart edits"):
        opened.edit_chart()


def test_what_is_no_warehouse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dissectdb.WarehouseError, match="no such warehouse"):
        dissectdb.open(tmp_path / "none.duckdb")


def test_a_dissection_that_is_not_there_is_refused(opened: dissectdb.OpenWarehouse) -> None:
    with pytest.raises(dissectdb.WarehouseError, match="has no dissection 9; it has 1"):
        dissectdb.open(opened.path, dissection=9)


def test_the_summary_lists_the_layers(opened: dissectdb.OpenWarehouse) -> None:
    html = opened._repr_html_()
    assert [html.index(f"<bdi>{layer}</bdi>") for layer in ("conv1", "conv2", "lin")] == sorted(
        html.index(f"<bdi>{layer}</bdi>") for layer in ("conv1", "conv2", "lin")
    )
    assert "w.duckdb" in repr(opened)


@pytest.mark.parametrize("which", [module, dissecting], ids=["open", "dissect"])
def test_the_examples_in_the_docstrings_run(
    which: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_network: tuple[object, Path]
) -> None:
    monkeypatch.chdir(demo_network[1].parent)
    names = {"dissectdb": dissectdb, "model": demo_network[0], "images": demo_network[1]}
    tests = [test for test in doctest.DocTestFinder().find(which, globs=names) if test.examples]  # type: ignore[arg-type]
    assert {test.name.rpartition(".")[2] for test in tests} >= {"dissect" if which is dissecting else "open"}
    runner = doctest.DocTestRunner()
    for test in tests:
        assert runner.run(test).failed == 0, test.name
