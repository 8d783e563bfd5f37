"""The drawing of a region: which cells are in it, and where in the picture they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb.reports import regions
from dissectdb.reports.card import card_of
from tests.support.pages import Page
from tests.support.report_warehouses import Plan, filled


def row(**changes: object) -> dict[str, object]:
    """A 4 × 4 map over the middle 48 of 64 columns: two cells above the threshold, one of them on its own."""
    levels = np.zeros((4, 4), int)
    levels[3, 1], levels[0, 3] = 255, 220
    grid = {"grid_rows": 4, "grid_columns": 4, "top_row": 3, "top_column": 1, "cells": levels.ravel().tolist()}
    part = {"part_top": 0.0, "part_bottom": 1.0, "part_left": 0.125, "part_right": 0.875}
    size = {"width": 64, "height": 48}
    return grid | part | size | {"low": 0.0, "high": 1.0, "threshold": 0.8} | changes


def test_the_region_is_what_is_above_the_threshold_and_the_maximum() -> None:
    assert regions.region_cells(row()) == {(3, 1), (0, 3)}
    assert regions.region_cells(row(threshold=0.9)) == {(3, 1)}
    assert regions.region_cells(row(threshold=2.0)) == {(3, 1)}
    assert regions.region_cells(row(threshold=None)) == {(3, 1)}
    assert len(regions.region_cells(row(threshold=-1.0))) == 16


def inside(path: str, down: float, across: float) -> bool:
    """Whether a place is within closed lines of h and v steps: a line to the right crosses an odd number of sides."""
    crossed = 0
    for x, y, steps in re.findall(r"M(\d+) (\d+)([^z]*)z", path):
        corner = start = (int(y), int(x))
        ends = []
        for way, length in re.findall(r"([hv])(-?\d+)", steps):
            corner = (corner[0], corner[1] + int(length)) if way == "h" else (corner[0] + int(length), corner[1])
            ends.append(corner)
        for (y1, x1), (y2, x2) in zip([start, *ends], [*ends, start], strict=True):
            assert y1 == y2 or x1 == x2
            crossed += x1 == x2 and x1 > across and min(y1, y2) < down < max(y1, y2)
    return crossed % 2 == 1


@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_the_lines_enclose_exactly_the_cells(cells: set[tuple[int, int]]) -> None:
    path = regions.loops(cells)
    within = {(down, across) for down in range(7) for across in range(7) if inside(path, down + 0.5, across + 0.5)}
    assert within == cells


def test_a_crop_has_the_shape_of_the_picture_and_lies_around_the_cell_of_the_maximum() -> None:
    share, left, top = regions.crop(row(), regions.region_cells(row()))
    assert share == pytest.approx(0.375)  # a cell is 12 of 48 pixels high, with a quarter of that at either side
    assert (left + share / 2) * 64 == pytest.approx(26)  # the cell's columns are 20 to 32
    assert top + share == 1  # it does not leave the picture
    assert regions.crop(row(threshold=-1.0), regions.region_cells(row(threshold=-1.0))) == (1, 0, 0)


def test_the_cells_are_where_the_network_saw_them() -> None:
    region = regions.region_of(row(threshold=0.9))
    assert region is not None
    assert (region.cells, region.loops) == ("translate(8 0)scale(12 12)", "M1 3h1v1h-1z")
    svg = str(regions.drawn(region, "/picture?id=7", '"><script>'))
    assert 'viewBox="0 0 64 48"' in svg
    assert svg.count("/picture?id=7") == 1
    assert "<script>" not in svg


@pytest.mark.parametrize("unknown", [{"cells": None}, dict.fromkeys(("part_top", "part_left")), {"width": None}])
def test_nothing_is_drawn_of_an_unknown_region(unknown: dict[str, None]) -> None:
    assert regions.region_of(row(**unknown)) is None


def test_a_card_draws_its_regions_and_names_the_files(tmp_path: Path) -> None:
    with filled(tmp_path / "w.duckdb", Plan(maps=True)) as warehouse:
        cards = [card_of(warehouse, layer, 0) for layer in ("conv1", "conv1", "lin1")]
    pages = [Page(card._repr_html_()) for card in cards]
    assert [page.count("fieldset") for page in pages] == [1, 1, 0]
    assert [page.count("image") for page in pages] == [8, 8, 0]
    groups = [{a["name"] for tag, a in page.tags if tag == "input"} for page in pages]
    assert len(groups[0] | groups[1]) == 2  # two cards of a notebook are chosen apart
    assert all(re.search(r"face \d+\.png", page.text) for page in pages)
    assert re.search(r"best images: face \d+\.png", repr(cards[0]))
