"""The views on Spark, for data too large for one machine: the same files of sql/, translated into Spark's SQL.

spark = local_session()                           # or a session of one's own
for built in build(spark, "tables", "views"):     # tables/<table>.parquet in, views/<view>.parquet out
    print(built.view, built.rows, built.seconds)
spark.sql("select * from layer_summary").show()   # every view is there, by name
print(*compile(load_views()), sep=";\\n\\n")        # the SQL, for a session with the tables in it

sqlglot translates them. Each call of an nd_ function is replaced by its body from sql/engines/spark.sql. A view may use
only what sqlglot translates correctly; the tests compare every view's rows on both engines.
"""

from __future__ import annotations

import logging
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

from dissectdb.warehouse.schema import SQL
from dissectdb.warehouse.view_files import View, ViewError, load_views, with_inputs
from dissectdb.warehouse.view_tables import Built

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot import exp

log = logging.getLogger("dissectdb")


class SparkError(ViewError):
    """A table differs from what sql/tables.sql declares, or Spark fails."""


class SparkMissing(SparkError):
    """Spark or Java is not installed."""

    exit_code = 2  # as for every other extra that is missing


@dataclass(frozen=True)
class Column:
    """A column of a base table, with its type in Spark."""

    name: str
    type: str
    may_be_null: bool


@dataclass(frozen=True)
class Macro:
    """An nd_ function and the expression that replaces a call of it."""

    parameters: tuple[str, ...]
    body: str


def local_session(
    cores: int | None = None, memory: str | None = None, settings: Mapping[str, str] = MappingProxyType({})
) -> SparkSession:
    """A Spark session in this process. Raises SparkMissing if Spark or Java is not installed.

    cores: Default: all. memory: of the Java process, e.g. "2g". Default: 4g. settings: more Spark settings, e.g.
    spark.local.dir.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkMissing("Spark is not installed: pip install 'dissectdb[spark]'") from error
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise SparkMissing("Spark needs Java, 17 or newer: apt-get install openjdk-17-jre-headless, or set JAVA_HOME")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # for the workers; Spark would take any python3
    session = SparkSession.builder.master(f"local[{cores or '*'}]").appName("dissectdb")
    defaults = {
        "spark.driver.memory": memory or "4g",
        "spark.sql.shuffle.partitions": str(cores or os.cpu_count()),
        "spark.sql.session.timeZone": "UTC",
        # Spark makes this folder even if nothing is stored in it.
        "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "spark-warehouse"),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    for key, value in (defaults | dict(settings)).items():
        session = session.config(key, value)
    return session.getOrCreate()


def extract(spark: SparkSession, study: Path | str, sink: str, shards: int) -> list[tuple[int, float, str]]:
    """Compute the shards of an extraction on Spark's workers; returns (shard, seconds, last line printed) of each.

    Each worker runs `dissectdb extract`, so dissectdb must be installed there, and study and sink must be paths that
    workers can read. Workers write the files; no rows travel through Spark. Raises SparkError if a shard fails.
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

    numbers = spark.range(0, shards, 1, shards)  # one task per shard
    try:
        rows = numbers.mapInArrow(work, "shard bigint, seconds double, said string").collect()
    except _errors() as error:
        reason = re.search(r"shard \d+ of \d+: .*", str(error))
        raise SparkError(reason[0] if reason else _reason(error)) from error
    return sorted((row.shard, row.seconds, row.said) for row in rows)


