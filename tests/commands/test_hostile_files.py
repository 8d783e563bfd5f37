"""Studies, concept files and warehouses that mean harm: see hostile.py."""

# ruff: noqa: E501
from __future__ import annotations

import os
import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from dissectdb.extract import concepts
from dissectdb.extract.study import StudyError
from dissectdb.warehouse import Warehouse
from tests.support.hostile import Trap, refused, sparse, state, within_bounds
from tests.support.worlds import World, command

# ---------------------------------------------------------------- studies

STUDIES: dict[str, tuple[str, str, str]] = {  # what is replaced, by what, and what is said
    "an unknown key": ("[dataset]", "[dataset]\nnmae = 1", "dataset.nmae is not a setting"),
    "a key with escape codes": ("[dataset]", '[dataset]\n"\\u001b[2J\\n" = 1', "is not a setting"),
    "a key of ten thousand letters": ("[dataset]", f"[dataset]\n{'k' * 10_000} = 1", "kkkk"),
    "a text of ten megabytes": ('name = "shapes"\nkind', f'name = "{"x" * 10_000_000}"\nkind', "has more than 1 MB"),
    "a key of a hundred thousand parts": ("[dataset]", f"[dataset]\n{'a.' * 100_000}a = 1", "more than 100 parts"),
    "a table of a hundred thousand parts": ("[dataset]", f"[{'a.' * 100_000}a]\n[dataset]", "more than 100 parts"),
    "a quoted key of many parts": ("[dataset]", "[dataset]\n" + '"a" . ' * 10_000 + "a = 1", "more than 100 parts"),
    "twenty thousand mistakes": ("[dataset]", "".join(f"k{n} = 1\n" for n in range(20_000)) + "[dataset]", "19980 more"),
    "lists nested 1,000 deep": ("[dataset]", f"[dataset]\nseed = {'[' * 1000}{']' * 1000}", "not a readable TOML file"),
    "tables nested 1,000 deep": ("[dataset]", f"[dataset]\nseed = {'{a = ' * 1000}1{'}' * 1000}", "not a readable TOML"),
    "tables nested by their keys": (
        "[dataset]", "[dataset]\nseed = " + ("{" + "a." * 90 + "a = ") * 100 + "1" + "}" * 100, "dataset.seed"),
    "arguments nested by their keys": (
        'weights = "net.pt"', 'weights = "net.pt"\narguments = ' + ("{" + "a." * 90 + "a = ") * 100 + "1" + "}" * 100, ""),
    "1e400": ('kind = "folder"', 'kind = "folder"\nvalidation_share = 1e400', "must be a finite number, not inf"),
    "NaN": ('kind = "folder"', 'kind = "folder"\nvalidation_share = nan', "dataset.validation_share"),
    "10 to the 30": ('kind = "folder"', f'kind = "folder"\nimages = {10**30}', "dataset.images"),
    "a number of 5,000 digits": ('kind = "folder"', f'kind = "folder"\nimages = {"9" * 5000}', "not a readable TOML file"),
    "a number of 100,000 hexadecimal digits": (
        'kind = "folder"', f'kind = "folder"\nimages = 0x{"f" * 100_000}', "dataset.images"),
    "such a number as an argument": (
        'weights = "net.pt"', f'weights = "net.pt"\narguments = {{ classes = 0x{"f" * 100_000} }}', ""),
    "such a number as a name": (
        'name = "shapes"\nkind', f'name = 0x{"f" * 100_000}\nkind', "dataset.name: must be text"),
    "a date as an argument": ('weights = "net.pt"', 'weights = "net.pt"\narguments = { classes = 2026-01-01 }', ""),
    "infinity as an argument": ('weights = "net.pt"', 'weights = "net.pt"\narguments = { classes = inf }', ""),
    "two thousand million outputs": ('weights = "net.pt"', 'weights = "net.pt"\narguments = { classes = 2000000000000 }', ""),
    "NUL in the file": ("[dataset]", "\0[dataset]", "not a readable TOML file"),
    "NUL in a path": ('path = "images"', 'path = "ima\\u0000ges"', "is not a path"),
    "NUL in an architecture": ('"net.py:make"', '"net\\u0000.py:make"', "is not a path"),
    "NUL in the path of the weights": ('"net.pt"', '"net\\u0000.pt"', "is not a path"),
    "NUL in a source": ('"looks.txt"', '"looks\\u0000.txt"', "is not a path"),
    "NUL in the name of a layer": ('["conv1"', '["conv1\\u0000"', "is not a name"),
    "a path of a megabyte": ('path = "images"', f'path = "{"x" * 900_000}"', "is not a path"),
    "a path of many folders": ('path = "images"', f'path = "{"x/" * 4000}"', "is not a path"),
    "a template that asks for more": ('["{}", "a', '["{0.__class__}", "a', "must hold {} once"),
    "half of a surrogate pair": ('name = "shapes"\nkind', 'name = "\\ud800"\nkind', "not a readable TOML file"),
    "letters after the end": ('images_neurons = 2', "images_neurons = 2\n\x1a\x00", "not a readable TOML file"),
}  # fmt: skip


