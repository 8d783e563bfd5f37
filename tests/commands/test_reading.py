"""The commands that read: query, report, status, check, build; and what every command has in common."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import typer

from dissectdb import ROOT
from dissectdb.commands import app
from dissectdb.warehouse import Warehouse, contracts
from dissectdb.warehouse.view_files import load_views
from tests.support.worlds import World, command

COMMANDS = ("demo", "extract", "build", "query", "modify", "effects", "report", "status", "check", "train")
QUERY = "select layer, unit, concept from neuron_concepts where layer = 'conv1' order by unit"


# ---------------------------------------------------------------- help


def test_help_names_every_command_and_each_has_an_example_or_a_plain_meaning() -> None:
    done = command("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert name in done.out
        assert len(command(name, "--help").out) > 200


EXAMPLES = [
    shlex.split(line.partition(" > ")[0])
    for path in sorted((ROOT / "dissectdb" / "commands").glob("*.py"))
    for line in re.findall(r"^ +Example: dissectdb (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_the_example_of_every_command_is_understood(words: list[str]) -> None:
    parser = typer.main.get_command(app.app)
    context = parser.context_class(parser)
    while hasattr(parser, "commands"):
        name, parser, words = parser.resolve_command(context, words)
        context = parser.context_class(parser, info_name=name, parent=context)
    parser.parse_args(context, words)


def test_the_examples_were_found() -> None:
    assert len(EXAMPLES) >= 15


@pytest.mark.parametrize("arguments", [["--help"], ["query", QUERY], ["status"], ["build", "--dry-run"], ["check"]])
def test_commands_that_run_no_network_do_not_load_torch(finished: World, arguments: list[str]) -> None:
    if arguments != ["--help"]:
        arguments = [*arguments, "--warehouse", str(finished.warehouse)]
    script = f"""
import sys
sys.argv = ["dissectdb", *{arguments}]
from dissectdb.commands import main
try:
    main()
except SystemExit as end:
    assert not end.code, end
