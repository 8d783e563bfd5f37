"""Run a batch in as many parts as fit into the device's memory.

in_parts(run, images, "image")      # run(some of the images, place of the first)

Nobody is asked for a batch size: one that does not fit is halved, and what fitted is remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from dissectdb.extract.study import StudyError

T = TypeVar("T")

MOST_AT_ONCE: dict[str, int] = {}  # "image" or "text": how many fit, once more have not


def in_parts(run: Callable[[T, int], None], items: T, what: str) -> None:
    """Call run(part, first) for parts of the items, in order. Raises StudyError where not even one item fits."""
    most = MOST_AT_ONCE.get(what, len(items))
    start = 0
    while start < len(items):
        try:
            run(items[start : start + most], start)
        except torch.OutOfMemoryError as error:
            if most == 1:
                raise StudyError(
                    f"the device has not the memory for one {what}; free some, or choose another"
                ) from error
            most = MOST_AT_ONCE[what] = max(1, min(most, len(items)) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += most
