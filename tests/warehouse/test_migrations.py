"""A warehouse of an older schema: a copy is kept, every row is carried over, and a failure leaves it as it was."""

from __future__ import annotations

import duckdb
import pytest

from dissectdb.warehouse import Warehouse, WarehouseUnavailable, migrations
from tests.reports.test_page import IMAGES, Plan, filled
from tests.support.worlds import TO_SCHEMA_2

# What schema 1 had in the place of today's tables; networks, predictions and extractions were the same.
SCHEMA_1 = f"""{TO_SCHEMA_2}
    create table edits_1 as
    select edit_id, name, network_id, dissection_id, layer, rule, tau, factor, sql, cast(null as varchar) as chosen_on,
        created_at, fingerprint
    from edits;
    create table edit_scales_1 (edit_id integer not null, neuron_id integer not null, scale double not null);
    insert into edit_scales_1 values (1, 0, 1.5), (1, 1, 0.5);
    drop table edits; drop table edit_scales; drop table edit_layers; drop table edit_predictions;
    drop table edit_blocks; drop table edit_choices; drop table split_openings; drop table edit_intervals;
    drop table edit_causes; drop table ablations; drop table ablation_effects;
    alter table edits_1 rename to edits;
    alter table edit_scales_1 rename to edit_scales;
    update warehouse_info set value = '1' where key = 'schema_version';
"""
COLUMNS = """
    select table_name, column_name, data_type, is_nullable from duckdb_columns()
    where table_name in (select table_name from duckdb_tables()) and not internal order by all
"""


@pytest.fixture
def old(tmp_path):
    """A file as schema 1 left it, with an edit whose network was measured on both splits."""
    path = tmp_path / "warehouse.duckdb"
    with filled(path, Plan()) as warehouse:
        pass
    with duckdb.connect(str(path)) as connection:
        connection.execute(SCHEMA_1)
    assert warehouse.path == path
    return path


def test_an_old_warehouse_is_brought_up_to_date_and_kept_beside(old, tmp_path):
    before = old.read_bytes()
    with Warehouse(old) as warehouse:
        list(warehouse.build())
        edits = warehouse.rows("select * from edits").to_dicts()
        assert [(row["rule"], row["factor"], row["factor_down"], row["scale_bias"]) for row in edits] == [
            ("paper", 1.5, 1.5, False)
        ]
        assert warehouse.rows("select * from edit_scales order by neuron_id").rows() == [(1, 0, 1.5, 1), (1, 1, 0.5, 1)]
        said = "select image_id, class, confidence, loss from {} order by image_id"
        assert warehouse.rows(said.format("edit_predictions")).rows() == (
            warehouse.rows(said.format("predictions where network_id = 2")).rows()
        )
        results = warehouse.rows("select split, images, gained, lost from edit_results order by split_id").rows()
        assert results == [("validation", IMAGES, 1, 0), ("test", IMAGES, 1, 0)]
        assert warehouse.rows("select edit_id, split_id from split_openings").rows() == [(1, 2)]
        assert warehouse.rows("select edit_id, split_id, edits_tried from edit_choices").rows() == [(1, 1, 1)]
        columns = warehouse.connection.execute(COLUMNS).fetchall()
    assert (tmp_path / "warehouse.duckdb.schema1").read_bytes() == before
    with Warehouse(tmp_path / "new.duckdb") as fresh:
        list(fresh.build())
        assert columns == fresh.connection.execute(COLUMNS).fetchall()


def test_a_reader_is_told_how_and_changes_nothing(old):
    before = old.read_bytes()
    with pytest.raises(
        WarehouseUnavailable, match=r"schema 1.*dissectdb build --warehouse .*a copy of the file is kept"
    ):
        Warehouse(old, read_only=True)
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_a_step_that_fails_leaves_the_old_warehouse(old, tmp_path, monkeypatch):
    (tmp_path / "steps").mkdir()
    text = (migrations.FOLDER / "2.sql").read_text() + "select * from nowhere;"
    (tmp_path / "steps" / "2.sql").write_text(text)
    for later in (3, 4):
        (tmp_path / "steps" / f"{later}.sql").write_text("select 1;")
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "FOLDER", tmp_path / "steps")
        with pytest.raises(duckdb.CatalogException, match="nowhere"):
            Warehouse(old)
    with duckdb.connect(str(old), read_only=True) as connection:
        assert connection.execute("select value from warehouse_info where key = 'schema_version'").fetchone() == ("1",)
        assert connection.execute("select count(*) from edit_scales").fetchone() == (2,)
    with Warehouse(old) as warehouse:  # and the next time it works
        assert len(warehouse.rows("select * from edit_scales")) == 2
