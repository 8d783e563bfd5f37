"""A warehouse of an older schema: a copy is kept, every row is carried over, and a failure leaves it as it was."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dissectdb.extract.record.blocks import BLOCK
from dissectdb.warehouse import Warehouse, WarehouseUnavailable, migrations
from tests.support import rows as support
from tests.support.report_warehouses import IMAGES, Plan, filled
from tests.support.worlds import TO_SCHEMA_2, World

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
        sizes = "select split, block_images from splits order by split_id"
        assert warehouse.rows(sizes).rows() == [("validation", BLOCK), ("test", BLOCK)]
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
    for later in (3, 4, 5, 6, 7):
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


# ---------------------------------------------------------------- blocks without sums

SUMS = ("block_tops", "block_sums", "block_values")
NO_SUMS = "".join(f"drop table {table};" for table in SUMS)


def test_a_warehouse_from_before_sums_gets_those_that_an_extraction_writes(world: World):
    expected = world.tables()
    labels = world.rows("select layer, unit, concept from neuron_concepts order by all")
    with duckdb.connect(str(world.warehouse)) as connection:
        connection.execute(NO_SUMS + TO_SCHEMA_2)
    assert world.run("build").code == 0
    found = world.tables()
    for table in SUMS:
        assert len(found[table]) == len(expected[table]) > 0
        for row, expected_row in zip(found[table], expected[table], strict=True):
            assert row == pytest.approx(expected_row, rel=1e-12, abs=1e-12)
    assert world.rows("select layer, unit, concept from neuron_concepts order by all") == labels != []
    done = world.run("check")
    assert done.code == 0, done.err


def recorded_in_blocks() -> support.Tables:
    """Two layers and two splits, of blocks of 300, 255 and 145 images and of one of 300; with defects in between."""
    random = np.random.default_rng(5)
    normal = random.normal(size=(1000, 6)).astype(np.float32)
    values = np.stack(
        [
            normal[:, 0],
            normal[:, 1].clip(0),
            normal[:, 2].round(1),
            np.full(1000, 0.25),
            np.where(normal[:, 3] > 1, normal[:, 4], 0),
            np.arange(1000) % 258 * np.sign(normal[:, 5]),  # zeros of both signs
        ],
        axis=1,
    )
    ids = range(1, 1001)
    images = [{"image_id": i, "split_id": 2 if i % 10 < 3 else 1, "position": 2 * i, "defect": None} for i in ids]
    images += [{"image_id": 1000 + i, "split_id": 1, "position": 2 * i - 1, "defect": "blank"} for i in (1, 400, 1000)]
    layers = support.layer_rows({"conv": values[:, :4], "lin": values[:, 4:]}, ids)
    ledger = support.finished([row["layer_id"] for row in layers["layers"]], {1: 700, 2: 300})
    ledger["extraction_blocks"] = [
        {"extraction_id": row["extraction_id"], "block": block, "images": count}
        for row in ledger["extractions"]
        for block, count in enumerate((300, 255, 145) if row["split_id"] == 1 else (300,))
    ]
    return layers | ledger | {"images": images}


@pytest.mark.parametrize("blocks_with_sums", [0, 2])
def test_exactly_the_blocks_without_sums_are_summed_up(blocks_with_sums: int):
    tables = recorded_in_blocks()
    expected = support.sums_of(tables)
    assert {row["distinct_values"] for row in expected["block_sums"]} >= {1, 256}
    summed = [row for row in tables["extraction_blocks"] if row["block"] < blocks_with_sums]
    given = support.sums_of(tables | {"extraction_blocks": summed})
    with support.filled(**tables | given) as connection:
        connection.execute(TO_SCHEMA_2 if summed else NO_SUMS + TO_SCHEMA_2)
        for step in (3, 4):
            connection.execute((migrations.FOLDER / f"{step}.sql").read_text(encoding="utf-8"))
        for table in SUMS:
            found = connection.sql(f"from {table}").pl()
            written = pl.DataFrame(expected[table]).select(found.columns)
            keys = [name for name in found.columns if not name.startswith("total")]
            assert_frame_equal(
                found.sort(keys), written.sort(keys), check_dtypes=False, check_exact=False, rel_tol=1e-9, abs_tol=1e-9
            )