print("loaded", sorted({{"torch", "open_clip", "torchvision", "timm", "altair"}} & set(sys.modules)))
"""
    root = ROOT
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["loaded []"], done.stderr


# ---------------------------------------------------------------- query


def test_query_prints_a_table(finished: World) -> None:
    done = finished.run("query", QUERY)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["layer", "unit", "concept"]
    assert set(lines[1]) == {"─"}
    assert len(lines) == 2 + 4


def test_query_formats_hold_the_same_rows(finished: World, tmp_path: Path) -> None:
    rows = finished.rows(QUERY)
    assert len(rows) == 4
    assert json.loads(finished.run("query", QUERY, "--format", "json").out) == rows
    read = csv.DictReader(io.StringIO(finished.run("query", QUERY, "--format", "csv").out))
    assert [{**row, "unit": int(row["unit"])} for row in read] == rows
    done = finished.run("query", QUERY, "--format", "parquet", "-o", tmp_path / "rows.parquet")
    assert done.code == 0, done.err
    assert pl.read_parquet(tmp_path / "rows.parquet").to_dicts() == rows


@pytest.mark.parametrize("format", ["table", "markdown", "vertical", "json", "csv"])
def test_query_writes_to_a_file_what_it_prints(finished: World, tmp_path: Path, format: str) -> None:
    printed = finished.run("query", QUERY, "--format", format).out
    done = finished.run("query", QUERY, "--format", format, "-o", tmp_path / "rows")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / "rows").read_text().rstrip("\n") == printed.rstrip("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("table", ["images", "predictions", "image_embeddings", "networks", "concept_sets", "edits"])
@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_every_table_can_be_had_in_every_format(modified: World, table: str, format: str) -> None:
    query = f"select * from {table} limit 2"
    done = modified.run("query", query, "--format", format)
    assert (done.code, done.err) == (0, "")
    rows = len(modified.rows(query))
    assert {"table": done.out.count("\n") - 2, "json": done.out.count("{"), "csv": done.out.count("\n") - 1}[
        format
    ] >= rows


def test_bytes_lists_and_sums_have_a_form_everywhere(finished: World) -> None:
    query = (
        "select 'ab'::blob as bytes, [1, 2] as list, {'a': 'x'} as struct, 7::hugeint as whole, 1.5::decimal(4,2) as d"
    )
    [row] = json.loads(finished.run("query", query, "--format", "json").out)
    assert row == {"bytes": "YWI=", "list": [1, 2], "struct": {"a": "x"}, "whole": 7, "d": 1.5}
    [row] = csv.DictReader(io.StringIO(finished.run("query", query, "--format", "csv").out))
    assert row == {"bytes": "YWI=", "list": "[1, 2]", "struct": '{"a": "x"}', "whole": "7", "d": "1.50"}
    empty = finished.run("query", "select image_id, thumbnail from images where false", "--format", "csv")
    assert empty.out == "image_id,thumbnail\n"


def test_query_shows_the_dissection_that_is_named(finished: World) -> None:
    query = "select distinct dissection_id from neuron_concepts"
    shown = [json.loads(finished.run("query", query, "--format", "json", *named).out) for named in (
        (), ("--dissection", "1"), ("--dissection", "2")
    )]  # fmt: skip
    assert shown == [[{"dissection_id": 2}], [{"dissection_id": 1}], [{"dissection_id": 2}]]
    done = finished.run("query", query, "--dissection", "9")
    assert done.code == 1
    assert "has no dissection 9; it has 1, 2" in done.err


REFUSED = {
    "delete from images": "only SELECT",
    "select 1; select 2": "",
    "select * from read_csv('/etc/passwd')": "",
    "copy images to 'x.csv'": "",
    "attach 'x.db'": "",
    "select * from imags": "images",
    "select nme from networks": "name",
    "select network_id, network_id from networks": "two columns are called network_id",
    "select now() - now() as age": "column age holds intervals",
    "select date 'infinity' as d": "column d holds infinity or a year that is not between",
    "select [{'at': timestamp '290000-01-01'}] as d": "column d holds infinity or a year that is not between",
    "select map {'at': date 'infinity'} as d": "column d holds infinity or a year that is not between",
    "select time '24:00:00' as t": "a column holds the time 24:00:00, which cannot be shown; cast it to VARCHAR",
    "select 5::uhugeint as n": "column n is a UHUGEINT, which cannot be shown; cast it to VARCHAR",
    "": "",
}


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_that_does_more_than_read_is_refused(world: World, query: str) -> None:
    before = world.bytes()
    done = world.run("query", query)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("dissectdb: ")
    assert REFUSED[query].removeprefix("only ") in done.err
    assert world.bytes() == before


def test_query_refuses_a_format_that_is_none_and_parquet_without_a_file(finished: World) -> None:
    done = finished.run("query", QUERY, "--format", "xml")
    assert done.code == 2
    words = " ".join(done.err.replace("│", "").split())  # typer wraps the message in a box
    assert all(
        text in words
        for text in ("--format", "'xml' is not one of 'table', 'markdown', 'vertical', 'json', 'csv', 'parquet'")
    )
    assert finished.run("query", QUERY, "--format", "parquet").code == 2


# ---------------------------------------------------------------- status, check, report


def test_status_says_what_is_there_and_what_is_stale(edited_world: World) -> None:
    done = edited_world.run("status")
    assert (done.code, done.err) == (0, "")
    [edited] = edited_world.rows("select name from networks where edit_id is not null")
    for text in ("warehouse.duckdb: ", edited["name"], "shapes", "Unfinished extractions\nnone", "every view is built"):
        assert text in done.out
    with Warehouse(edited_world.warehouse) as opened:
        opened.write({"concept_classes": [{"concept_id": 1, "class": "ring"}]})
    assert "stale views: judged_neurons" in edited_world.run("status").out


def test_the_environment_names_the_warehouse(finished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISSECTDB_WAREHOUSE", str(finished.warehouse))
    assert command("query", "select 1 as one", "--format", "csv").out == "one\n1\n"


def test_check_shows_the_contract_that_is_broken_and_some_of_its_rows(world: World) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute("update predictions set confidence = 0.99 where image_id <= 9")
    done = world.run("check")
    assert done.code == 1
    contract = next(c for c in contracts.checks() if c.name == "confidence_is_the_highest_probability")
    assert contract.name in done.out
    assert contract.sql in done.out
    assert contract.meaning in done.out
    assert "0.9900" in done.out
    hold, _, total = done.out.splitlines()[-1].split()[:3]
    assert int(hold) == int(total) - 1


def test_report_is_one_file(modified: World, tmp_path: Path) -> None:
    done = modified.run("report", "-o", tmp_path / "report.html")
    assert done.code == 0, done.err
    assert done.out == f"report: {tmp_path / 'report.html'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    text = html.unescape((tmp_path / "report.html").read_text())
    for word in ("net", "conv1", "ring", "before and after"):
        assert word in text


def test_a_report_that_fails_leaves_the_old_one(
    modified: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.html"
    report.write_text("the old one")

    def fail(*arguments: object, **options: object) -> str:
        raise RuntimeError("a bug while rendering")

    with monkeypatch.context() as patch:
        from dissectdb.reports import page

        patch.setattr(page, "render", fail)
        with pytest.raises(RuntimeError):
            modified.run("report", "-o", report)
    assert report.read_text() == "the old one"
    assert command("report", "-o", report, "-w", tmp_path / "none.duckdb").code == 3
    assert report.read_text() == "the old one"


@pytest.mark.parametrize("arguments", [["report"], ["query", QUERY]])
def test_an_output_folder_that_is_not_there_is_named(finished: World, tmp_path: Path, arguments: list[str]) -> None:
    done = finished.run(*arguments, "-o", tmp_path / "no" / "file")
    assert done.code == 1
    assert f"there is no folder {tmp_path / 'no'}; make it first" in done.err


# ---------------------------------------------------------------- build


def built(done: object) -> list[str]:
    """The views in the table that build prints."""
    return re.findall(r"^(\w+)  .*\d$", done.out, re.MULTILINE)


def test_build_rebuilds_what_is_stale_what_is_selected_or_all(world: World) -> None:
    everything = {view.name for view in load_views() if view.materialized}
    assert built(world.run("build")) == []
    with Warehouse(world.warehouse) as opened:
        opened.write({"concept_classes": [{"concept_id": 1, "class": "ring"}]})
    assert built(world.run("build", "--select", "top_activations")) == []
    assert built(world.run("build", "--dry-run")) == ["judged_neurons"]
    assert built(world.run("build")) == ["judged_neurons"]
    assert set(built(world.run("build", "--full-refresh"))) == everything
    selected = built(world.run("build", "--full-refresh", "--select", "neuron_statistics"))
    assert set(selected) == {"neuron_statistics", "top_activations"}


def test_build_names_the_views_there_are(world: World) -> None:
    done = world.run("build", "--select", "layer_sumary")
    assert done.code == 1
    assert "no view named layer_sumary" in done.err
    assert "layer_summary" in done.err


def test_a_dry_run_of_build_writes_nothing(world: World) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.write({"concept_classes": [{"concept_id": 1, "class": "ring"}]})
    before = world.bytes()
    done = world.run("build", "--dry-run", "--full-refresh")
    assert done.code == 0
    assert "judged_neurons" in built(done)
    assert world.bytes() == before


def test_a_dry_run_of_extract_writes_nothing_and_counts_rows_and_bytes(new_world: World) -> None:
    before = new_world.bytes()
    done = new_world.extract("--dry-run")
    assert done.code == 0
    assert new_world.bytes() == before
    cells = [[cell.strip() for cell in line.strip("|").split("  ") if cell.strip()] for line in done.out.splitlines()]
    assert ["step", "images", "rows", "megabytes"] in cells
    assert ["activations conv2 train", "72", "432", "0.0019"] in cells


def test_a_dry_run_of_extract_over_a_warehouse_writes_nothing(world: World) -> None:
    world.change("softmax_scale = 40.0", "softmax_scale = 41.0")
    before = world.bytes()
    done = world.extract("--dry-run")
    assert "dissect by soft_wpmi with shapes" in done.out
    assert "activations" not in done.out
    assert world.bytes() == before


def test_sigterm_stops_like_ctrl_c_and_says_how_to_go_on():
    stopped = """
import signal, sys
from dissectdb.commands import ask, main
sys.argv = ["dissectdb", "status"]
ask.warehouse_file = lambda *_: signal.raise_signal(signal.SIGTERM)
main()
"""
    done = subprocess.run([sys.executable, "-c", stopped], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 130
    assert done.stderr.strip() == "dissectdb: stopped; the same command continues from what is committed"
