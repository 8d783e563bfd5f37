"""The parsers and the guard against whatever comes: an error is one of ours, with an exit code, or there is none.

DISSECTDB_FUZZ=100000 sets how many examples each of them gets, for a longer search than the usual one.
"""

# ruff: noqa: E501, PT017
from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract import concepts
from dissectdb.extract.images import fer2013
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, Study, StudyError
from dissectdb.warehouse.guard import QueryRefused, explain_error
from tests.support.guarded import Locked, folder_state

STUDIES = ROOT / "studies"
SHIPPED = [path.read_text(encoding="utf-8") for path in sorted(STUDIES.glob("*.toml"))]
SETS = [path.read_text(encoding="utf-8") for path in sorted(concepts.FOLDER.glob("*.toml"))]


def so_often(examples: int) -> settings:
    return settings(
        max_examples=int(os.environ.get("DISSECTDB_FUZZ") or examples),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def is_readable(error: Exception) -> bool:
    """One of ours: it has an exit code, and lines that a terminal can show."""
    lines = str(error).split("\n")
    return error.exit_code in (1, 2, 3) and all(line and len(line) < 2000 for line in lines)


# ---------------------------------------------------------------- texts: studies and concepts

values = st.sampled_from(
    ["1", "-1", "0.5", "1e400", "nan", "-inf", f"{10**30}", "0x" + "f" * 4000, "true", '""', '"x"', '"../.."', '"\\u0000"',
     "[]", "[1]", '["a", "a"]', "{}", "{a = 1}", "2026-01-01", "12:00:00", "[[[[]]]]", '"""\na\n"""', "'x'", '"~nobody/x"',
     '"{}"', '"{}{}"', '"sql"', '"pretrained"', "[{}]", "[[]]", '"a.py:f"', "", "=", '"\\ud800"']
)  # fmt: skip
pieces = values | st.sampled_from(
    ["[", "]", "[[edits]]", "[dataset]", "[network.input]", "[[dissections]]", "[[sweeps]]", "[effects]", "[protocol]", "\n",
     " = ", ".", '"', "'", "#", ",", "{", "}", "\r", "\0", "\ufeff", "a.b.c = 1", "images = 3", "rule = 'sql'", "[arrays]"]
) | st.text(max_size=6)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, texts: list[str]) -> str:
    """A text that ships, with lines taken out, doubled, moved, cut, or given another value."""
    lines = draw(st.sampled_from(texts)).splitlines()
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(lines) - 1))
        line = lines[place]
        what = draw(st.integers(0, 6))
        if what == 0 and len(lines) > 1:
            del lines[place]
        elif what == 1:
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif what == 2:
            lines[place] = f"{line.partition('=')[0]}= {draw(values)}"
        elif what == 3:
            lines[place] = line[: draw(st.integers(0, len(line)))]
        elif what == 4:
            at = draw(st.integers(0, len(line)))
            lines[place] = line[:at] + draw(pieces) + line[at + draw(st.integers(0, 3)) :]
        elif what == 5:
            lines.insert(place, draw(pieces))
        else:
            lines[place] = f"{draw(st.text(max_size=4))}{line}"
    return "\n".join(lines)


@so_often(250)
@given(text=changed(SHIPPED) | st.lists(pieces, max_size=30).map("".join) | st.text(max_size=50))
def test_a_study_loads_or_is_refused(folder: Path, text: str) -> None:
    path = folder / "study.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        study = Study.load(path)
    except StudyError as error:
        assert is_readable(error)
        return
    assert study.dissections


