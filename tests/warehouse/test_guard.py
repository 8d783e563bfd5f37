"""What an ad-hoc query may do: statements that pass, that are refused, and what the engine does by itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb.warehouse import guard
from dissectdb.warehouse.guard import QueryRefused, check, explain_error
from tests.support.guard_statements import ENDLESS, PASSED, REFUSED, SLIPPED
from tests.support.guarded import Locked, folder_state


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    warehouse = Locked(tmp_path_factory.mktemp("guard"))
    before = folder_state(warehouse.folder)
    yield warehouse
    warehouse.connection.close()
    assert folder_state(warehouse.folder) == before, "a test of this file made the warehouse write"


# ---------------------------------------------------------------- what passes


@pytest.mark.parametrize("query", PASSED, ids=lambda query: query[:50])
def test_a_query_that_reads_passes_and_returns_rows(locked: Locked, query: str) -> None:
    assert len(locked.run(locked.check(query))) > 0


@pytest.mark.parametrize(
    ("query", "statement"),
    [
        ("select 1 ;; -- x", "select 1"),
        ("/* a */ ; from layers /* ; */ ; /* b */", "from layers"),
        ("select ';' as ü -- é\n;", "select ';' as ü"),
        ("select /* inside */ 1;", "select /* inside */ 1"),
        ("\u00a0/* x */ select 1\u00a0; ", "select 1"),
        ("select *\nfrom layers;\n", "select *\nfrom layers"),
    ],
)
def test_comments_and_semicolons_around_the_statement_are_removed(locked: Locked, query: str, statement: str) -> None:
    assert locked.check(query) == statement
    assert locked.run(f"select * from ({statement})")


# ---------------------------------------------------------------- what is refused, and by what name


@pytest.mark.parametrize(("query", "reason"), REFUSED.items(), ids=lambda text: repr(text[:50]))
def test_a_statement_that_does_more_than_read_is_refused_by_name(locked: Locked, query: str, reason: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        locked.check(locked.fill(query))
    assert locked.fill(reason) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_corpora_hold_at_least_as_many_statements_as_promised() -> None:
    assert len(set(PASSED)) >= 140
    assert len(REFUSED) >= 500


def test_a_name_that_is_a_file_is_still_a_table_if_the_warehouse_has_it() -> None:
    assert check("from 'x.csv'", ["x.csv"]) == "from 'x.csv'"


def test_without_tables_the_message_says_so() -> None:
    with pytest.raises(QueryRefused, match="there is none"):
        check("from layers", [])


def test_checks_in_several_threads_are_independent(locked: Locked) -> None:
    queries = [f"select {number} from layers" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(locked.check, queries)) == queries


# ---------------------------------------------------------------- every function of the engine

# Not the same at every call, and still nothing but a value: the time, chance, the names main and duckdb, an error.
HARMLESS = re.compile(
    "random|uuid(v4|v7)?|gen_random_uuid|now|today|transaction_timestamp|(get_)?current_(time|timestamp|date)"
    "|current_(database|schema|schemas)|error"
)
# Times with a zone, which some releases of DuckDB know at once and others from an extension: they depend on the
# zone and the clock of the session, so the engine calls them the same only within a query.
ZONED = re.compile(r"TIME|TIMESTAMP|(TIME|TIMESTAMP) WITH TIME ZONE|TIMESTAMPTZ_NS")


def functions(kinds: str) -> list[tuple[str, str | None, str | None, list[str]]]:
    """Name, stability, body of a macro, and the types that it takes and gives."""
    with duckdb.connect() as connection:
        return connection.execute(
            "select distinct function_name, stability, macro_definition, "
            "list_append(parameter_types, coalesce(return_type, '')) from duckdb_functions() "
            f"where function_type in ({kinds}) and database_name = 'system' order by all"
        ).fetchall()


def is_refused(query: str) -> bool:
    try:
        check(query, [])
    except QueryRefused:
        return True
    return False


def test_every_scalar_function_of_the_engine_is_refused_or_only_computes() -> None:
    found = functions("'scalar', 'aggregate', 'window'")
    assert len(found) > 800
    open_doors = [
        name
        for name, stability, _, types in found
        if not is_refused(f'select "{name}"()')
        and stability != "CONSISTENT"
        and not HARMLESS.fullmatch(name)
        and not (stability == "CONSISTENT_WITHIN_QUERY" and any(ZONED.fullmatch(str(kind)) for kind in types))
    ]
    assert open_doors == [], "look at each: add it to guard._REFUSED_FUNCTIONS, or to HARMLESS here"


def test_every_macro_of_the_engine_is_refused_or_made_of_what_passes() -> None:
    found = functions("'macro'")
    assert len(found) > 100
    open_doors = [
        (name, body)
        for name, _, body, _ in found
        if not is_refused(f'select "{name}"()') and is_refused(f"select {body}")
    ]
    assert open_doors == []


def test_three_table_functions_of_the_engine_pass() -> None:
    names = {name for name, *_ in functions("'table', 'table_macro', 'pragma'")}
    assert len(names) > 100
    passed = {name for name in names if not is_refused(f'from "{name}"()')}
    assert passed == {"range", "generate_series", "unnest"}


def test_functions_of_files_settings_or_sql_text_are_refused_as_scalars_too() -> None:
    words = re.compile("read_|scan$|setting|query|secret|pragma|duckdb|serialize|sleep|getenv|log$")
    harmless = {"log", "current_catalog"}
    names = {name for name, *_ in functions("'scalar', 'macro', 'table', 'pragma'")} - harmless
    suspects = {name for name in names if words.search(name)}
    assert {name for name in suspects if not is_refused(f'select "{name}"()')} <= {
        "disable_logging", "enable_logging",  # no scalars: DuckDB itself answers
    }  # fmt: skip


# ---------------------------------------------------------------- the engine alone, without check()


@pytest.mark.parametrize("query", SLIPPED)
def test_a_statement_past_check_cannot_read_a_file_write_attach_or_set(locked: Locked, query: str) -> None:
    python_variable = duckdb.connect().sql("select 'hunter2'").arrow()
    assert python_variable is not None
    before = folder_state(locked.folder)
    settings_before = locked.run("select name, value from duckdb_settings() order by name")
    query = query.replace("SECRET", str(locked.folder / "secret"))
    with pytest.raises(duckdb.Error):
        locked.run(query.replace("FOLDER", str(locked.folder)).replace("FILE", str(locked.file)))
    assert folder_state(locked.folder) == before
    assert locked.run("select name, value from duckdb_settings() order by name") == settings_before


@pytest.mark.parametrize(
    "query",
    [query for query in REFUSED if len(query) <= guard.MAX_CHARACTERS and query not in ENDLESS],
    ids=lambda query: repr(query[:50]),
)
def test_the_locked_engine_alone_writes_nothing_and_reveals_no_secret(locked: Locked, query: str) -> None:
    hunter = "hunter2"  # what FROM hunter would read, if the engine looked at variables of Python
    before = folder_state(locked.folder)
    try:
        with locked.connection.cursor() as own:  # one each: a transaction or a setting of its own ends with it
            found = own.execute(locked.fill(query))
            answer = repr(found.fetchall()) if found else ""  # of no statement there is nothing
    except (duckdb.Error, UnicodeError) as error:  # half of a surrogate pair has no UTF-8
        answer = str(error)
    assert hunter not in answer
    assert folder_state(locked.folder) == before


def test_lock_down_changes_no_answer(locked: Locked, tmp_path: Path) -> None:
    with duckdb.connect(shutil.copy(locked.file, tmp_path), read_only=True) as free:
        free.execute("set threads = 1")
        for query in PASSED:
            if (
                "sample" not in query and "ANALYZE" not in query and "analyze" not in query
            ):  # by chance, or by the clock
                statement = locked.check(query)
                assert repr(locked.run(statement)) == repr(free.execute(statement).fetchall()), query


def test_a_query_that_needs_more_memory_fails_instead_of_spilling(locked: Locked) -> None:
    with pytest.raises(duckdb.OutOfMemoryException) as raised:
        locked.run("select count(*) from (select i, random() r from range(5_000_000) t(i) order by r, i)")
    assert explain_error(raised.value, locked.columns).endswith(
        "add WHERE or LIMIT, or give it more with --memory SIZE"
    )


# ---------------------------------------------------------------- errors after the check


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select layr from layers", "no column named layr; did you mean layer (of layers)?"),
        ("select n.wieght_l1 from neurons n", "no column named wieght_l1; did you mean weight_l1 (of neurons)?"),
        ("select 1 from neurons n join layers l using (layr_id)",
         "no column named layr_id; did you mean layer_id (of layers, neurons)?"),
        ("select * exclude (bais) from neurons", "no column named bais; did you mean bias (of neurons)?"),
        ("select zzz from layer_summary", "no column named zzz; layer_summary has layer, neurons"),
        ("select x.unit from neurons n", 'Referenced table "x" not found! Candidate tables: "n"'),
        ("select summ(unit) from neurons", 'Scalar Function with name summ does not exist! Did you mean "sum"?'),
        ("select cast('x' as integer)", "Could not convert string 'x' to INT32"),
    ],
)  # fmt: skip
def test_an_error_of_the_engine_becomes_one_line(locked: Locked, query: str, message: str) -> None:
    with pytest.raises(duckdb.Error) as raised:
        locked.run(locked.check(query))
    assert explain_error(raised.value, locked.columns, query) == message


def test_a_long_list_of_candidates_is_left_out(locked: Locked) -> None:
    with pytest.raises(duckdb.Error) as raised:
        locked.run("select sum('a')")
    message = explain_error(raised.value, locked.columns, "select sum('a')")
    assert "add explicit type casts" in message
    assert "HUGEINT" not in message


def test_without_the_query_all_tables_are_asked(locked: Locked) -> None:
    with pytest.raises(duckdb.Error) as raised:
        locked.run("select zzzqqq from layers")
    assert "write DESCRIBE name" in explain_error(raised.value, locked.columns)


# ---------------------------------------------------------------- any text

# Statements that a mutation turns into others; no range(), whose number could become huge.
SEEDS = [query for query in [*PASSED, *list(REFUSED)[10:]] if "range" not in query and len(query) < 200]
PIECES = st.sampled_from(
    [";", "'", '"', "--", "/*", "*/", "(", ")", "$$", ",", ".", "\n", "\0", "é", "copy layers to 'FOLDER/f.csv'",
     "insert into", "from", "layers", "select", "with t as (", "'FOLDER/secret.csv'", "read_text(", "drop table",
     "attach", "set threads = 1", "::", "union all", "getenv(", "returning *", "E'", "[", "{", "?", "="]
)  # fmt: skip
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rows_or_error(locked: Locked, statement: str) -> str:
    try:
        return repr(locked.run(statement))
    except duckdb.Error as error:
        return explain_error(error, locked.columns, statement)


def passes_or_is_refused(locked: Locked, query: str) -> None:
    """check() raises nothing but QueryRefused; what it lets through gets rows or an error, and reads no file."""
    try:
        statement = locked.check(query)
    except QueryRefused:
        return
    assert not statement.endswith(";")
    assert locked.check(statement) == statement
    answer = rows_or_error(locked, statement)
    assert "\n" not in answer
    assert "hunter2" not in answer


@QUICK
@given(query=st.text() | st.text(alphabet="select from*;'\"-/()$\\ü\0\ud8001,."))
def test_any_text_passes_or_is_refused(locked: Locked, query: str) -> None:
    passes_or_is_refused(locked, query)


@QUICK
@given(seed=st.sampled_from(SEEDS), piece=PIECES | st.text(max_size=3), data=st.data())
def test_any_change_to_a_statement_passes_or_is_refused(
    locked: Locked, seed: str, piece: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, min(len(seed), start + 12)))
    query = seed[:start] + piece + seed[end:]
    passes_or_is_refused(locked, query.replace("FOLDER", str(locked.folder)))


@QUICK
@given(pieces=st.lists(PIECES | st.sampled_from(SEEDS), max_size=8))
def test_any_sequence_of_pieces_passes_or_is_refused(locked: Locked, pieces: list[str]) -> None:
    before = folder_state(locked.folder)
    passes_or_is_refused(locked, " ".join(pieces).replace("FOLDER", str(locked.folder)))
    assert folder_state(locked.folder) == before


def test_the_parser_is_locked_too() -> None:
    with pytest.raises(duckdb.Error):
        guard._parser().execute("set threads = 2")
