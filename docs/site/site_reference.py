"""The pages of the reference: made from the code and the SQL when the site is built, so that they cannot drift.

pages()["reference/views.md"]   # Markdown

Columns have the meaning that the header of their view gives them (`name: meaning`), else that of columns.toml, which
has what is the same in every view. Tables have theirs from the comments of sql/tables.sql. (docs/commands.md is also
made from the code, but stored, because it is read in a checkout too.)
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import site_study_keys

from dissectdb.warehouse import Warehouse
from dissectdb.warehouse.schema import SQL
from dissectdb.warehouse.view_files import View, load_views

MEANINGS = Path(__file__).with_name("columns.toml")
FOLDERS = {
    "evidence": "What was recorded: images, activations, predictions",
    "similarity": "How near neurons and concepts are",
    "meaning": "Labels, how sure they are, and whether they are right",
    "decision": "Edits and effects",
}
PYTHON = """\
# Python

What `import dissectdb` offers. [Notebooks and scripts](../python.md) shows how it is used; the
[study file](study.md) has the keys of `Study`.

## Dissect and read

::: dissectdb.dissecting.dissect
::: dissectdb.opened.open
::: dissectdb.opened.OpenWarehouse
    options: { members: [path, sql, rows, neuron, views] }

## Studies and objects

::: dissectdb.extract.study.study_file.Study
    options: { members: [load, write, changed, tried], show_signature: false }
::: dissectdb.given.Given
::: dissectdb.warehouse_file.WarehouseFile
    options: { members: [] }

## The commands as functions

::: dissectdb.pipeline
    options: { members: [PIPELINE], show_root_heading: false, show_root_toc_entry: false }
::: dissectdb.report_files
    options: { show_root_heading: false, show_root_toc_entry: false }

## Spark

::: dissectdb.warehouse.spark.extract
::: dissectdb.warehouse.spark.build

## A warehouse that is open

::: dissectdb.warehouse.database.Warehouse
    options: { members: [rows, ask, columns, build] }
"""


def pages() -> dict[str, str]:
    """The text of each page, by its path in the site."""
    return {
        "reference/study.md": site_study_keys.page(),
        "reference/views.md": views_page(),
        "reference/tables.md": tables_page(),
        "reference/python.md": PYTHON.replace("PIPELINE", ", ".join(pipeline_functions())),
    }


def pipeline_functions() -> list[str]:
    """The functions of dissectdb.pipeline that docs/python.md lists, which a test holds complete."""
    text = (MEANINGS.parents[1] / "python.md").read_text(encoding="utf-8")
    return [name for name in re.findall(r"^\| `pipeline\.(\w+)\(", text, re.MULTILINE) if name not in _of_reports()]


def _of_reports() -> set[str]:
    text = (MEANINGS.parents[2] / "dissectdb" / "report_files.py").read_text(encoding="utf-8")
    return set(re.findall(r"^def (\w+)", text, re.MULTILINE))


# ---------------------------------------------------------------- tables and views


@cache
def columns() -> dict[str, list[tuple[str, str, str | None]]]:
    """Name, type and comment of the columns of every table and view, from an empty warehouse."""
    query = """
        select table_name, column_name, data_type, comment from duckdb_columns()
        where schema_name = 'main' and not internal order by table_name, column_index
    """
    found = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as folder,
        Warehouse(Path(folder) / "empty.duckdb") as warehouse,
    ):
        for table, *column in warehouse.rows(query).rows():
            found[table].append(tuple(column))
    return dict(found)


@cache
def tables() -> dict[str, str]:
    """The text of sql/tables.sql about each table, by name."""
    text = (SQL / "tables.sql").read_text(encoding="utf-8")
    parts = re.split(r"^create table if not exists (\w+) ", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def public_views() -> list[View]:
    """The views that users query, in the order of their folders and names."""
    folders = {path.stem: path.parent.name for path in (SQL / "views").rglob("*.sql")}
    order = list(FOLDERS)
    public = [view for view in load_views() if view.public]
    return sorted(public, key=lambda view: (order.index(folders[view.name]), view.name))


def views_page() -> str:
    """Every public view: what one row is, its header, and its columns with type and meaning."""
    folders = {path.stem: path.parent.name for path in (SQL / "views").rglob("*.sql")}
    lines = [
        "# Views\n",
        f"The {len(public_views())} views that are made to be queried, with their columns. Their names and columns are "
        "an interface. A view shows the newest dissection, unless you name another one; `dissection_id` says which. "
        "The views `rival_…` show all that was ever judged. "
        "[Thirty queries](../how-to/queries.md) shows them in use.\n",
    ]
    for folder, title in FOLDERS.items():
        lines.append(f"## {title}\n")
        for view in public_views():
            if folders[view.name] == folder:
                lines += view_section(view)
    inner = [view for view in load_views() if not view.public]
    lines += ["## Views behind them\n", "They are there to be read by other views; their columns may change.\n"]
    lines += ["| view | one row is |", "|---|---|"]
    lines += [f"| `{view.name}` | {cell(view.title)} |" for view in sorted(inner, key=lambda view: view.name)]
    return "\n".join([*lines, ""])


def view_section(view: View) -> Iterator[str]:
    """The lines about a view."""
    yield f"### {view.name}\n"
    yield f"{escaped(view.title)}\n"
    yield f"One row per {', '.join(f'`{name}`' for name in view.grain)}.\n"
    body = header(view)
    if body:
        yield "\n\n".join(escaped(paragraph) for paragraph in body) + "\n"
    yield "| column | type | meaning |"
    yield "|---|---|---|"
    for name, kind, _ in columns()[view.name]:
        yield f"| `{name}` | {kind.lower()} | {cell(meaning(view, name) or '')} |"
    yield ""


def header(view: View) -> list[str]:
    """The paragraphs of a view's header behind its grain, each of them one line."""
    head = view.sql.split("\n\n", 1)[0]
    lines = [line.removeprefix("--").strip() for line in head.splitlines()]
    start = next(index for index, line in enumerate(lines) if line.startswith("grain:")) + 1
    kept = [line for line in lines[start:] if not re.match(r"(public$|materialized:)", line)]
    return [" ".join(part.split()) for part in "\n".join(kept).split("\n\n") if part.strip()]


