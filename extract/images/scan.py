"""What all kinds of image sources share: the scan for defects, and pixels. See dissectdb.extract.images.sources."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, pairwise
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from dissectdb.extract.images.decoding import Facts, Pixels, Unreadable
from dissectdb.extract.images.pixel_cache import PixelFile, Place
from dissectdb.extract.images.repeats import Origin, Repeats
from dissectdb.extract.images.scan_notes import Tally
from dissectdb.extract.images.workers import Inspected, WorkerDied, can_start, in_processes
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.threads import in_order
from dissectdb.machine import available_cores

VERSION = 1  # part of every fingerprint; raise it if the same bytes give other pixels, splits or defects

ALL = "all"  # the only split, if all images label the neurons

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})

log = logging.getLogger("dissectdb")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Image(NamedTuple):
    """One row of the table images. sha256: of the pixels, or of the bytes if they are unreadable.

    source: which of several united sources it is from. attributes: its rows of image_attributes, value by name.
    """

    position: int
    path: str | None
    split: str
    class_name: str | None
    sha256: str
    width: int | None
    height: int | None
    thumbnail: bytes | None
    defect: str | None
    source: str | None = None
    attributes: Mapping[str, str] = NO_ATTRIBUTES


class Record(NamedTuple):
    """An image as its source yields it, before it is compared with other images.

    pixels: or their place in Source.decoded; None if the image is unreadable, or has no place there. source,
    attributes: as of Image.
    """

    path: str | None
    split: str
    class_name: str | None
    facts: Facts
    pixels: Pixels | Place | None = None
    source: str | None = None
    attributes: Mapping[str, str] = NO_ATTRIBUTES


class Source:
    """A probing set. A subclass for each kind reads records and pixels; everything else is here."""

    classes: tuple[str, ...]
    name: str  # for messages
    count: int | None = None  # all images, if known before a scan
    channels: frozenset[int] = frozenset()  # the numbers of channels that images have; empty if not known: 1 or 3
    shown: tuple[int, ...] = ()  # the channels of thumbnails, if images have other than one or three
    left_out: Mapping[tuple[str, str], int] = MappingProxyType({})  # (reason, detail) → number of files left out
    has_unnamed_numbers = False  # whether classes are called 0, 1, … because nothing names them

    def __init__(self, dataset: Dataset) -> None:
        self.decoded = PixelFile()  # pixels that a scan has decoded, so that read() need not decode them again
        self.workers = available_cores()
        self.is_one_split = dataset.probing_split == ALL
        self.bits = dataset.bits

    def fingerprint(self) -> str:
        """SHA-256 of every byte that is read and every setting that matters. Decodes no image."""
        raise NotImplementedError

    def settings_hash(self, **settings: object) -> hashlib._Hash:
        """The start of a fingerprint. Default settings are left out, so that older datasets keep their fingerprints."""
        settings |= {"split": ALL} if self.is_one_split else {}
        settings |= {"bits": self.bits} if self.bits != 16 else {}
        return hashlib.sha256(json.dumps({"version": VERSION, **settings}, sort_keys=True).encode() + b"\n")

    def records(self) -> Iterator[Record]:
        """The images in order of position."""
        raise NotImplementedError

    def size(self) -> int:
        """The number of images, which a scan may have to find."""
        return sum(1 for _ in self.records()) if self.count is None else self.count

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        """The pixels at ascending positions; ends early if there are no more images. Raises Unreadable."""
        raise NotImplementedError

    def scan(self) -> Iterator[Image]:
        """Every image, in order, with its defect if it has one: blank, unreadable, a repeat of an earlier image, …"""
        repeats = Repeats()
        readable, problem = 0, "there is none"
        tally = Tally()
        for position, record in enumerate(self.records()):
            path, split, class_name, facts, pixels, source, attributes = record
            split = ALL if self.is_one_split else split
            origin, first = Origin(position, path, split, class_name), None
            defect = facts.defect
            if facts.width is None:
                problem = problem if position else f"the first one, {path}, is {defect}"
            else:
                readable += 1
            if defect is None:
                first = repeats.original(origin, facts.sha256)
                defect = f"repeat of {first.position}" if first is not None else None
            if defect is None and pixels is not None:
                self.decoded.add(position, pixels)
            tally.add(origin, defect, facts.bits, first, attributes.get("group"))
            yield Image(position, path, split, class_name, *facts[:4], defect, source, attributes)
        if not readable:
            raise StudyError(f"{self.name}: no readable image: {problem}")
        for line in self.assumptions(tally.sound) if tally.sound else []:
            log.info(line)
        tally.tell(self.left_out, self.bits)

    def inspected(
        self, work: Callable[[Item], Inspected], items: Iterable[Item], *, at_once: int, large: int
    ) -> Iterator[Inspected]:
        """Yield work(item) for each item, in order: in processes if there are `large` items and more than one core.

        work: a function of a module that is quick to load, or a `partial` of one; the last of its result is pixels or
        None.
        """
        items = iter(items)
        first = list(islice(items, large)) if self.workers > 1 and can_start() else []
        items = chain(first, items)
        if not first or len(first) < large:
            yield from in_threads(work, items, at_once)
            return
        try:
            yield from in_processes(work, items, at_once=at_once, workers=self.workers, store=self.decoded)
        except WorkerDied as problem:
            raise StudyError(f"{self.name}: {problem}") from None

    def assumptions(self, sound: Counter[str]) -> list[str]:
        """Sentences on what was assumed, for the log. sound: images without a defect per split."""
        return []

    def read(self, positions: Sequence[int]) -> Iterator[Pixels]:
        """Yield the pixels of readable images at ascending positions: uint8, (H, W) or (H, W, channel)."""
        wanted = [int(position) for position in positions]
        if wanted and (wanted[0] < 0 or any(after <= before for before, after in pairwise(wanted))):
            raise ValueError("positions must ascend, from 0 on")
        return self._read(wanted)

    def _read(self, wanted: list[int]) -> Iterator[Pixels]:
        decoded_now = self.pixels([position for position in wanted if position not in self.decoded])
        count = 0
        try:
            for position in wanted:
                pixels = self.decoded.read(position) if position in self.decoded else next(decoded_now, None)
                if pixels is None:
                    break
                yield pixels
                count += 1
        except Unreadable as problem:
            raise StudyError(f"{self.name}: image {wanted[count]} is unreadable: {problem}") from None
        if count < len(wanted):
            raise StudyError(f"{self.name}: there is no image {wanted[count]}; has the dataset changed?")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Iterator[Result]:
    """Yield work(item) for each item, in order, from threads. at_once: items per hand-over; 1 if they are large."""
    workers = min(8, os.cpu_count() or 1)
    items = iter(items)
    chunks = iter(lambda: list(islice(items, at_once)), [])
    results = in_order(lambda chunk: [work(item) for item in chunk], chunks, threads=workers, ahead=2 * workers)
    return chain.from_iterable(results)


def printable(name: str) -> str:
    """A file name as text that can be stored; names need not be UTF-8."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return name if text == name else text  # one string, not two, for each path of a large dataset


def group_name(text: str | None) -> str | None:
    """The group that a text names, for every kind of source; None if it names none: blank, or NaN.

    Whole numbers are one group however they are written: a column of numbers with gaps turns 1 into 1.0.

    >>> group_name("1.0"), group_name(" ann "), group_name("NaN")
    ('1', 'ann', None)
    """
    name = "" if text is None else text.strip()
    if not name or name.lower() == "nan":
        return None
    return name.partition(".")[0] if re.fullmatch(r"-?\d+\.0+", name) else name
