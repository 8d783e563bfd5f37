"""Warehouses as each earlier schema wrote them, kept in older/, open, migrate and answer as a new one does.

Each is the file of the fixture `scored_file`, written by the last version that had the schema.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import duckdb
import pytest

from dissectdb import pipeline
from dissectdb.warehouse import Warehouse, WarehouseUnavailable, contracts
from dissectdb.warehouse.database import SCHEMA_VERSION
from tests.warehouse.test_migrations import COLUMNS

OLDER = Path(__file__).parent / "older"
KEPT = ("images", "networks", "neurons", "concepts", "image_embeddings", "activations", "predictions", "dissections")
# Up to schema 2, neurons of few values took labels too; in these files that is the one of pool.
LABELS = "select layer, unit, concept, similarity from neuron_concepts where layer != 'pool' order by all"


def unpacked(schema: int, folder: Path) -> Path:
    path = folder / "w.duckdb"
    path.write_bytes(lzma.decompress((OLDER / f"schema_{schema}.duckdb.xz").read_bytes()))
    return path


def test_every_earlier_schema_is_kept():
    assert sorted(path.name for path in OLDER.iterdir()) == [
        f"schema_{schema}.duckdb.xz" for schema in range(1, SCHEMA_VERSION)
    ]


@pytest.mark.parametrize("schema", range(1, SCHEMA_VERSION))
def test_a_warehouse_of_an_earlier_schema_is_migrated_whole(schema, tmp_path):
    path = unpacked(schema, tmp_path)
    with duckdb.connect(str(path), read_only=True) as connection:
        version = "select value from warehouse_info where key = 'schema_version'"
        assert connection.execute(version).fetchone() == (str(schema),)
        rows = {table: connection.execute(f"select count(*) from {table}").fetchone() for table in KEPT}
        labels = connection.execute(LABELS).fetchall()
    assert labels
    with Warehouse(path) as warehouse:
        list(warehouse.build())
        assert {table: warehouse.connection.execute(f"select count(*) from {table}").fetchone() for table in KEPT} == (
            rows
        )
        migrated = warehouse.connection.execute(LABELS).fetchall()
        assert [label[:3] for label in migrated] == [label[:3] for label in labels]
        assert [label[3] for label in migrated] == pytest.approx([label[3] for label in labels], abs=1e-5)
        columns = warehouse.connection.execute(COLUMNS).fetchall()
    with Warehouse(tmp_path / "new.duckdb") as fresh:
        list(fresh.build())
        assert columns == fresh.connection.execute(COLUMNS).fetchall()


def test_until_it_is_built_a_migrated_warehouse_refuses_to_say_that_there_is_nothing(tmp_path):
    path = unpacked(5, tmp_path)
    with Warehouse(path):  # a run that is stopped at once
        pass
    with Warehouse(path, read_only=True) as reader:
        for ask in (reader.ask, reader.rows):
            assert ask("select count(*) as n from images")["n"][0]
            with pytest.raises(
                WarehouseUnavailable, match=r"neuron_concepts of .* is not computed yet.*dissectdb build"
            ):
                ask("select count(*) from neuron_concepts")
        with pytest.raises(WarehouseUnavailable, match="not computed yet"):
            reader.ask("with many as (select 1) select * from many, (summarize Neuron_Concepts)")
    with pytest.raises(WarehouseUnavailable, match="not computed yet"):
        pipeline.report(path, tmp_path / "report.html")
    checked = {contract.name for contract, _ in pipeline.check(path)}
    assert "keys_are_unique" in checked
    assert checked < {contract.name for contract in contracts.checks()}
    with Warehouse(path) as warehouse:
        list(warehouse.build())
    with Warehouse(path, read_only=True) as reader:
        assert reader.ask("select count(*) as n from neuron_concepts")["n"][0]
    assert len(pipeline.check(path)) == len(list(contracts.checks()))


def test_what_is_not_built_is_known_through_all_views_also_those_of_users(tmp_path):
    path = unpacked(5, tmp_path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("create view mine as select concept from neuron_concepts")
        connection.execute('create view "Of Mine AS it is" as select count(*) as n from Mine')
        connection.execute('create view "MyLabels" as select count(*) as n from NEURON_LABELS')
        connection.execute("create view fine as select count(*) as neuron_labels from neurons")
    with Warehouse(path) as warehouse:
        assert warehouse.rows("select * from neuron_concepts").is_empty()  # to a run that is going to build it
    with Warehouse(path, read_only=True) as reader:
        for view in ("mine", "MINE", '"Of Mine AS it is"', "mylabels", '"MyLabels"', "Neuron_Labels"):
            for ask in (reader.ask, reader.rows):
                with pytest.raises(WarehouseUnavailable, match="not computed yet"):
                    ask(f"select * from {view}")
        assert reader.ask("select neuron_labels from fine").item() > 0


def test_a_warehouse_with_nothing_in_it_says_so(tmp_path):
    with Warehouse(tmp_path / "w.duckdb"):
        pass
    with Warehouse(tmp_path / "w.duckdb", read_only=True) as reader:
        assert reader.ask("select count(*) as n from neuron_concepts")["n"].to_list() == [0]


def test_what_was_dropped_is_made_again(tmp_path):
    path = unpacked(5, tmp_path)
    with Warehouse(path) as warehouse:
        list(warehouse.build())
        rows = warehouse.rows("select count(*) from neuron_labels").item()
    with duckdb.connect(str(path)) as connection:
        connection.execute("drop view robust_labels; drop table neuron_labels; drop table left_out")
    with Warehouse(path) as warehouse:
        assert "neuron_labels" in [built.view for built in warehouse.build()]
        assert warehouse.rows("select count(*) from neuron_labels").item() == rows > 0
        for name in ("robust_labels", "left_out"):
            warehouse.rows(f"select * from {name}")
