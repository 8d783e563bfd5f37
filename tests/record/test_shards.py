"""An extraction in shards: merged it is the single run, and what is missing or damaged is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract.record import shard_writer
from dissectdb.extract.study import StudyError
from dissectdb.warehouse.shard_reader import ShardError, files, status
from tests.support.worlds import World, command

SHARDS = 4
# A shard in a process of its own, killed after so many batches if that is asked.
PROCESS = """
import os, signal, sys
sys.path[:0] = {paths}
import pyarrow.parquet as pq
from tests.support import worlds
write, left = pq.ParquetWriter.write_batch, {batches}
def counted(*arguments, **options):
    global left
    write(*arguments, **options)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
pq.ParquetWriter.write_batch = counted
done = worlds.command("extract", {study!r}, "--sink", {sink!r}, "--shard", {shard!r})
print(done.err, file=sys.stderr)
sys.exit(done.code)
"""
OWN = {"warehouse_info", "table_versions"}


def process(world: World, sink: Path, number: int, batches: int = -1) -> subprocess.Popen:
    paths = [str(ROOT)]
    shard = f"{number}/{SHARDS}"
    script = PROCESS.format(paths=paths, batches=batches, study=str(world.study), sink=f"parquet:{sink}", shard=shard)
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def sharded(finished: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four processes at once, of which one is killed and run again."""
    sink = tmp_path_factory.mktemp("sharded") / "shards"
    running = [process(finished, sink, number, batches=9 if number == 1 else -1) for number in range(SHARDS)]
    assert [each.wait(120) for each in running] == [0, -9, 0, 0], [each.stderr.read() for each in running]
    assert [state.problem for state in status(sink)] == ["", "missing", "", ""]
    assert command("status", "-w", sink).code == 1
    assert command("import", sink, "-w", sink.parent / "half.duckdb").code == 1
    again = process(finished, sink, 1)
    assert again.wait(120) == 0, again.stderr.read()
    return sink


def shard(world: World, sink: Path, *options: object):
    return command("extract", world.study, "--sink", f"parquet:{sink}", *options)


def without_paths(tables: dict[str, list], folder: Path) -> dict[str, list]:
    def plain(value: object) -> object:
        return value.replace(str(folder), "") if isinstance(value, str) else value

    return {name: [tuple(map(plain, row)) for row in rows] for name, rows in tables.items() if name not in OWN}


# ---------------------------------------------------------------- merged


def test_merged_shards_are_the_single_run_to_the_last_row(finished: World, sharded: Path, tmp_path: Path) -> None:
    done = command("status", "-w", sharded)
    assert (done.code, "4 of 4 shards are whole" in done.out) == (0, True)
    done = command("import", sharded, "-w", tmp_path / "warehouse.duckdb")
    assert done.code == 0, done.err
    merged = World(tmp_path)
    found, expected = without_paths(merged.tables(), finished.folder), without_paths(finished.tables(), finished.folder)
    assert found == expected
    assert command("check", "-w", merged.warehouse).code == 0
    for view in ("top_images", "neuron_concepts", "layer_summary", "concept_counts_by_prediction"):
        query = f"select * from {view} order by all"
        assert str(merged.frame(query)) == str(finished.frame(query)), view


def test_no_half_file_is_left(sharded: Path) -> None:
    names = [path.name for path in sharded.rglob("*") if path.is_file()]
    assert all(name.endswith(".parquet") or name == "manifest.json" for name in names)
    assert not any(name.startswith("_") for name in names)


def test_a_footer_says_what_its_file_is_of(sharded: Path) -> None:
    about = [json.loads(pq.read_metadata(path).metadata[b"dissectdb"]) for path in sharded.glob("table=*/**/*.parquet")]
    assert len({each["fingerprint"] for each in about}) == 1
    assert {each["shard"] for each in about} == {f"0000{number}-of-00004" for number in range(SHARDS)}


def test_a_shard_that_is_done_is_not_computed_again_and_one_of_another_study_is(
    finished: World, sharded: Path, copy_world, tmp_path: Path
) -> None:
    assert "nothing is stale" in shard(finished, sharded, "--shard", f"2/{SHARDS}").out
    world = copy_world(finished, "other")
    world.change('"gate"]', '"gate", "head"]')
    sink = tmp_path / "shards"
    for number in range(2):
        assert shard(finished, sink, "--shard", f"{number}/2").code == 0
    assert "shard 00001-of-00002: parquet" in shard(world, sink, "--shard", "1/2").out
    problems = [state.problem for state in status(sink)]
    assert sorted(problems) == ["", "of another study or division"]
    done = command("import", sink, "-w", tmp_path / "new.duckdb")
    assert (done.code, "run these shards again" in done.err) == (1, True)


