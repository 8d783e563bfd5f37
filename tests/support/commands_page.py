"""docs/commands.md, written from the help of the commands.

python -m tests.support.commands_page > docs/commands.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import indent
from typing import Any

import polars as pl
import typer

from dissectdb import ROOT
from dissectdb.commands import app, tables

FIRST = ("demo", "init", "extract", "modify", "effects", "report", "query", "status", "check", "build")  # in this order

INTRO = """\
# Commands

This page is written from the help of the commands: `python -m tests.support.commands_page > docs/commands.md`.

Results go to stdout, progress to stderr. With `--dry-run` a command describes what it would do and changes nothing.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a check or a build failed |
| 2 | wrong usage, or an error in the study file |
| 3 | the warehouse is locked or unreadable |
| 130 | stopped by Ctrl-C or SIGTERM; the same command goes on |
"""

PRINTED = """\
## What is printed

Each stage of a run is one line on stderr. On a terminal it shows the rate and the time left, and at its end the
seconds. A log file gets only that last line; a stage of more than half a minute adds one now and then. Commands that
compute end with what was found and with the commands that may come next.

A table is as wide as the terminal. Columns that do not fit are folded, but numbers never are. Columns without room are
named below the table. A terminal shows at most {rows:,} rows and how many more there are. In a pipe or a file a table
has every row, one line each.

{table}

Numbers are rounded for reading, NULL is a dash, and bytes are shown as their size. In the locale C, and where the
output does not take UTF-8, the signs are ASCII. Only terminals get colours, and `NO_COLOR=1` turns them off. `query`
has other layouts:

| `--format` | |
|---|---|
| `table` | as above |
| `markdown` | a table to paste into a page, with whole texts |
| `vertical` | one line per column, for rows with many columns or long texts |
| `csv`, `json`, `parquet` | for programs: not rounded; bytes are base 64, and in CSV lists are JSON |

The first row of the table above, by `--format vertical`:

{vertical}
"""


def page() -> str:
    """The page: an index of the commands, then a section with the options of each."""
    commands = dict(commands_of(typer.main.get_command(app.app), ()))
    names = sorted(commands, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    index = [f"| [`{name}`](#{name.replace(' ', '-')}) | {summary(commands[name])} |" for name in names]
    sections = [section(name, commands[name]) for name in names]
    return "\n".join([INTRO, "| command | |", "|---|---|", *index, "", printed(), *sections])


def printed() -> str:
    """The section on what is printed. Its tables are made by the code that prints them, of the neurons of README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    neurons = re.findall(
        r"^\| (\w+) \| (\d+) \| ([\w ]+) \| [\d.]+ \| ([\d.]+) \| [\d.]+ \| ([\d.]+) \|", text, re.MULTILINE
    )
    rows = [(layer, int(unit), concept, float(z), float(q)) for layer, unit, concept, z, q in neurons]
    frame = pl.DataFrame(rows, ["layer", "unit", "concept", "z", "q"], orient="row")
    table, vertical = (indent(show, " " * 4) for show in (tables.as_table(frame), tables.as_vertical(frame.head(1))))
    return PRINTED.format(rows=tables.ROWS, table=table, vertical=vertical)


def commands_of(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The name and the parser of each command, those of groups with the group's name before their own."""
    if not hasattr(command, "commands"):
        yield " ".join(names), command
        return
    for name, inner in command.commands.items():
        yield from commands_of(inner, (*names, name))


def paragraphs(command: Any) -> list[str]:
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def summary(command: Any) -> str:
    return escaped(paragraphs(command)[0])


def section(name: str, command: Any) -> str:
    """The heading, the text, the example and a table of the options of a command."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    lines = [f"## {name}", ""]
    for text in paragraphs(command):
        example = text.startswith("Example: ")
        lines += [f"    {text.removeprefix('Example: ')}" if example else escaped(text), ""]
    if command.params:
        lines += ["| argument or option | default | |", "|---|---|---|"]
    lines += [f"| `{each.metavar or each.name.upper()}` | | {escaped(each.help or '')} |" for each in arguments]
    for each in options:
        metavar = "" if each.is_flag else f" {each.metavar or each.opts[0].lstrip('-').upper()}"
        flags = ", ".join(f"`{flag}{metavar if flag == each.opts[0] else ''}`" for flag in each.opts)
        lines.append(f"| {flags} | {default(each)} | {escaped(each.help or '')} |")
    return "\n".join([*lines, ""] if command.params else lines)


def default(option: Any) -> str:
    if option.required:
        return "required"
    return "" if option.default in (None, False, ()) or callable(option.default) else f"`{option.default}`"


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")
