"""FER2013's CSV as a probing set; dissectdb.extract.images.fer2013 reads its lines."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from dissectdb.extract.images import fer2013
from dissectdb.extract.images.decoding import Facts, Pixels, Unreadable, file_hash, inspect
from dissectdb.extract.images.folders import SPLITS
from dissectdb.extract.images.scan import Record, Source, printable
from dissectdb.extract.study import Dataset

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
        self.columns = fer2013.find_columns(self.path)

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="fer2013", images=self.images)
        digest.update(file_hash(self.path))
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        work = partial(_inspect, self.columns)
        for number, split, class_name, facts, pixels in self.inspected(work, self._kept(), at_once=LINES, large=LARGE):
            yield Record(f"{printable(self.path.name)}:{number}", split, class_name, facts, pixels)

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

    def _kept(self) -> Iterator[tuple[int, bytes, str]]:
        """Number, bytes and split of the first `images` lines of each split."""
        counts: Counter[str] = Counter()
        split = "train"
        for number, line in fer2013.lines(self.path):
            with suppress(Unreadable):
                split = fer2013.split_of(fer2013.fields(line, self.columns)[2])
            if self.images is None or counts[split] < self.images:
                counts[split] += 1
                yield number, line, split
            elif all(counts[split] == self.images for split in SPLITS):
                return


def _inspect(
    columns: list[int], numbered_line: tuple[int, bytes, str]
) -> tuple[int, str, str | None, Facts, Pixels | None]:
    """Number, split, class, facts and pixels of a line."""
    number, line, split = numbered_line
    class_name = pixels = None
    try:
        emotion, text, usage = fer2013.fields(line, columns)
        class_name = fer2013.class_of(emotion)
        fer2013.split_of(usage)
        pixels = fer2013.pixels_of(text)
        facts = inspect(pixels)
    except Unreadable as problem:
        facts = Facts(hashlib.sha256(line).hexdigest(), defect=f"unreadable: {problem}")
    return number, split, class_name, facts, pixels