@pytest.mark.parametrize("what", STUDIES)
def test_a_study_that_means_harm_is_refused(world: World, what: str) -> None:
    old, new, reason = STUDIES[what]
    world.change(old, new)
    refused(world, "extract", world.study, says=("dissectdb: ", reason))


@pytest.mark.parametrize(
    "what", ["a pipe", "a device", "a folder", "a gigabyte of zeros", "letters of no alphabet", "a pickle"]
)
def test_a_study_that_is_no_text_is_refused(world: World, what: str) -> None:
    world.study.unlink()
    if what == "a pipe":
        os.mkfifo(world.study)
    elif what == "a device":
        world.study.symlink_to("/dev/zero")
    elif what == "a folder":
        world.study.mkdir()
    elif what == "a gigabyte of zeros":
        sparse(world.study, 1 << 30)
    else:
        world.study.write_bytes(b"\xff\xfe\0" if what.startswith("l") else pickle.dumps(Trap(world.folder / "sprung")))
    refused(world, "extract", world.study, says=("study.toml: not a readable TOML file",))
    assert not (world.folder / "sprung").exists()


# ---------------------------------------------------------------- concepts

CONCEPTS: dict[str, tuple[str, bytes, str]] = {
    "NUL": ("x.txt", b"a\0b\nc\n", "control character"),
    "UTF-16": ("x.txt", "bright\ndark\n".encode("utf-16"), "not a readable concept file"),
    "UTF-16 without a mark": ("x.txt", "bright\ndark\n".encode("utf-16-le"), "control character"),
    "letters of no alphabet": ("x.txt", b"a\n\xff\xfe\xfd\n", "not a readable concept file"),
    "escape codes": ("x.txt", b"a\n\x1b[2Jb\n", "control character"),
    "a word without end": ("x.txt", b"a\n" + b"x" * 3_000_000, "a concept is a few words"),
    "a million lines": ("x.txt", b"".join(b"word%d\n" % number for number in range(1_000_000)), "has more than 4 MB"),
    "half a million empty lines": ("x.txt", b"\n" * 500_000, "holds 0 concept"),
    "the same word half a million times": ("x.txt", b"a\n" * 500_000, "holds 1 concept"),
    "ten megabytes in a text": ("x.toml", b'[concepts]\n"a" = ["' + b"x" * 10_000_000 + b'"]', "has more than 4 MB"),
    "a key of many parts": ("x.toml", b"[concepts]\n" + b"a." * 100_000 + b"a = []", "more than 100 parts"),
    "lists nested 1,000 deep": (
        "x.toml",
        b"[concepts]\na = " + b"[" * 1000 + b"]" * 1000,
        "not a readable concept file",
    ),
    "an endless number": ("x.toml", b"[concepts]\na = [" + b"9" * 5000 + b"]", "not a readable concept file"),
    "a number instead of classes": ("x.toml", b"[concepts]\na = 0x" + b"f" * 5000, "needs a list of class names"),
    "escape codes in TOML": ("x.toml", b'[concepts]\n"\\u001b[2J" = []\nb = []', "control character"),
    "other tables": ("x.toml", b'[concepts]\na = []\nb = []\n["\\u001b[2J\\n"]\nx = 1', "is not in it"),
    "another kind of file": ("x.pkl", b"a\nb\n", "ends in .txt"),
}


@pytest.mark.parametrize("what", CONCEPTS)
def test_concepts_that_mean_harm_are_refused(world: World, what: str) -> None:
    name, content, reason = CONCEPTS[what]
    (world.folder / name).write_bytes(content)
    world.change('"looks.txt"', f'"{name}"')
    refused(world, "extract", world.study, says=(name, reason))


@pytest.mark.parametrize("suffix", [".txt", ".toml"])
@pytest.mark.parametrize("what", ["a gigabyte", "a pipe", "a device", "a link that goes round"])
def test_concept_files_that_cannot_be_read_are_refused_at_once(tmp_path: Path, suffix: str, what: str) -> None:
    path = tmp_path / f"concepts{suffix}"
    if what == "a gigabyte":
        sparse(path, 1 << 30)
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if what == "a device" else path.name)
    with within_bounds(), pytest.raises(StudyError) as error:
        concepts.read(str(path))
    assert str(error.value).startswith(f"{path}: ")
    assert str(error.value).isprintable()
    if what == "a gigabyte":
        assert "has more than 4 MB" in str(error.value)


