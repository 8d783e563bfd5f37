"""Read the CSV of Kaggle's FER2013 challenge, plain or gzipped.

    columns = find_columns(path)
    for number, line in lines(path):
        emotion, pixels, usage = fields(line, columns)
        class_of(emotion), pixels_of(pixels), split_of(usage)  # "angry", uint8 (48, 48), "train"

The header names emotion, pixels and Usage, in any order, and perhaps other columns. Each line is parsed by itself, so a
broken line (an open quote, a missing end) does not affect the next one: it raises Unreadable.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from dissectdb.extract.images.decoding import Pixels, Unreadable
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.text_files import one_line

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # in order of their numbers
COLUMNS = ("emotion", "pixels", "usage")
SPLITS = {"training": "train", "publictest": "validation", "privatetest": "test"}  # by Usage
SIDE = 48  # pixels
MAX_LINE = 1 << 20  # bytes that are kept of a line; FER2013's longest has 9,300


def find_columns(path: Path) -> list[int]:
    """The indices of emotion, pixels and Usage in a line. Raises StudyError if the header lacks one."""
    with _reading(path) as file:
        header = file.readline(MAX_LINE).decode("utf-8-sig", "replace")
    names = [name.strip() for name in header.replace('"', "").split(",")]
    lower = [name.casefold() for name in names]
    if any(column not in lower for column in COLUMNS):
        raise StudyError(
            f"{path}: its first line must name the columns emotion, pixels and Usage, and it names "
            f"{one_line(', '.join(names), 100) or 'none'}; fer2013.csv of the Kaggle challenge has all three"
        )
    return [lower.index(column) for column in COLUMNS]


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every non-empty line below the header, which is line 1."""
    with _reading(path) as file:
        _whole_line(file)
        number = 2
        while line := _whole_line(file):
            if line := line.rstrip(b"\r\n"):
                yield number, line
            number += 1


def _whole_line(file: BinaryIO) -> bytes:
    """Read the next line to its end; return at most MAX_LINE bytes of it."""
    line = part = file.readline(MAX_LINE)
    while part and not part.endswith(b"\n"):
        part = file.readline(MAX_LINE)
    return line


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The file, unpacked. Errors of reading it become StudyError."""
    try:
        with path.open("rb") as packed:
            is_gzip = packed.read(2) == b"\x1f\x8b"
            packed.seek(0)
            with cast(BinaryIO, gzip.open(packed)) if is_gzip else packed as file:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{path}: cannot be read to its end: {reason}; is the download complete?") from None


def fields(line: bytes, columns: list[int]) -> list[str]:
    """emotion, pixels and Usage of a line, as text."""
    text = line.decode("utf-8", "replace")
    try:
        row = next(csv.reader([text])) if '"' in text else text.split(",")  # split() is 15 times as fast
    except csv.Error as error:
        raise Unreadable(f"not a line of CSV: {error}") from None
    if len(row) <= max(columns):
        raise Unreadable(f"the line is cut off: it has {len(row)} of {max(columns) + 1} fields")
    return [row[column] for column in columns]


def class_of(emotion: str) -> str:
    """The class of a number from 0 to 6."""
    number = emotion.strip()
    if number not in map(str, range(len(CLASSES))):
        raise Unreadable(f"emotion {number[:20]!r} is none of 0 to {len(CLASSES) - 1}")
    return CLASSES[int(number)]


def split_of(usage: str) -> str:
    """The split of Training, PublicTest or PrivateTest."""
    if split := SPLITS.get(usage.strip().casefold()):
        return split
    raise Unreadable(f"Usage {usage.strip()[:20]!r} is none of Training, PublicTest, PrivateTest")


def pixels_of(text: str) -> Pixels:
    """uint8 (48, 48) from 2,304 numbers with spaces between them."""
    if text.encode().translate(None, b"0123456789 "):  # far quicker than checking every number
        odd = next(number for number in text.split(" ") if number and not (number.isascii() and number.isdigit()))
        raise Unreadable(f"pixel {odd[:20]!r} is no whole number from 0 to 255")
    values = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)
    if len(values) != SIDE**2:
        raise Unreadable(f"{len(values)} pixels instead of {SIDE**2}")
    if not 0 <= values.min() <= values.max() <= 255:
        raise Unreadable(f"pixel {values.max()} is no whole number from 0 to 255")
    return values.astype(np.uint8).reshape(SIDE, SIDE)
