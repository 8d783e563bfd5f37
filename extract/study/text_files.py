"""Read text files that people wrote, safely, and shorten text for messages.

read_text(Path("concepts.txt"), 4 * MEGABYTE)
tomllib.loads(without_endless_keys(read_text(Path("study.toml"), MEGABYTE)))
one_line(error)

A file may come from an untrusted source. So a file that is too large is refused before it is read, a pipe before it is
opened, and a TOML file with keys that would occupy the parser for hours before it is parsed. Imports no torch.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

MEGABYTE = 1 << 20

# The parser takes n² steps for a dotted key of n parts: hours for a key of a megabyte. Our longest key has 3 parts.
_ENDLESS_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")


def read_text(path: Path, max_bytes: int) -> str:
    """The text of a UTF-8 file of at most max_bytes. Raises OSError or ValueError with the reason."""
    if path.exists() and not path.is_dir() and not path.is_file():  # opening a folder gives a clear error anyway
        raise ValueError("is not a file but a pipe or a device")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(
            f"has more than {max_bytes // MEGABYTE} MB, which is more than is ever needed; make it smaller"
        )
    return io.StringIO(content.decode("utf-8-sig"), newline=None).read()  # every kind of line end becomes \n


def without_endless_keys(text: str) -> str:
    """The text itself. Raises ValueError if TOML's parser would take too long for it."""
    if _ENDLESS_KEY.search(text):
        raise ValueError("holds a key of more than 100 parts")
    return text


def one_line(error: object, max_length: int = 300) -> str:
    """Text, such as an error's message, as one short line without control characters."""
    text = " ".join(str(error).split())
    text = text if len(text) <= max_length else f"{text[:max_length]} …"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
