"""Images in batches: how many go through a network at once, and the next ones made ready meanwhile.

for batch in ahead(in_batches(source.read(positions), [4096, 100], device)): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from dissectdb.extract.models import streams
from dissectdb.extract.models.preprocessing import Pixels, stacked

T = TypeVar("T")


def batch_size(device: torch.device) -> int:
    """Images that go through a network at once."""
    return max(64 // streams.count(device), 16) if device.type == "cpu" else 1024


def in_batches(pixels: Iterator[np.ndarray], sizes: Iterable[int], device: torch.device) -> Iterator[Pixels]:
    """Images in batches for the device that never reach over the end of a block."""
    for size in sizes:
        while size:
            batch = list(islice(pixels, min(size, batch_size(device))))
            size -= len(batch)
            yield stacked(batch, device)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item
