"""How large problems are cut: slices of an axis, and threads that each work on pieces of their own.

for neurons in slices(4096, 512): ...              # slice(0, 512), slice(512, 1024), …
run_in_threads(fill, list(slices(len(rows), 64)))  # fill(slice) on all cores
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

from dissectdb.machine import available_cores

CACHE_ELEMENTS = 32_000  # float32 values that fit a core's level-2 cache several times; torch does not split them
IMAGES_AT_ONCE = 2048  # images that are multiplied, or summed in float32, at a time
NEURONS_AT_ONCE = 512  # neurons whose activations are read at a time, at most

T = TypeVar("T")


def slices(count: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover 0 to `count`; the last one may be shorter."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def elements_at_once(device: torch.device) -> int:
    """How many values to work on at a time: what fits a core's cache, or on a GPU what keeps it busy."""
    return CACHE_ELEMENTS if device.type == "cpu" else 1 << 22


def run_in_threads(work: Callable[[T], None], items: Sequence[T], device: torch.device | None = None) -> None:
    """Call `work` on every item, on all cores; on a GPU one after another. The first exception is raised.

    Threads that each take their own small pieces never wait for one another. torch's own threads do, at the end of
    each operation, and on a busy machine that wait takes most of the time.
    """
    threads = min(len(items), torch.get_num_threads()) if device is None or device.type == "cpu" else 1

    def work_on(share: Sequence[T]) -> None:
        with torch.inference_mode():  # a new thread does not inherit it
            for item in share:
                work(item)

    if threads < 2:
        work_on(items)
    else:
        list(_pool(threads).map(work_on, (items[first :: 4 * threads] for first in range(4 * threads))))


@contextmanager
def threads_within_cores() -> Iterator[None]:
    """Inside it, torch has no more threads than this process has cores: more of them wait for one another, and spin."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, available_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """A pool that is kept: starting threads takes longer than many a small problem."""
    return ThreadPoolExecutor(threads)