def meaning(view: View, column: str) -> str | None:
    """What a column holds: by columns.toml for this view, by the view's header, or by columns.toml for all views."""
    of_view = common_meanings().get(view.name, {})
    if found := of_view.get(column) or explained(view).get(column) or common_meanings()["all"].get(column):
        return found
    for ending, side in (("_low", "Lower"), ("_high", "Upper")):
        if column.endswith(ending):
            return f"{side} end of the 95 % interval of {column.removesuffix(ending)}"
    other = column.removeprefix("other_")
    return f"{other} of the other of the two" if other != column else None


@cache
def explained(view: View) -> dict[str, str]:
    """The columns that the view's header explains."""
    return in_header(header(view), [name for name, *_ in columns()[view.name]])


def in_header(paragraphs: list[str], names: Collection[str]) -> dict[str, str]:
    """The meaning of each column that a header explains as `name: meaning` or `one, other: meaning`.

    A meaning is a sentence, with the sentences behind it that begin with a small letter (the values of the column).

    >>> in_header(["Rows. a, b: the share. c: of c. small: less. A sentence on all."], ["a", "b", "c"])
    {'a': 'The share.', 'b': 'The share.', 'c': 'Of c. small: less.'}
    """
    found: dict[str, str] = {}
    for paragraph in paragraphs:
        keyed: list[str] = []
        for sentence in re.split(r"(?<=[.;?]) +", paragraph):
            match = re.match(r"(\w+(?:(?:, | and )\w+)*): (.+)", sentence)
            if match and set(keys := re.findall(r"\w+", match[1].replace(" and ", " "))) <= set(names):
                keyed = keys
                found |= dict.fromkeys(keyed, match[2][0].upper() + match[2][1:])
            elif keyed and sentence[0].islower():
                found |= {key: f"{found[key]} {sentence}" for key in keyed}
            else:
                keyed = []
    return {key: text.rstrip(";") for key, text in found.items()}


@cache
def common_meanings() -> dict[str, dict[str, str]]:
    """columns.toml: the table `all`, and one for each view with meanings of its own."""
    return tomllib.loads(MEANINGS.read_text(encoding="utf-8"))


def tables_page() -> str:
    """Every table with its columns, from the comments of sql/tables.sql."""
    lines = [
        "# Tables\n",
        "What `extract`, `modify`, `effects` and `judge` write. Views read them, and so can you. Ids are for joins and "
        "mean nothing outside the file; a fingerprint is the SHA-256 of the content. This page is made from "
        "`sql/tables.sql`.\n",
    ]
    for name, text in tables().items():
        about = re.search(r"comment on table \w+ is\s+'((?:[^']|'')*)'", text)
        keys = re.findall(r"-- key: ([\w, ]+)", text)
        lines += [f"## {name}\n", f"{escaped(unquoted(about[1])) if about else ''}.\n"]
        lines += [f"Key: {'; or '.join(f'`{key.strip()}`' for key in keys)}.\n"] if keys else []
        references = dict(re.findall(r"^    (\w+) [^\n]*-- references (\w+)", text, re.MULTILINE))
        lines += ["| column | type | meaning |", "|---|---|---|"]
        for column, kind, comment in columns()[name]:
            to = f"→ [{references[column]}](#{references[column]})" if column in references else ""
            lines.append(f"| `{column}` | {kind.lower()} | {' '.join(filter(None, [cell(comment or ''), to]))} |")
        lines.append("")
    return "\n".join(lines)


def unquoted(text: str) -> str:
    return text.replace("''", "'")


def escaped(text: str) -> str:
    """Text in which nothing is Markdown or HTML."""
    return re.sub(r"([\\`*_<>\[\]#])", r"\\\1", text)


def cell(text: str) -> str:
    """The same for a cell of a table."""
    return escaped(text).replace("|", "\\|")
