"""What the face painter paints with: soft shapes over pixel grids (face, height, width)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def bump(u: Array, v: Array, at_u: Array, at_v: Array, wide: Array, high: Array) -> Array:
    """A Gaussian hill of height 1."""
    across, down = (u - at_u) / wide, (v - at_v) / high
    return np.exp(-(across * across + down * down))


def line(distance: Array, width: Array) -> Array:
    """1 on the line, fading within `width`."""
    scaled = distance / width
    return np.exp(-(scaled * scaled))


def edge(distance: Array, softness: float = 0.03) -> Array:
    """0 outside, 1 inside, a ramp of `softness` between."""
    return (distance * (1 / softness) + 0.5).clip(0, 1)


def paint(canvas: Array, cover: Array, colour: Array) -> None:
    """Lay `colour` over `canvas` where `cover` (0 to 1) says so, in place."""
    canvas += cover * (colour - canvas)


def halve(fine: Array) -> Array:
    """The mean of each 2×2 block."""
    rows = fine[:, 0::2] + fine[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) * np.float32(0.25)
