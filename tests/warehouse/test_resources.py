"""What memory and cores are there, what the database gets of them, and what happens where that is too little."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import duckdb
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.commands import app
from dissectdb.warehouse import (
    Warehouse,
    WarehouseError,
    guard,
    locking,
    resources,
    spill,
    view_files,
    view_tables,
    views,
)
from dissectdb.warehouse.errors import OutOfMemory
from dissectdb.warehouse.guard import QueryRefused
from dissectdb.warehouse.resources import GB, MB, BadSize, choose, limit_for, threads_for
from dissectdb.warehouse.spill import SpillFolder
from tests.support.worlds import command

SORT = "select count(*) as n from (select i, random() r from range(5_000_000) t(i) order by r, i)"
TOO_MUCH = "select length(list(i)) from range(40_000_000) t(i)"  # one value, which cannot be spilled


def machine(root: Path, files: dict[str, str]) -> Path:
    """A root folder of a file system with these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def free(megabytes: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:   {megabytes * 1000} kB\n"}


# ---------------------------------------------------------------- the resources of a machine


def test_without_a_limit_what_is_free_is_available(tmp_path: Path) -> None:
    root = machine(tmp_path, free(8000) | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert resources.available_memory(root) == 8000 * 1024 * 1000


def test_a_limit_of_an_outer_group_holds_and_pages_of_files_are_free(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": "4000000000\n",
        "sys/fs/cgroup/outer/memory.current": "3000000000\n",
        "sys/fs/cgroup/outer/memory.stat": "anon 1\ninactive_file 500000000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/cpu.max": "max 100000\n",
        "sys/fs/cgroup/outer/inner/cpu.max": "50000 100000\n",
    }
    root = machine(tmp_path, free(8000) | groups)
    assert resources.available_memory(root) == 1_500_000_000
    assert resources.available_cores(root) == 1


def test_version_1_of_cgroups_is_read_beside_an_empty_version_2(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "600000000\n",
        "sys/fs/cgroup/memory/docker/abc/memory.stat": "inactive_file 7\ntotal_inactive_file 100000000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    }
    root = machine(tmp_path, free(8000) | groups)
    assert resources.available_memory(root) == 1_500_000_000
    assert resources.available_cores(root) == 1


def test_in_a_container_the_group_of_the_host_is_not_there_and_its_top_counts(tmp_path: Path) -> None:
    for path in ("/docker/abc", "/../../kubepods/x"):
        files = {"proc/self/cgroup": f"0::{path}\n", "sys/fs/cgroup/memory.max": "1000000000\n"}
        assert resources.available_memory(machine(tmp_path, free(8000) | files)) == 1_000_000_000


def test_files_that_say_nothing_leave_what_the_system_says(tmp_path: Path) -> None:
    assert resources.available_memory(tmp_path) > 100 * MB
    assert 1 <= resources.available_cores(tmp_path) <= os.cpu_count()
    files = {"proc/self/cgroup": "garbage\n\n::::\n", "proc/meminfo": "MemAvailable: many kB\n"}
    assert resources.available_memory(machine(tmp_path, files)) > 100 * MB


def test_an_exhausted_group_leaves_nothing_and_not_less(tmp_path: Path) -> None:
    files = {"memory.max": "1000\n", "memory.current": "2000\n"}
    groups = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    assert resources.available_memory(machine(tmp_path, free(8) | groups | {"proc/self/cgroup": "0::/\n"})) == 0


# ---------------------------------------------------------------- what the database gets of it


@given(available=st.integers(0, 1 << 42), more=st.integers(0, 1 << 40), cores=st.integers(1, 1024))
def test_the_limit_grows_with_memory_and_threads_and_is_at_most_half(available: int, more: int, cores: int) -> None:
    limit = limit_for(available, cores)
    assert limit <= available / 2
    assert limit <= limit_for(available + more, cores)
    assert limit <= limit_for(available, cores + 1)
    assert limit >= min(available // 2, 500 * MB)
    threads = threads_for(limit, cores)
    assert 1 <= threads <= cores
    assert threads == 1 or limit // threads >= resources.PER_THREAD
    assert threads == cores or limit // (threads + 1) < resources.PER_THREAD
    assert 64 <= resources.Resources(limit, threads).slice_size <= views.LARGEST_SLICE


@pytest.mark.parametrize(
    ("megabytes", "cores", "limit", "threads"),
    [(3600, 2, 900 * MB, 2), (23_000, 2, 2 * GB, 2), (64_000, 16, 16 * GB, 16), (6000, 128, 1.5 * GB, 7),
     (800, 8, 400 * MB, 2), (200, 8, 100 * MB, 1)],
)  # fmt: skip
def test_what_machines_give_the_database(megabytes: int, cores: int, limit: float, threads: int) -> None:
    assert limit_for(megabytes * MB, cores) == limit
    assert threads_for(int(limit), cores) == threads


def test_a_flag_comes_before_the_environment_and_that_before_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine(tmp_path, free(8192))
    cores = resources.available_cores(root)
    assert choose(None, None, root=root).memory == limit_for(8192 * 1024 * 1000, cores)
    monkeypatch.setenv("DISSECTDB_MEMORY", "1GB")
    monkeypatch.setenv("DISSECTDB_THREADS", "3")
    assert choose(None, None, root=root) == resources.Resources(1 * GB, 3)
    assert choose("2GiB", 7, root=root) == resources.Resources(2 << 30, 7)
    assert choose("500MB", "16", root=root) == resources.Resources(500 * MB, 2)
    assert choose("4GB", "16", deterministic=True, root=root) == resources.Resources(4 * GB, 1)
    monkeypatch.delenv("DISSECTDB_MEMORY")
    assert choose(None, None, deterministic=True, root=root) == resources.Resources(500 * MB, 1)


@pytest.mark.parametrize("memory", ["lots", "5", "-2GB", "1e3MB", "2 G", "٣GB", "5MB", "0GB", "1GB; drop table x"])
def test_what_is_no_amount_of_memory_is_refused(memory: str) -> None:
    with pytest.raises(BadSize) as refused:
        choose(memory, None)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("memory", ["64MB", "127.9MB", "120MiB", "1KB"])
def test_a_limit_with_which_a_job_would_fail_at_its_end_is_refused_at_once(
    memory: str, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = f"{memory} of memory is too little for a warehouse; the least is 128MB"
    with pytest.raises(BadSize) as refused:
        choose(memory, None)
    assert str(refused.value) == message
    assert choose("128MB", "16") == resources.Resources(128 * MB, 1)
    monkeypatch.setenv("DISSECTDB_MEMORY", memory)
    with pytest.raises(BadSize, match="the least is 128MB"):
        Warehouse(tiny_file, read_only=True)


def test_with_the_least_memory_every_view_is_built_and_every_contract_checked(tiny_file: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(tiny_file, tmp_path))
    for name in (["build", "--full-refresh"], ["check"]):
        assert command(*name, "-w", str(file), "--memory", "128MB").code == 0


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5", "٣", "99999", "9" * 5000])
def test_what_is_no_number_of_threads_is_refused(threads: str) -> None:
    with pytest.raises(BadSize, match="write a whole number from 1 to 1024"):
        choose(None, threads)


def test_the_file_is_opened_with_what_was_chosen(tiny_file: Path) -> None:
    settings = "select current_setting('threads') as threads, current_setting('memory_limit') as memory"
    with Warehouse(tiny_file, read_only=True, memory_limit="400MB", threads=16) as warehouse:
        assert warehouse.rows(settings).row(0) == (2, "381.4 MiB")
    with Warehouse(":memory:", memory_limit="4GB", threads=16) as warehouse:
        assert warehouse.rows(settings).row(0) == (16, "3.7 GiB")
    with Warehouse(":memory:", threads=16, deterministic=True) as warehouse:
        assert warehouse.rows(settings).row(0) == (1, "476.8 MiB")


# ---------------------------------------------------------------- too little memory


def spill_folders(file: Path) -> list[Path]:
    return list(file.parent.glob(f"{SpillFolder.PREFIX}*"))


def test_a_reader_spills_where_memory_runs_out_and_leaves_nothing(tiny_file: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(tiny_file, tmp_path))
    before = file.read_bytes()
    with Warehouse(file, read_only=True, memory_limit="128MB") as warehouse:
        warehouse.rows("select 1")
        assert spill_folders(file) == []
        assert warehouse.rows(SORT)["n"][0] == 5_000_000
        [folder] = spill_folders(file)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert warehouse.ask(SORT.replace("range(5_000_000) t(i)", "generate_series(1, 5_000_000) t(i)"))["n"][0] > 0
        assert warehouse.rows("select count(*) as n from layer_summary")["n"][0] > 0
    assert os.listdir(tmp_path) == [file.name]
    assert file.read_bytes() == before


def test_the_named_dissection_is_still_shown_after_memory_ran_out(tiny_file: Path) -> None:
    query = "select distinct dissection_id from neuron_concepts"
    with Warehouse(tiny_file, read_only=True, dissection=1, memory_limit="128MB") as warehouse:
        warehouse.rows(SORT)
        assert warehouse.rows(query)["dissection_id"].to_list() == [1]


def test_where_nothing_can_be_written_beside_the_file_a_temporary_folder_is_taken(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill.os, "access", lambda folder, mode: False)
    monkeypatch.setattr(spill.tempfile, "gettempdir", lambda: str(tmp_path))
    with Warehouse(tiny_file, read_only=True, memory_limit="128MB") as warehouse:
        warehouse.rows(SORT)
        assert spill_folders(tmp_path / "x") != []
    assert spill_folders(tmp_path / "x") == []


def test_a_folder_that_a_killed_process_left_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    left = tmp_path / f"{SpillFolder.PREFIX}left"
    left.mkdir()
    (left / "block").write_text("x")
    first = SpillFolder(tmp_path / "w.duckdb")
    second = SpillFolder(tmp_path / "w.duckdb")
    assert sorted(spill_folders(first.path)) == sorted([first.path, second.path])
    first.remove()
    second.remove()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "query",
    ["copy images to 'FOLDER/out.csv'", "from read_csv('FOLDER/secret.csv')", "from glob('FOLDER/*')",
     "attach 'FOLDER/other.duckdb' as other", "insert into layers select * from layers", "drop view layer_summary",
     "set threads = 2", "set temp_directory = 'FOLDER'", "set enable_external_access = true", "install httpfs"],
)  # fmt: skip
def test_a_reader_that_may_spill_can_do_nothing_else(tiny_file: Path, tmp_path: Path, query: str) -> None:
    (tmp_path / "secret.csv").write_text("word\nhunter2\n")
    file, spill = Path(shutil.copy(tiny_file, tmp_path)), tmp_path / "spill"
    spill.mkdir()
    before = file.read_bytes()
    with duckdb.connect(str(file), read_only=True) as connection:
        guard.lock_down(connection, spill=spill)
        with pytest.raises(duckdb.Error):
            connection.execute(query.replace("FOLDER", str(tmp_path))).fetchall()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.csv", "spill", file.name]
    assert file.read_bytes() == before


@pytest.mark.parametrize("read_only", [True, False])
def test_what_cannot_fit_is_one_line_with_the_way_out_and_never_damage(
    tiny_file: Path, tmp_path: Path, read_only: bool
) -> None:
    file = Path(shutil.copy(tiny_file, tmp_path))
    with Warehouse(file, read_only=read_only, memory_limit="200MB", threads=16) as warehouse:
        with pytest.raises(OutOfMemory) as refused:
            warehouse.rows(TOO_MUCH)
        assert str(refused.value) == (
            f"{file}: a query needs more memory than 200 MB and 1 thread; give it more with --memory SIZE"
        )
        assert refused.value.exit_code == 1
        assert warehouse.rows("select count(*) as n from images")["n"][0] > 0


def test_a_query_of_the_users_that_cannot_fit_names_the_flags(tiny_file: Path) -> None:
    query = TOO_MUCH
    with (
        Warehouse(tiny_file, read_only=True, memory_limit="200MB") as warehouse,
        pytest.raises(
            QueryRefused, match=r"more memory than it may use; add WHERE or LIMIT, or give .* --memory SIZE$"
        ),
    ):
        warehouse.ask(query)


def test_a_disk_that_fills_while_a_reader_spills_is_called_full(
    tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SPILL_SHARE", 1 << 45)
    with Warehouse(tiny_file, read_only=True, memory_limit="128MB") as warehouse:
        for ask in (warehouse.rows, warehouse.ask):
            with pytest.raises(WarehouseError, match="no space left for"):
                ask(SORT)


def test_a_query_of_a_reader_can_be_interrupted(tiny_file: Path) -> None:
    endless = "select count(*) from range(100_000_000_000) a(i) where hash(i) = 1"
    with Warehouse(tiny_file, read_only=True) as warehouse:
        connection = warehouse.connection
        has_ended = threading.Event()

        def interrupt() -> None:
            while not has_ended.wait(0.01):  # an interrupt before the query has begun has no effect
                connection.interrupt()

        stopper = threading.Thread(target=interrupt, daemon=True)
        stopper.start()
        try:
            with pytest.raises((duckdb.InterruptException, KeyboardInterrupt)):
                warehouse.rows(endless)
        finally:
            has_ended.set()
            stopper.join()


# ---------------------------------------------------------------- views


@pytest.mark.parametrize("failures", [1, 3, 5])
def test_a_view_that_runs_out_is_built_again_in_smaller_slices_then_with_fewer_threads(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    whole, tried = view_tables._insert, []

    def insert(connection: duckdb.DuckDBPyConnection, view: view_files.View, size: int) -> None:
        whole(connection, view, size)  # rows are in the table when it fails
        if view.name == "image_concepts":
            threads = connection.execute("select current_setting('threads')").fetchone()[0]
            tried.append((size, threads))
            if len(tried) <= failures:
                raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate")

    with Warehouse(shutil.copy(tiny_file, tmp_path), memory_limit="4GB", threads=16) as warehouse:
        expected = sorted(warehouse.rows("select * from image_concepts").rows())
        assert expected
        monkeypatch.setattr(view_tables, "_insert", insert)
        [built] = [built for built in warehouse.build(full_refresh=True) if built.view == "image_concepts"]
        assert built.rows == len(expected)
        assert sorted(warehouse.rows("select * from image_concepts").rows()) == expected
        assert list(warehouse.build(dry_run=True)) == []
    steps = [(4096, 16), (1024, 16), (256, 16), (64, 16), (64, 4), (64, 1)]
    assert list(dict.fromkeys(tried)) == steps[: failures + 1]


def test_a_view_that_never_fits_is_one_line_and_leaves_the_warehouse_as_it_was(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def insert(connection: duckdb.DuckDBPyConnection, view: view_files.View, size: int) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate\n\nLINE 1")

    file = Path(shutil.copy(tiny_file, tmp_path))
    with Warehouse(file, memory_limit="4GB", threads=16) as warehouse:
        expected = sorted(warehouse.rows("select * from top_activations").rows())
        monkeypatch.setattr(view_tables, "_insert", insert)
        with pytest.raises(OutOfMemory) as refused:
            list(warehouse.build(full_refresh=True))
        assert str(refused.value) == (
            f"{file}: view top_activations needs more memory than 4.0 GB and 1 thread; give it more with --memory SIZE"
        )
        assert sorted(warehouse.rows("select * from top_activations").rows()) == expected


def test_a_unit_that_can_be_read_again_is_written_again(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dissectdb.warehouse import units

    whole, failed = units.insert, []

    def insert(connection: duckdb.DuckDBPyConnection, table: str, rows: object) -> None:
        whole(connection, table, rows)
        if not failed:
            failed.append(table)
            raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate")

    monkeypatch.setattr(units, "insert", insert)
    unit = {"classes": [{"dataset_id": 9, "position": 0, "class": "a"}]}
    with Warehouse(shutil.copy(tiny_file, tmp_path), memory_limit="4GB", threads=16) as warehouse:
        warehouse.write(unit)
        assert warehouse.rows("select * from classes where dataset_id = 9").height == 1
        failed.clear()
        with pytest.raises(OutOfMemory, match="to write a block needs more memory"):
            warehouse.load([iter(unit.items())])  # half of it may be gone
        assert warehouse.rows("select * from classes where dataset_id = 9").height == 1


# ---------------------------------------------------------------- the commands


def commands_that_open_a_warehouse() -> list[str]:
    tree = typer.main.get_command(app.app).commands
    return [name for name, each in tree.items() if name == "demo" or any(p.name == "warehouse" for p in each.params)]


def test_every_command_that_opens_a_warehouse_takes_memory_and_threads() -> None:
    tree = typer.main.get_command(app.app).commands
    names = commands_that_open_a_warehouse()
    assert len(names) >= 11
    for name in names:
        assert {"memory", "threads"} <= {parameter.name for parameter in tree[name].params}, name
        arguments = {"import": ["folder"], "export": ["folder"], "query": ["select 1"]}.get(name, [])
        arguments = ["study.toml"] if name in ("extract", "modify", "effects") else arguments
        for flag, value in (("--memory", "lots"), ("--threads", "0")):
            done = command(name, *arguments, flag, value)
            assert done.code == 2, (name, done)
            assert value in done.err
            assert len(done.err.strip().splitlines()) == 1


def test_the_flags_reach_the_database(tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, seen, real = shutil.copy(tiny_file, tmp_path), [], duckdb.connect

    def connect(path: str, **options: object) -> duckdb.DuckDBPyConnection:
        if path == str(file):
            seen.append((options["config"]["memory_limit"], options["config"]["threads"]))
        return real(path, **options)

    monkeypatch.setattr(locking.duckdb, "connect", connect)
    for name in (["status"], ["build", "--full-refresh"], ["query", "select 1"], ["export", str(tmp_path / "out")]):
        seen.clear()
        assert command(*name, "-w", str(file), "--memory", "4GB", "--threads", "16").code == 0
        assert set(seen) == {("4000000000B", "16")}
    seen.clear()
    assert command("status", "-w", str(file)).code == 0
    assert ("4000000000B", "16") not in seen, "flags of the command before"


def test_the_benchmark_of_machines_makes_a_warehouse_and_measures_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import machines

    options = ["--images", "300", "--neurons", "60", "--threads", "16", "--memories", "128MB"]
    monkeypatch.setattr("sys.argv", ["machines", *options, "--folder", str(tmp_path)])
    assert machines.main() == 0
    table = capsys.readouterr().out.strip().splitlines()
    threads, memory, _, peak, built, _, _, checked = [cell.strip() for cell in table[-1].strip("|").split("|")]
    assert (threads, memory, built, checked) == ("16", "128MB", "0", "0")
    assert float(peak.replace(",", "")) > 50
