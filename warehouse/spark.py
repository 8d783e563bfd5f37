"""The views on Spark, where one machine is too small: the same files of sql/, in Spark's words.

spark = local_session()                           # or a session of one's own
for built in build(spark, "tables", "views"):     # tables/<table>.parquet in, views/<view>.parquet out
    print(built.view, built.rows, built.seconds)
spark.sql("select * from layer_summary").show()   # every view is there, by name
print(*compile(load_views()), sep=";\\n\\n")        # the SQL, for a session with the tables in it

sqlglot translates; the nd_ functions are taken from sql/engines/spark.sql and written out where they are called.
Only what sqlglot is known to translate faithfully may stand in a view, and the tests compare every one on both engines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dissectdb.warehouse.views import SQL, Built, View, ViewError, load_views, with_inputs

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot import exp


class SparkError(ViewError):
    """Spark is not there, or a table that it should read is not as sql/tables.sql says."""


@dataclass(frozen=True)
class Column:
    """A column of a base table, with its type in Spark's words."""

    name: str
    type: str
    may_be_null: bool


@dataclass(frozen=True)
class Macro:
    """An nd_ function: what stands for a call of it."""

    parameters: tuple[str, ...]
    body: str


def local_session(
    cores: int | str = "*", memory: str = "4g", settings: Mapping[str, str] = MappingProxyType({})
) -> SparkSession:
    """A Spark of this process alone. settings: more of Spark's own, such as spark.local.dir. Raises SparkError."""
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkError("Spark is not installed: pip install 'dissectdb[spark]'") from error
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise SparkError("Spark needs Java, 17 or newer: apt-get install openjdk-17-jre-headless, or set JAVA_HOME")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # of the workers; else whatever python3 there is
    threads = os.cpu_count() if cores == "*" else cores
    session = SparkSession.builder.master(f"local[{cores}]").appName("dissectdb")
    defaults = {
        "spark.driver.memory": memory,
        "spark.sql.shuffle.partitions": str(threads),
        "spark.sql.session.timeZone": "UTC",
        # Spark makes this folder even where nothing is kept in it.
        "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "spark-warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    for key, value in (defaults | dict(settings)).items():
        session = session.config(key, value)
    return session.getOrCreate()


def extract(spark: SparkSession, study: Path | str, sink: str, shards: int) -> list[tuple[int, float, str]]:
    """Have Spark's workers compute the shards of an extraction; returns (shard, seconds, what was said) of each.

    The workers run `dissectdb extract`, so dissectdb is installed there, and study and sink are paths that they see.
    They write the files and hand back only that they did. Raises SparkError where a shard failed.
    """

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            for shard in batch["id"].to_pylist():
                command = ["extract", str(study), "--sink", sink, "--shard", f"{shard}/{shards}"]
                started = time.perf_counter()
                done = subprocess.run([sys.executable, "-m", "dissectdb", *command], capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"shard {shard} of {shards}: {(done.stderr.splitlines() or ['?'])[-1]}")
                said = (done.stdout.splitlines() or [""])[-1]
                yield pa.RecordBatch.from_pylist(
                    [{"shard": shard, "seconds": time.perf_counter() - started, "said": said}]
                )

    numbers = spark.range(0, shards, 1, shards)  # a task each
    try:
        rows = numbers.mapInArrow(work, "shard bigint, seconds double, said string").collect()
    except _errors() as error:
        reason = re.search(r"shard \d+ of \d+: .*", str(error))
        raise SparkError(reason[0] if reason else _reason(error)) from error
    return sorted((row.shard, row.seconds, row.said) for row in rows)


def compile(views: Sequence[View], dialect: str = "spark") -> list[str]:
    """The statements that make all of the views, in order, in a session that has the tables of sql/tables.sql.

    A materialised view is a cached one: it is computed when it is first read, and kept while the session lasts.
    """
    if dialect != "spark":
        raise ViewError(f"views are written for duckdb and compiled for spark, not for {dialect}")
    statements = list(_engine()[0])
    for view in views:
        statements.append(_create(view))
        if view.materialized:
            statements.append(f"CACHE LAZY TABLE {view.name}")
    return statements


def build(
    spark: SparkSession, source: Path | str, target: Path | str, *, select: Collection[str] = ()
) -> Iterator[Built]:
    """Make every view from the tables in a folder; yields what was computed, which is what is materialised.

    source: of each table <table>.parquet, <table>/ or table=<table>/, a file or a folder that may be partitioned. Also
    an address that Spark knows, as s3a://…: then each is <table>.parquet. target: where <view>.parquet is written;
    what was there is replaced. select: only these views and what they read. Raises SparkError, ViewError.
    """
    views = load_views()
    wanted = with_inputs(views, select) if select else {view.name for view in views}
    views = [view for view in views if view.name in wanted]
    names = {view.name for view in views}
    for table in sorted({name for view in views for name in view.reads} - names):
        _table(spark, str(source), table).createOrReplaceTempView(table)
    for statement in _engine()[0]:
        spark.sql(statement)
    for view in views:
        started = time.perf_counter()
        try:
            rows = _make(spark, view, str(target).rstrip("/"))
        except _errors() as error:
            raise ViewError(f"view {view.name} could not be built: {_reason(error)}") from error
        if view.materialized:
            yield Built(view.name, rows, time.perf_counter() - started)


def _make(spark: SparkSession, view: View, target: str) -> int:
    """Make one view; the rows of a materialised one, which is computed and written."""
    if not view.materialized:
        spark.sql(_create(view))
        return 0
    path = f"{target}/{view.name}.parquet"
    spark.sql(translate(view.sql)).write.mode("overwrite").parquet(path)
    kept = spark.read.parquet(path)
    kept.createOrReplaceTempView(view.name)
    return kept.count()


def translate(query: str) -> str:
    """One SELECT of the views in Spark's words. Raises ViewError."""
    import sqlglot
    from sqlglot import exp

    macros = _engine()[1]
    tree = sqlglot.parse_one(query, dialect="duckdb")
    # The innermost calls first, so that what is put into another is in Spark's words already.
    for call in reversed([node for node in tree.find_all(exp.Anonymous) if node.name.lower().startswith("nd_")]):
        macro = macros.get(call.name.lower())
        if macro is None or len(macro.parameters) != len(call.expressions):
            raise ViewError(f"sql/engines/spark.sql has no {call.name} of {len(call.expressions)} arguments")
        call.replace(exp.var(_expanded(macro, call.expressions)))
    try:
        return tree.sql(dialect="spark", pretty=True, comments=False, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.UnsupportedError as error:
        raise ViewError(f"not to be said in Spark's words: {error}") from error


def _create(view: View) -> str:
    comment = view.title.replace("\\", "\\\\").replace("'", "\\'")
    return f"CREATE OR REPLACE TEMPORARY VIEW {view.name} COMMENT '{comment}' AS\n{translate(view.sql)}"


def _expanded(macro: Macro, arguments: list[exp.Expression]) -> str:
    """The text of a macro with its parameters replaced. sqlglot does not read it: it would drop the k of max_by."""
    given = dict(zip(macro.parameters, (argument.sql(dialect="spark") for argument in arguments), strict=True))
    return re.sub(r"\w+", lambda word: given.get(word[0], word[0]), macro.body)


@cache
def _engine() -> tuple[tuple[str, ...], dict[str, Macro]]:
    """What sql/engines/spark.sql has to be run first, and its macros by name."""
    text = (SQL / "engines" / "spark.sql").read_text(encoding="utf-8")
    statements, macros = [], {}
    for statement in re.sub(r"^\s*--.*\n", "", text, flags=re.MULTILINE).split(";"):
        if macro := re.fullmatch(r"create or replace macro (\w+)\((.*?)\) as\s+(.*)", statement.strip(), re.DOTALL):
            name, parameters, body = macro.groups()
            macros[name] = Macro(tuple(re.findall(r"\w+", parameters)), " ".join(body.split()))
        elif statement.strip():
            statements.append(statement.strip())
    return tuple(statements), macros


@cache
def _columns() -> dict[str, tuple[Column, ...]]:
    """The columns of every base table."""
    import sqlglot
    from sqlglot import exp

    tables = {}
    for statement in sqlglot.parse((SQL / "tables.sql").read_text(encoding="utf-8"), dialect="duckdb"):
        if isinstance(statement, exp.Create):
            tables[statement.find(exp.Table).name] = tuple(
                Column(column.name, column.kind.sql(dialect="spark"), not column.find(exp.NotNullColumnConstraint))
                for column in statement.find_all(exp.ColumnDef)
            )
    return tables


def _table(spark: SparkSession, source: str, table: str) -> DataFrame:
    """A base table with the columns and types of sql/tables.sql, whatever else its files hold."""
    path = _path(source, table)
    try:
        found = spark.read.parquet(path)
    except _errors() as error:
        raise SparkError(f"{path} cannot be read: {_reason(error)}") from error
    present = {name.lower() for name in found.columns}
    columns = _columns()[table]
    if missing := [column.name for column in columns if column.name not in present and not column.may_be_null]:
        raise SparkError(f"{path} has no column {', '.join(missing)}; it has {', '.join(found.columns)}")
    return found.selectExpr(
        *(f"CAST({column.name if column.name in present else 'NULL'} AS {column.type}) AS {column.name}"
          for column in columns)
    )  # fmt: skip


def _path(source: str, table: str) -> str:
    if re.match(r"\w+://", source):
        return f"{source.rstrip('/')}/{table}.parquet"
    # Of a folder of shards the small tables are in a folder of their own, with the large ones empty.
    names = (f"table={table}", f"{table}.parquet", table, f"catalog/{table}.parquet")
    for name in names:
        if (path := Path(source) / name).exists():
            return str(path)
    raise SparkError(f"{source} has no table {table}: none of {', '.join(names)} is there")


def _errors() -> tuple[type[Exception], ...]:
    """What Spark raises: its own errors, and those of Java that it leaves as they are."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    return PySparkException, Py4JJavaError


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without the call that it went wrong in."""
    java = getattr(error, "java_exception", None)
    return str(error if java is None else java.getMessage()).splitlines()[0]
