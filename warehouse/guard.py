"""What an ad-hoc query may do: read the tables and views of the warehouse, and nothing else.

lock_down(connection)                       # once, right after opening read-only
statement = check(query, names, columns)    # what to run; raises QueryRefused with the reason and the remedy
try:
    connection.sql(statement)
except duckdb.Error as error:
    print(explain_error(error, columns, statement))  # one line, with the nearest column

There are two independent walls. `lock_down` configures the engine: no files, no network, no settings. `check` refuses
a query before anything runs, with a message. It reads the tree that DuckDB's own parser makes of the text
(json_serialize_sql), so it judges exactly what would run. Another parser could read some text differently, and
importing one takes longer than a whole query. The lists here name what is allowed: whatever a later DuckDB adds is
refused until it is added here. Functions are the exception, because a thousand are harmless: the list names those
that are refused, and a test classifies every function of the engine.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import duckdb

from dissectdb.did_you_mean import choices, fold, nearest

MAX_CHARACTERS = 100_000  # the parser's tree is some 60 times as large
SPILL_SHARE = 2  # a query may fill 1/SPILL_SHARE of the free disk
ALLOWED = "SELECT, WITH, FROM, VALUES, DESCRIBE name, SUMMARIZE name, SHOW TABLES or EXPLAIN [ANALYZE] SELECT"
_EXPLAIN = re.compile(r"explain\s+(analyze\s+)?(?=[^\s(])", re.IGNORECASE)

# The kinds of node in DuckDB's tree: queries, tables in FROM, modifiers, order.
_NODE = re.compile(
    "(SELECT|SET_OPERATION|RECURSIVE_CTE|CTE)_NODE"
    "|BASE_TABLE|SUBQUERY|JOIN|TABLE_FUNCTION|EXPRESSION_LIST|EMPTY|PIVOT|SHOW_REF"
    "|(ORDER|LIMIT|LIMIT_PERCENT|DISTINCT)_MODIFIER|(ORDER_)?(DEFAULT|ASCENDING|DESCENDING)"
)
_TOO_DEEP = "the query is nested too deeply; give its inner parts names: WITH part AS (…)"
_EXPRESSION = re.compile(
    "CONSTANT|COLUMN_REF|POSITIONAL_REFERENCE|STAR|FUNCTION|WINDOW|OPERATOR|COMPARISON|CONJUNCTION|BETWEEN"
    "|CASE|CAST|TYPE|COLLATE|LAMBDA|LAMBDA_REF|SUBQUERY"
)
_TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
_REFUSED_FUNCTIONS = {
    "reads files": r"read_.*|glob|sniff_.*|parquet_.*|add_parquet_key|.*_scan|which_secret",
    "runs text as SQL": r"query|query_table|json_(de)?serialize_.*|json_execute_.*",
    "tells settings or the session": (
        r"current_setting|getenv|getvariable|current_query(_id)?|current_(connection|transaction)_id|txid_current"
        r"|in_search_path|get_block_size|inet_.*|duckdb_.*|pragma_.*|pg_(?!typeof|size_pretty).*"
        r"|has_.*_privilege|(col|obj|shobj)_description|format_type"
    ),
    "changes the session": r"nextval|currval|setval|setseed|write_log|sleep.*|pg_sleep.*",
    "belongs to the engine": (
        r"__internal.*|stats|vector_type|finalize|combine|combine_aggr|to_aggregate_state|.*duckdb_log.*|index_key"
        r"|variant_bytes_to_variant"
    ),
}


# The file may come from a stranger: SQL in its views can compute, but reach no other file. Writers get these settings
# and lock_configuration; readers get more, in lock_down.
CONFINED = {
    "enable_external_access": "false",  # no file by name, no ATTACH, no COPY, no INSTALL or LOAD
    "autoinstall_known_extensions": "false",  # a function name must not start a download
    "autoload_known_extensions": "false",  # nor run code from the extension folder
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",  # they are stored in the home folder
    "python_enable_replacements": "false",  # FROM df would read a variable of the calling Python code
}


class QueryRefused(ValueError):
    """The query does more than read this warehouse; the message says what, and what to do instead."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        """Control characters in the message are escaped, because a name may hold some."""
        super().__init__("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message))


def lock_down(
    connection: duckdb.DuckDBPyConnection,
    *,
    threads: int | None = None,
    memory: str | None = None,
    spill: Path | None = None,
) -> None:
    """Restrict a connection to reading the file that it has open. This cannot be undone.

    It holds for every connection of the process to the same file. A query that needs more than `memory` ("4GB";
    default: what the file was opened with) fails, because spilling to disk is writing.

    spill: a private folder to spill to. This needs access to the file system, so the engine then permits COPY to that
    folder, and reading the file as bytes. Use it only for our own statements and for those that passed `check`.
    """
    if threads is not None:
        connection.execute("set threads = ?", [threads])
    if memory is not None:
        connection.execute("set memory_limit = ?", [memory])
    # enable_external_access does not cover the temporary folder: COPY could write there.
    connection.execute("set temp_directory = ?", [str(spill) if spill else ""])
    if spill is not None:
        connection.execute("set max_temp_directory_size = ?", [f"{shutil.disk_usage(spill).free // SPILL_SHARE}B"])
    for name, value in CONFINED.items():
        connection.execute(f"set {name} = {value}")
    # The database file, its WAL and its temporary files stay open to SQL without external access:
    # COPY TO 'warehouse.duckdb.wal' writes, on a read-only connection too. No file system, no such file.
    if spill is None:
        connection.execute("set disabled_filesystems = 'LocalFileSystem'")
    connection.execute("set lock_configuration = true")  # last: without it a SET undoes all of the above


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """An empty database, to parse texts with. It is locked, because parsing some statements runs them."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    lock_down(connection)
    return connection


