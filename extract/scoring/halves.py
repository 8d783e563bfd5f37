"""The two halves of the probing images: one chooses a label, the other repeats or judges it.

groups = group_numbers(["anna", "anna", None, "ben"])     # [0, 0, 1, 2]; None: no image has a group
first, second = divide(len(images), groups)               # rising positions of images

Images of a group (of one patient, film or site) resemble each other. If they were in both halves, a label would only be
repeated on copies of the images that it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Halves(NamedTuple):
    """Rising positions of the images of each half. The second is empty if all images are of one group."""

    first: np.ndarray
    second: np.ndarray

    @property
    def smaller(self) -> int:
        """How many images the smaller half has."""
        return min(len(self.first), len(self.second))


def group_numbers(groups: Sequence[str | None]) -> np.ndarray | None:
    """The number of the group of each image (N,), from 0 in the order of the images; an image without one is its own.

    None if no image has a group.
    """
    if not any(group is not None for group in groups):
        return None
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(i if group is None else group, len(numbers)) for i, group in enumerate(groups)])


def divide(images: int, groups: np.ndarray | None = None) -> Halves:
    """The even and the odd images; with groups (N,), each group in turn goes to the half that has fewer images."""
    if groups is None:
        return Halves(np.arange(0, images, 2), np.arange(1, images, 2))
    counts, half_of_group = [0, 0], np.zeros(groups.max() + 1, int)
    for group, size in enumerate(np.bincount(groups)):
        half_of_group[group] = half = int(counts[1] < counts[0])
        counts[half] += size
    half_of_image = half_of_group[groups]
    return Halves(np.flatnonzero(half_of_image == 0), np.flatnonzero(half_of_image == 1))
