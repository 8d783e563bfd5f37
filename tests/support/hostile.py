"""What a file that means harm may cost: a line and an exit code, soon, in little memory, and nothing changes."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.worlds import World, command

SECONDS = 60  # the slowest takes 6 on an idle machine
MEGABYTES = 400  # more than before


class TooLong(BaseException):
    """Something took more than SECONDS. Not an Exception: a command would report it like an error of the file."""


def _memory(kind: str) -> int:
    """Megabytes that this process has (VmRSS), or had at most (VmHWM) since `within_bounds` began."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) // 1024


@contextmanager
def within_bounds() -> Iterator[None]:
    """What runs in it ends soon, and takes little memory where the system tells."""

    def too_long(*_: object) -> None:
        raise TooLong

    old = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    before = None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _memory("VmRSS")
    except OSError:
        pass
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    if before is not None:
        assert _memory("VmHWM") - before < MEGABYTES


def refused(world: World, *arguments: object, says: tuple[str, ...], code: int = 2) -> None:
    """The command fails with this code and one readable line that says all of it, soon; no file is changed."""
    before = state(world.folder)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.duckdb"
        if world.warehouse.exists():
            shutil.copy(world.warehouse, copy)
        with within_bounds():
            done = command(*arguments)
        assert done.code == code, done.err
        _is_one_line(done.err, says)
        _is_unchanged(world, before, copy)


def _is_one_line(printed: str, says: tuple[str, ...]) -> None:
    assert "Traceback" not in printed
    message = printed[printed.index("dissectdb: ") :]  # progress may stand before it
    lines = message.splitlines()
    assert len(lines) == (
        21 if lines[-1].endswith("19980 more") else 1
    )  # a study has a line for each of its first mistakes
    assert all(line.isprintable() and len(line) < 1500 for line in lines)
    for text in says:
        assert text in message


def _is_unchanged(world: World, before: dict[str, tuple[int, int]], copy: Path) -> None:
    after = state(world.folder)
    kept = str(world.warehouse)  # a run that only opened it for writing may have packed it
    assert after | {kept: None} == before | {kept: None}
    if after.get(kept) != before.get(kept):
        rows = world.tables()
        shutil.copy(copy, world.warehouse)
        assert world.tables() == rows


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file of a folder with its size and time of change; to hash sparse files would take long."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if "__pycache__" not in path.parts and not path.is_dir():
            about = path.lstat()
            files[os.fsencode(path).decode(errors="replace")] = (about.st_size, about.st_mtime_ns)
    return files


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)
