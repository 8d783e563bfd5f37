"""A warehouse as Parquet files and back: nothing is lost, and what is damaged or hostile is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from dissectdb.warehouse import Warehouse, exchange
from tests.support.rows import all_views
from tests.support.worlds import World, command


@pytest.fixture(scope="module")
def exported(modified: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "shared"
    done = command("export", folder, "-w", modified.warehouse)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "shared"))


def bring(folder: Path, path: Path) -> str:
    """Import what must be refused; returns the message."""
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    done = command("import", folder, "-w", path)
    assert done.code in (1, 3), done.err
    assert done.err.startswith("dissectdb: ")
    assert done.err.count("\n") == 1
    assert {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()} == before
    return done.err


def change_manifest(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.json"
    text = path.read_text()
    assert len(re.findall(old, text)) >= 1
    path.write_text(re.sub(old, new, text, count=1))


# ---------------------------------------------------------------- round trip


def test_what_is_exported_and_imported_is_equal_to_the_last_row(
    modified: World, exported: Path, tmp_path: Path
) -> None:
    done = command("import", exported, "-w", tmp_path / "warehouse.duckdb")
    assert done.code == 0, done.err
    back = World(tmp_path)
    expected, found = modified.tables(), back.tables()
    own = {"warehouse_info", "table_versions"}
    # modify and its network name the first world's folder, which tables() only takes out of that world's
    for name in ("networks", "datasets", "clips"):
        found[name] = [
            tuple(v.replace(str(modified.folder), "") if isinstance(v, str) else v for v in row) for row in found[name]
        ]
    assert {k: v for k, v in found.items() if k not in own} == {k: v for k, v in expected.items() if k not in own}
    with Warehouse(modified.warehouse, read_only=True) as one, Warehouse(back.warehouse, read_only=True) as other:
        for view in all_views():
            query = f"select * exclude (network) from {view.name} order by all"
            if "network" not in one.columns()[view.name]:
                query = f"select * from {view.name} order by all"
            before, after = one.rows(query), other.rows(query)
            assert str(before) == str(after), view.name
    assert command("check", "-w", back.warehouse).code == 0
    assert command("report", "-o", tmp_path / "report.html", "-w", back.warehouse).code == 0


def test_an_import_goes_on_with_the_study_that_it_came_from(finished: World, copy_world, tmp_path: Path) -> None:
    world = copy_world(finished, "moved")
    assert command("export", tmp_path / "shared", "-w", world.warehouse).code == 0
    world.warehouse.unlink()
    assert command("import", tmp_path / "shared", "-w", world.warehouse).code == 0
    assert "nothing is stale" in world.extract().out
    assert world.modify().code == 0


def test_any_reader_of_parquet_can_read_it(modified: World, exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert sorted(path.stem for path in exported.glob("*.parquet")) == sorted(manifest["tables"])
    activations = pl.read_parquet(exported / "activations.parquet")
    assert activations.height == modified.counts()["activations"] == manifest["tables"]["activations"]["rows"]
    column = pq.ParquetFile(exported / "activations.parquet").metadata.row_group(0).column(2)
    assert (column.compression, "BYTE_STREAM_SPLIT" in column.encodings) == ("ZSTD", True)


def test_an_empty_warehouse_makes_the_round_trip_too(tmp_path: Path) -> None:
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        list(warehouse.build())
    assert "no table has a row" in command("export", tmp_path / "shared", "-w", tmp_path / "empty.duckdb").out
    assert command("import", tmp_path / "shared", "-w", tmp_path / "back.duckdb").code == 0
    assert command("status", "-w", tmp_path / "back.duckdb").code == 0


def test_no_table_of_the_contract_is_forgotten() -> None:
    with duckdb.connect() as connection:
        connection.execute((Path(exchange.__file__).parent.parent / "sql" / "tables.sql").read_text())
        known = {name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()}
    assert known - set(exchange.tables()) == exchange.OWN


def test_views_that_another_engine_computed_are_taken_as_they_are(
    modified: World, copied: Path, tmp_path: Path
) -> None:
    rows = modified.frame("select * from top_activations").with_columns(value=pl.col("value") * 0 + 7)
    (copied / "views" / "top_activations.parquet").mkdir(parents=True)  # a folder of parts, as Spark writes it
    rows.head(100).write_parquet(copied / "views" / "top_activations.parquet" / "part-0.parquet")
    rows.slice(100).write_parquet(copied / "views" / "top_activations.parquet" / "part-1.parquet")
    (copied / "views" / "no_view_of_ours.parquet").write_text("nonsense")
    done = command("import", copied, "-w", tmp_path / "new.duckdb")
    assert done.code == 0, done.err
    with Warehouse(tmp_path / "new.duckdb", read_only=True) as opened:
        assert opened.rows("select distinct value from top_activations")["value"].to_list() == [7]
        assert opened.rows("select * from top_activations").height == len(rows)
        assert [built.view for built in opened.build(dry_run=True)] == []


def test_a_computed_view_with_other_columns_is_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "views").mkdir()
    pl.DataFrame({"a": [1]}).write_parquet(copied / "views" / "top_activations.parquet")
    assert "view top_activations could not be built" in bring(copied, tmp_path / "new.duckdb")


# ---------------------------------------------------------------- what is refused


def test_a_folder_that_holds_something_is_not_written_over(finished: World, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    done = command("export", tmp_path / "mine", "-w", finished.warehouse)
    assert (done.code, "exists already" in done.err) == (1, True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "mine.part").exists()


def test_a_warehouse_that_is_there_is_not_written_over(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "old.duckdb").write_text("precious")
    assert "exists already; name a new file" in bring(exported, tmp_path / "old.duckdb")


@pytest.mark.parametrize("table", ["activations", "concepts"])
def test_one_changed_byte_is_found(copied: Path, tmp_path: Path, table: str) -> None:
    path = copied / f"{table}.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{table}.parquet is damaged" in bring(copied, tmp_path / "new.duckdb")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r'"schema_version": \d+', '"schema_version": 99', "made by another version of dissectdb (schema 99"),
        (r'"schema_version": \d+', '"schema_version": "2; drop"', "made by another version of dissectdb"),
        ('"images": {', '"../../etc/passwd": {', "other tables than a warehouse: ../../etc/passwd, images"),
        ('"images": {', '"warehouse_info": {', "other tables than a warehouse"),
        (r'"rows": \d+', '"rows": "many"', "cannot be read: ValueError"),
        (r'"rows": \d+', '"rows": 123456', "the manifest says 123,456"),
        (r'"tables": {', '"tabels": {', "cannot be read: KeyError"),
        (r"{", "", "cannot be read: JSONDecodeError"),
        (r"{", "[" * 100_000, "cannot be read: RecursionError"),
    ],
    ids=["newer", "text", "path", "own table", "no number", "rows", "no tables", "no json", "deep"],
)
def test_a_manifest_that_is_not_sound_is_refused(copied: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    change_manifest(copied, old, new)
    assert said in bring(copied, tmp_path / "new.duckdb")


def test_a_missing_file_and_a_link_in_its_place_are_refused(copied: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.parquet"
    (copied / "concepts.parquet").rename(target)
    assert "concepts.parquet is missing or not a plain file" in bring(copied, tmp_path / "new.duckdb")
    (copied / "concepts.parquet").symlink_to(target)
    assert "concepts.parquet is missing or not a plain file" in bring(copied, tmp_path / "new.duckdb")


def test_a_folder_without_a_manifest_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not an export: it has no manifest.json" in bring(tmp_path / "empty", tmp_path / "new.duckdb")
    assert "is not an export" in bring(tmp_path / "nothing", tmp_path / "new.duckdb")


@pytest.mark.parametrize("columns", [["a"], ["dataset_id", "name", "source", "fingerprint"]])
def test_a_file_with_other_columns_or_types_is_refused_though_its_hash_is_right(
    copied: Path, tmp_path: Path, columns: list[str]
) -> None:
    path = copied / "datasets.parquet"
    old = exchange._sha256(path)
    pl.DataFrame({name: ["text"] for name in columns}).write_parquet(path)
    change_manifest(copied, old, exchange._sha256(path))
    said = bring(copied, tmp_path / "new.duckdb")
    assert re.search("has other columns than datasets: a|cannot be read as datasets", said)


def test_a_view_in_the_place_of_a_table_is_not_exported(finished: World, copy_world, tmp_path: Path) -> None:
    world = copy_world(finished, "hostile")
    with duckdb.connect(str(world.warehouse)) as somebody:
        somebody.execute("alter table concepts rename to old")
        somebody.execute("create view concepts as select * from old")
    done = command("export", tmp_path / "shared", "-w", world.warehouse)
    assert (done.code, "has no table concepts" in done.err) == (1, True)
    assert not (tmp_path / "shared").exists()


def test_what_a_killed_run_left_is_no_obstacle(finished: World, tmp_path: Path) -> None:
    (tmp_path / "shared.part").mkdir()
    (tmp_path / "shared.part" / "images.parquet").write_text("half")
    assert command("export", tmp_path / "shared", "-w", finished.warehouse).code == 0
    (tmp_path / "new.duckdb.part").write_text("half")
    assert command("import", tmp_path / "shared", "-w", tmp_path / "new.duckdb").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.duckdb", "shared"]
