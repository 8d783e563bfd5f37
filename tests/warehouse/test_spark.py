"""The views on Spark: the same rows as on DuckDB, for every view, and each trap between the two by itself.

Skipped, with the reason, where pyspark or Java is missing; what needs no Spark runs all the same.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import polars as pl
import pytest

from dissectdb.reports.questions import Question
from dissectdb.warehouse import Warehouse, shard_reader
from dissectdb.warehouse import spark as on_spark
from dissectdb.warehouse.schema import SQL
from dissectdb.warehouse.spark import SparkError, SparkMissing, translate
from dissectdb.warehouse.view_files import View, ViewError, engine_functions
from tests.sql.test_questions import QUESTIONS, VALUES, warehouses  # noqa: F401 - a fixture
from tests.support.rows import all_views, dissection_row
from tests.support.spark_worlds import HARDER, HASTY, MORE_DISSECTIONS, TABLES, Both, both, tables_of
from tests.support.worlds import World

each_view = pytest.mark.parametrize("view", all_views(), ids=lambda view: view.name)


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    try:
        session = on_spark.local_session(2, "1g", HASTY)
    except SparkError as error:
        pytest.skip(str(error))
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


# ---------------------------------------------------------------- two worlds, on both engines
SHOWN = 9  # named in both sessions: it has everything that the public views ask for


@pytest.fixture(scope="module")
def hard(spark: Any, scored_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Every scorer, ties, zeros of both signs, dead and negative neurons, layers of one, edits by every rule."""
    with tables_of(scored_file) as connection:
        connection.execute(HARDER)
        connection.register("more", pl.DataFrame(MORE_DISSECTIONS))
        connection.execute("insert into dissections by name select * from more")
        return both(spark, connection, tmp_path_factory.mktemp("hard"), shown=SHOWN)


