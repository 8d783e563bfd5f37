"""What a command prints on stderr while it works: one line per stage, notes and warnings.

with Stage("extracting") as progress: progress(done, total)      # is a dissectdb.progress.Watch
say("a note")

On a terminal a stage is a line with rate and time left. At its end the line says what was done in how many seconds.
A log file gets that last line alone; a long stage adds a line now and then.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from dissectdb.commands import screen
from dissectdb.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Item = TypeVar("Item")
FIRST_LINE, LONGEST_GAP = 30.0, 600.0  # seconds until a log file gets a line of a long stage; at most between two lines


CLEAR = "\r\x1b[2K"  # the line that the cursor is in
_live: list[Stage] = []  # the stage whose line stands on the terminal now


def say(text: str, style: str = "") -> None:
    """Print a note on stderr, above the line of the stage. On a terminal it is wrapped between words."""
    stage = _live[-1] if _live else None
    if stage is None:
        screen.put(text, style, stream=sys.stderr)
    elif stage.bar is not None:
        screen.put(text, style, stream=sys.stderr, console=stage.bar.console)
    else:
        sys.stderr.write(CLEAR)
        screen.put(text, style, stream=sys.stderr)
        stage.write()


def duration(seconds: float) -> str:
    """A time for people: 6.3 s, 2 min 5 s, 1 h 2 min.

    >>> [duration(seconds) for seconds in (0.04, 6.25, 59.96, 125, 3725)]
    ['0.0 s', '6.2 s', '1 min 0 s', '2 min 5 s', '1 h 2 min']
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


class Stage:
    """A stage of a run. unit: what progress counts; "" if there is nothing to count.

    A stage that counts prints nothing if progress was never called, because then there was nothing to do.
    """

    def __init__(self, what: str, unit: str = "images") -> None:
        self.what, self.unit = what, unit
        self.started = time.monotonic()
        self.next_line = self.started + FIRST_LINE
        self.done: int | None = None
        self.bar: Bar | None = None

    def __enter__(self) -> Stage:
        if not sys.stderr.isatty():
            return self
        _live.append(self)
        if self.unit:
            from rich.progress import BarColumn, ProgressColumn, TextColumn
            from rich.progress import Progress as Bar

            console = screen.console_of(sys.stderr)
            columns: list[ProgressColumn] = [TextColumn("{task.description}")]
            is_ascii = screen.signs_of(sys.stderr) is screen.ASCII
            if not is_ascii and console.width >= 110:
                columns.append(BarColumn(bar_width=console.width // 5))
            columns.append(TextColumn("{task.fields[state]}"))
            self.bar = Bar(*columns, console=console, transient=True, redirect_stdout=False)
            self.task = self.bar.add_task(self.what, total=None, state="")
            self.bar.start()
        else:
            self.write()
        return self

    def write(self) -> None:
        """Write the line of a stage that counts nothing. rich does not draw it: a download may draw a bar there."""
        width = screen.width_of(sys.stderr) or screen.FALLBACK
        sys.stderr.write(screen.encodable(f"{self.what} …", sys.stderr)[: width - 1])
        sys.stderr.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _live and _live[-1] is self:
            _live.pop()
            if self.bar is not None:
                self.bar.stop()
            else:
                sys.stderr.write(CLEAR)
        if kind is not None:
            return
        seconds = time.monotonic() - self.started
        if not self.unit:
            say(f"{self.what}: {duration(seconds)}")
        elif self.done is not None:
            unit = self.unit.removesuffix("s") if self.done == 1 else self.unit
            say(f"{self.what}: {self.done:,} {unit} in {duration(seconds)}{self._rate(seconds)}")

    def _rate(self, seconds: float) -> str:
        """How many per second, from one up and if a second has passed."""
        rate = (self.done or 0) / seconds if seconds >= 1 else 0
        return f", {rate:,.0f} per second" if rate >= 1 else ""

    def __call__(self, done: int, total: int | None) -> None:
        """Show what is done. total: None if it is not known yet."""
        self.done, now = done, time.monotonic()
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total, state=self._state(now, total))
        elif now >= self.next_line:
            self.next_line = now + min(now - self.started, LONGEST_GAP)
            say(f"{self.what}: {self._state(now, total)}")

    def _state(self, now: float, total: int | None) -> str:
        """How much is done, how fast, and how long the rest will take."""
        done, seconds = self.done or 0, now - self.started
        if total is None or not done:
            return f"{done:,} {self.unit}{self._rate(seconds)}"
        left = duration((total - done) * seconds / done)
        return f"{done:,} of {total:,}{self._rate(seconds)}, {left} left"


def counted(items: Iterable[Item], progress: Progress) -> Iterator[Item]:
    """The items; progress is called with how many there were so far."""
    for done, item in enumerate(items, start=1):
        progress(done, None)
        yield item


class Notes(logging.Handler):
    """Prints what the library logs for the user, each text once, and counts the warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings = 0
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if text in self.said:
            return
        self.said.add(text)
        is_warning = record.levelno >= logging.WARNING
        self.warnings += is_warning
        say(text, "yellow" if is_warning else "")


def warnings() -> int:
    """How many warnings this command has printed."""
    return sum(handler.warnings for handler in logging.getLogger("dissectdb").handlers if isinstance(handler, Notes))