@so_often(300)
@given(
    content=changed(SETS).map(str.encode)
    | st.lists(pieces, max_size=20).map("".join).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary(max_size=60),
    suffix=st.sampled_from([".txt", ".toml"]),
)
def test_concepts_are_read_or_refused(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"concepts{suffix}"
    path.write_bytes(content)
    try:
        found = concepts.read(str(path))
    except StudyError as error:
        assert is_readable(error)
        return
    assert len(found) >= 2
    assert all(concept.strip() == concept for concept in found)


# ---------------------------------------------------------------- FER2013

ROW = b"3," + b" ".join(b"%d" % (number % 251) for number in range(2304)) + b",Training\n"
ODD = st.sampled_from(
    [b"", b",", b"\n", b"\r", b'"', b'""', b"\0", b" ", b"-1", b"256", b"1e9", b"9" * 30, b"\xff", "٣".encode(), b"6,",
     b"PublicTest", b"\xef\xbb\xbf", b"\x1f\x8b", b"emotion,pixels,Usage\n", b"Usage,pixels,emotion,more\n", ROW[:200], ROW]
)  # fmt: skip


@so_often(200)
@given(
    start=st.sampled_from([b"emotion,pixels,Usage\n", b"a,Usage,emotion,pixels\n", b""]),
    parts=st.lists(ODD | st.binary(max_size=8), max_size=8),
    cut=st.integers(0, 9000),
)
def test_a_csv_is_scanned_or_refused(folder: Path, start: bytes, parts: list[bytes], cut: int) -> None:
    path = folder / "fer.csv"
    path.write_bytes(start + ROW[:cut] + b"".join(parts) + ROW)
    try:
        source = open_source(Dataset(name="set", kind="fer2013", path=path))
        images = list(source.scan())
        readable = [image.position for image in images if image.width]
        assert all(pixels.shape == (fer2013.SIDE, fer2013.SIDE) for pixels in source.read(readable))
    except StudyError as error:
        assert is_readable(error)


# ---------------------------------------------------------------- the guard


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    warehouse = Locked(tmp_path_factory.mktemp("guard"))
    before = folder_state(warehouse.folder)
    yield warehouse
    warehouse.connection.close()
    assert folder_state(warehouse.folder) == before


names = st.sampled_from(
    ["layers", "neurons", "layer_summary", '"Odd Näme"', "t", "main.layers", "temp.layers", "'SECRET.csv'", '"SECRET.csv"',
     "small.layers", "information_schema.tables", "lаyers", "'FILE'", "duckdb_settings"]
)  # fmt: skip
calls = st.sampled_from(
    ["sum({})", "getenv({})", "read_text({})", "upper({}::varchar)", "count(*)", "nd_double({})", "current_setting({})",
     "query({})", "list_transform([{}], lambda x: x)", "row_number() over (order by {})", "nextval('counter')", "[{}]",
     "struct_pack(a := {})", "({})::varchar", "try({})", "{}.lower()", "max({}) filter (where true)", "glob({})"]
)  # fmt: skip
atoms = st.sampled_from(
    ["1", "'a'", "null", "layer", "layer_id", "*", "'SECRET.csv'", "unit", "$1", "?", "#1", "default", "x'ff'", "$$;$$",
     "e'\\''", "columns('.*')", "1 -- ;\n", "/* ; */ 1", "date '2026-01-01'", "now() is null"]
)  # fmt: skip
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(lambda call, part: call.replace("{}", part), calls, inner),
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "and", "=", "in", "||", "->>", "::", ","]), inner),
        st.builds("case when {} then {} end".format, inner, inner),
        st.builds("(select {} from {})".format, inner, names),
    ),
    max_leaves=5,
)
places = names | st.builds("{}({})".format, st.sampled_from(
    ["read_csv", "read_text", "glob", "range", "unnest", "generate_series", "query", "query_table", "duckdb_tables",
     "sniff_csv", "main.read_blob", '"READ_JSON"']), st.sampled_from(["'SECRET.csv'", "3", "[1, 2]", "'FOLDER/*'", "'FILE'"]))  # fmt: skip
queries = st.recursive(
    st.builds("select {} from {}".format, expressions, places)
    | st.builds("from {}".format, places)
    | st.builds("values ({})".format, expressions)
    | st.builds("table {}".format, names),
    lambda inner: st.one_of(
        st.builds("select {} from ({}) t where {}".format, expressions, inner, expressions),
        st.builds("with t as ({}) {}".format, inner, inner),
        st.builds("with recursive t as ({} union all {}) {}".format, inner, inner, st.just("select 1")),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["union all", "except", "intersect"]), inner),
        st.builds("select * from ({}) a, lateral ({}) b".format, inner, inner),
        st.builds(
            "with t as ({} returning *) {}".format,
            st.sampled_from(["delete from layers", "insert into layers from layers"]),
            inner,
        ),
        st.builds("with t as (copy ({}) to 'FOLDER/out.csv') {}".format, inner, inner),
        st.builds("{} order by {} limit {}".format, inner, expressions, expressions),
    ),
    max_leaves=4,
)
statements = st.one_of(
    queries,
    st.builds("{} {}".format, st.sampled_from(
        ["describe", "summarize", "explain", "explain analyze", "create table c as", "create or replace view layer_summary as",
         "insert into layers", "prepare p as", "copy layers to 'FOLDER/out.csv';", "pragma version;", "set threads = 2;", "--",
         "attach 'FOLDER/new.duckdb';", "call query(", "show", "pivot", "export database 'FOLDER/e';"]), queries),
    st.builds("copy ({}) to 'FOLDER/out.csv'".format, queries),
    st.builds("{}; {}".format, queries, st.sampled_from(["drop table layers", "select 1", "", "--", "copy layers to 'FILE.wal'"])),
)  # fmt: skip


@so_often(500)
@given(statement=statements)
def test_what_passes_the_guard_reads_this_warehouse_and_nothing_else(locked: Locked, statement: str) -> None:
    query = re.sub("\\b(range|generate_series)\\(.*?\\)", "range(3)", locked.fill(statement))
    before = folder_state(locked.folder)
    try:
        passed = locked.check(query)
    except QueryRefused as error:
        assert is_readable(error)
        return
    assert not re.search(r"\b(read_text|getenv|glob|sniff_csv)\s*\(", re.sub(r"'[^']*'|--.*", "", passed))
    try:
        answer = repr(locked.run(passed))
    except duckdb.Error as error:
        answer = explain_error(error, locked.columns, passed)
    assert "hunter2" not in answer
    assert folder_state(locked.folder) == before
