"""What an ad-hoc query may do: statements that pass, that are refused, and what the engine does by itself."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.warehouse import guard
from dissectdb.warehouse.guard import QueryRefused, check, explain_error, lock_down
from tests.support.guard_corpus import PASSED as MORE_PASSED
from tests.support.guard_corpus import REFUSED as MORE_REFUSED

TABLES_SQL = ROOT / "sql" / "tables.sql"
ROWS = """
insert into networks values (1, 'ünïcode', 'vgg', null, '{}', ['happy', 'sad'], null, null, 'f');
insert into layers values (1, 1, 'conv1', 'avg', 0, 'a', null), (2, 1, 'lin1', 'none', 1, 'b', null);
insert into neurons values (1, 1, 0, 1.5, 1, 0), (2, 1, 1, 2.5, 2, 0), (3, 2, 0, null, null, null);
insert into activations values (1, 1, 0.5), (1, 2, 1.5), (2, 1, -1), (3, 2, 2);
insert into concepts values (1, 1, 0, 'smile'), (2, 1, 1, 'frown; or not');
create view layer_summary as
    select layer, count(*) as neurons from layers join neurons using (layer_id) group by layer;
create table "Odd Näme" (x integer);
insert into "Odd Näme" values (7);
create macro nd_double(x) as x * 2;
create sequence counter;
"""


def folder_state(folder: Path) -> dict[str, str]:
    """Every file of a folder with a hash of its bytes: equal before and after means that nothing was written."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Locked:
    """A small warehouse, opened as an ad-hoc query sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "small.duckdb"
        with duckdb.connect(str(self.file)) as connection:
            connection.execute(TABLES_SQL.read_text(encoding="utf-8") + ROWS)
        (folder / "secret.csv").write_text("word\nhunter2\n")
        (folder / "secret.json").write_text('{"word": "hunter2"}')
        self.connection = duckdb.connect(str(self.file), read_only=True)
        lock_down(self.connection, threads=1, memory="100MB")
        self.columns: dict[str, list[str]] = {}
        for table, column in self.connection.execute(
            "select table_name, column_name from duckdb_columns() where not internal order by column_index"
        ).fetchall():
            self.columns.setdefault(table, []).append(column)
        self.names = list(self.columns)

    def check(self, query: str) -> str:
        return check(query, self.names, self.columns)

    def fill(self, query: str) -> str:
        """The query with the paths of this warehouse."""
        paths = {"SECRET": str(self.folder / "secret"), "FOLDER": str(self.folder), "FILE": str(self.file)}
        return re.sub("SECRET|FOLDER|FILE", lambda word: paths[word[0]], query)

    def run(self, query: str) -> list[tuple]:
        return self.connection.cursor().execute(query).fetchall()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    warehouse = Locked(tmp_path_factory.mktemp("guard"))
    before = folder_state(warehouse.folder)
    yield warehouse
    warehouse.connection.close()
    assert folder_state(warehouse.folder) == before, "a test of this file made the warehouse write"


# ---------------------------------------------------------------- what passes

PASSED = [
    "select 1",
    "select 1;",
    "  select 1 ;; -- done; really\n",
    "/* all; of it */ select * from layers",
    "; select 1",
    "-- first\nselect 1",
    "select 'a;b', 'it''s -- no comment', $$ $; ' $$ from layers",
    'select * from "layers"',
    "SELECT * FROM LAYERS",
    'select * from "LAYERS" as "L" where "L".position >= 0',
    'select "x" from "Odd Näme"',
    "select name from networks where name = 'ünïcode' -- é;",
    'select 1 as "ünï;" /* ü */;',
    "from layers",
    "from layers select layer limit 1",
    "table layers",
    "values (1, 'a'), (2, 'b')",
    "select * from main.layers",
    "select * from layer_summary order by all limit 5",
    "with a as (select 1 as x), b as (select x + 1 as y from a) select * from b",
    "with layers as (select 1 as mine) select mine from layers",
    "with recursive t(i) as (select 1 union all select i + 1 from t where i < 5) select sum(i) from t",
    "with outside as (select 1 as x) select * from (with inside as (from outside) from inside)",
    "with a as materialized (from layers) from a, a as b",
    "select 1 union select 2 except select 3",
    "(select 1) union all (select 2) order by 1",
    "select layer, count(*) as n from layers join neurons using (layer_id) group by all having n > 0",
    "select *, row_number() over (partition by neuron_id order by (value, -image_id) desc) from activations",
    "select * from activations window w as (partition by neuron_id order by value) qualify rank() over w = 1",
    "select sum(value) filter (where value > 0), avg(value), stddev(value), corr(value, image_id) from activations",
    "select string_agg(concept, ', ' order by concept desc) from concepts",
    "select * from range(3) t(i), generate_series(1, 2) s(j)",
    "select unnest(classes) from networks",
    "select * from networks, unnest(classes) as c(class)",
    "select list_transform([1, 2], lambda x: x + 1), [y * 2 for y in [1, 2] if y > 1]",
    "select columns('.*_id') from neurons",
    "select * exclude (bias) replace (unit + 1 as unit) rename (weight_l1 as l1) from neurons",
    "select case when value > 0 then 'on' else 'off' end, value between 0 and 1, value in (1, 2) from activations",
    "select exists (select 1 from layers), (select max(value) from activations), 1 in (select 1)",
    "select * from neurons n where exists (select 1 from layers l where l.layer_id = n.layer_id)",
    "select l.layer, t.* from layers l, lateral (select count(*) from neurons n where n.layer_id = l.layer_id) t",
    "select * from neurons semi join layers using (layer_id)",
    "select * from layers positional join neurons",
    "select layer_id, unit, count(*), grouping(unit) from neurons group by rollup (layer_id, unit)",
    "select distinct on (layer_id) * from neurons order by layer_id, unit limit 50%",
    "from neurons pivot (sum(weight_l1) for unit in (0, 1) group by layer_id)",
    "unpivot (select neuron_id, weight_l1, weight_l2 from neurons) on weight_l1, weight_l2 into name n value v",
    "select * from neurons tablesample reservoir (2 rows)",
    "select date '2026-01-01' + interval 3 day, now() > timestamp '2020-01-01', {'a': 1}.a, map {'k': 1}['k']",
    "select try_cast('x' as integer), '1'::double, cast([1] as float[]), x'ff', 1_000, e'\\n'",
    "select nd_double(21), random() < 2, uuid() is not null",
    "select 'smile' like 's%', 'a' ilike 'A', regexp_matches('ab', 'b$'), 'x' collate nocase = 'X'",
    "select concept.upper().lower() from concepts",
    "select json_extract('{\"a\": 1}', '$.a'), '{\"a\": 1}'::json ->> 'a'",
    "select a.value from activations a asof join activations b on a.value >= b.value",
    "describe layers",
    "desc layer_summary",
    "describe select * from layers",
    "summarize neurons",
    "summarize select value from activations",
    "select column_name from (describe layers)",
    "show tables",
    "show layers",
    "select 1 where 'DROP TABLE layers; COPY layers TO ''x''' <> ''",
    "select " + " and ".join(["true"] * 2000),
]


PASSED = list(dict.fromkeys([*PASSED, *MORE_PASSED]))


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
def test_what_surrounds_the_statement_is_cut_off(locked: Locked, query: str, statement: str) -> None:
    assert locked.check(query) == statement
    assert locked.run(f"select * from ({statement})")


# ---------------------------------------------------------------- what is refused, and by what name

REFUSED = {
    # nothing, several, broken
    "": "no statement",
    " ; -- only a comment": "no statement",
    "select 1; select 2": "one statement at a time: here are 2",
    "select 1; drop table layers": "one statement at a time: here are 2",
    "select 1; -- x\n; copy layers to 'x'": "one statement at a time: here are 2",
    "select\n 'ü' frm layers": 'at or near "layers" (line 2, column 10)',
    "selec 1": 'at or near "selec" (line 1, column 1)',
    "select 'open": "unterminated string",
    "select 1 /* open": "unterminated /* comment",
    "-- on\n/* three */\nselect 1 frm layers": "(line 3, column 14)",
    "select 1\0": "NUL",
    "select '\ud800'": "surrogate",
    "select * into copy_of from layers": 'near "into"',
    "select * from layers for update": 'near "for"',
    "select 1 -- " + "x" * 100_000: "100,012 characters",
    "select " + "not " * 900 + "true": "nested too deeply",
    "select " + "(" * 5000 + "1" + ")" * 5000: "nested too deeply",
    "select * from " + "(select * from " * 2000 + "(select 1)" + ")" * 2000: "nested too deeply",
    # other statements
    "insert into layers values (1)": "INSERT is refused",
    "with t as (select 1) insert into layers from t": "INSERT is refused",
    "update layers set layer = 'x'": "UPDATE is refused",
    "delete from layers": "DELETE is refused",
    "truncate layers": "TRUNCATE is refused",
    "merge into layers using neurons on true when matched then delete": "MERGE is refused",
    "create table t as select 1": "CREATE is refused",
    "create temp table t (x integer)": "CREATE is refused",
    "create or replace view layer_summary as select 1": "CREATE is refused",
    "create macro f() as 1": "CREATE is refused",
    "create secret (type s3)": "CREATE is refused",
    "drop table layers": "DROP is refused",
    "alter table layers rename to l": "ALTER is refused",
    "comment on table layers is 'x'": "COMMENT is refused",
    "copy layers to 'x.csv'": "COPY is refused",
    "copy (select 1) to 'x.csv'": "COPY is refused",
    "copy layers from 'x.csv'": "COPY is refused",
    "copy from database small to temp": "COPY is refused",
    "export database 'x'": "EXPORT is refused",
    "import database 'x'": "IMPORT is refused",
    "attach 'x.duckdb' as x": "ATTACH is refused",
    "detach small": "DETACH is refused",
    "use temp": "USE is refused",
    "install httpfs": "INSTALL is refused",
    "load json": "LOAD is refused",
    "set threads = 2": "SET is refused",
    "set variable x = 1": "SET is refused",
    "reset threads": "RESET is refused",
    "pragma database_list": "PRAGMA is refused",
    "pragma enable_profiling": "PRAGMA is refused",
    "call duckdb_functions()": "CALL is refused",
    "call enable_logging()": "CALL is refused",
    "explain drop table layers": "DROP is refused",
    "explain analyze insert into layers values (1)": "INSERT is refused",
    "explain select 1; drop table layers": "one statement at a time",
    "prepare p as select 1": "PREPARE is refused",
    "execute p": "EXECUTE is refused",
    "begin": "BEGIN is refused",
    "commit": "COMMIT is refused",
    "checkpoint": "CHECKPOINT is refused",
    "vacuum": "VACUUM is refused",
    "pivot neurons on unit using sum(weight_l1)": "FROM t PIVOT",
    "from (pivot neurons on unit using sum(weight_l1))": "FROM t PIVOT",
    # what DuckDB calls a SELECT, and is none
    "with t as (insert into layers values (1) returning *) from t": "INSERT inside a query",
    "with t as (delete from layers returning *) from t": "DELETE inside a query",
    "with t as (update layers set layer = 'x' returning *) from t": "UPDATE inside a query",
    "with t as (copy layers to 'x.csv') select 1": "COPY inside a query",
    "select (with t as (copy layers to 'x.csv') select 1)": "COPY inside a query",
    "select ? from layers": "no value",
    "select $name": "no value",
    "select default": "DEFAULT inside a query",
    "show": "write SHOW TABLES",
    "show all tables": "write SHOW TABLES",
    "show databases": "SHOW databases",
    "show variables": "SHOW variables",
    "show tables from information_schema": "write SHOW TABLES",
    "show settings": "no table or view named settings",
    # tables that are none, or not ours
    "from layer_sumary": "named layer_sumary; did you mean layer_summary or layers? there are ",
    "select * from layers, neuron": "did you mean neurons?",
    "from concept": "named concept; did you mean concepts, concept_sets or concept_classes? there are ",
    "from weight_l1": "named weight_l1; it is a column of neurons",
    "from 'SECRET.csv'": "named SECRET.csv",
    "from \"SECRET.csv\"": "named SECRET.csv",
    "select * from layers where layer in (select word from 'SECRET.csv')": "named SECRET.csv",
    "describe 'SECRET.csv'": "named SECRET.csv",
    "summarize 'SECRET.json'": "named SECRET.json",
    "show 'SECRET.csv'": "named SECRET.csv",
    "select * from (summarize from 'SECRET.csv')": "named SECRET.csv",
    "from '/etc/passwd'": "named /etc/passwd",
    "from 'https://example.org/x.parquet'": "named https://example.org/x.parquet",
    "from \"layers \"": "named layers ",
    "from \"ODD NÄME\"": "named ODD NÄME",
    "from temp.layers": "temp.layers is refused: it is outside",
    "from small.main.layers": "small.main.layers is refused",
    "from a.b.c.d": "a.b.c.d is refused",
    "from information_schema.tables": "information_schema.tables is refused",
    "from pg_catalog.pg_tables": "pg_catalog.pg_tables is refused",
    "from system.main.duckdb_settings": "system.main.duckdb_settings is refused",
    "from duckdb_settings": "named duckdb_settings",
    "from sqlite_master": "named sqlite_master",
    "from pragma_database_list": "named pragma_database_list",
    "from ROWS": "named ROWS",  # a variable of this very file
    # a CTE's name where it does not mean the CTE
    'with "SECRET.csv" as (from "SECRET.csv") from "SECRET.csv"': "named SECRET.csv",
    'with recursive "SECRET.csv" as (from "SECRET.csv" union all from "SECRET.csv") select 1': "named SECRET.csv",
    'select * from (with "SECRET.csv" as (select 1) select 1) a, "SECRET.csv" b': "named SECRET.csv",
    "with a as (from b), b as (select 1) from a": "named b; there is ",
    "(with t as (select 1) from t) union all (from t)": "named t",
    "with t as (select 1) from main.t": "named t",
    "with recursive t(i) using key (i) as (select 1 union select i from recurring.t) from t": "recurring.t",
    # functions in the place of a table
    "from read_csv('SECRET.csv')": "read_csv() in FROM is refused",
    "from Read_Text('SECRET.csv')": "read_text() in FROM",
    "from \"read_blob\"('SECRET.csv')": "read_blob() in FROM",
    "from read_json('SECRET.json')": "read_json() in FROM",
    "from read_duckdb('x')": "read_duckdb() in FROM",
    "from main.read_csv('SECRET.csv')": "read_csv() in FROM",
    "from glob('*')": "glob() in FROM",
    "from sniff_csv('SECRET.csv')": "sniff_csv() in FROM",
    "from parquet_metadata('x')": "parquet_metadata() in FROM",
    "from query('from layers')": "query() in FROM",
    "from query_table('layers')": "query_table() in FROM",
    "from json_execute_serialized_sql('{}')": "json_execute_serialized_sql() in FROM",
    "from duckdb_settings()": "duckdb_settings() in FROM",
    "from duckdb_secrets()": "duckdb_secrets() in FROM",
    "from pragma_storage_info('layers')": "pragma_storage_info() in FROM",
    "from checkpoint()": "checkpoint() in FROM",
    "from enable_logging()": "enable_logging() in FROM",
    "from summary(layers)": "summary() in FROM",
    "from seq_scan('layers')": "seq_scan() in FROM",
    "from histogram('layers', 'layer')": "histogram() in FROM",
    "select * from layers, lateral (from read_text(layer))": "read_text() in FROM",
    # functions that do more than compute
    "select getenv('HOME')": "getenv() is refused",
    "select 'HOME'.getenv()": "getenv() is refused",
    "select \"GETENV\"('HOME')": "getenv() is refused",
    "select system.main.current_setting('threads')": "current_setting() is refused",
    "select getvariable('x')": "getvariable() is refused",
    "select nextval('counter')": "nextval() is refused",
    "select setseed(0.5)": "setseed() is refused",
    "select write_log('x')": "write_log() is refused",
    "select sleep_ms(1)": "sleep_ms() is refused",
    "select pg_sleep(1)": "pg_sleep() is refused",
    "select current_query()": "current_query() is refused",
    "select json_serialize_plan('select 1')": "json_serialize_plan() is refused",
    "select list_transform(['a'], lambda x: getenv(x))": "getenv() is refused",
    "select [getenv(x) for x in ['a']]": "getenv() is refused",
    "select sum(1) over (order by current_setting('threads'))": "current_setting() is refused",
    "select sum(1 order by getenv('a')) filter (where true) from layers": "getenv() is refused",
    "select * replace (getenv('a') as layer) from layers": "getenv() is refused",
    "from layers limit getenv('a')": "getenv() is refused",
    "from range(nextval('counter'))": "nextval() is refused",
    "from layers pivot (max(getenv('a')) for layer in ('x'))": "getenv() is refused",
    "values (getenv('a'))": "getenv() is refused",
    "describe select getenv('a')": "getenv() is refused",
    "from neurons join layers on getenv('a') = layer": "getenv() is refused",
    "select 1 group by getenv('a') having getenv('b') order by getenv('c')": "getenv() is refused",
}  # fmt: skip


REFUSED = MORE_REFUSED | REFUSED


@pytest.mark.parametrize(("query", "reason"), REFUSED.items(), ids=lambda text: repr(text[:50]))
def test_what_does_more_than_read_is_refused_by_name(locked: Locked, query: str, reason: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        locked.check(locked.fill(query))
    assert locked.fill(reason) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_corpora_are_as_large_as_promised() -> None:
    assert len(set(PASSED)) >= 140
    assert len(REFUSED) >= 500


def test_a_name_that_is_a_file_is_still_a_table_if_the_warehouse_has_it() -> None:
    assert check("from 'x.csv'", ["x.csv"]) == "from 'x.csv'"


def test_without_tables_the_message_says_so() -> None:
    with pytest.raises(QueryRefused, match="there is none"):
        check("from layers", [])


def test_checks_in_many_threads_do_not_meet(locked: Locked) -> None:
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


def test_of_the_table_functions_of_the_engine_three_pass() -> None:
    names = {name for name, *_ in functions("'table', 'table_macro', 'pragma'")}
    assert len(names) > 100
    passed = {name for name in names if not is_refused(f'from "{name}"()')}
    assert passed == {"range", "generate_series", "unnest"}


def test_what_names_files_settings_or_text_to_run_is_refused_as_a_scalar_too() -> None:
    words = re.compile("read_|scan$|setting|query|secret|pragma|duckdb|serialize|sleep|getenv|log$")
    harmless = {"log", "current_catalog"}
    names = {name for name, *_ in functions("'scalar', 'macro', 'table', 'pragma'")} - harmless
    suspects = {name for name in names if words.search(name)}
    assert {name for name in suspects if not is_refused(f'select "{name}"()')} <= {
        "disable_logging", "enable_logging",  # no scalars: DuckDB itself answers
    }  # fmt: skip


# ---------------------------------------------------------------- the second wall, without the first

SLIPPED = [
    "from 'SECRET.csv'",
    "from read_csv('SECRET.csv')",
    "from read_text('SECRET.csv')",
    "from read_blob('SECRET.json')",
    "from read_json('SECRET.json')",
    "from glob('FOLDER/*')",
    "from sniff_csv('SECRET.csv')",
    "from read_blob('FILE')",
    "from read_duckdb('FILE')",
    "copy layers to 'FOLDER/out.csv'",
    "copy layers to 'FOLDER/out.parquet'",
    "copy layers to 'FILE.wal' (format csv)",  # DuckDB 2.0 writes this with enable_external_access = false
    "copy layers to 'FILE.tmp/out.csv'",  # and this
    "with t as (copy layers to 'FILE.wal' (format csv)) select 1",
    "with t as (copy layers to 'FOLDER/out.csv') select 1",
    "with t as (insert into layers select * from layers returning *) from t",
    "export database 'FOLDER/export'",
    "import database 'FOLDER/export'",
    "attach 'FOLDER/other.duckdb' as other",
    "attach 'FILE' as again",
    "attach ':memory:' as other",
    "install httpfs",
    "load httpfs",
    "load 'FOLDER/x.duckdb_extension'",
    "from python_variable",
    "insert into layers select * from layers",
    "delete from layers",
    "drop view layer_summary",
    "create table t as select 1",
    "create macro f() as 1",
    "alter table layers rename to l",
    "select nextval('counter')",
    "set enable_external_access = true",
    "set disabled_filesystems = ''",
    "set lock_configuration = false",
    "set threads = 2",
    "set temp_directory = 'FOLDER'",
    "set memory_limit = '1TB'",
    "reset memory_limit",
    "set profiling_output = 'FOLDER/profile.json'",
    "set log_query_path = 'FOLDER/log'",
    "pragma enable_profiling = 'json'",
    "call enable_logging(storage = 'file', storage_path = 'FOLDER')",
    "create persistent secret s (type http)",
]


@pytest.mark.parametrize("query", SLIPPED)
def test_what_slips_past_check_cannot_read_a_file_write_attach_or_set(locked: Locked, query: str) -> None:
    python_variable = duckdb.connect().sql("select 'hunter2'").arrow()
    assert python_variable is not None
    before = folder_state(locked.folder)
    settings_before = locked.run("select name, value from duckdb_settings() order by name")
    query = query.replace("SECRET", str(locked.folder / "secret"))
    with pytest.raises(duckdb.Error):
        locked.run(query.replace("FOLDER", str(locked.folder)).replace("FILE", str(locked.file)))
    assert folder_state(locked.folder) == before
    assert locked.run("select name, value from duckdb_settings() order by name") == settings_before


# What the engine works on without end, where check does not keep it off; longer texts it parses for minutes.
ENDLESS = ["from summary(layers)", "from seq_scan('layers')"]


@pytest.mark.parametrize(
    "query",
    [query for query in REFUSED if len(query) <= guard.MAX_CHARACTERS and query not in ENDLESS],
    ids=lambda query: repr(query[:50]),
)
def test_the_engine_alone_writes_nothing_and_tells_no_secret(locked: Locked, query: str) -> None:
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
         "no column named layr_id; did you mean layer_id (of neurons, layers)?"),
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


# ---------------------------------------------------------------- anything at all

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
def test_any_heap_of_pieces_passes_or_is_refused(locked: Locked, pieces: list[str]) -> None:
    before = folder_state(locked.folder)
    passes_or_is_refused(locked, " ".join(pieces).replace("FOLDER", str(locked.folder)))
    assert folder_state(locked.folder) == before


def test_the_parser_is_locked_too() -> None:
    with pytest.raises(duckdb.Error):
        guard._parser().execute("set threads = 2")
