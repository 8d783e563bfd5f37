"""How a long run reports what it does: `say` prints one line, `watch` shows progress.

with watch("extracting", unit="images") as progress:
    progress(120, 4096)     # 120 of 4,096 images are done

dissectdb.commands.terminal prints both on a terminal. The functions of dissectdb.pipeline print nothing by default.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
