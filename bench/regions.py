"""Do neurons that are labelled with a mouth respond at the mouth?

python cli.py demo                                  # makes the warehouse, once
python -m bench.regions demo/warehouse.duckdb

The demo's faces are drawn, so it is known where each one's mouth is. Counted are the best images of believed neurons of
a layer whose label is of the mouth (by default conv4b, the last convolution): how often does the cell with the maximum
of the activation map touch the box around the drawn mouth? Chance is the share of cells that touch it. Stricter is
the second pair of figures: the middle of the cell lies in the box, which is smaller than a cell. The third pair is of
the region that the report draws, all cells above the neuron's threshold: how often does it touch the box, and how often
if it is shifted to any place of the grid, wrapped around at the edges? Required: 80 % of the cells with the maximum
touch it. Other labels are shown for comparison.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from bench.made import percent
from dissectdb import Warehouse
from dissectdb.extract.demo import faces, render
from dissectdb.reports.regions import region_cells

MOUTH = ("Tense Mouth and Jaw", "Relaxed Mouth and Jaw", "Smile", "Downturned Mouth", "Slightly Open Mouth",
         "Wide Open Mouth", "Compressed Lips")  # fmt: skip
EYES = ("Wide Open Eyes", "Narrowed Eyes", "Twinkling or Crinkled Eyes", "Tearful Eyes", "Closed Eyes", "Relaxed Eyes",
        "Elevated Upper Eyelids")  # fmt: skip
REQUIRED = 0.8
REGIONS = """
    select image_regions.*, neuron_concepts.concept, images.position
    from image_regions
    inner join neuron_concepts using (network, layer, unit, dissection_id)
    inner join images using (image_id)
    where image_regions.layer = $layer and neuron_concepts.interpretable and image_regions.rank <= 16
"""


def mouth_boxes(controls: np.ndarray) -> np.ndarray:
    """(face, 4): top, bottom, left and right edge of each drawn mouth, as shares of the picture.

    The mouth is what render._paint_mouth covers: both lips and what is between them, from corner to corner.
    """
    p = render.face_parts(controls)
    steps = ((np.arange(render.FINE) + 0.5) * (2 / render.FINE) - 1).astype(np.float32)
    turn, zoom = 0.20 * p.roll, 1 / (0.97 + 0.05 * p.zoom)
    across, down = steps[None, None, :] - 0.06 * p.shift_x, steps[None, :, None] - 0.06 * p.shift_y - 0.02
    cosine, sine = np.cos(turn) * zoom, np.sin(turn) * zoom
    x, y = across * cosine + down * sine, down * cosine - across * sine
    depth = np.sqrt((1 - (x / 0.98) ** 2 - (y / 1.2) ** 2).clip(0.03))
    u, v = x - 0.18 * p.yaw * depth, y + 0.19 * p.tilt_back * (depth + 0.10)
    half, corner, middle = render.mouth_line(p)
    square = ((u - 0.03 * p.yaw) / half) ** 2
    arch = 1 - square
    centre = middle + corner * square - 0.035 * p.au17 * arch
    thin = (1 + 0.22 * p.lip_fullness) * (1 - 0.85 * p.au24 - 0.35 * p.au23 - 0.15 * p.au12).clip(0.12)
    top = centre - (0.22 * p.lips_gap + 0.066 * thin) * arch
    bottom = centre + (0.78 * p.lips_gap + 0.085 * thin) * arch
    shown = (square <= 1) & (v >= top - 0.015) & (v <= bottom + 0.015)
    boxes = np.empty((len(controls), 4))
    for face, mask in enumerate(shown):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        boxes[face] = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return boxes / render.FINE


def touching(boxes: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(box, row, column): whether a cell of a grid over the picture touches each box (n, 4)."""
    top, bottom, left, right = boxes.T[:, :, None]
    row, column = np.arange(rows), np.arange(columns)
    in_rows = (row / rows < bottom) & ((row + 1) / rows > top)
    in_columns = (column / columns < right) & ((column + 1) / columns > left)
    return in_rows[:, :, None] & in_columns[:, None, :]


