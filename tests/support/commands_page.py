"""docs/commands.md, written from the help of the commands.

python -m tests.support.commands_page > docs/commands.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from dissectdb.commands import app

FIRST = ("demo", "extract", "modify", "effects", "report", "query", "status", "check", "build")  # in this order

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


def page() -> str:
    """The page: an index of the commands, then a section with the options of each."""
    commands = dict(commands_of(typer.main.get_command(app.app), ()))
    names = sorted(commands, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    index = [f"| [`{name}`](#{name.replace(' ', '-')}) | {summary(commands[name])} |" for name in names]
    sections = [section(name, commands[name]) for name in names]
    return "\n".join([INTRO, "| command | |", "|---|---|", *index, "", *sections])


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
