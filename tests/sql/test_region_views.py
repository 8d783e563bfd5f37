"""Thresholds of activation maps and places in the picture, over rows that each test writes down."""

# ruff: noqa: C408 - rows read like the tables as dict(image_id=1, …)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rows import run_view


def stored_tails(values: np.ndarray, blocks: int) -> list[dict]:
    """What extract keeps of a sample, in blocks: of each the highest, as many as the top 1 % of all may need."""
    kept = -(-len(values) // 100)
    return [
        dict(split_id=1, neuron_id=7, block=number, sampled=len(block), value=float(value))
        for number, block in enumerate(np.array_split(values, blocks))
        for value in np.sort(block)[::-1][:kept]
    ]


@given(st.integers(1, 600), st.integers(1, 5), st.booleans(), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_threshold_is_the_value_that_one_cell_in_a_hundred_exceeds(
    count: int, blocks: int, ordered: bool, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=count).round(1).astype(np.float32)
    values = np.sort(values)[::-1] if ordered else values  # all high values in one block
    tails = stored_tails(values, min(blocks, count))
    [row] = run_view("map_thresholds", map_values=tails)
    expected = np.sort(values)[::-1][-(-count // 100) - 1]
    assert (row["sampled"], row["threshold"]) == (count, pytest.approx(float(expected)))
    assert (values > expected).mean() <= 0.01


def regions(levels: list[int], low: float, high: float, threshold: float | None, part: dict | None) -> dict:
    [row] = run_view(
        "image_regions",
        shown_dissection=[dict(dissection_id=1)],
        dissections=[dict(dissection_id=1, network_id=1, split_id=1)],
        named_neurons=[dict(neuron_id=7, network_id=1, network="net", layer="conv", unit=3)],
        top_images=[dict(network="net", layer="conv", unit=3, rank=2, image_id=5, dissection_id=1)],
        images=[dict(image_id=5, split_id=1, width=40, height=20), dict(image_id=6, split_id=1)],
        activation_maps=[
            dict(neuron_id=7, image_id=i, grid_rows=2, grid_columns=4, top_row=1, top_column=3, low=low, high=high,
                 cells=levels)
            for i in (5, 6)
        ],
        map_thresholds=[dict(split_id=1, neuron_id=7 if threshold is not None else 8, threshold=threshold or 0.0)],
        seen_parts=[dict(network_id=1, width=40, height=20, **part)] if part else [],
    )  # fmt: skip
    return row


LEVELS = st.lists(st.integers(0, 255), min_size=8, max_size=8)


@given(LEVELS, st.floats(-5, 5), st.floats(0, 5), st.floats(-6, 11))
@settings(max_examples=20, deadline=None)
def test_the_share_above_is_that_of_the_cells(levels: list[int], low: float, spread: float, threshold: float) -> None:
    low, high, threshold = (float(np.float32(number)) for number in (low, low + spread, threshold))
    row = regions(levels, low, high, threshold, None)
    cells = low + (high - low) * np.array(levels) / 255 if high > low else np.full(8, low)
    if np.abs(cells - threshold).min() > 1e-6:  # not where rounding decides
        assert row["share_above"] == pytest.approx((cells > threshold).mean())


def test_a_place_is_that_in_the_part_that_the_network_saw() -> None:
    part = dict(part_top=0.0, part_bottom=1.0, part_left=0.25, part_right=0.75)
    row = regions([0] * 7 + [255], 0.0, 1.0, 0.5, part)
    assert (row["rank"], row["image_id"]) == (2, 5)
    assert (row["seen_row"], row["seen_column"]) == (0.75, 0.875)
    assert (row["picture_row"], row["picture_column"]) == (0.75, 0.25 + 0.875 / 2)


def test_what_is_unknown_is_null() -> None:
    row = regions([0] * 7 + [255], 0.0, 1.0, None, None)
    assert [row[name] for name in ("threshold", "share_above", "picture_row", "picture_column", "part_top")] == [
        None
    ] * 5
    padded = regions(
        [0] * 7 + [255], 0.0, 1.0, 0.5, dict(part_top=-0.5, part_bottom=1.5, part_left=0.0, part_right=1.0)
    )
    assert (padded["picture_row"], padded["picture_column"]) == (1.0, 0.875)
    padded = regions(
        [0] * 7 + [255], 0.0, 1.0, 0.5, dict(part_top=-0.5, part_bottom=2.0, part_left=0.0, part_right=1.0)
    )
    assert padded["picture_row"] is None