def shifted(region: np.ndarray) -> np.ndarray:
    """(shift, row, column): a region (row, column) in every place of its grid, wrapped around at the edges."""
    rows, columns = region.shape
    return np.stack([np.roll(region, (down, across), (0, 1)) for down in range(rows) for across in range(columns)])


def region_touches(regions: pl.DataFrame, cells: np.ndarray) -> tuple[float, float]:
    """How often a region touches the mouth, and how often if it is anywhere. cells: as touching() returns them."""
    observed, expected = [], []
    for row, touching_cells in zip(regions.iter_rows(named=True), cells, strict=True):
        region = np.zeros(touching_cells.shape, bool)
        region[tuple(zip(*region_cells(row), strict=True))] = True
        observed.append((region & touching_cells).any())
        expected.append((shifted(region) & touching_cells).any(axis=(1, 2)).mean())
    return float(np.mean(observed)), float(np.mean(expected))


def measure(regions: pl.DataFrame, seed: int, name: str) -> tuple[float, str]:
    """The share of maxima whose cells touch the mouth, and a row of the table. regions: of one grid."""
    drawn: dict[int, np.ndarray] = {}
    for position in regions["position"].unique().to_list():
        drawn[position] = faces.draw(1, seed, start=position).controls[0]
    boxes = mouth_boxes(np.stack([drawn[position] for position in regions["position"]]))
    rows, columns = regions["grid_rows"][0], regions["grid_columns"][0]
    cells = touching(boxes, rows, columns)
    touched = cells[np.arange(len(cells)), regions["top_row"].to_numpy(), regions["top_column"].to_numpy()]
    down, across = regions["picture_row"].to_numpy(), regions["picture_column"].to_numpy()
    within = (boxes[:, 0] < down) & (down < boxes[:, 1]) & (boxes[:, 2] < across) & (across < boxes[:, 3])
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    units = regions["unit"].n_unique()
    row = f"| {name} | {units} | {len(regions):,} | {rows} × {columns} | {percent(touched.mean())} | "
    row += f"{percent(cells.mean())} | {percent(within.mean())} | {percent(area.mean())} | "
    row += " | ".join(map(percent, region_touches(regions, cells))) + " |"
    return float(touched.mean()), row


def main() -> None:
    """Print the table and whether the requirement is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("warehouse", type=Path)
    parser.add_argument("--layer", default="conv4b")
    parser.add_argument("--seed", type=int, default=0, help="dataset.seed of the demo")
    options = parser.parse_args()
    with Warehouse(options.warehouse, read_only=True) as warehouse:
        regions = warehouse.rows(REGIONS, {"layer": options.layer})
    if regions.is_empty():
        raise SystemExit(f"{options.warehouse}: no believed neuron of {options.layer} has activation maps")
    print(
        "| label | neurons | maps | grid | touches the mouth | by chance | middle in it | by chance "
        "| region touches it | by chance |"
    )
    print("|" + "---|" * 10)
    shares = {}
    for name, concepts in (("mouth", MOUTH), ("eyes", EYES), ("all", tuple(regions["concept"].unique()))):
        chosen = regions.filter(pl.col("concept").is_in(concepts))
        if len(chosen):
            shares[name], row = measure(chosen, options.seed, name)
            print(row)
    for concept in MOUTH:
        if len(chosen := regions.filter(pl.col("concept") == concept)):
            print(measure(chosen, options.seed, concept)[1])
    met = shares.get("mouth", 0.0) >= REQUIRED
    print(f"\nrequired: {percent(REQUIRED)} of mouth neurons' maxima touch the mouth: {'met' if met else 'not met'}")


if __name__ == "__main__":
    main()
