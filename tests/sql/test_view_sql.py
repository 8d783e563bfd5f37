"""What a view may be written with: the SQL that means the same in DuckDB and, after sqlglot, in Spark."""

from __future__ import annotations

import re

import pytest
import sqlglot
from sqlglot import exp

from dissectdb.warehouse.schema import SQL
from tests.support.rows import all_views, filled, keep

each_view = pytest.mark.parametrize("view", all_views(), ids=lambda view: view.name)

FUNCTIONS = {"case", "cast", "and", "or", "exp", "ln", "sqrt", "abs", "greatest", "least", "coalesce"}
FUNCTIONS |= {"sum", "avg", "min", "max", "count", "stddev", "variance", "corr"}
FUNCTIONS |= {"row_number", "percent_rank", "lag"}
FUNCTIONS |= {"nullif"}  # standard SQL, the same on both engines
FUNCTIONS |= {"stddev_pop"}  # of a whole probing set, not of a sample; both engines have it by this name
FUNCTIONS |= {"variance_pop"}  # sqlglot's name of var_pop; as stddev_pop
FUNCTIONS |= {"floor"}  # of a positive number; both engines have it
FUNCTIONS |= {"power"}  # of doubles, the same on both engines
FUNCTIONS |= {"substring"}  # from 1 on, of a text; standard SQL, the same on both engines
FUNCTIONS |= {"regexp_replace"}  # of a pattern that matches once; both engines have it
FUNCTIONS |= {"explode"}  # sqlglot's name of unnest: elements become rows, in no order

# All else that sqlglot's tree of a view may consist of. So no x[1] (Spark counts from 0), no
# lambda, list or struct, no interval, pattern, pivot, sample or recursion: what more is needed becomes an nd_ function.
CONSTRUCTS = {
    exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Qualify, exp.With, exp.CTE, exp.Subquery,
    exp.Union, exp.Distinct, exp.Table, exp.TableAlias, exp.Column, exp.Alias, exp.Identifier, exp.Star, exp.Literal,
    exp.Null, exp.Boolean, exp.Paren, exp.Tuple, exp.DataType, exp.Window, exp.WindowSpec, exp.Order, exp.Ordered,
    exp.Filter, exp.In, exp.Between, exp.Is, exp.Not, exp.Neg, exp.DPipe, exp.Add, exp.Sub, exp.Mul, exp.Div,
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE,
}  # fmt: skip

TABLES = set(re.findall(r"create table if not exists (\w+)", (SQL / "tables.sql").read_text(encoding="utf-8")))
TABLES_AND_VIEWS = {view.name for view in all_views()} | TABLES


# What a question may have beyond a view: it is asked for a reader, so it has an order, limits and parameters.
ONLY_IN_QUESTIONS = {"Limit", "Placeholder", "function dense_rank"}
ONLY_IN_QUESTIONS |= {"function array_to_string"}  # sqlglot knows Spark's name of it
ONLY_IN_QUESTIONS |= {"cast to bigint"}  # of a sum of whole numbers, which is a HUGEINT in DuckDB


def traps(text: str) -> list[str]:
    """What in a view would fail or mean something else on another engine, or is decided by chance."""
    [tree] = sqlglot.parse(text, dialect="duckdb")
    order = ["a view has no order"] if tree.args.get("order") else []
    return [f"{what}: {node.sql()}" for node, what in _traps_in(tree)] + order + _hidden_tables(tree)


def traps_of_question(text: str) -> list[str]:
    """The same for a question, which may have an order, limits and parameters."""
    [tree] = sqlglot.parse(text, dialect="duckdb")
    found = [f"{what}: {node.sql()}" for node, what in _traps_in(tree) if what not in ONLY_IN_QUESTIONS]
    for select in tree.find_all(exp.Select):
        if select.args.get("limit") and not select.args.get("order"):
            found.append("limit in no order")
        if select.args.get("limit") and select.args.get("qualify"):
            found.append("limit beside qualify: in Spark the limit comes first")
    for cast in tree.find_all(exp.Cast):
        if cast.to.is_type("bigint") and not cast.this.find(exp.Sum):
            found.append(f"cast to bigint of what is not a sum: {cast.sql()}")
    return found + _hidden_tables(tree)


