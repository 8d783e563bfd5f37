"""Run a batch in parts that fit into the device's memory.

run_halving_on_oom(run, images, "image")      # calls run(some of the images, the index of the first of them)

There is no batch size to set. If a batch does not fit into memory, it is halved, and the size that worked is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch

from dissectdb.extract.study import StudyError


class Sliceable(Protocol):
    """A batch: its length, and any slice of it."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Self: ...


T = TypeVar("T", bound=Sliceable)

MAX_AT_ONCE: dict[str, int] = {}  # "image" or "text" → how many fit; set when a larger part ran out of memory


def run_halving_on_oom(run: Callable[[T, int], None], items: T, what: str) -> None:
    """Call run(part, first index) for parts of the items, in order. Raises StudyError if one item does not fit."""
    max_items = MAX_AT_ONCE.get(what, len(items))
    start = 0
    while start < len(items):
        try:
            run(items[start : start + max_items], start)
        except torch.OutOfMemoryError as error:
            if max_items == 1:
                raise StudyError(
                    f"the device has too little memory for one {what}; free some, or choose another device"
                ) from error
            max_items = MAX_AT_ONCE[what] = max(1, min(max_items, len(items)) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += max_items
