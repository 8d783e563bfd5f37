"""The CSV of Kaggle's FER2013 challenge, plain or gzipped, as a probing set.

    columns = find_columns(path)
    for number, line in lines(path):
        fer2013.fields(line, columns)  # emotion, pixels, Usage

The header names emotion, pixels and Usage, in any order, and perhaps other columns.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from dissectdb.extract.images import fer2013
from dissectdb.extract.images.decoding import Pixels, Unreadable, file_hash
from dissectdb.extract.images.folders import SPLITS
from dissectdb.extract.images.scan import Record, Source, printable
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.text_files import one_line

COLUMNS = ("emotion", "pixels", "usage")
BUFFER = 1 << 18  # bytes that are read at a time: lines are longer than Python's 8 kB
MAX_LINE = 1 << 20  # bytes that are kept of a line; FER2013's longest has 9,300
LINES = 64  # per hand-over to a thread: handing over single lines takes as long as reading them
LARGE = 4000  # from so many lines on, processes are worth their start


class Fer2013(Source):
    """The images of FER2013's CSV.

    A line without a valid Usage belongs to the split of the line before it, because the file is sorted by split.
    """

    classes = fer2013.CLASSES

    def __init__(self, dataset: Dataset, path: Path) -> None:
        super().__init__(dataset)
        self.path = path
        self.name = str(self.path)
        self.images = dataset.images
        self.columns = find_columns(self.path)

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="fer2013", images=self.images)
        digest.update(file_hash(self.path))
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        work, name, split = partial(fer2013.inspect_line, self.columns), printable(self.path.name), "train"
        for number, known, class_name, facts, pixels in self.inspected(work, self._kept(), at_once=LINES, large=LARGE):
            split = known or split
            yield Record(f"{name}:{number}", split, class_name, facts, pixels)

    def size(self) -> int:
        return sum(1 for _ in self._kept())

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        wanted = iter(positions)
        following = next(wanted, None)
        for position, (_, line, _) in enumerate(self._kept()):
            if following is None:
                return
            if position == following:
                yield fer2013.pixels_of(fer2013.fields(line, self.columns)[1])
                following = next(wanted, None)

    def _kept(self) -> Iterator[tuple[int, bytes, str | None]]:
        """Number, bytes and split of the first `images` lines of each split; of all lines without their splits."""
        if self.images is None:
            yield from ((number, line, None) for number, line in lines(self.path))
            return
        counts: Counter[str] = Counter()
        split = "train"
        for number, line in lines(self.path):
            with suppress(Unreadable):
                split = fer2013.split_of(fer2013.fields(line, self.columns)[2])
            if counts[split] < self.images:
                counts[split] += 1
                yield number, line, split
            elif all(counts[split] == self.images for split in SPLITS):
                return


def find_columns(path: Path) -> list[int]:
    """The indices of emotion, pixels and Usage in a line. Raises StudyError if the header lacks one."""
    with _reading(path) as file:
        header = file.readline(MAX_LINE).decode("utf-8-sig", "replace")
    names = [name.strip() for name in header.replace('"', "").split(",")]
    lower = [name.casefold() for name in names]
    if any(column not in lower for column in COLUMNS):
        raise StudyError(
            f"{path}: its first line must name the columns emotion, pixels and Usage, and it names "
            f"{one_line(', '.join(names), 100) or 'none'}; fer2013.csv of the Kaggle challenge has all three"
        )
    return [lower.index(column) for column in COLUMNS]


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every non-empty line below the header, which is line 1."""
    with _reading(path) as file:
        _whole_line(file)
        number = 2
        while line := _whole_line(file):
            if line := line.rstrip(b"\r\n"):
                yield number, line
            number += 1


def _whole_line(file: BinaryIO) -> bytes:
    """Read the next line to its end; return at most MAX_LINE bytes of it."""
    line = part = file.readline(MAX_LINE)
    while part and not part.endswith(b"\n"):
        part = file.readline(MAX_LINE)
    return line


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The file, unpacked. Errors of reading it become StudyError."""
    try:
        with path.open("rb", buffering=BUFFER) as packed:
            is_gzip = packed.read(2) == b"\x1f\x8b"
            packed.seek(0)
            with cast(BinaryIO, gzip.open(packed)) if is_gzip else packed as file:
                yield file
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{path}: cannot be read to its end: {reason}; is the download complete?") from None