def check(
    query: str,
    names: Collection[str],
    columns: Mapping[str, Sequence[str]] | None = None,
    bound: Collection[str] = (),
) -> str:
    """The one statement of `query`, without comments or semicolons around it, if it only reads. Else QueryRefused.

    names: the tables and views that may be read. columns: the columns of each, for better messages.
    bound: the names of parameters that get a value.

        check("select * from layer_summary; -- all", ["layer_summary"])  # 'select * from layer_summary'
    """
    if len(query) > MAX_CHARACTERS:
        raise QueryRefused(f"the query has {len(query):,} characters; the limit is {MAX_CHARACTERS:,}")
    if re.search("[\0\ud800-\udfff]", query):
        raise QueryRefused("the query has a character that is not text (NUL or half of a surrogate pair)")
    statement = _trim(query)
    if not statement:
        raise QueryRefused(f"there is no statement to run; write {ALLOWED}")
    explain = _EXPLAIN.match(statement)
    if explain and not _EXPLAIN.match(statement, explain.end()):  # DuckDB has no plan of an EXPLAIN
        read = check(statement[explain.end() :], names, columns, bound)
        # Rebuilt, because only the explained statement was checked.
        return f"explain {'analyze ' if explain[1] else ''}{read}"
    try:
        _tree(query)  # the whole text first, so that positions are right and an open comment is an error
        tree = _tree(statement)
    except RecursionError:
        raise QueryRefused(_TOO_DEEP) from None
    for node, ctes in _nodes(tree):
        _refuse_node(node, bound)
        _refuse_function(node)
        _refuse_table(node, ctes, names, columns or {})
    return statement


def _trim(query: str) -> str:
    """The query without comments, semicolons and spaces before its first word and after its last."""
    text = query.encode()  # the tokenizer counts bytes
    tokens = duckdb.tokenize(query)
    ends = [start for start, _ in tokens[1:]] + [len(text)]
    words = [
        (start, end)
        for (start, kind), end in zip(tokens, ends, strict=False)  # an empty text has an end and no token
        if kind != duckdb.token_type.comment and text[start:end].decode(errors="ignore").replace(";", "").strip()
    ]
    if not words:
        return ""
    return text[words[0][0] : words[-1][1]].decode(errors="ignore").strip().rstrip(";").strip()


