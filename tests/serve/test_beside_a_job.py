"""The explorer while another process writes: nobody is refused, nothing is lost, and pages follow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dissectdb import ROOT
from dissectdb.serve import shared_file
from dissectdb.serve.shared_file import Held, SharedFile
from dissectdb.warehouse import Warehouse
from dissectdb.warehouse_file import WarehouseFile
from tests.serve.conftest import TESTED
from tests.support.explorers import explored
from tests.support.report_warehouses import filled
from tests.support.rows import dissection_row, unit_of
from tests.support.waiting import wait_until

UNITS = 25
# Writes a row in each of many transactions, as a job writes blocks, or holds the file until it is told to go on.
WRITER = """
import sys, time
from pathlib import Path
from dissectdb.warehouse import Warehouse

path, units, hold = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "hold"
with Warehouse(path, wait=60) as warehouse:
    def rows():
        for unit in range(units):
            time.sleep(0.02)
            yield {"image_attributes": [{"image_id": 1, "attribute": f"written {unit:02}", "value": str(unit)}]}
    warehouse.load(rows())
    if hold:
        warehouse.write({"image_attributes": [{"image_id": 1, "attribute": "last", "value": "x"}]})
        warehouse.connection  # open from now on
        print("held", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "warehouse.duckdb"
    with filled(file, TESTED):
        pass
    return file


@contextmanager
def writer(path: Path, units: int, way: str = "leave") -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", WRITER, str(path), str(units), way]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_clients_read_while_a_job_writes_and_nothing_is_lost(path):
    statuses: list[int] = []
    is_over = threading.Event()
    with explored(path, wait=60) as explorer:

        def read(number: int) -> None:
            place = number
            while not is_over.is_set():
                place += 1
                for address in (f"/image?id={1 + place % 48}", f"/neuron?layer=conv1&unit={place % 4}", "/neurons"):
                    statuses.append(explorer.get(address).status_code)

        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(8)]
        for reader in readers:
            reader.start()
        try:
            with writer(path, UNITS) as job:
                assert job.wait(120) == 0
        finally:
            is_over.set()
            for reader in readers:
                reader.join(60)
        assert len(statuses) > 8
        assert set(statuses) == {200}
        shown = explorer.page("/image?id=1")
        assert sum(f"written {unit:02}" in shown.text for unit in range(UNITS)) == UNITS


def test_while_a_job_holds_the_file_what_was_read_is_shown_with_its_time(path, monkeypatch):
    monkeypatch.setattr("dissectdb.serve.store.PATIENCE", 0.2)
    with explored(path, wait=0.5) as explorer:
        before = explorer.page("/image?id=1")
        assert "A job has written" not in before.text
        with writer(path, 1, "hold") as job:
            assert job.stdout.readline() == "held\n"
            again = explorer.page("/image?id=1")
            assert "A job has written to the warehouse since" in again.text
            assert "written 00" not in again.text
            assert explorer.page("/neurons").text.count("conv1")
            refused = explorer.page("/image?id=2", 503)
            assert "A job is writing, and this page has not been read before" in refused.text
            assert any(a.get("http-equiv") == "refresh" for tag, a in refused.tags if tag == "meta")
            job.stdin.write("go on\n")
            job.stdin.flush()
            assert job.wait(60) == 0
        wait_until(lambda: "written 00" in explorer.get("/image?id=1").text, "the page follows")


def test_the_copies_in_memory_follow_the_file(path, monkeypatch):
    monkeypatch.setattr("dissectdb.serve.store.REST", 0.0)
    monkeypatch.setattr("dissectdb.serve.store.REST_SHARE", 0.0)
    rename = "update networks set name = 'renamed net' where network_id = 1"
    opened = f"Warehouse({str(path)!r}, wait=60) as warehouse, warehouse.use() as connection"
    code = f"from dissectdb.warehouse import Warehouse\nwith {opened}: connection.execute({rename!r})"
    with explored(path) as explorer:
        assert "renamed net" not in explorer.page("/").text
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        wait_until(lambda: "renamed net" in explorer.get("/").text, "the overview follows")


def test_a_dissection_without_labels_does_not_hide_the_newest_with_labels(path):
    with Warehouse(path) as warehouse:
        warehouse.write(unit_of({"dissections": [dissection_row(2)]}))
    with explored(path) as explorer:
        assert explorer.page("/neurons").text.count("lin1") >= 4
        assert explorer.page("/neuron?layer=lin1&unit=0").count("img") > 3
        assert "no dissection 7" in explorer.page("/?dissection=7", 404).text
        assert ">1</td>" in explorer.get("/sql?q=select+dissection_id+from+shown_dissection").text
        assert "lin1" not in explorer.page("/neurons?dissection=2").text