def test_the_only_shard_is_the_whole(finished: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert shard(finished, tmp_path / "shards").code == 0
    assert [state.shard for state in status(tmp_path / "shards")] == ["00000-of-00001"]


def test_without_activations_the_labels_are_the_same(finished: World, tmp_path: Path) -> None:
    for number in range(2):
        done = shard(finished, tmp_path / "shards", "--shard", f"{number}/2", "--activations", "none")
        assert done.code == 0, done.err
    assert not (tmp_path / "shards" / "table=activations").exists()
    done = command("import", tmp_path / "shards", "-w", tmp_path / "warehouse.duckdb")
    assert done.code == 0, done.err
    merged = World(tmp_path)
    assert merged.rows("select count(*) as n from activations") == [{"n": 0}]
    for query in (
        "select layer, unit, concept, round(similarity, 9), round(z, 9), round(p, 9), round(q, 9), dead "
        "from neuron_concepts order by all",
        "select * from top_activations order by all",
        "select * replace (round(z_within_class, 9) as z_within_class, round(p_within, 6) as p_within) "
        "from label_checks order by all",
    ):
        assert merged.rows(query) == finished.rows(query)
    assert command("check", "-w", merged.warehouse).code == 0


def test_a_scorer_that_reads_every_activation_is_refused_without_them(new_world: World, tmp_path: Path) -> None:
    new_world.change('"looks"\nscorer = "soft_wpmi"\n', '"looks"\nscorer = "cos"\n')
    done = new_world.extract("--activations", "none")
    assert (done.code, "cos reads every activation, which --activations none does not keep" in done.err) == (2, True)
    assert shard(new_world, tmp_path / "shards", "--activations", "none").code == 2
    assert not (tmp_path / "shards").exists()


# ---------------------------------------------------------------- what is damaged


@pytest.mark.parametrize("harm", ["cut", "deleted", "link", "receipt", "swapped"])
def test_a_damaged_shard_is_named_and_not_imported(finished: World, tmp_path: Path, harm: str) -> None:
    sink = tmp_path / "shards"
    for number in range(2):
        assert shard(finished, sink, "--shard", f"{number}/2").code == 0
    path = next((sink / "table=activations").rglob("shard=00001-of-00002.parquet"))
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif harm == "deleted":
        path.unlink()
    elif harm == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif harm == "receipt":
        next((sink / "table=extraction_blocks").glob("*00001-of*")).write_bytes(b"PAR1")
    else:
        path.write_bytes((sink / "table=predictions" / path.name).read_bytes())
    done = command("status", "-w", sink)
    assert done.code == 1
    assert "1 of 2 shards are whole" in done.out
    done = command("import", sink, "-w", tmp_path / "new.duckdb")
    assert (done.code, "run these shards again" in done.err) == (1, True)
    assert not list(tmp_path.glob("new.duckdb*"))


def test_a_receipt_that_names_other_files_is_not_followed(finished: World, tmp_path: Path) -> None:
    sink = tmp_path / "shards"
    assert shard(finished, sink, "--shard", "0/1").code == 0
    receipt = next((sink / "table=extraction_blocks").glob("*.parquet"))
    table = pq.read_table(receipt)
    about = json.loads(pq.read_metadata(receipt).metadata[b"dissectdb"])
    about["files"]["table=images/../../../etc/shard=00000-of-00001.parquet"] = 1
    pq.write_table(table.replace_schema_metadata({b"dissectdb": json.dumps(about)}), receipt)
    assert [state.problem for state in status(sink)] == ["its receipt is damaged"]
    with pytest.raises(ShardError, match="its receipt is damaged"):
        files(sink)


# ---------------------------------------------------------------- which shard


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/5", {"RANK": "0", "WORLD_SIZE": "9"}, (2, 5)),
        (None, {}, (0, 1)),
        (None, {"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        (None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
        (None, {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, (3, 4)),
    ],
)
def test_the_shard_is_named_or_taken_from_the_launcher(text, environment, expected) -> None:
    found = shard_writer.choose(text, environment)
    assert (found.number, found.of) == expected


@pytest.mark.parametrize("text", ["4/4", "1", "-1/2", "a/b", "1/0", "", "1/2/3"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="write i/n with i from 0 to n - 1"):
        shard_writer.choose(text, {})


@given(st.integers(1, 99_999), st.data())
def test_every_shard_of_a_division_is_one(of: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, of - 1))
    assert str(shard_writer.choose(f"{number}/{of}", {})) == f"{number:05}-of-{of:05}"


@pytest.mark.parametrize("sink", ["shards", "parquet:", "parquet:nonsense://x"])
def test_what_is_no_sink_is_refused(finished: World, sink: str) -> None:
    done = command("extract", finished.study, "--sink", sink)
    assert (done.code, f"--sink {sink}" in done.err) == (2, True)


def test_a_shard_without_a_sink_is_a_mistake(finished: World) -> None:
    assert command("extract", finished.study, "--shard", "0/2").code == 2