def _tree(statement: str) -> dict:
    """The tree of a SELECT, by DuckDB's parser. Raises QueryRefused for any other statement."""
    parser = _parser().cursor()  # one cursor per call, because threads must not share it
    [(answer,)] = parser.execute("select json_serialize_sql(?)", [statement]).fetchall()
    tree = json.loads(answer)
    if not tree["error"]:
        if (count := len(tree["statements"])) != 1:
            raise QueryRefused(f"one statement at a time: here are {count}")
        return tree
    if "expression depth" in tree["error_message"]:
        raise QueryRefused(_TOO_DEEP)
    if tree["error_type"] != "not implemented":
        raise QueryRefused(_one_line(tree["error_message"]) + _place(statement, tree.get("position")))
    try:
        kinds = [found.type.name for found in parser.extract_statements(statement)]
    except duckdb.Error:  # a PRAGMA or IMPORT, which the locked parser refuses to look up
        kinds = [""]
    if len(kinds) > 1 and "MULTI" not in kinds:
        raise QueryRefused(f"one statement at a time: here are {len(kinds)}")
    if kinds == ["MULTI"]:
        raise QueryRefused("PIVOT … ON makes a type, so it is refused; write FROM t PIVOT (sum(x) FOR y IN (1))")
    word = re.split(r"\W", _trim(statement), maxsplit=1)[0].upper()
    thing = kinds[0] if word == "WITH" else word
    raise QueryRefused(f"{thing} is refused, a query can only read; write {ALLOWED}")


def _nodes(tree: dict) -> Iterable[tuple[dict, frozenset[str]]]:
    """Every node, in the order of the text, with the CTEs in its scope.

    Outside its WITH, and in its own body, a CTE's name means a table or a file.
    """
    stack: list[tuple[object, frozenset[str]]] = [(tree, frozenset())]  # no recursion: the tree can be deep
    while stack:
        node, ctes = stack.pop()
        if isinstance(node, list):
            stack.extend((child, ctes) for child in reversed(node))
        if not isinstance(node, dict):
            continue
        yield node, ctes
        bodies, inner = [], ctes
        for entry in (node.get("cte_map") or {}).get("map", []):
            bodies.append((entry["value"], inner))
            inner |= {fold(entry["key"])}
        itself = {fold(node["cte_name"])} if node.get("type") == "RECURSIVE_CTE_NODE" else set()
        children = [
            (child, inner | itself if key == "right" else inner) for key, child in node.items() if key != "cte_map"
        ]
        stack.extend(reversed(bodies + children))


def _refuse_node(node: dict, bound: Collection[str]) -> None:
    """Refuse every kind of node that is not known to be harmless."""
    kind = node.get("class", node.get("type"))
    if kind == "PARAMETER":
        if node.get("identifier") in bound:
            return
        if bound:
            raise QueryRefused(f"${node.get('identifier')} has no value; there is one for {', '.join(bound)}")
        raise QueryRefused("? and $name are refused, there is no value for them; write the value")
    if isinstance(kind, str) and not (_EXPRESSION if "class" in node else _NODE).fullmatch(kind):
        word = kind.removesuffix("_QUERY_NODE").removesuffix("_NODE").replace("_", " ")
        raise QueryRefused(f"{word} inside a query is refused, a query can only read; write {ALLOWED}")


def _refuse_function(node: dict) -> None:
    """Refuse functions that do more than compute, and all but a few table functions."""
    if node.get("type") == "TABLE_FUNCTION":
        name = node["function"]["function_name"]
        if fold(name) not in _TABLE_FUNCTIONS:
            raise QueryRefused(
                f"{name}() in FROM is refused; write a table or view, generate_series(), range() or unnest()"
            )
    elif node.get("class") in ("FUNCTION", "WINDOW"):
        name = node["function_name"]
        for reason, pattern in _REFUSED_FUNCTIONS.items():
            if re.fullmatch(pattern, fold(name)):
                raise QueryRefused(f"{name}() is refused: it {reason}, a query can only read tables and views")


