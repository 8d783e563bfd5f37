"""Read a line of the CSV of Kaggle's FER2013 challenge.

    emotion, pixels, usage = fields(line, columns)
    class_of(emotion), pixels_of(pixels), split_of(usage)  # "angry", uint8 (48, 48), "train"

Each line is parsed by itself, so a broken line (an open quote, a missing end) does not affect the next one: it raises
Unreadable. A process of dissectdb.extract.images.workers loads this module, so it imports nothing that is slow to load.
"""

from __future__ import annotations

import csv
import hashlib
from contextlib import suppress

import numpy as np

from dissectdb.extract.images.decoding import Facts, Pixels, Unreadable, inspect

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # in order of their numbers
SPLITS = {"training": "train", "publictest": "validation", "privatetest": "test"}  # by Usage
SIDE = 48  # pixels


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


def inspect_line(
    columns: list[int], numbered_line: tuple[int, bytes, str | None]
) -> tuple[int, str | None, str | None, Facts, Pixels | None]:
    """Number, split, class, facts and pixels of a line: its number, bytes, and split if that is known.

    split, class: None if they are neither known nor in the line.
    """
    number, line, split = numbered_line
    class_name = pixels = None
    try:
        emotion, text, usage = fields(line, columns)
        if split is None:
            with suppress(Unreadable):
                split = split_of(usage)
        class_name = class_of(emotion)
        split_of(usage)
        pixels = pixels_of(text)
        facts = inspect(pixels)
    except Unreadable as problem:
        facts = Facts(hashlib.sha256(line).hexdigest(), defect=f"unreadable: {problem}")
    return number, split, class_name, facts, pixels
