"""Read the text files that people write, and show what they hold.

read_text(Path("concepts.txt"), 4 * MEGABYTE)
tomllib.loads(without_endless_keys(read_text(Path("study.toml"), MEGABYTE)))
one_line(error)

A file may come from anybody. One that is larger than it can sensibly be is refused before it is read, a pipe before
it is opened, and keys that would keep the parser busy for hours before it sees them. Imports no torch.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

MEGABYTE = 1 << 20

# A dotted key of n parts costs the parser n² steps: one of a megabyte hours. The longest of ours has three.
_ENDLESS_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")


def read_text(path: Path, most: int) -> str:
    """The text of a UTF-8 file of at most so many bytes. Raises OSError or ValueError with the reason."""
    if path.exists() and not path.is_dir() and not path.is_file():  # of a folder the system speaks for itself
        raise ValueError("is no file but a pipe or a device")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"has more than {most // MEGABYTE} MB, which is more than is ever needed; make it smaller")
    return io.StringIO(content.decode("utf-8-sig"), newline=None).read()  # every kind of line end becomes \n


def without_endless_keys(text: str) -> str:
    """The same text, if TOML's parser can be trusted with it. Raises ValueError."""
    if _ENDLESS_KEY.search(text):
        raise ValueError("holds a key of more than 100 parts")
    return text


def one_line(error: object, most: int = 300) -> str:
    """An error's message as one line that a terminal can show: short, and without control characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= most else f"{text[:most]} …"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
