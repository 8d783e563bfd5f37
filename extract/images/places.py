"""Where a table says that an image is: in a file of its own, in a part of one, or in the table.

place = Part(Path("0.tar"), offset=512, size=2048)
facts, pixels = inspect_place(16, place)

A process of dissectdb.extract.images.workers loads this module, so it imports nothing that is slow to load.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from dissectdb.extract.images.decoding import Facts, Pixels, Unreadable, inspect_file, is_file


class Part(NamedTuple):
    """Where a file holds the bytes of an image."""

    file: Path
    offset: int
    size: int


Place = Path | bytes | Part | None  # an image: its file, its bytes, where they are, or None if it has none


def opened(place: Place) -> Path | bytes:
    """An image's file, or its bytes. Raises Unreadable."""
    if isinstance(place, Path):
        if not is_file(place):
            raise Unreadable("no such file")
        return place
    if isinstance(place, Part):
        try:
            with place.file.open("rb") as file:
                file.seek(place.offset)
                content = file.read(place.size)
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from None
        if len(content) < place.size:
            raise Unreadable(f"{place.file.name} ends in the middle of it")
        return content
    if place is None:
        raise Unreadable("the row holds no bytes")
    return place


def inspect_place(bits: int, place: Place) -> tuple[Facts, Pixels | None]:
    """The facts about an image and its pixels. bits: as of decode()."""
    try:
        return inspect_file(opened(place), bits)
    except Unreadable as problem:
        return Facts(hashlib.sha256().hexdigest(), defect=f"unreadable: {problem}"), None
