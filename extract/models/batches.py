"""Images in batches: how many go through a network at once. The next batch is made while one is used.

for batch in prefetched(in_batches(source.read(positions), [4096, 100], device)): ...
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice, repeat
from typing import TypeVar

import numpy as np
import torch

from dissectdb.extract.models import streams
from dissectdb.extract.models.preprocessing import Pixels, stacked
from dissectdb.extract.threads import in_order

T = TypeVar("T")


def batch_size(device: torch.device) -> int:
    """How many images go through a network at once."""
    return max(64 // streams.count(device), 16) if device.type == "cpu" else 1024


def in_batches(pixels: Iterator[np.ndarray], sizes: Iterable[int], device: torch.device) -> Iterator[Pixels]:
    """Images in batches for the device. sizes: images per block; no batch holds images of two blocks.

    A block that is too small for a full batch in every stream is divided among the streams.
    """
    for size in sizes:
        at_once = min(batch_size(device), math.ceil(size / streams.count(device)))
        while size:
            batch = list(islice(pixels, min(size, at_once)))
            size -= len(batch)
            yield stacked(batch, device)


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """The same items. The next one is made in a thread while the current one is used."""

    def take(_: None) -> T | None:
        return next(items, None)

    with closing(in_order(take, repeat(None), threads=1, ahead=1)) as made:
        for item in made:
            if item is None:
                return
            yield item