def compile(views: Sequence[View], dialect: str = "spark") -> list[str]:
    """The statements that create the views, in order, in a session that has the tables of sql/tables.sql.

    A materialised view becomes a cached one: Spark computes it when it is first read, and keeps it until the session
    ends.
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
    """Make every view from the tables in a folder; yields one Built per materialised view.

    source: of each table <table>.parquet, <table>/ or table=<table>/, a file or a folder that may be partitioned. Also
    an address that Spark knows, as s3a://…: then each is <table>.parquet. target: where <view>.parquet is written;
    what was there is replaced. select: only these views and what they read. Logs a warning if labels will have no p
    and q. Raises SparkError, ViewError.
    """
    views = load_views()
    wanted = with_inputs(views, select) if select else {view.name for view in views}
    views = [view for view in views if view.name in wanted]
    names = {view.name for view in views}
    tables = {name for view in views for name in view.reads} - names
    for table in sorted(tables):
        _table(spark, str(source), table).createOrReplaceTempView(table)
    if tables >= {"dissections", "null_quantiles", "label_checks"}:
        _warn_of_labels_without_p(spark, str(source))
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


def _warn_of_labels_without_p(spark: SparkSession, source: str) -> None:
    """Log a warning if a dissection has no null distribution, as in a folder of shards.

    Without this, a study whose rule is q would get no interpretable label, and nothing would say why.
    """
    query = """
        select dissection_id, rule from dissections
        where
            dissection_id not in (select dissection_id from null_quantiles)
            and dissection_id not in (select dissection_id from label_checks where p is not null)
        order by dissection_id
    """
    rules = {row.dissection_id: row.rule for row in spark.sql(query).collect()}
    if not rules:
        return
    by_q = [str(dissection) for dissection, rule in rules.items() if rule == "q"]
    uninterpretable = (
        f"By the rule q no label counts as interpretable then (dissection {', '.join(by_q)}), and views of "
        "interpretable labels, such as image_concepts, have no rows. "
    )
    log.warning(
        "%s holds no null distribution for dissection %s, so labels have no p and q. %sA null is drawn when the "
        "folder is imported and labelled: dissectdb import %s --warehouse FILE, then dissectdb extract STUDY",
        source,
        ", ".join(map(str, rules)),
        uninterpretable if by_q else "",
        source,
    )


def _make(spark: SparkSession, view: View, target: str) -> int:
    """Make one view. A materialised one is computed and written; returns its number of rows, else 0."""
    if not view.materialized:
        spark.sql(_create(view))
        return 0
    path = f"{target}/{view.name}.parquet"
    spark.sql(translate(view.sql)).write.mode("overwrite").parquet(path)
    kept = spark.read.parquet(path)
    kept.createOrReplaceTempView(view.name)
    return kept.count()


def translate(query: str) -> str:
    """One SELECT of the views, in Spark's SQL. Raises ViewError."""
    import sqlglot
    from sqlglot import exp

    macros = _engine()[1]
    tree = sqlglot.parse_one(query, dialect="duckdb")
    # The innermost calls first, so that an argument is translated before its call is replaced.
    for call in reversed([node for node in tree.find_all(exp.Anonymous) if node.name.lower().startswith("nd_")]):
        macro = macros.get(call.name.lower())
        if macro is None or len(macro.parameters) != len(call.expressions):
            raise ViewError(f"sql/engines/spark.sql has no {call.name} of {len(call.expressions)} arguments")
        call.replace(exp.var(_expanded(macro, call.expressions)))
    try:
        return tree.sql(dialect="spark", pretty=True, comments=False, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.UnsupportedError as error:
        raise ViewError(f"cannot be translated to Spark: {error}") from error


def _create(view: View) -> str:
    comment = view.title.replace("\\", "\\\\").replace("'", "\\'")
    return f"CREATE OR REPLACE TEMPORARY VIEW {view.name} COMMENT '{comment}' AS\n{translate(view.sql)}"


def _expanded(macro: Macro, arguments: list[exp.Expression]) -> str:
    """The text of a macro with its parameters replaced. sqlglot does not read it: it would drop the k of max_by."""
    given = dict(zip(macro.parameters, (argument.sql(dialect="spark") for argument in arguments), strict=True))
    return re.sub(r"\w+", lambda word: given.get(word[0], word[0]), macro.body)


@cache
def _engine() -> tuple[tuple[str, ...], dict[str, Macro]]:
    """The statements of sql/engines/spark.sql that Spark runs first, and its macros by name."""
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
            tables[statement.this.this.name] = tuple(
                Column(
                    column.name, column.args["kind"].sql(dialect="spark"), not column.find(exp.NotNullColumnConstraint)
                )
                for column in statement.find_all(exp.ColumnDef)
            )
    return tables


def _table(spark: SparkSession, source: str, table: str) -> DataFrame:
    """A base table with exactly the columns and types of sql/tables.sql."""
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
    # In a folder of shards, the small tables lie in `catalog`.
    names = (f"table={table}", f"{table}.parquet", table, f"catalog/{table}.parquet")
    for name in names:
        if (path := Path(source) / name).exists():
            return str(path)
    raise SparkError(f"{source} has no table {table}: none of {', '.join(names)} is there")


def _errors() -> tuple[type[Exception], ...]:
    """The errors that Spark raises: its own, and Java errors that it passes on."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    return PySparkException, Py4JJavaError


def _reason(error: Exception) -> str:
    """The first line of the error's message, without the Java call."""
    java = getattr(error, "java_exception", None)
    return str(error if java is None else java.getMessage()).splitlines()[0]