def _traps_in(tree: exp.Expression) -> list[tuple[exp.Expression, str]]:
    return [(node, what) for node in tree.walk() for what in _traps_of(node)]


def _hidden_tables(tree: exp.Expression) -> list[str]:
    steps = [step.alias for step in tree.find_all(exp.CTE)]
    return [f"step {name} hides a table" for name in steps if name in TABLES_AND_VIEWS]


def _traps_of(node: exp.Expression) -> list[str]:
    arguments = node.args
    match node:
        case exp.If() if isinstance(node.parent, exp.Case):
            return []
        case exp.Cast():
            return _traps_of_cast(node)
        case exp.Func():
            name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
            return [] if name in FUNCTIONS or name.startswith("nd_") else [f"function {name}"]
        case _ if type(node) not in CONSTRUCTS:
            return [type(node).__name__]
        case exp.Literal() if not node.is_string and "." in node.name and not isinstance(node.parent, exp.Cast):
            return ["a decimal, whose arithmetic differs: cast it to double"]
        case exp.Select() if arguments.get("qualify") and node.is_star:
            return ["* where qualify adds a column"]
        case exp.Star() if {key for key, value in arguments.items() if value}:
            return ["* with exceptions"]
        case exp.Join() if arguments.get("method") or arguments.get("kind") not in (None, "", "INNER", "CROSS"):
            return ["join of one engine"]
        case exp.Distinct() if arguments.get("on"):
            return ["distinct on"]
        case exp.Group() if {key for key, value in arguments.items() if value} - {"expressions"}:
            return ["group by of one engine"]
        case exp.Union() if arguments.get("by_name") or arguments.get("distinct"):
            return ["union that is not union all"]
        case exp.With() if arguments.get("recursive"):
            return ["recursion"]
        case exp.Tuple() if not isinstance(node.parent, exp.Ordered | exp.In):
            return ["struct"]
        case exp.Window() if not arguments.get("order") and isinstance(node.this, exp.RowNumber):
            return ["row_number in no order"]
        case exp.WindowSpec() if arguments.get("kind", "").upper() != "ROWS":
            return ["frame that depends on ties"]
    return []


def _traps_of_cast(node: exp.Cast) -> list[str]:
    kind = node.to.sql(dialect="duckdb")
    if isinstance(node, exp.TryCast):
        return ["cast that hides what does not fit"]
    if kind in ("TEXT", "VARCHAR"):  # of a number, each engine writes other digits
        return [] if isinstance(node.this, exp.Null) else ["cast to text"]
    return [] if kind in ("DOUBLE", "REAL", "FLOAT") else [f"cast to {kind.lower()}"]


@each_view
def test_a_view_uses_only_what_means_the_same_on_every_engine(view):
    assert traps(view.sql) == []


