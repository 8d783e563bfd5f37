"""The warehouse file: units are whole, errors cross threads, and a file that cannot be opened says why."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from dissectdb.warehouse import Warehouse, WarehouseError, WarehouseUnavailable, database, view_files
from dissectdb.warehouse import units as unit_writer
from tests.support.rows import NOON, all_views, sha

HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        yield warehouse


def classes(*positions: int) -> list[dict]:
    return [{"dataset_id": 1, "position": i, "class": f"class {i}"} for i in positions]


def positions(warehouse: Warehouse) -> list[int]:
    return sorted(warehouse.rows("select position from classes")["position"])


def version(warehouse: Warehouse, table: str) -> int:
    rows = warehouse.rows("select version from table_versions where table_name = $table", {"table": table})
    return rows["version"][0] if len(rows) else 0


# ---------------------------------------------------------------- rows in, rows out


def test_a_new_warehouse_has_every_table_and_view_and_no_rows(empty):
    assert empty.rows("select * from activations").shape == (0, 3)
    assert empty.rows("select * from layer_summary").height == 0
    assert empty.rows("select value from warehouse_info where key = 'schema_version'")["value"].to_list() == ["7"]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_warehouse_opened_again_answers_its_first_question(empty, read_only):
    empty.write({"classes": classes(0)})
    empty.close()
    with Warehouse(empty.path, read_only=read_only) as again:
        assert positions(again) == [0]


def test_rows_can_be_asked_right_after_an_id(empty):
    assert empty.next_id("datasets") == 1
    assert positions(empty) == []
    assert empty.find("datasets", "nothing") is None
    assert positions(empty) == []


@pytest.mark.parametrize("table", ["datasets", "networks", "clips", "edits", "dissections", "concept_sets"])
def test_ids_start_at_one_for_every_kind_of_thing(empty, table):
    assert empty.next_id(table) == 1
    assert empty.find(table, "nothing") is None


def test_a_fingerprint_finds_its_id_and_the_next_id_is_above_all(empty):
    rows = [dict(dataset_id=i, name="same", source="", fingerprint=sha(i)) for i in (4, 2)]
    empty.write({"datasets": rows})
    assert empty.find("datasets", sha(2)) == 2
    assert empty.find("datasets", sha(4)) == 4
    assert empty.next_id("datasets") == 5


@pytest.mark.parametrize("make", [pa.table, pl.DataFrame, lambda rows: pa.table(rows).to_reader()])
def test_rows_come_as_a_table_a_frame_or_a_reader_with_columns_in_any_order(empty, make):
    empty.write({"activations": make({"value": [0.5, 1.5], "image_id": [1, 2], "neuron_id": [7, 7]})})
    assert empty.rows("select * from activations order by image_id").rows() == [(7, 1, 0.5), (7, 2, 1.5)]


def test_dictionaries_may_leave_out_what_is_null(empty):
    extraction = dict(extraction_id=1, target="predictions", split_id=1, network_id=1, device="cpu",
                      precision="float32", versions="{}", started_at=NOON, fingerprint=sha(1))  # fmt: skip
    empty.write({"extractions": [extraction]})
    [row] = empty.rows("select layer_id, started_at from extractions").rows()
    assert row == (None, NOON)


# ---------------------------------------------------------------- a unit is whole


def test_a_unit_that_fails_at_its_end_leaves_nothing_of_its_start(empty):
    with pytest.raises(duckdb.Error, match="NOT NULL"):
        empty.write({"classes": classes(0), "datasets": [{"dataset_id": 1}]})
    assert positions(empty) == []
    assert version(empty, "classes") == 0
    empty.write({"classes": classes(1)})
    assert positions(empty) == [1]


def test_a_unit_of_pairs_that_breaks_off_leaves_nothing(empty):
    def unit() -> Iterator[tuple[str, list[dict]]]:
        yield "classes", classes(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        empty.write(unit())
    assert positions(empty) == []


def test_a_unit_of_pairs_may_name_a_table_twice_and_bumps_its_version_once(empty):
    empty.write([("classes", classes(0)), ("classes", classes(1))])
    assert positions(empty) == [0, 1]
    assert version(empty, "classes") == 1


def test_a_write_bumps_the_version_of_the_tables_it_names_and_of_no_other(empty):
    for expected in (1, 2):
        empty.write({"classes": classes(expected)})
        assert version(empty, "classes") == expected
    empty.load([{"classes": classes(3)}, {"classes": classes(4)}])
    assert version(empty, "classes") == 4
    assert version(empty, "images") == 0


def test_an_unknown_table_is_an_error_and_leaves_the_warehouse_in_order(empty):
    with pytest.raises(duckdb.Error, match="nonsense"):
        empty.write({"classes": classes(0), "nonsense": pa.table({"a": [1]})})
    assert positions(empty) == []


# ---------------------------------------------------------------- a thread writes while the next is computed


def test_load_writes_every_unit_in_order(empty):
    empty.load({"classes": classes(i)} for i in range(20))
    assert empty.rows("select position from classes")["position"].to_list() == list(range(20))


def test_a_load_returns_the_share_of_the_time_in_which_it_waited_for_the_writer(
    empty: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock of the test's own counts 3 × 2 seconds of computing, 3 × 1 of handing over, and 3 of the last write."""
    clock, all_handed_over, write = [0.0], threading.Event(), unit_writer.write

    def pass_time(seconds: float) -> None:
        clock[0] += seconds

    class Handover(queue.Queue):
        def put(self, unit: Any) -> None:
            all_handed_over.set() if unit is None else pass_time(1)
            super().put(unit)

    def slow_write(connection: duckdb.DuckDBPyConnection, path: Path, unit: dict[str, Any]) -> None:
        if unit["classes"][0]["position"] == 2:
            assert all_handed_over.wait(10)
            pass_time(3)
        write(connection, path, unit)

    def units() -> Iterator[dict[str, Any]]:
        for i in range(3):
            pass_time(2)
            yield {"classes": classes(i)}

    monkeypatch.setattr(database, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(database, "queue", SimpleNamespace(Queue=Handover, Empty=queue.Empty))
    monkeypatch.setattr(unit_writer, "write", slow_write)
    assert empty.load(units()) == (3 + 3) / (6 + 3 + 3)


def test_the_producer_may_ask_the_warehouse_while_the_writer_writes(empty):
    def units() -> Iterator[dict]:
        for i in range(10):
            assert empty.next_id("datasets") <= i + 1
            yield {"datasets": [dict(dataset_id=i + 1, name="", source="", fingerprint=sha(i))]}

    empty.load(units())
    assert empty.next_id("datasets") == 11


def test_an_error_of_the_writer_stops_the_producer_and_is_raised(empty):
    produced: list[int] = []
    threads = threading.active_count()

    def units() -> Iterator[dict]:
        for i in range(1000):
            produced.append(i)
            yield {"classes": classes(i)} if i != 2 else {"nonsense": pa.table({"a": [1]})}

    with pytest.raises(duckdb.Error, match="nonsense"):
        empty.load(units())
    assert positions(empty) == [0, 1]
    assert len(produced) < 10
    assert threading.active_count() == threads


def test_an_error_of_the_producer_is_raised_and_what_was_committed_stays(empty):
    threads = threading.active_count()

    def units() -> Iterator[dict]:
        yield {"classes": classes(0)}
        yield {"classes": classes(1)}
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        empty.load(units())
    assert positions(empty) == [0, 1]
    assert threading.active_count() == threads


def test_an_error_inside_a_unit_of_pairs_reaches_the_caller(empty):
    def unit() -> Iterator[tuple[str, list[dict]]]:
        yield "classes", classes(1)
        raise RuntimeError("half a unit")

    with pytest.raises(RuntimeError, match="half a unit"):
        empty.load([{"classes": classes(0)}, unit()])
    assert positions(empty) == [0]


# ---------------------------------------------------------------- which dissection is shown


def test_an_unknown_dissection_is_named_beside_those_there_are(tiny):
    tiny.close()
    with pytest.raises(WarehouseError, match="has no dissection 9; it has 1, 2"):
        Warehouse(tiny.path, dissection=9)
    with Warehouse(tiny.path) as again:  # the failed one has let go of the file
        assert again.rows("select * from shown_dissection").rows() == [(2,)]


# ---------------------------------------------------------------- files that cannot be opened


def test_a_held_file_names_the_process_that_holds_it(empty):
    empty.close()
    command = [sys.executable, "-c", HOLD, str(empty.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        for read_only in (False, True):
            with pytest.raises(WarehouseUnavailable, match=f"is held by process {holder.pid}; wait"):
                Warehouse(empty.path, read_only=read_only)
        holder.communicate("")
    Warehouse(empty.path).close()


def test_two_readers_share_a_file(tiny):
    tiny.close()
    code = "import sys; from dissectdb.warehouse import Warehouse; print(Warehouse(sys.argv[1], read_only=True).path)"
    with Warehouse(tiny.path, read_only=True) as reader:
        other = subprocess.run([sys.executable, "-c", code, str(tiny.path)], capture_output=True, text=True)
        assert other.stdout.strip() == str(tiny.path)
        assert reader.rows("select * from layer_summary").height == 3


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("schema", "said"),
    [(0, "older dissectdb (schema 0, this one needs 7)"), (99, "newer dissectdb (schema 99, this one knows 7)")],
)
def test_a_warehouse_of_another_schema_is_refused_and_left_alone(empty, schema, said, read_only):
    empty.connection.execute("update warehouse_info set value = $1 where key = 'schema_version'", [str(schema)])
    empty.close()
    before = empty.path.read_bytes()
    with pytest.raises(WarehouseUnavailable, match=re.escape(said)) as refused:
        Warehouse(empty.path, read_only=read_only)
    assert refused.value.exit_code == 3
    assert empty.path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
def test_a_duckdb_file_of_someone_else_is_refused_and_left_alone(tmp_path, read_only):
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table invoices (id integer)")
    with pytest.raises(WarehouseUnavailable, match="not a warehouse of dissectdb"):
        Warehouse(path, read_only=read_only)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("show tables").fetchall() == [("invoices",)]


@pytest.mark.parametrize("folder", ["files", "blocks", "lock"])
def test_a_text_file_is_no_warehouse_whatever_its_folder_is_called(tmp_path, folder):
    path = tmp_path / folder / "notes.txt"
    path.parent.mkdir()
    path.write_text("not a database\n" * 1000)
    with pytest.raises(WarehouseUnavailable, match=r"cannot be opened as a warehouse: .*not a valid DuckDB"):
        Warehouse(path)
    assert path.read_text().startswith("not a database")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(WarehouseUnavailable, match=f"there is no folder {tmp_path / 'nowhere'}; make it"):
        Warehouse(tmp_path / "nowhere" / "warehouse.duckdb")


def test_reading_a_missing_file_says_how_to_make_one_and_makes_none(tmp_path):
    with pytest.raises(WarehouseUnavailable, match="no such warehouse; make one with: dissectdb extract"):
        Warehouse(tmp_path / "missing.duckdb", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_changes_nothing(tiny):
    tiny.close()
    before = tiny.path.read_bytes()
    with Warehouse(tiny.path, read_only=True, dissection=1) as reader:
        assert reader.rows("select * from shown_dissection").rows() == [(1,)]
        with pytest.raises(duckdb.Error, match="read-only"):
            reader.write({"classes": classes(5)})
    assert tiny.path.read_bytes() == before


def test_loading_into_a_closed_warehouse_fails_and_does_not_hang(empty):
    empty.close()
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        empty.load({"classes": classes(i)} for i in range(3))


# ---------------------------------------------------------------- what would be, and what has changed


def test_a_preview_shows_what_would_be_and_writes_nothing(empty):
    empty.write({"classes": classes(0)})
    seen = empty.preview({"classes": classes(1)}, "select position from classes order by all")
    assert seen["position"].to_list() == [0, 1]
    assert positions(empty) == [0]
    assert version(empty, "classes") == 1
    with pytest.raises(duckdb.Error, match="nonsense"):
        empty.preview({"classes": classes(1)}, "select nonsense from classes")
    assert positions(empty) == [0]


def test_a_warehouse_opened_with_a_changed_view_shows_it_empty_until_it_is_built(tiny, monkeypatch):
    tiny.close()
    texts = [
        replace(view, sql=view.sql.replace("dissections.tau", "dissections.tau + 99"))
        if view.name == "neuron_labels"
        else view
        for view in all_views()
    ]
    monkeypatch.setattr(view_files, "load_views", lambda: texts)
    with Warehouse(tiny.path) as changed:
        assert changed.rows("select * from neuron_labels").height == 0
        assert changed.rows("select * from layer_summary").height == 0
        assert "neuron_labels" in [step.view for step in changed.build()]
        assert changed.rows("select sum(num_interpretable)::int as n from layer_summary")["n"].to_list() == [0]


def test_a_view_that_another_version_did_not_build_is_told_with_the_way_out(tmp_path):
    path = tmp_path / "warehouse.duckdb"
    with Warehouse(path) as warehouse:
        list(warehouse.build())
        warehouse.connection.execute("drop view confusion_matrices")
    with Warehouse(path, read_only=True) as warehouse:
        with pytest.raises(WarehouseError, match="without the view confusion_matrices; run dissectdb build"):
            warehouse.rows("select * from confusion_matrices")
        with pytest.raises(duckdb.CatalogException):
            warehouse.rows("select * from nonsense")
