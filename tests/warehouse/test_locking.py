"""Who may have the file of a warehouse when: readers during a job, one job at a time, and nobody is starved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from dissectdb.warehouse import Warehouse, WarehouseUnavailable, locking
from tests.support.waiting import wait_until

# A job in a process of its own: for each unit it writes a row and then computes until it reads a line.
JOB = """
import sys
from dissectdb.warehouse import Warehouse
def units():
    for position in range({units}):
        yield {{"classes": [dict(dataset_id=1, position=position, **{{"class": "a"}})]}}
        print("computing", flush=True)
        sys.stdin.readline()
with Warehouse(sys.argv[1]) as warehouse:
    print("begun", flush=True)
    warehouse.load(units())
print("done", flush=True)
"""
READER = """
import sys
from dissectdb.warehouse import Warehouse
with Warehouse(sys.argv[1], read_only=True, wait=30) as warehouse:
    print("reading", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Warehouse(tmp_path / "warehouse.duckdb") as warehouse:
        list(warehouse.build())
    return tmp_path / "warehouse.duckdb"


@contextmanager
def process(script: str, path: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def job(path: Path, *, units: int = 2):
    return process(JOB.format(units=units), path)


def go_on(running: subprocess.Popen, units: int = 1) -> None:
    """Let a job finish computing so many units."""
    running.stdin.write("\n" * units)
    running.stdin.flush()


def rows(path: Path, wait: float = 0.0) -> int:
    with Warehouse(path, read_only=True, wait=wait) as reader:
        return reader.rows("select * from classes").height


# ---------------------------------------------------------------- readers during a job


def test_a_reader_sees_what_is_committed_while_the_job_computes(path: Path) -> None:
    with job(path) as running:
        go_on(running)
        assert [running.stdout.readline() for _ in range(3)] == ["begun\n", "computing\n", "computing\n"]
        assert rows(path, wait=10.0) >= 1  # the first unit at least, since the second was taken
        assert running.poll() is None
        assert running.communicate("")[0] == "done\n"
    assert rows(path) == 2


def test_a_job_waits_for_a_reader_with_a_message_and_loses_nothing(path: Path) -> None:
    with job(path) as running:
        assert [running.stdout.readline() for _ in range(2)] == ["begun\n", "computing\n"]
        with process(READER, path) as reader:
            assert reader.stdout.readline() == "reading\n"
            go_on(running, 2)
            assert f"waiting for process {reader.pid}, which holds {path}" in running.stderr.readline()
            assert running.poll() is None
            reader.communicate("\n")
        assert running.communicate("")[0] == "computing\ndone\n"
    assert rows(path) == 2


def test_a_job_stops_at_once_while_it_waits_for_a_reader(path: Path) -> None:
    with job(path, units=5) as running:
        assert [running.stdout.readline() for _ in range(2)] == ["begun\n", "computing\n"]
        with process(READER, path) as reader:
            assert reader.stdout.readline() == "reading\n"
            go_on(running, 5)
            assert "waiting for process" in running.stderr.readline()
            running.send_signal(signal.SIGINT)
            running.communicate("", timeout=10)
            assert reader.poll() is None
        assert running.returncode != 0
    assert 1 <= rows(path) < 5


def test_a_waiting_reader_gets_in_between_the_views_of_a_long_build(path: Path) -> None:
    is_enough = threading.Event()

    def build(warehouse: Warehouse) -> None:
        while not is_enough.is_set():
            with warehouse.use():
                is_enough.wait(0.1)  # a view is built, for longer than the reader may take to ask

    with Warehouse(path) as warehouse, process(READER, path) as reader:
        thread = threading.Thread(target=build, args=(warehouse,), daemon=True)
        thread.start()
        try:
            assert reader.stdout.readline() == "reading\n"
            assert thread.is_alive()
            reader.communicate("\n")
        finally:
            is_enough.set()
            thread.join()


def test_two_readers_do_not_wait_for_each_other(path: Path) -> None:
    with process(READER, path) as reader:
        assert reader.stdout.readline() == "reading\n"
        assert rows(path) == 0
        reader.communicate("\n")


# ---------------------------------------------------------------- one job at a time


def test_a_second_job_is_refused_even_while_the_first_only_computes(path: Path) -> None:
    with job(path) as running:
        assert [running.stdout.readline() for _ in range(2)] == ["begun\n", "computing\n"]
        wait_until(lambda: rows(path, wait=10.0) == 1, "a reader gets in, because the job has closed the file")
        with pytest.raises(WarehouseUnavailable, match=f"is held by process {running.pid}; wait") as refused:
            Warehouse(path)
        assert refused.value.exit_code == 3
        assert running.communicate("")[0] == "computing\ndone\n"


def test_a_second_job_that_waits_begins_when_the_first_has_ended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    with job(path) as running:

        def let_the_first_end(message: str, *values: object) -> None:
            messages.append(message % values)
            go_on(running, 2)

        monkeypatch.setattr(locking.log, "warning", let_the_first_end)
        monkeypatch.setattr(locking, "PATIENCE", 0.0)
        assert running.stdout.readline() == "begun\n"
        with Warehouse(path, wait=30.0) as second:
            assert second.rows("select * from classes").height == 2
        assert running.wait(5) == 0
    assert messages == [f"waiting for process {running.pid}, which holds {path}"]


def test_a_link_to_a_warehouse_has_its_lock(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    with Warehouse(path), pytest.raises(WarehouseUnavailable, match=f"is held by process {os.getpid()}"):
        Warehouse(link)


def test_a_lock_is_removed_and_that_of_a_killed_job_stops_no_other(path: Path) -> None:
    lock = path.with_name(path.name + ".lock")
    with job(path) as running:
        assert running.stdout.readline() == "begun\n"
        running.kill()
        running.wait()
    assert lock.read_text().strip() == str(running.pid)
    with Warehouse(path):
        assert lock.read_text().strip() == str(os.getpid())
    assert not lock.exists()


def test_a_link_named_like_the_lock_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    path.with_name(path.name + ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(WarehouseUnavailable, match="cannot be written to"):
        Warehouse(path)
    assert (tmp_path / "precious").read_text() == "keep me"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_an_error(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        with pytest.raises(WarehouseUnavailable, match="cannot be written to: Permission denied"):
            Warehouse(path)
    finally:
        path.parent.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has a folder in which no file can be made")
def test_a_place_where_no_file_can_be_made_is_refused_at_once() -> None:
    with pytest.raises(WarehouseUnavailable, match="no file can be made in /proc; name another folder"):
        Warehouse(Path("/proc/w.duckdb"))


# ---------------------------------------------------------------- uses inside a process


def test_a_job_can_read_while_its_writer_writes(path: Path) -> None:
    def units() -> Iterator[dict]:
        for position in range(100):
            assert warehouse.rows("select * from classes").height <= position
            yield {"classes": [{"dataset_id": 1, "position": position, "class": "a"}]}

    with Warehouse(path) as warehouse:
        warehouse.load(units())
        assert warehouse.rows("select * from classes").height == 100


def test_an_unused_file_is_closed_and_opened_again_at_the_next_use(path: Path) -> None:
    with Warehouse(path) as warehouse:
        warehouse._file.rest(unused=0.0)
        with duckdb.connect(str(path)) as somebody:  # in this process too: another configuration would be refused
            assert somebody.execute("select 1 from classes").fetchall() == []
        warehouse.write({"classes": [{"dataset_id": 1, "position": 0, "class": "a"}]})
        assert warehouse.rows("select * from classes").height == 1


def test_the_sql_of_a_file_that_a_job_opens_reads_no_other_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("word\nhunter2\n")
    with duckdb.connect(str(path)) as somebody:
        somebody.execute("drop view layer_summary")
        somebody.execute(f"create view layer_summary as select * from read_csv('{tmp_path}/secret.csv')")
    with Warehouse(path) as warehouse, pytest.raises(duckdb.Error, match="disabled by configuration"):
        warehouse.rows("select * from layer_summary")


# ---------------------------------------------------------------- what Windows does differently


def test_the_process_that_holds_the_file_is_read_from_the_message_of_windows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = (
        f'IO Error: Cannot open file "{path}": The process cannot access the file because it is being used by another '
        "process.\n\n\nFile is already open in \nC:\\python.exe (PID 8252)"
    )

    def refuse(*arguments: object, **options: object) -> None:
        raise duckdb.IOException(message)

    monkeypatch.setattr(locking.duckdb, "connect", refuse)
    with pytest.raises(WarehouseUnavailable, match="is held by process 8252; wait until it is done"):
        Warehouse(path, read_only=True)
