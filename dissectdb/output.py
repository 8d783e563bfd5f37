"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputError(ValueError):
    """A file could not be written; the file that was there before is unchanged."""

    exit_code = 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to. It replaces `path` at the end of the block, or is removed if that fails.

    So a reader never sees half a file, and a killed process leaves none under that name. Raises OutputError if the file
    cannot be written.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def save(content: bytes, path: Path) -> None:
    """Write a file whole. Raises OutputError."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
