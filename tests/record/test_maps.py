"""Activation maps: which are kept, how they become grids, and which cells are sampled, against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectdb.extract.models.grids import Grid
from dissectdb.extract.models.hooks import Tap
from dissectdb.extract.record.maps import MAX_SIDE, BestMaps, grid_side, levels_of, reduced, sample_of

CPU = torch.device("cpu")
sides = st.integers(1, 30)


def pooled(maps: np.ndarray, pooling: str) -> np.ndarray:
    """(…, row, column) → cells: cell i of n is over the places from i / n to (i + 1) / n of the axis, whole places."""
    rows, columns = (grid_side(side) for side in maps.shape[-2:])
    height, width = maps.shape[-2:]
    cells = np.empty((*maps.shape[:-2], rows, columns), maps.dtype)
    for row in range(rows):
        for column in range(columns):
            down = slice(row * height // rows, math.ceil((row + 1) * height / rows))
            across = slice(column * width // columns, math.ceil((column + 1) * width / columns))
            window = maps[..., down, across]
            cells[..., row, column] = window.max((-1, -2)) if pooling == "max" else window.mean((-1, -2))
    return cells


@given(sides, sides, st.sampled_from(["avg", "max"]), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_map_becomes_a_grid_of_few_cells(height: int, width: int, pooling: str, seed: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(2, 3, height, width)).astype(np.float32)
    cells = reduced(torch.from_numpy(maps), pooling)
    assert max(cells.shape[-2:]) <= MAX_SIDE
    np.testing.assert_allclose(cells.numpy(), pooled(maps, pooling), rtol=1e-5, atol=1e-6)
    if height % cells.shape[2] == width % cells.shape[3] == 0 and pooling == "avg":  # cells pool to the activation
        np.testing.assert_allclose(cells.mean((2, 3)).numpy(), maps.mean((2, 3)), rtol=1e-4, atol=1e-5)


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_256_levels_lie_within_half_a_level(rows: list[list[float]]) -> None:
    cells = torch.tensor(rows)
    levels, low, high, top = (part.double().numpy() for part in levels_of(cells))
    values = low[:, None] + (high - low)[:, None] * levels / 255
    error = np.abs(values - cells.double().numpy())
    assert (error <= 0.5001 * (high - low)[:, None] / 255 + 1e-6 * np.abs(cells.numpy()).max(1, keepdims=True)).all()
    assert (top == cells.numpy().argmax(1)).all()
    spread = high > low
    assert (levels[np.arange(len(rows)), top.astype(int)][spread] == 255).all()
    assert (levels[~spread] == 0).all()


def layer(units: int, grid: Grid, images: int, of: int, pooling: str = "avg") -> BestMaps:
    return BestMaps(Tap("conv", units, pooling, 0, 1, grid=grid), 10, images, of, CPU)


def collected(best: BestMaps, maps: np.ndarray, parts: list[np.ndarray], blocks: list[int]) -> list[dict]:
    """Rows of activation_maps when batches of images come in this order; blocks: batches in each block."""
    rows, batches = [], iter(parts)
    for number, count in enumerate(blocks):
        for images in [next(batches) for _ in range(count)]:
            own = torch.from_numpy(maps[images])
            best.keep(best.search(own, own.mean((2, 3)), images.astype(np.int32) + 100, images))
        tables = dict(best.take(7, number))
        rows += tables["activation_maps"].to_pylist()
    return rows


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(2, 40), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_best_images_of_all_have_maps(seed: int, kept: int, count: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    maps = random.normal(size=(count, 3, 2, 3)).astype(np.float32)
    if ties:
        maps = maps.round(0).clip(0)  # few values, so that many images have the same activation
        maps[:, 1] = 0  # a dead neuron
    cuts = np.sort(random.integers(0, count + 1, 3))
    parts = [part for part in np.split(np.arange(count), cuts) if len(part)]
    blocks = [1] * len(parts) if seed % 2 else [len(parts)]
    if seed % 2 == 0:
        random.shuffle(parts)  # streams finish in any order within a block
    rows = collected(layer(3, Grid(2, 3), kept, count), maps, parts, blocks)
    by_key = {(row["neuron_id"] - 10, row["image_id"] - 100): row for row in rows}
    assert len(by_key) == len(rows)
    values = torch.from_numpy(maps).mean((2, 3)).numpy() + 0
    for unit in range(3):
        best = sorted(range(count), key=lambda image: (-values[image, unit], image))[:kept]
        assert set(best) <= {image for own, image in by_key if own == unit}
        for image in best:
            row, cells = by_key[unit, image], maps[image, unit]
            found = row["low"] + (row["high"] - row["low"]) * np.array(row["cells"]).reshape(2, 3) / 255
            np.testing.assert_allclose(found, cells, atol=0.51 / 255 * np.ptp(cells) + 1e-6)
            assert (row["top_row"], row["top_column"]) == divmod(int(cells.argmax()), 3)
    if len(blocks) == 1:  # nothing that was overtaken within a block is written
        assert len(rows) == 3 * min(kept, count)


def test_a_batch_that_is_run_again_counts_once() -> None:
    maps = np.random.default_rng(0).normal(size=(8, 2, 2, 2)).astype(np.float32)
    best, images = layer(2, Grid(2, 2), 4, 8), np.arange(8)
    own = torch.from_numpy(maps)
    best.search(own, own.mean((2, 3)), images.astype(np.int32), images)  # it ran out of memory after this
    for half in np.split(images, 2):
        own = torch.from_numpy(maps[half])
        best.keep(best.search(own, own.mean((2, 3)), half.astype(np.int32), half))
    rows = dict(best.take(0, 0))["activation_maps"].to_pylist()
    assert len({(row["neuron_id"], row["image_id"]) for row in rows}) == len(rows) == 8


def test_a_map_with_an_infinite_cell_is_left_out() -> None:
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 1, 0, 0] = -math.inf
    best = layer(2, Grid(2, 2), 4, 1, "max")
    best.keep(best.search(maps, maps.amax((2, 3)), np.array([5], np.int32), np.array([0])))
    assert [row["neuron_id"] for row in dict(best.take(0, 0))["activation_maps"].to_pylist()] == [10]


@pytest.mark.parametrize(("images", "cells", "stride", "per_image"), [
    (1, 25, 1, 25), (100, 25, 1, 25), (1000, 64, 1, 5), (4096, 64, 1, 1), (8192, 64, 2, 1), (1_281_167, 49, 312, 1),
])  # fmt: skip
def test_so_many_cells_are_sampled(images: int, cells: int, stride: int, per_image: int) -> None:
    sample = sample_of(images, cells)
    assert (sample.stride, sample.cells) == (stride, per_image)
    sampled = math.ceil(images / stride) * per_image
    assert sampled >= min(4096, images * cells)
    assert sample.kept == math.ceil(sampled / 100)


@given(st.integers(1, 300), st.integers(2, 12), st.sampled_from(["avg", "max"]), st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_the_tail_of_the_sample_is_that_of_the_cells(count: int, side: int, pooling: str, seed: int) -> None:
    maps = np.random.default_rng(seed).normal(size=(count, 2, side, side)).astype(np.float32)
    best, tails = layer(2, Grid(side, side), 4, count, pooling), []
    for number, images in enumerate(np.array_split(np.arange(count), 3)):
        if len(images):
            own = torch.from_numpy(maps[images])
            best.keep(best.search(own, own.mean((2, 3)), images.astype(np.int32), images))
            tails += dict(best.take(7, number))["map_values"].to_pylist()
    cells = pooled(maps, pooling)
    every = best.sample.cells == cells[0, 0].size
    for unit in range(2):
        own_rows = [row for row in tails if row["neuron_id"] == 10 + unit]
        kept = sorted((row["value"] for row in own_rows), reverse=True)[: best.sample.kept]
        assert sum({row["block"]: row["sampled"] for row in own_rows}.values()) == count * best.sample.cells
        if every:  # all cells are in the sample, so the tail is exact
            np.testing.assert_allclose(kept, np.sort(cells[:, unit].ravel())[::-1][: len(kept)], rtol=1e-5, atol=1e-6)
        else:
            assert np.isin(np.float32(kept).round(4), cells[:, unit].astype(np.float32).round(4)).mean() > 0.9
