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

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dissectdb.warehouse.errors import WarehouseError

MB, GB = 10**6, 10**9
PER_THREAD = 200 * MB  # with less memory per thread, use fewer threads
MOST_PER_THREAD = 1 * GB
SHARE = 4  # the database gets 1/SHARE of what is free: torch, polars and the page cache need the rest
LEAST = 500 * MB  # on a small machine the database gets more than its share, up to this and to half of what is free
ASSUMED = 4 * GB  # of free memory, if the system does not report it, as on Windows
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


# ---------------------------------------------------------------- what there is


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process could use: what is free on the machine, or less if a cgroup allows less."""
    machine = re.search(r"^MemAvailable: +(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    if machine:
        free = int(machine[1]) * 1024
    elif hasattr(os, "sysconf"):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        free = ASSUMED
    return max(min(free, *_left_in_cgroups(root)), 0) if (root / "proc/self/cgroup").exists() else free


def available_cores(root: Path = Path("/")) -> int:
    """Number of cores that this process may use. A cgroup's share of a core counts as a whole one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _left_in_cgroups(root: Path) -> list[int]:
    """Bytes left under each memory limit above this process. Cached file pages count as free: they can be dropped."""
    left = []
    for group in _groups(root, ""):
        limit = _number(group / "memory.max")
        if limit is not None:
            kept = re.search(r"^inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
            left.append(limit - (_number(group / "memory.current") or 0) + int(kept[1] if kept else 0))
    for group in _groups(root, "memory"):
        limit = _number(group / "memory.limit_in_bytes")
        if limit is not None:
            kept = re.search(r"^total_inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
            left.append(limit - (_number(group / "memory.usage_in_bytes") or 0) + int(kept[1] if kept else 0))
    return left or [1 << 62]


def _quotas(root: Path) -> Iterator[float]:
    """Number of cores that each cgroup above this process allows, as a fraction."""
    for group in _groups(root, ""):
        if found := re.match(r"(\d+) (\d+)", _text(group / "cpu.max")):
            yield int(found[1]) / int(found[2])
    for group in _groups(root, "cpu"):
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if quota and period:
            yield quota / period


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and of all above it; controller: of version 1, or empty for version 2.

    Inside a container the path may be the host's, of which only the top is mounted: missing folders are ignored.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, names, path = [*line.split(":", 2), "", ""][:3]
        if controller in names.split(",") and (controller or number == "0"):
            folders = [f"sys/fs/cgroup/{names}", f"sys/fs/cgroup/{controller}"] if controller else ["sys/fs/cgroup"]
            if not controller:
                folders.append("sys/fs/cgroup/unified")  # where both versions are mounted
            for folder in map(root.__truediv__, folders):
                parts = [] if ".." in path else path.strip("/").split("/")
                for depth in range(len(parts), -1, -1):
                    yield folder.joinpath(*parts[:depth])


def _number(path: Path) -> int | None:
    """The number in a file; None for «max», -1 or a missing file."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