@pytest.mark.parametrize(
    "text",
    [
        "select log(a) from t",
        "select list(a order by b) from t",
        "select a from t where b > 0.2",
        "select a from t where b between 0 and 0.2",
        "select a from t where b in (0.1, 0.2)",
        "select greatest(a, 0.001) as a from t",
        "select 0.5 * a as a from t",
        "select cast(a as int) from t",
        "select cast(a as decimal(10, 2)) from t",
        "select cast(a as varchar) from t",
        "select try_cast(a as double) from t",
        "select a::bigint from t",
        "select a from t, unnest(t.b) with ordinality as u(x, i)",
        "select percentile_cont(0.5) within group (order by a) from t",
        "select quantile_cont(a, 0.5) from t",
        "select format('{}', a) from t",
        "select hash(a) from t",
        "select arg_max(a, b, 3) from t",
        "select any_value(a) from t",
        "select list_cosine_similarity(a, b) from t",
        "select a[1] from t",
        "select [a, b] as c from t",
        "select {'a': a} as c from t",
        "select (a, b) as c from t",
        "select list_transform(a, x -> x + 1) from t",
        "select a // 2 from t",
        "select a % 2 from t",
        "select a from t limit 3",
        "select a from t order by a",
        "select a from t using sample 10",
        "select a from t where b like 'x%'",
        "select a from t where b ~ 'x'",
        "select a + interval 1 day from t",
        "select my_python_function(a) from t",
        "select * from t qualify row_number() over (partition by a order by b) = 1",
        "select t.* from t qualify row_number() over (partition by a order by b) = 1",
        "select * exclude (a) from t",
        "select * replace (1 as a) from t",
        "select columns('a.*') from t",
        "select distinct on (a) a, b from t",
        "select a, count(*) from t group by all",
        "select a, count(*) from t group by cube (a)",
        "select row_number() over (partition by a) from t",
        "select sum(a) over (order by b range between 1 preceding and current row) from t",
        "select a from t asof join u on t.a >= u.a",
        "select a from t semi join u using (a)",
        "select a from t natural join u",
        "select a from t positional join u",
        "select a from t union all by name select a from u",
        "select a from t union select a from u",
        "with recursive n as (select 1 as a union all select a + 1 from n) select a from n",
        "with images as (select 1 as a) select a from images",
        "pivot t on a using sum(b)",
    ],
)
def test_the_lint_finds_each_trap(text):
    assert traps(text) != []


@pytest.mark.parametrize(
    "text",
    [
        "select k, t.a, u.b from t left join u using (k) where t.a is not null and not u.b in ('x', 'y')",
        "select a, count(*) filter (where b > cast(0.2 as double)) as n from t group by a having count(distinct b) > 3",
        "select a, lag(b) over (partition by a order by c desc) as d, percent_rank() over (order by b) as p from t",
        "select a, b from t qualify row_number() over (partition by a order by (b, -c) desc) <= 256",
        "select a || '+' || b as c, case a when 'x' then 1e-7 else ln(2) end as d from t union all select a, b from u",
    ],
)
def test_the_lint_lets_pass_what_the_engines_share(text):
    assert traps(text) == []


def widened(text: str, floats: set[str]) -> list[str]:
    """Floats that meet an integer: their sum or product is a float in DuckDB and a double in Spark."""
    [tree] = sqlglot.parse(text, dialect="duckdb")
    return [
        node.sql()
        for node in tree.find_all(exp.Add, exp.Sub, exp.Mul)
        for one, other in ((node.left, node.right), (node.right, node.left))
        if isinstance(one, exp.Column) and one.name in floats and isinstance(other, exp.Literal) and other.is_int
        if not (isinstance(node.parent, exp.Cast) and node.parent.to.is_type("float"))
    ]


@pytest.fixture(scope="module")
def float_columns() -> dict[str, set[str]]:
    """The columns of each table and view that hold floats."""
    with filled() as connection:
        for view in all_views():
            keep(connection, view)
        described = {name: connection.execute(f"describe select * from {name}").fetchall() for name in TABLES_AND_VIEWS}
    return {name: {column for column, kind, *_ in rows if kind == "FLOAT"} for name, rows in described.items()}


@each_view
def test_a_float_times_an_integer_is_kept_a_float(view, float_columns):
    assert widened(view.sql, set().union(*(float_columns[name] for name in view.reads))) == []


def test_the_lint_finds_a_float_that_spark_would_widen(float_columns):
    assert float_columns["activations"] == {"value"}
    assert widened("select floor(value * 10) from activations", {"value"}) == ["value * 10"]
    assert widened("select floor(cast(10 * value as float)) from activations", {"value"}) == []
    assert widened("select value * value, 2 * other from activations", {"value"}) == []


def test_no_view_needs_a_function_of_python():
    """Anything that a bare connection, as in the duckdb shell, does not have would fail here."""
    with filled() as connection:
        for view in all_views():
            connection.execute(f"select * from {view.name}").fetchall()
            keep(connection, view)
    assert "create_function" not in "".join(path.read_text() for path in (SQL.parent / "warehouse").glob("*.py"))
