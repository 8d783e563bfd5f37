"""The parts of a page's sections: tables, charts and pictures, ready for the template.

table(rows, [("layer", "Layer", whole), ("neurons", "Neurons", count)])
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import altair as alt
import PIL.Image
from markupsafe import Markup

from dissectdb.reports.words import name, plain

Row = dict[str, Any]
Column = tuple[str, str, Callable[[Any], str]]  # key of the row, heading, function that writes a value

LARGEST_SIDE = 256  # pixels of a thumbnail that is opened
LARGEST_THUMBNAIL = 64 * 1024  # bytes; 64 × 64 pixels in colour are at most 12 KiB
WHOLE = 400  # characters of a name in a table; a hostile name may have a megabyte


@dataclass(frozen=True)
class Table:
    """Headings, each with whether its column holds numbers, and rows of cells as text."""

    columns: list[tuple[str, bool]]
    rows: list[list[str]]


@dataclass(frozen=True)
class Figure:
    """A chart, and the sentence that replaces it for readers who cannot see it."""

    chart: alt.LayerChart
    alternative: str
    heading: Markup | None = None
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A thumbnail with its texts; source is None if the image could not be read."""

    source: str | None
    alternative: str
    caption: str
    mistaken_for: str | None = None


def table(rows: list[Row], columns: list[Column]) -> Table:
    """The rows as a table of texts. A column without a value in any row is left out."""
    used = [column for column in columns if any(row[column[0]] is not None for row in rows)]
    headings = [(heading, read is not whole) for _, heading, read in used]
    return Table(headings, [[read(row[key]) for key, _, read in used] for row in rows])


def whole(text: Any) -> Markup:
    """A text of users for a cell."""
    return name(text, WHOLE)


def data_uri(thumbnail: bytes | None) -> str | None:
    """A thumbnail as a data URI; None if there is none, or if it is too large for a page."""
    text = encoded(thumbnail)
    return text and f"data:image/png;base64,{text}"


def encoded(thumbnail: bytes | None) -> str | None:
    """A thumbnail in base 64; None if there is none, or if it is too large for a page."""
    if not thumbnail or len(thumbnail) > LARGEST_THUMBNAIL:
        return None
    return base64.b64encode(packed(thumbnail)).decode()


def packed(png: bytes) -> bytes:
    """The same picture as a compressed PNG, because a scan stores it as it is; what is no such picture stays."""
    try:
        with PIL.Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            if max(image.size) > LARGEST_SIDE:  # a few bytes may unpack to any size
                return png
            file = io.BytesIO()
            image.save(file, "PNG")
    except (OSError, SyntaxError, ValueError):
        return png
    return min(file.getvalue(), png, key=len)


def flips(flipped: list[Row], before: tuple[str, str], after: tuple[str, str]) -> list[dict[str, Any]]:
    """One group of images gained and one of images lost.

    before, after: the column that holds a class, and the words for it in a sentence.
    """
    groups = []
    for kind in ("gained", "lost"):
        images = [row for row in flipped if row["kind"] == kind]
        pictures = [
            Picture(
                data_uri(row["thumbnail"]),
                f"Image {row['image_id']}: true class {plain(row['true_class'])}, {before[1]} {plain(row[before[0]])}, "
                f"{after[1]} {plain(row[after[0]])}",
                plain(row["true_class"]),
                plain(row[before[0] if kind == "gained" else after[0]]),
            )
            for row in images
        ]
        groups.append({"kind": kind, "pictures": pictures, "images": images[0]["num_images"] if images else 0})
    return groups
