"""Warehouses as each earlier schema wrote them, kept in older/, open, migrate and answer as a new one does.

Each is the file of the fixture `scored_file`, written by the last version that had the schema.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import duckdb
import pytest

from dissectdb.warehouse import Warehouse
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