@pytest.fixture(scope="module")
def empty(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A warehouse without rows."""
    with tables_of(None) as connection:
        return both(spark, connection, tmp_path_factory.mktemp("empty"), shown=None)


def in_order(frame: pl.DataFrame, view: View | Question) -> pl.DataFrame:
    """Sorted by the grain, exact columns first, since the last bits of numbers differ."""
    return frame.sort(sorted(view.grain, key=lambda column: frame[column].dtype.is_float()), nulls_last=True)


def differences(view: View | Question, expected: pl.DataFrame, found: pl.DataFrame) -> list[str]:
    """The cells in which two engines differ. Numbers within 1e-6 are the same; all else must be equal."""
    if expected.columns != found.columns or expected.height != found.height:
        return [f"{expected.columns} × {expected.height} but {found.columns} × {found.height}"]
    expected, found = in_order(expected, view), in_order(found, view)
    return [
        f"{column}, row {row}: {a} but {b}"
        for column in expected.columns
        for row, (a, b) in enumerate(zip(expected[column].to_list(), found[column].to_list(), strict=True))
        if not same(a, b)
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return a == b and isinstance(a, bool) == isinstance(b, bool)


@each_view
def test_a_view_has_the_same_rows_on_spark(view, hard):
    assert hard.duckdb[view.name].height > 0, "tests/warehouse/test_spark.py: the hard world leaves this view empty"
    assert differences(view, hard.duckdb[view.name], hard.spark[view.name]) == []


@each_view
def test_a_view_of_nothing_has_no_rows_on_spark_either(view, empty):
    assert empty.duckdb[view.name].height == (1 if view.name == "shown_dissection" else 0)
    assert differences(view, empty.duckdb[view.name], empty.spark[view.name]) == []


@each_view
def test_no_number_is_infinite_or_nan(view, hard):
    """1 / 0, ln(0), the square root of a negative and the correlation of a constant: DuckDB says inf or NaN, and Spark
    says NULL or fails."""
    for frame in (hard.duckdb[view.name], hard.spark[view.name]):
        numbers = frame.select(pl.selectors.float())
        assert [column.name for column in numbers if not column.is_finite().all()] == []


# ---------------------------------------------------------------- questions

ASKED = VALUES | {"module": "conv1"}
# The explorer reads a DuckDB file only.
ON_BOTH = {name: asked for name, asked in QUESTIONS.items() if asked.engine is None and not name.startswith("serve/")}


@pytest.fixture(scope="module")
def answers(
    spark: Any,
    warehouses: list[Warehouse],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """The answer to every question on DuckDB and on Spark, from the first warehouse and dissection that has one.

    Both engines read the rows of DuckDB's views, which the tests above compare, so that Spark computes no view again.
    """
    found: dict[str, tuple[pl.DataFrame, pl.DataFrame]] = {}
    left = dict(ON_BOTH)
    for warehouse in warehouses:
        for shown in ("null", "1"):
            warehouse.connection.execute(f"set variable dissection = {shown}")
            expected = {
                name: warehouse.rows(question.with_values(**VALUES, module="conv1")) for name, question in left.items()
            }
            answered = {name: question for name, question in left.items() if len(expected[name])}
            left = {name: question for name, question in left.items() if name not in answered}
            register(spark, warehouse, answered.values(), tmp_path_factory.mktemp("answers"))
            for name, question in answered.items():
                rows = spark.sql(translate(question.with_values(**ASKED))).toArrow()
                found[name] = expected[name], pl.from_arrow(rows)
    assert not left
    return found


def register(spark: Any, warehouse: Warehouse, questions: Iterable[Question], folder: Path) -> None:
    """Give Spark the rows of each table and view that the questions read."""
    texts = "\n".join(question.sql for question in questions)
    for name in (*TABLES, *(view.name for view in all_views())):
        if re.search(rf"\b{name}\b", texts):
            warehouse.rows(f"select * from {name}").write_parquet(folder / f"{name}.parquet")
            spark.read.parquet(f"{folder / name}.parquet").createOrReplaceTempView(name)


@pytest.mark.parametrize("name", ON_BOTH)
def test_a_question_has_the_same_answer_on_spark(name, answers):
    assert differences(QUESTIONS[name], *answers[name]) == []


# ---------------------------------------------------------------- each trap alone

NUMBERS = """
    create table t (i integer, v float, d double, s varchar, e float[], w varchar[], b blob);
    insert into t values
        (1, 0.2, 1.5, 'x', [1, 2], ['p', 'q'], 'png'::blob),
        (2, -0.0, null, 'y', [0.1, 0.3], [], null),
        (3, 0.0, 2.5, null, [-1, 1], ['q', 'q'], '\\x00'::blob),
        (4, null, 2.5, 'x', [0, 0], null, null),
        (5, 0.7, 1e-30, 'x', [3, 4], ['r'], null);
    create table nothing (i integer, v float);
"""
TRAPS = dict(
    re.findall(r"^-- ([^\n]+)\n(select .+?);$", Path(__file__).with_name("spark_traps.sql").read_text(), re.M | re.S)
)


@pytest.fixture(scope="module")
def numbers(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A few rows that the engines might treat differently, in both engines."""
    folder = tmp_path_factory.mktemp("numbers")
    for statement in on_spark.compile([]):
        spark.sql(statement)
    with duckdb.connect() as connection:
        connection.execute(engine_functions())
        connection.execute(NUMBERS)
        for table in ("t", "nothing"):
            connection.execute(f"copy {table} to '{folder / table}.parquet'")
            spark.read.parquet(f"{folder / table}.parquet").createOrReplaceTempView(table)
        yield connection


@pytest.mark.parametrize("query", TRAPS.values(), ids=TRAPS)
def test_a_trap_gives_the_same_rows_on_both_engines(query, numbers, spark):
    assert disagreements(query, numbers, spark) == []


def test_traps_give_the_same_rows_without_the_ansi_mode_of_spark(numbers, spark):
    """Without its ANSI mode, a whole number and a float make a float, and what does not fit is NULL."""
    spark.conf.set("spark.sql.ansi.enabled", "false")
    try:
        assert {title: found for title, query in TRAPS.items() if (found := disagreements(query, numbers, spark))} == {}
    finally:
        spark.conf.set("spark.sql.ansi.enabled", "true")


def disagreements(query: str, connection: duckdb.DuckDBPyConnection, spark: Any) -> list[Any]:
    """The rows of a query on DuckDB that are not those on Spark, in pairs."""
    expected = connection.sql(query).pl()
    found = pl.from_arrow(spark.sql(translate(query)).toArrow())
    if found.columns != expected.columns or found.height != expected.height:
        return [expected, found]
    one, other = (sorted(frame.rows(), key=str_of) for frame in (expected, found))
    return [(a, b) for a, b in zip(one, other, strict=True) if not all(map(same, a, b))]


def str_of(row: tuple[Any, ...]) -> list[str]:
    """A key that sorts rows of any types, with whole numbers like floats."""
    return [f"{float(value):.5e}" if isinstance(value, int | float) else str(value) for value in row]


# ---------------------------------------------------------------- text and folders


def test_an_aggregate_of_spark_keeps_all_that_it_is_given():
    """sqlglot has max_by without k, and would drop k silently."""
    assert "max_by(d, i, 20)" in translate("select nd_highest_by(d, i, 20) as a from t")


def test_sql_that_cannot_be_translated_to_spark_is_an_error():
    with pytest.raises(ViewError, match="no nd_nothing of 1 arguments"):
        translate("select nd_nothing(a) as b from t")
    with pytest.raises(ViewError, match="cannot be translated to Spark"):
        translate("select arg_max(a, b, 3) as c from t")


def test_the_engines_define_the_same_functions():
    defined = [
        re.findall(r"^create or replace macro (\w+\(.*?\))", (SQL / "engines" / name).read_text(), re.M)
        for name in ("duckdb.sql", "spark.sql")
    ]
    assert defined[0] == defined[1] != []


def test_the_text_makes_every_view_in_order():
    statements = on_spark.compile(all_views())
    made = [found[1] for text in statements if (found := re.match(r"CREATE OR REPLACE TEMPORARY VIEW (\w+)", text))]
    assert made == [view.name for view in all_views()]
    kept = [found[1] for text in statements if (found := re.match(r"CACHE LAZY TABLE (\w+)", text))]
    assert kept == [view.name for view in all_views() if view.materialized]
    assert not re.search(r"\bnd_", "".join(statements), re.IGNORECASE)
    with pytest.raises(ViewError, match="not for oracle"):
        on_spark.compile(all_views(), "oracle")


def test_the_text_alone_makes_views_in_a_session_that_has_the_tables(hard, spark, tmp_path):
    """One view that is computed when it is read, and one that is cached."""
    names = ["named_neurons", "image_concept_similarities"]
    list(on_spark.build(spark, hard.folder, tmp_path, select=names))
    for name in names:
        spark.sql(f"drop view {name}")
    for statement in on_spark.compile([view for view in all_views() if view.name in names]):
        spark.sql(statement)
    for name in names:
        assert spark.table(name).count() == hard.duckdb[name].height
        spark.sql(f"uncache table if exists {name}")


def test_a_table_may_be_a_partitioned_folder_with_other_types_and_columns(spark, tmp_path):
    with duckdb.connect() as connection:
        connection.execute(f"""
            copy (select 1::bigint as network_id, 'net' as name, '' as architecture, '' as preprocessing,
                ['a'] as classes, '' as fingerprint, 2 as more) to '{tmp_path}/networks.parquet';
            copy (select i::bigint as layer_id, 1 as network_id, 'layer ' || i as layer, '' as pooling, i as position,
                '' as fingerprint, i as part from range(2) as r(i))
            to '{tmp_path}/layers' (format parquet, partition_by (part));
            copy (select i as neuron_id, i % 2 as layer_id, i as unit, 1.5 as weight_l1, 0::float as bias
                from range(4) as r(i))
            to '{tmp_path}/table=neurons' (format parquet, partition_by (layer_id));
        """)
    assert list(on_spark.build(spark, tmp_path, tmp_path / "built", select=["named_neurons"])) == []
    rows = spark.sql("select neuron_id, layer, unit, weight_l1 from named_neurons order by neuron_id").collect()
    assert [tuple(row) for row in rows] == [(i, f"layer {i % 2}", i, 1.5) for i in range(4)]


def test_missing_tables_columns_and_views_are_named(spark, tmp_path):
    with pytest.raises(
        SparkError,
        match=r"has no table layers: none of table=layers, layers\.parquet, layers, catalog/layers\.parquet is",
    ):
        list(on_spark.build(spark, tmp_path, tmp_path, select=["named_neurons"]))
    pl.DataFrame({"layer_id": [1]}).write_parquet(tmp_path / "layers.parquet")
    with pytest.raises(SparkError, match=r"layers\.parquet has no column network_id, layer, .*; it has layer_id"):
        list(on_spark.build(spark, tmp_path, tmp_path, select=["named_neurons"]))
    (tmp_path / "layers.parquet").write_bytes(b"not a table")
    with pytest.raises(SparkError, match=r"layers\.parquet cannot be read: "):
        list(on_spark.build(spark, tmp_path, tmp_path, select=["named_neurons"]))
    with pytest.raises(ViewError, match="no view named nonsense; there is "):
        list(on_spark.build(spark, tmp_path, tmp_path, select=["nonsense"]))


def test_labels_without_a_null_cause_a_warning(tiny_file, spark, tmp_path, caplog):
    """As in a folder of shards. By the rule q no label is interpretable then, and views of these stay empty."""
    with tables_of(tiny_file) as connection:
        for table in TABLES:
            connection.execute(f"copy {table} to '{tmp_path / table}.parquet'")

    def warning(rows: list[dict[str, Any]], tested: list[int]) -> str:
        """What a build logs before its first view, with nulls of the dissections `tested` alone."""
        nulls = [{"dissection_id": i, "layer_id": 1, "z": 1.0, "p": 0.1, "null_group": 3} for i in [0, *tested]]
        for table, content in {"dissections": rows, "null_quantiles": nulls}.items():
            (tmp_path / f"{table}.parquet").unlink()
            pl.DataFrame(content).write_parquet(tmp_path / f"{table}.parquet")
        caplog.clear()
        next(on_spark.build(spark, tmp_path, tmp_path / "built", select=["neuron_labels"]))
        return caplog.text

    both_rules = [dissection_row(1, rule="tau"), dissection_row(2, rule="q")]
    text = warning(both_rules, [])
    assert "no null distribution for dissection 1, 2, so labels have no p and q. By the rule q no label" in text
    assert f"dissectdb import {tmp_path} --warehouse FILE" in text
    assert "no null distribution for dissection 1, so labels have no p and q. A null" in warning(both_rules, [2])
    assert warning(both_rules, [1, 2]) == ""


def test_missing_pyspark_or_java_is_an_error_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(SparkMissing, match=r"pip install 'dissectdb\[spark\]'") as missing:
        on_spark.local_session()
    monkeypatch.setitem(sys.modules, "pyspark.sql", SimpleNamespace(SparkSession=None))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert missing.value.exit_code == 2
    with pytest.raises(SparkMissing, match="Spark needs Java, 17 or newer"):
        on_spark.local_session()


# ---------------------------------------------------------------- shards, a task each


def test_workers_of_spark_extract_the_shards_of_a_study(spark: Any, new_world: World) -> None:
    sink = new_world.folder / "shards"
    done = on_spark.extract(spark, new_world.study, f"parquet:{sink}", 2)
    assert [(number, said) for number, _, said in done] == [
        (number, f"shard 0000{number}-of-00002: parquet:{sink}") for number in (0, 1)
    ]
    assert [state.problem for state in shard_reader.status(sink)] == ["", ""]


def test_a_shard_that_fails_on_a_worker_says_why(spark: Any, new_world: World) -> None:
    new_world.change("top_k = 5\nsoftmax_scale", "top_k = 255\nsoftmax_scale")
    with pytest.raises(SparkError, match=r"shard \d of 2: .*fewer than top_k = 255"):
        on_spark.extract(spark, new_world.study, f"parquet:{new_world.folder / 'shards'}", 2)
