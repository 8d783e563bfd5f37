"""Which layers have places in the image, and how their outputs become maps (image, unit, row, column).

taps = with_grids(taps, shapes, model, (3, 224, 224))   # a tap's grid: rows, columns and the tokens before them
maps = as_maps(output, tap)

Whether an axis is of places cannot be read from a shape: attention between tokens is a matrix too, and queries are a
list as patches are. So a layer has maps only if their size is that of a map that a convolution, a pooling or a
normalisation of maps in the same network makes, halved any number of times. A network without such modules may cut its
input into patches itself: its grids are those that divide the input. Tokens of a size that a module makes itself may
have a few others before them, such as the class token and registers. That is a guess, and logged: as many latents that
attend to all tokens look the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from dissectdb.extract.study.class_names import few

if TYPE_CHECKING:
    from dissectdb.extract.models.hooks import Tap

log = logging.getLogger("dissectdb")

MAX_EXTRA_TOKENS = 16  # class token, distillation token, registers
MAP_MAKERS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
)


class Grid(NamedTuple):
    """Rows and columns of a layer's maps. extra: tokens before those of the grid."""

    rows: int
    columns: int
    extra: int = 0


def with_grids(
    taps: Sequence[Tap], shapes: Sequence[Sequence[int]], model: nn.Module, image_shape: Sequence[int]
) -> list[Tap]:
    """The taps, each with the grid that its layer's maps have, if it has any. shapes: of the layers' outputs."""
    with_places = [
        tap.pooling in ("avg", "max") and len(shape) in (3, 4) for tap, shape in zip(taps, shapes, strict=True)
    ]
    if len(image_shape) != 3 or not any(with_places):
        return list(taps)
    sizes = map_sizes(model, image_shape)
    found = [
        replace(tap, grid=_grid(tap, shape, sizes)) if has_places else tap
        for tap, shape, has_places in zip(taps, shapes, with_places, strict=True)
    ]
    for grid in dict.fromkeys(tap.grid for tap in found if tap.grid and tap.grid.extra):
        names = [tap.layer for tap in found if tap.grid == grid]
        log.info(
            f"network.layers: of the tokens of {few(names)}, the first {grid.extra} are taken to be of no place, the "
            f"others of {grid.rows} × {grid.columns} places; if that is false, ignore where these neurons respond"
        )
    return found


def as_maps(output: Tensor, tap: Tap) -> Tensor:
    """A layer's output as (image, unit, row, column), without tokens that are of no place. The tap has a grid."""
    assert tap.grid is not None
    maps = output.movedim((tap.image_axis, tap.unit_axis), (0, 1))
    if maps.ndim == 3:
        maps = maps[:, :, tap.grid.extra :].unflatten(2, (tap.grid.rows, tap.grid.columns))
    return maps


def _grid(tap: Tap, shape: Sequence[int], sizes: Mapping[tuple[int, int], bool]) -> Grid | None:
    places = tuple(size for axis, size in enumerate(shape) if axis not in (tap.image_axis, tap.unit_axis))
    if len(places) == 2:
        return Grid(*places) if places in sizes else None
    for (rows, columns), is_made in sizes.items():
        extra = places[0] - rows * columns
        if extra == 0 or (is_made and 0 < extra <= MAX_EXTRA_TOKENS):
            return Grid(rows, columns, extra)
    return None


def map_sizes(model: nn.Module, image_shape: Sequence[int]) -> dict[tuple[int, int], bool]:
    """The sizes (rows, columns) that maps of a network may have, largest first; without maps of one place.

    Each with whether a module makes it, or it divides the input; else it is one of these, halved.
    """
    seen: set[tuple[int, int]] = set()

    def keep(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            seen.add((output.shape[2], output.shape[3]))

    handles = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, MAP_MAKERS)]
    parameter = next(model.parameters(), torch.zeros(0))
    try:
        with torch.inference_mode():
            model(torch.zeros((2, *image_shape), device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        _, height, width = image_shape
        sides = range(1, min(height, width) + 1)
        seen = {(height // side, width // side) for side in sides if height % side == width % side == 0}
    sizes = sorted(_halved(seen) - {(1, 1)}, key=lambda size: -size[0] * size[1])
    return {size: size in seen for size in sizes}


def _halved(sizes: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """The sizes, and each of them halved and rounded up or down, any number of times."""
    found: set[tuple[int, int]] = set()
    while sizes := sizes - found:
        found |= sizes
        sizes = {(max((rows + up) // 2, 1), max((columns + up) // 2, 1)) for rows, columns in sizes for up in (0, 1)}
    return found
