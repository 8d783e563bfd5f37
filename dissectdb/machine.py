"""How many cores and how much memory this process may use. Limits of cgroups (containers) count.

available_cores()   # 2
available_memory()  # 16_000_000_000 bytes
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

ASSUMED = 4 * 10**9  # bytes of free memory, if the system does not report it, as on Windows


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
