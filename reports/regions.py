"""Where a neuron responds in an image: an outline of the region, a veil over the rest, or a crop.

region = region_of(row)                                        # of image_regions, with the image's width and height
drawn(region, "data:image/png;base64,…", "face.png: happy")    # an <svg>
control("look")                                                # radio buttons that choose the look of a whole page

The region is the cells of the activation map above the neuron's threshold, and the cell of the maximum. The map covers
the part of the picture that the network saw: all of it, or a crop. Every drawing holds all four looks and its picture
once; regions.css shows the one that is chosen, without a script, within an element of the class dissectdb-regions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

Row = dict[str, Any]
Cell = tuple[int, int]  # row, column

STYLE = Path(__file__).resolve().with_name("regions.css")
MARGIN = 0.25  # of a region's longer side, that a crop shows at either side of it
LEAST_CROP = 0.3  # of the picture's sides, that a crop shows at least
LOOKS = {
    "plain": "The whole picture",
    "crop": "Only what is around the region",
    "outline": "A line around the region",
    "veil": "A veil over the rest",
}
FIRST = "outline"
EVERYTHING = "M-99-99H199V199H-99Z"  # more than the picture, in cells; the region's loops are holes in it


class Region(NamedTuple):
    """What draws a region; lengths are in pixels of the image, except those of `loops`.

    cells: the transformation of a cell's corner (column, row) into the picture. loops: a path around the region, in
    cells. zoom: scale, left and top of the crop.
    """

    width: int
    height: int
    cells: str
    loops: str
    zoom: tuple[float, float, float]


def region_of(row: Row) -> Region | None:
    """The region of a row of image_regions with `width` and `height` of the image; None if its place is not known."""
    if any(row[column] is None for column in ("cells", "part_top", "width", "height")):
        return None
    width, height, region = row["width"], row["height"], region_cells(row)
    share, left, top = crop(row, region)
    wide = (row["part_right"] - row["part_left"]) / row["grid_columns"]
    high = (row["part_bottom"] - row["part_top"]) / row["grid_rows"]
    start = f"translate({row['part_left'] * width:.5g} {row['part_top'] * height:.5g})"
    cells = f"{start}scale({wide * width:.5g} {high * height:.5g})"
    zoom = (round(1 / share, 3), round(left * width, 1), round(top * height, 1))
    return Region(width, height, cells, loops(region), zoom)


def drawn(region: Region, source: str, alternative: str) -> Markup:
    """An <svg> of a picture with a region. The style of the page sets its size; its proportions are the picture's."""
    scale, left, top = region.zoom
    return Markup(
        '<svg class="region" role="img" viewBox="0 0 {0} {1}"><title>{2}</title><svg width="{0}" height="{1}">'
        '<g class="zoom" transform="scale({3:g})translate({4:g} {5:g})"><image href="{6}" width="{0}" height="{1}" '
        'preserveAspectRatio="none"/><g transform="{7}"><path class="halo" d="{8}"/><path class="mark" d="{9}{8}"/>'
        "</g></g></svg></svg>"
    ).format(
        region.width,
        region.height,
        alternative,
        scale,
        0 - left,
        0 - top,
        source,
        region.cells,
        region.loops,
        EVERYTHING,
    )


def control(name: str, legend: str = "Where it responds") -> Markup:
    """Radio buttons that choose how the regions of the page are drawn. name: of the group, once in a document."""
    buttons = [
        Markup('<label title="{}"><input type="radio" name="{}" value="{}" autocomplete="off"{}>{}</label>').format(
            meaning, name, look, Markup(" checked") if look == FIRST else "", look
        )
        for look, meaning in LOOKS.items()
    ]
    return Markup('<fieldset class="looks"><legend>{}</legend>{}</fieldset>').format(legend, Markup(" ").join(buttons))


def crop(row: Row, region: Iterable[Cell]) -> tuple[float, float, float]:
    """The part of the picture that a crop shows: its share of both sides, and its left and top edge as shares.

    It lies within the picture. Of several separate areas, it is around the one with the maximum.
    """
    rows, columns = zip(*_connected(row, set(region)), strict=True)
    high = (row["part_bottom"] - row["part_top"]) / row["grid_rows"]
    wide = (row["part_right"] - row["part_left"]) / row["grid_columns"]
    longer = max((max(rows) + 1 - min(rows)) * high, (max(columns) + 1 - min(columns)) * wide)
    share = min(max(longer * (1 + 2 * MARGIN), LEAST_CROP), 1.0)
    left = row["part_left"] + wide * (min(columns) + max(columns) + 1) / 2 - share / 2
    top = row["part_top"] + high * (min(rows) + max(rows) + 1) / 2 - share / 2
    return share, min(max(left, 0.0), 1 - share), min(max(top, 0.0), 1 - share)


def region_cells(row: Row) -> set[Cell]:
    """(row, column) of the cells in the region: those above the threshold, if it is known, and the maximum's."""
    columns, threshold = row["grid_columns"], row["threshold"]
    above = {(row["top_row"], row["top_column"])}
    if threshold is not None:
        step = (row["high"] - row["low"]) / 255
        above |= {
            divmod(cell, columns) for cell, level in enumerate(row["cells"]) if row["low"] + step * level > threshold
        }
    return above


def _connected(row: Row, region: set[Cell]) -> set[Cell]:
    """The cells that are connected with the maximum's by their sides."""
    connected: set[Cell] = set()
    edge = [(row["top_row"], row["top_column"])]
    while edge:
        cell = edge.pop()
        if cell in region and cell not in connected:
            connected.add(cell)
            edge += [(cell[0] + down, cell[1] + across) for down, across in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    return connected


def loops(region: set[Cell]) -> str:
    """The closed lines around the cells as a path: M1 3h1v1h-1z is the cell of row 3, column 1."""
    sides: dict[Cell, list[Cell]] = {}  # clockwise; corners as (row, column)
    for row, column in region:
        around = ((row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column))
        across = ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1))
        for side, neighbour in enumerate(across):
            if neighbour not in region:
                sides.setdefault(around[side], []).append(around[(side + 1) % 4])
    path = ""
    while sides:
        start = min(sides)
        steps: list[tuple[str, int]] = []
        corner = start
        while not steps or corner != start:
            end = sides[corner].pop()
            if not sides[corner]:
                del sides[corner]
            way, length = ("h", end[1] - corner[1]) if end[0] == corner[0] else ("v", end[0] - corner[0])
            if steps and steps[-1][0] == way:
                length += steps.pop()[1]
            steps.append((way, length))
            corner = end
        path += f"M{start[1]} {start[0]}" + "".join(f"{way}{length}" for way, length in steps[:-1]) + "z"
    return path
