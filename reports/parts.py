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

from dissectdb.reports.regions import Row, drawn, region_of
from dissectdb.reports.words import name, number, plain

Column = tuple[str, str, Callable[[Any], str]]  # key of the row, heading, function that writes a value

LARGE, SMALL = 256, 128  # pixels a side of a picture in a page: as the warehouse has it, and if many must fit
LARGEST_THUMBNAIL = 64 * 1024  # bytes; one of 250 × 188 pixels takes about 9 KiB
WHOLE = 400  # characters of a name in a table; a hostile name may have a megabyte


@dataclass(frozen=True)
class Table:
    """Headings, each with whether its column holds numbers, and rows of cells as text."""

    columns: list[tuple[str, bool]]
    rows: list[list[str]]


@dataclass(frozen=True)
class Figure:
    """A chart: its name in files, the finding as one sentence, and the words that replace it for who cannot see it."""

    chart: alt.LayerChart
    name: str
    title: str
    alternative: str


@dataclass(frozen=True)
class Picture:
    """A thumbnail with its texts; source is None if there is none. called: its file without a folder, or its number.

    drawing: the picture with the region to which a neuron responds; None if that is not known.
    """

    source: str | None
    alternative: str
    called: str
    caption: str
    mistaken_for: str | None = None
    drawing: Markup | None = None


def table(rows: list[Row], columns: list[Column]) -> Table:
    """The rows as a table of texts. A column without a value in any row is left out."""
    used = [column for column in columns if any(row[column[0]] is not None for row in rows)]
    headings = [(heading, read is not whole) for _, heading, read in used]
    return Table(headings, [[read(row[key]) for key, _, read in used] for row in rows])


def whole(text: Any) -> Markup:
    """A text of users for a cell."""
    return name(text, WHOLE)


def data_uri(thumbnail: bytes | None, side: int = LARGE) -> str | None:
    """A thumbnail as a data URI; None if there is none, or if it is too large for a page."""
    text = encoded(thumbnail, side)
    return text and f"data:image/{'jpeg' if text.startswith('/9j/') else 'png'};base64,{text}"


def encoded(thumbnail: bytes | None, side: int = LARGE) -> str | None:
    """A thumbnail of at most `side` pixels a side in base 64; None if there is none, or one too large for a page."""
    if not thumbnail or len(thumbnail) > LARGEST_THUMBNAIL:
        return None
    return base64.b64encode(packed(thumbnail, side)).decode()


def packed(thumbnail: bytes, side: int = LARGE) -> bytes:
    """The same picture in few bytes, because a scan stores a PNG as it is; what is no such picture stays."""
    try:
        with PIL.Image.open(io.BytesIO(thumbnail), formats=["PNG", "JPEG"]) as image:
            fits, kind = max(image.size) <= side, image.format or "PNG"
            if max(image.size) > LARGE or (fits and kind == "JPEG"):  # a few bytes may unpack to any size
                return thumbnail
            image.thumbnail((side, side))  # a JPEG is decoded at the smaller size already
            file = io.BytesIO()
            image.save(file, kind, **({"quality": 80} if kind == "JPEG" else {}))
    except (OSError, SyntaxError, ValueError):
        return thumbnail
    return min(file.getvalue(), thumbnail, key=len)


def top_picture(row: Row) -> Picture:
    """One of a neuron's best images, with its classes and activation."""
    truth, predicted, called = row["true_class"], row["predicted_class"], image_name(row)
    classes = f"true class {plain(truth)}, predicted {plain(predicted)}"
    alternative = f"{called}: {classes}, activation {number(row['value'])}"
    source, region = data_uri(row["thumbnail"]), region_of(row)
    return Picture(
        source,
        alternative,
        called,
        plain(truth) if truth is not None else called,
        plain(predicted) if row["is_correct"] is False else None,
        drawn(region, source, alternative) if region and source else None,
    )


def image_name(row: Row) -> str:
    """The name of an image's file, or its number: Image 17."""
    return plain(row["file"]) if row["file"] else f"Image {row['image_id']}"


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
                f"{image_name(row)}: true class {plain(row['true_class'])}, "
                f"{before[1]} {plain(row[before[0]])}, "
                f"{after[1]} {plain(row[after[0]])}",
                image_name(row),
                plain(row["true_class"]),
                plain(row[before[0] if kind == "gained" else after[0]]),
            )
            for row in images
        ]
        groups.append({"kind": kind, "pictures": pictures, "images": images[0]["num_images"] if images else 0})
    return groups
