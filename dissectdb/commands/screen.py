"""Lines on stdout and stderr: how wide the terminal is, which signs and colours it shows.

put("report: report.html")                      # a line of the result
put("a note", stream=sys.stderr)
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FALLBACK = 80  # columns of a terminal that does not state its width


@dataclass(frozen=True)
class Signs:
    """The signs that a table has beside its data."""

    null: str
    more: str  # where something is left out
    line: str


UNICODE = Signs(null="–", more="…", line="─")
ASCII = Signs(null="-", more="...", line="-")
# What the signs of our sentences become in ASCII. Others, as in names of the user, stay if the stream takes them.
PLAIN: dict[str, str | int | None] = {
    "–": "-",
    "…": "...",
    "×": "x",
    "→": "->",
    "·": ",",
    "≤": "<=",
    "≥": ">=",
    "τ": "tau",
    "−": "-",
}


def signs_of(stream: IO[str]) -> Signs:
    """The signs that a stream can show: Unicode if it takes UTF-8, unless the locale is C.

    Python takes UTF-8 for the locale C. A terminal that is told to use C may not.
    """
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    locale = next((value for name in ("LC_ALL", "LANG") if (value := os.environ.get(name))), "")
    return ASCII if encoding != "utf8" or locale in ("C", "POSIX") else UNICODE


def width_of(stream: IO[str]) -> int | None:
    """The columns of the terminal, of which $COLUMNS is another name; None if the stream is no terminal."""
    if not stream.isatty():
        return None
    if (columns := os.environ.get("COLUMNS", "")).isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or FALLBACK
    except (OSError, ValueError):
        return FALLBACK


def console_of(stream: IO[str]) -> Console:
    """A console of rich that writes texts as they are. It has colours on a terminal, unless NO_COLOR is set."""
    from rich.console import Console

    is_terminal = stream.isatty()
    return Console(
        file=stream, width=width_of(stream), force_terminal=is_terminal, highlight=False, markup=False, emoji=False
    )  # fmt: skip


def put(
    text: str = "",
    style: str = "",
    *,
    indent: int = 0,
    stream: IO[str] | None = None,
    console: Console | None = None,
) -> None:
    """Print a line, by default on stdout. On a terminal it is wrapped between words.

    console: the one that draws on the terminal now, if any.
    """
    stream = stream or sys.stdout
    text = encodable(text, stream)
    if stream.isatty():
        from rich.text import Text

        console = console or console_of(stream)
        lines = Text(text, style=style).wrap(console, max(console.width - indent, 1))
        for line in lines or [Text()]:
            line.rstrip()
            console.print(Text(" " * indent) + line)
    else:
        print(" " * indent + text, file=stream, flush=stream is sys.stderr)


def put_command(text: str) -> None:
    """Print a command to copy on stdout: never wrapped, so that it stays one line."""
    print(f"  {encodable(text, sys.stdout)}")


def put_error(text: str) -> None:
    """Print an error on stderr. On a terminal a command at its end has a line of its own, which is not wrapped."""
    command = re.search(r"(?<=[:,]) (dissectdb [a-z].*)$", text) if sys.stderr.isatty() else None
    put(text[: command.start()] if command else text, stream=sys.stderr)
    if command:
        print(f"  {encodable(command[1], sys.stderr)}", file=sys.stderr)


def encodable(text: str, stream: IO[str]) -> str:
    """The text with signs that the stream cannot take written out."""
    if signs_of(stream) is ASCII:
        text = text.translate(str.maketrans(PLAIN))
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