def test_the_file_is_let_go_when_nobody_reads(path):
    with explored(path) as explorer:
        explorer.page("/")
        wait_until(lambda: explorer.store.shared._warehouse is None, "the file is closed")
        with writer(path, 1) as job:
            assert job.wait(60) == 0


def test_reading_without_a_pause_lets_a_writer_in(path, monkeypatch):
    monkeypatch.setattr(shared_file, "HOLD", 0.3)
    shared = SharedFile(WarehouseFile(path))
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            with shared.cursor(None, 60) as cursor:
                cursor.execute("select count(*) from images").fetchall()

    readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        with writer(path, 3) as job:
            assert job.wait(90) == 0
    finally:
        is_over.set()
        for reader in readers:
            reader.join(60)
        shared.close()


def test_a_short_reading_joins_a_long_one_but_a_second_long_one_waits(path, monkeypatch):
    monkeypatch.setattr(shared_file, "HOLD", 0.0)
    shared = SharedFile(WarehouseFile(path))
    monkeypatch.setattr(shared_file, "HOLD", 0.05)
    try:
        with shared.cursor(None, 10, long=True):
            time.sleep(0.1)  # the time that the file may be open is over
            with shared.cursor(None, 1) as cursor:
                assert cursor.execute("select 1").fetchall() == [(1,)]
            with pytest.raises(Held), shared.cursor(None, 0.2, long=True):
                pass
    finally:
        shared.close()


def test_each_reading_has_a_dissection_of_its_own(path):
    shared = SharedFile(WarehouseFile(path))
    query = "select dissection_id from shown_dissection"
    try:
        with shared.cursor(1, 10) as one, shared.cursor(7, 10) as other, shared.cursor(None, 10) as newest:
            assert [cursor.execute(query).fetchone() for cursor in (one, other, newest)] == [(1,), (7,), (1,)]
    finally:
        shared.close()


ENDLESS = "select count(*) from range(1000000000) a, range(1000000) b where random() < 0"


def test_a_query_is_stopped_when_a_job_waits_to_begin(path, monkeypatch):
    monkeypatch.setattr(shared_file, "GIVE_UP", 0.3)
    answers = []
    with explored(path) as explorer:
        explorer.page("/sql")
        reader = threading.Thread(target=lambda: answers.append(explorer.get(f"/sql.csv?q={ENDLESS}")), daemon=True)
        reader.start()
        wait_until(lambda: explorer.store.shared._long_readers, "the query runs")
        with writer(path, 1) as job:
            assert job.wait(60) == 0
        reader.join(60)
    [answer] = answers
    assert (answer.status_code, "so what was being read was stopped" in answer.text) == (503, True)


def test_a_job_that_began_before_stops_nothing(path, monkeypatch):
    monkeypatch.setattr(shared_file, "GIVE_UP", 0.0)
    lock = path.with_name(f"{path.name}.lock")
    shared = SharedFile(WarehouseFile(path))
    try:
        with shared.cursor(None, 10):
            assert not shared._job_waits()  # there is no lock
            lock.write_text(" 1")
            os.utime(lock, (time.time() - 5, time.time() - 5))
            assert not shared._job_waits()
            os.utime(lock, (time.time() - 0.5, time.time() - 0.5))
            assert shared._job_waits()
    finally:
        shared.close()


def test_closing_stops_what_is_being_read(path):
    shared = SharedFile(WarehouseFile(path))
    failures: list[str] = []

    def read() -> None:
        with shared.cursor(None, 10) as cursor:
            try:
                cursor.execute(ENDLESS).fetchall()
            except Exception as error:
                failures.append(type(error).__name__)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    wait_until(lambda: shared._cursors, "the reading has begun")
    started = time.monotonic()
    shared.close()
    reader.join(60)
    assert time.monotonic() - started < 10
    assert failures == ["InterruptException"]


def test_a_file_that_was_replaced_is_read_anew_as_a_whole(path, tmp_path):
    other = tmp_path / "other.duckdb"
    shutil.copy(path, other)
    with Warehouse(other) as warehouse, warehouse.use() as connection:
        connection.execute("update networks set name = 'another net'")
    with explored(path) as explorer:
        assert "another net" not in explorer.page("/").text
        wait_until(lambda: explorer.store.shared._warehouse is None, "the file is closed")
        other.replace(path)
        assert "another net" in explorer.page("/").text