def _refuse_table(
    node: dict, ctes: frozenset[str], names: Collection[str], columns: Mapping[str, Sequence[str]]
) -> None:
    """Refuse a table that is neither in the warehouse nor a CTE."""
    kind, show = node.get("type"), node.get("show_type", "")
    if "class" in node or kind not in ("BASE_TABLE", "SHOW_REF") or show in ("DESCRIBE", "SUMMARY"):
        return  # DESCRIBE and SUMMARIZE hold a query, whose nodes come by themselves
    name, path = node["table_name"], [node["catalog_name"], node["schema_name"]]
    path = node.get("qualified_name", {}).get("path", [])[:-1] or [part for part in path if part]
    if show and show != "SHOW":
        if name != '"tables"':
            raise QueryRefused(f"SHOW {name.strip(chr(34))} is refused; write SHOW TABLES or DESCRIBE name")
    elif any(path) and path != ["main"]:
        whole = ".".join([*path, name])
        raise QueryRefused(f"{whole} is refused: it is outside of this warehouse; {choices(name, sorted(names))}")
    elif fold(name) not in {fold(known) for known in names} and (path or show or fold(name) not in ctes):
        owners = [table for table, found in columns.items() if fold(name) in map(fold, found)]
        if owners and not nearest(name, [*names, *ctes]):
            raise QueryRefused(f"no table or view named {name}; it is a column of {', '.join(owners)}")
        raise QueryRefused(f"no table or view named {name}; {choices(name, sorted({*names, *ctes}))}")


def explain_error(error: duckdb.Error, columns: Mapping[str, Sequence[str]], query: str = "") -> str:
    """One line for an error of a query that passed `check`, with the nearest column of its tables."""
    text = str(error).partition("\n\nLINE ")[0].partition("\n\tCandidate functions:")[0]
    if isinstance(error, duckdb.OutOfMemoryException):
        return "the query needs more memory than it may use; add WHERE or LIMIT, or give it more with --memory SIZE"
    missing = re.search(
        r'Referenced column "(.+?)" not found|have a column named "(.+?)"\n|Column "(.+?)" (?:in|does)', text
    )
    if not missing:
        return _one_line(re.sub(r"^[\w ]+ Error: ", "", text))
    name = next(filter(None, missing.groups()))
    tables = [table for table in columns if fold(table) in known_to_read(query)] or list(columns)
    if near := nearest(name, [column for table in tables for column in columns[table]], 1):
        owners = ", ".join(sorted(table for table in tables if near[0] in columns[table]))
        return f"no column named {name}; did you mean {near[0]} (of {owners})?"
    if len(tables) > 3:  # too many to list
        return f"no column named {name}; write DESCRIBE name to see the columns of a table or view"
    return f"no column named {name}; " + "; ".join(f"{table} has {', '.join(columns[table])}" for table in tables)


def tables_read(query: str) -> set[str]:
    """The tables and views that a SELECT reads, as it spells them; without its CTEs. Raises QueryRefused."""
    return {
        node["table_name"]
        for node, ctes in _nodes(_tree(query))
        if node.get("type") == "BASE_TABLE" and fold(node["table_name"]) not in ctes
    }


def known_to_read(query: str) -> set[str]:
    """The same in lower case; none if the query cannot be parsed."""
    try:
        return {fold(name) for name in tables_read(_trim(query))}
    except (QueryRefused, RecursionError):
        return set()


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _place(statement: str, position: str | None) -> str:
    """The position of a syntax error as line and column, from 1; DuckDB counts bytes from 0."""
    if position is None:
        return ""
    before = statement.encode()[: int(position)].decode(errors="ignore")
    return f" (line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))})"