def test_the_largest_concept_file_is_read_soon(tmp_path: Path) -> None:
    path = tmp_path / "concepts.txt"
    path.write_text("".join(f"{number:x}\n" for number in range(600_000)))
    with within_bounds():
        assert len(concepts.read(str(path))) == 600_000


# ---------------------------------------------------------------- warehouses

READING = {
    "query": ("query", "select * from layer_summary"),
    "status": ("status",),
    "check": ("check",),
    "report": ("report", "-o", "report.html"),
    "build": ("build", "--dry-run"),
}


def sqlite(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table layers (layer text)")
    connection.close()


def other_duckdb(path: Path) -> None:
    duckdb.connect(str(path)).execute("create table mine (x integer)").close()


WAREHOUSES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("my diary\n" * 5000),
    "nothing": lambda path: path.touch(),
    "a cut one": lambda path: (Warehouse(path).close(), os.truncate(path, 20_000)),
    "a header of garbage": lambda path: (Warehouse(path).close(), damage(path, 8192)),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link that goes round": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Trap(path.with_name("sprung")))),
    "another DuckDB file": other_duckdb,
}


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 2000)


@pytest.mark.parametrize("asked", READING)
@pytest.mark.parametrize("what", WAREHOUSES)
def test_what_is_no_warehouse_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.duckdb"
    WAREHOUSES[what](path)
    before = state(tmp_path)
    with within_bounds():
        done = command(*READING[asked], "-w", path)
    assert done.code == 3, done.err
    assert done.err.startswith("dissectdb: ")
    assert done.err.count("\n") == 1
    assert str(path) in done.err
    assert state(tmp_path) == before


# What somebody may put into a warehouse in the place of what is ours, to have a file read.
PLANTED = {
    "a view of ours": ["drop view layer_summary", "create view layer_summary as select content from read_text('SECRET')"],
    "a view over a folder": ["drop view layer_summary", "create view layer_summary as from glob('FOLDER/*')"],
    "a view over a CSV": ["drop view layer_summary", "create view layer_summary as from read_csv('SECRET')"],
    "a view over a file by its name": ["drop view layer_summary", "create view layer_summary as from 'SECRET'"],
    "a macro of ours": ["create or replace macro nd_dot(a, b) as (select content from read_text('SECRET'))"],
    "a macro for a function": ["create macro lower(x) as (select content from read_text('SECRET'))",
        "drop view layer_summary", "create view layer_summary as select lower('a') as layer"],
}  # fmt: skip


@pytest.mark.parametrize("asked", ["query", "status", "build"])
@pytest.mark.parametrize("what", PLANTED)
def test_a_warehouse_of_somebody_else_reads_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path, secret = tmp_path / "w.duckdb", tmp_path / "secret.csv"
    secret.write_text("word\nhunter2\n")
    Warehouse(path).close()
    with duckdb.connect(str(path)) as connection:
        for statement in PLANTED[what]:
            connection.execute(statement.replace("SECRET", str(secret)).replace("FOLDER", str(tmp_path)))
    before = state(tmp_path)
    with within_bounds():
        done = command(*READING[asked], "-w", path)
    assert "hunter2" not in done.out + done.err
    assert "secret.csv" not in done.out
    assert done.code in (0, 1, 2, 3)
    assert state(tmp_path) == before


@pytest.mark.parametrize("asked", READING)
def test_the_schema_version_of_somebody_else_reads_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path, secret = tmp_path / "w.duckdb", tmp_path / "secret.csv"
    secret.write_text("word\nhunter2\n")
    Warehouse(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema other; create table other.warehouse_info as from main.warehouse_info")
        connection.execute("drop table main.warehouse_info")
        query = f"select 'schema_version' as key, content as value from read_text('{secret}')"
        connection.execute(f"create view warehouse_info as {query}")
    done = command(*READING[asked], "-w", path)
    assert done.code == 3
    assert "hunter2" not in done.out + done.err


def test_an_sqlite_file_is_refused_without_a_download(tmp_path: Path) -> None:
    sqlite(tmp_path / "w.duckdb")
    done = command("status", "-w", tmp_path / "w.duckdb")
    assert done.code == 3
    assert "download" not in done.err


@pytest.mark.parametrize("asked", ["check", "report"])
def test_a_view_of_somebody_else_that_fails_is_a_line(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "w.duckdb"
    Warehouse(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("drop view layer_summary; create view layer_summary as from read_text('/etc/hostname')")
    done = command(*READING[asked][:1], *(("-o", tmp_path / "r.html") if asked == "report" else ()), "-w", path)
    assert done.code in (1, 3)
    assert done.err.startswith("dissectdb: ")
