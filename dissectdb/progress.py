"""How a long run reports what it does: `say` prints one line, `watch` shows a stage and its progress.

with watch("extracting", unit="images") as progress:
    progress(120, 4096)     # 120 of 4,096 images are done
with watch("loading the network", unit=""):     # a stage that counts nothing
    …

dissectdb.commands.stages prints both on a terminal. The functions of dissectdb.pipeline print nothing by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Say = Callable[[str], None]
Progress = Callable[[int, int | None], None]  # called with what is done and how much there is, None if unknown

# extra={REPEATED: …} of a log record: whether a run with nothing to do says it again. By default only warnings are.
REPEATED = "repeated"


class Watch(Protocol):
    """watch("extracting", unit="images") is a context whose value is a Progress."""

    def __call__(self, what: str, unit: str = "images") -> AbstractContextManager[Progress]: ...


def silent(text: str) -> None:
    """A `say` that prints nothing."""


def unshown(done: int, total: int | None) -> None:
    """A Progress that prints nothing."""


def unwatched(what: str, unit: str = "images") -> AbstractContextManager[Progress]:
    """A `watch` that prints nothing."""
    return nullcontext(unshown)


def part_of(progress: Progress) -> Watch:
    """A `watch` whose stages are parts of one that is shown: they add to its count, and are not shown themselves."""
    before = 0

    @contextmanager
    def watch(what: str, unit: str = "images") -> Iterator[Progress]:
        nonlocal before
        in_part = 0

        def count(done: int, total: int | None) -> None:
            nonlocal in_part
            in_part = done
            progress(before + done, None)

        yield count
        before += in_part

    return watch
