"""One image: what it is taken for, and which neurons speak for it; and the bytes of pictures."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import PIL.Image
import PIL.ImageOps
from starlette.responses import Response

from dissectdb.reports.parts import LARGE, LARGEST_THUMBNAIL
from dissectdb.reports.regions import control, drawn, region_of
from dissectdb.reports.words import plain
from dissectdb.serve.asked import Asked, NotThere
from dissectdb.serve.pages.overview import shown

KEEP = {"Cache-Control": "private, no-cache"}  # another warehouse may be served at the same address later
TILE = 48  # pixels a side of a picture in a strip
GAP = 4
SPEAKING = 24  # pictures of neurons that speak for an image
EMPTY = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="48" height="48"><rect width="48" height="48" fill="#8886"/></svg>'
)


def image(asked: Asked) -> Mapping[str, Any]:
    """One image: where it is from, what each network and edit takes it for, and who speaks for it."""
    summary = shown(asked)
    number = asked.number("id")
    if number is None:
        raise NotThere("The address of an image names its id: /image?id=1")
    found = asked.one("image", f"There is no image {number}", image=number)
    speaking = _speaking(asked, number)
    return {
        "image": found,
        "is_probing": (found["dataset"], found["split"]) == (summary["dataset"], summary["probing_split"]),
        "called": called(found),
        "speaking": speaking,
        "looks": control("look") if speaking else None,
        "attributes": asked.records("image_attributes", image=number),
        "outputs": asked.records("image_outputs", image=number),
        "edits": asked.records("image_edits", image=number),
        "speakers": asked.records("image_speakers", image=number),
    }


def _speaking(asked: Asked, number: int) -> list[dict[str, Any]]:
    """The believed neurons whose map of the image is known, each with the region drawn in it."""
    found = []
    for row in asked.records("speaker_regions", image=number, most=SPEAKING):
        region, said = region_of(row), f"Where {plain(row['layer'])} {row['unit']}, {plain(row['concept'])}, responds"
        if region:
            found.append(row | {"drawing": drawn(region, source(number), said)})
    return found


def called(row: Mapping[str, Any]) -> str:
    """The name of an image's file, without its folder, or its number."""
    return plain(re.split(r"[/\\]", row["path"])[-1]) if row["path"] else f"Image {row['image_id']}"


def source(number: int) -> str:
    """The address of an image's picture."""
    return f"/picture?id={number}"


def picture(asked: Asked) -> Response:
    """The picture of an image, as the warehouse holds it: at most 224 pixels a side."""
    number = asked.number("id")
    rows = asked.records("picture", image=number) if number is not None else []
    opened = _opened(rows[0]["thumbnail"]) if rows else None
    return _png(opened, KEEP) if opened else _no_picture()


def strip(asked: Asked) -> Response:
    """The best images of a neuron beside one another, as one picture for a list."""
    module, unit = asked.exact("layer"), asked.number("unit")
    if module is None or unit is None:
        return _no_picture()
    known = asked.records("neuron_id", module=module, unit=unit)
    rows = asked.records("strip", neuron=known[0]["neuron_id"]) if known else []
    tiles = [_opened(row["thumbnail"]) for row in rows]
    whole = PIL.Image.new("RGBA", (6 * TILE + 5 * GAP, TILE))
    for place, tile in enumerate(tiles):
        if tile is not None:
            fitted = PIL.ImageOps.contain(tile.convert("RGBA"), (TILE, TILE))
            left, top = (TILE - fitted.width) // 2, (TILE - fitted.height) // 2
            whole.paste(fitted, (place * (TILE + GAP) + left, top))
    return _png(whole, KEEP)


def _opened(thumbnail: bytes | None) -> PIL.Image.Image | None:
    """A picture of the warehouse, decoded; None if there is none or if it is not a small PNG.

    It may be of a stranger. What is sent is encoded anew, so that it is a picture and nothing else.
    """
    if not thumbnail or len(thumbnail) > LARGEST_THUMBNAIL:
        return None
    try:
        with PIL.Image.open(io.BytesIO(thumbnail), formats=["PNG", "JPEG"]) as found:
            if max(found.size) > LARGE:  # a few bytes may unpack to any size
                return None
            found.load()
            return found.copy()
    except (OSError, SyntaxError, ValueError):
        return None


def _png(picture: PIL.Image.Image, headers: Mapping[str, str]) -> Response:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return Response(file.getvalue(), media_type="image/png", headers=dict(headers))


def _no_picture() -> Response:
    return Response(EMPTY, media_type="image/svg+xml")
