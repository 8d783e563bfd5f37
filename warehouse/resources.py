"""How much memory and how many threads the database gets: what the user named, else a share of what is free.

choose(None, None)          # Resources(memory=2_000_000_000, threads=2) on two cores with 16 GB free
choose("500MB", "16")       # Resources(memory=500_000_000, threads=2): 16 threads would not fit

Each DuckDB thread has its own buffers, hash tables and heaps, so the memory that a statement needs grows with the
threads. Measured at FER2013's size (35,887 images × 10,119 neurons, slices of 4,096): with 500 MB 2 threads build
every view, 4 run out of memory in top_activations, 16 in image_concepts too; with 2 GB 16 threads build every view.
With one thread, 128 MB are enough at that size to extract, build and check; with 100 MB extract and check run out at
their end. At 300 images × 60 neurons check runs out with 80 MB already. So a smaller limit is refused at once.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dissectdb.machine import available_cores, available_memory
from dissectdb.warehouse.errors import WarehouseError

MB, GB = 10**6, 10**9
PER_THREAD = 200 * MB  # with less memory per thread, use fewer threads
MOST_PER_THREAD = 1 * GB
SHARE = 4  # the database gets 1/SHARE of what is free: torch, polars and the page cache need the rest
LEAST = 500 * MB  # on a small machine the database gets more than its share, up to this and to half of what is free
SMALLEST = 128 * MB  # measured; see above
MOST_THREADS = 1024
REPRODUCIBLE = 500 * MB  # a fixed limit, because what fits into memory decides the order of sums
UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
SLICE_ROW = 60_000  # most bytes that a thread needs per neuron or image of a slice
LARGEST_SLICE = 4096  # images or neurons
SMALLEST_SLICE = 64  # with smaller slices the activations would be read too often


class BadSize(WarehouseError):
    """The text is not an amount of memory or a number of threads."""

    exit_code = 2


@dataclass(frozen=True)
class Resources:
    """memory: bytes that DuckDB may hold before it spills to disk. threads: the number it computes with."""

    memory: int
    threads: int

    @property
    def slice_size(self) -> int:
        """How many neurons or images of a view are computed at a time."""
        return max(SMALLEST_SLICE, min(LARGEST_SLICE, self.memory // self.threads // SLICE_ROW))

    def with_fewer_threads(self) -> Resources | None:
        """A quarter of the threads; None if there is only one."""
        return Resources(self.memory, max(self.threads // 4, 1)) if self.threads > 1 else None

    def __str__(self) -> str:
        """As shown in messages."""
        amount = f"{self.memory / GB:.1f} GB" if self.memory >= GB else f"{self.memory // MB} MB"
        return f"{amount} and {self.threads} thread{'s' if self.threads > 1 else ''}"


def choose(
    memory: str | None, threads: str | int | None, *, deterministic: bool = False, root: Path = Path("/")
) -> Resources:
    """Memory and threads from the arguments, else from $DISSECTDB_MEMORY and $DISSECTDB_THREADS, else by the machine.

    threads: an upper limit; with little memory there are fewer. deterministic: one thread, and a limit that does not
    depend on what is free. root: where /proc and /sys are. Raises BadSize.
    """
    memory = memory or os.environ.get("DISSECTDB_MEMORY")
    threads = threads or os.environ.get("DISSECTDB_THREADS")
    most = _count(str(threads)) if threads else available_cores(root)
    if deterministic:
        most = 1
    if memory:
        limit = _size(memory)
    elif deterministic:
        limit = min(REPRODUCIBLE, available_memory(root) // 2)
    else:
        limit = limit_for(available_memory(root), most)
    return Resources(limit, threads_for(limit, most))


def limit_for(available: int, threads: int) -> int:
    """The default memory limit, in bytes: never more than half of what is available."""
    return min(max(available // SHARE, min(available // 2, LEAST)), threads * MOST_PER_THREAD)


def threads_for(memory: int, threads: int) -> int:
    """As many threads as the memory suffices for, at least one."""
    return max(1, min(threads, memory // PER_THREAD))


def _size(text: str) -> int:
    """Bytes. Raises BadSize."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT])(i?)B", text.strip(), re.IGNORECASE | re.ASCII)
    if not found:
        raise BadSize(f"{text!r} is not an amount of memory; write it like 500MB or 2GB")
    size = int(float(found[1]) * (1024 if found[3] else 1000) ** UNITS[found[2].upper()])
    if size < SMALLEST:
        raise BadSize(f"{text} of memory is too little for a warehouse; the least is {SMALLEST // MB}MB")
    return min(size, 1 << 50)


def _count(text: str) -> int:
    """A number of threads. Raises BadSize."""
    if not re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII) or not 1 <= int(text) <= MOST_THREADS:
        raise BadSize(f"{text!r} is not a number of threads; write a whole number from 1 to {MOST_THREADS}")
    return int(text)
