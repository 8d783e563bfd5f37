"""A map-style Dataset of the user's, or one of torchvision's, as a probing set.

Opening it reads every image once, in order and in one thread, because a Dataset need not bear several. Its hashes,
labels, splits and groups stay in memory, its pixels in the cache of decoded images. Images that do not fit there are
read again, and must have the same pixels. The content alone is hashed, never code, so that another program that gives
the same images is the same dataset.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dissectdb.did_you_mean import choices
from dissectdb.extract.images import dataset_classes
from dissectdb.extract.images.dataset_items import Item, ItemError, as_item
from dissectdb.extract.images.decoding import Facts, Pixels, channels_of, file_hash, inspect, is_file, pixel_hash
from dissectdb.extract.images.folder_source import drawn_splits, split_by_hash, told_of_drawn
from dissectdb.extract.images.folders import SPLITS
from dissectdb.extract.images.listed_source import NUMBERED
from dissectdb.extract.images.scan import ALL, Record, Source, in_threads
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.class_names import MAX_CLASSES, few, told_of_spellings
from dissectdb.extract.study.text_files import one_line

READ_TWICE = 8  # images that are read twice when a Dataset is opened, to notice random transforms
AT_ONCE = 4  # images per hand-over to a thread

log = logging.getLogger("dissectdb")


class Entry(NamedTuple):
    """What is kept of an image. number: in the Dataset. sha256: of its pixels, or of its file if that is unreadable."""

    number: int
    sha256: bytes
    unreadable: str | None
    path: str | None
    class_name: str | None
    split: str | None
    group: str | None
    attributes: Mapping[str, str]


class DatasetSource(Source):
    """The images of a map-style Dataset: an object with a length and items."""

    def __init__(self, dataset: Dataset, items: Any, name: str) -> None:
        """items: the Dataset. name: for messages. Raises StudyError if an image cannot be read."""
        super().__init__(dataset)
        self.name, self.items, self.layout, self.limit = name, items, dataset.layout, dataset.images
        self.share = dataset.validation_share
        self.length = self._checked_length()
        self.names, self.names_at = dataset_classes.of_items(items)
        if dataset.classes:
            self.names, self.names_at = dataset.classes, lambda index: dataset.classes
        self.unstored: Counter[str] = Counter()
        self.largest_label = -1
        log.info(f"{name}: {self.length:,} images are read once, for the hash of their content")
        hashes = self._read_twice()
        counts: set[int] = set()
        self.entries = self._entries(hashes, counts)
        self.channels = frozenset(counts)
        self.drawn = drawn_splits(self, {entry.split for entry in self.entries}, self.share)
        if self.limit is not None:
            self.entries = self._first_of_each_split(self.limit)
        self.count = len(self.entries)
        self.classes = self._classes()

    # ------------------------------------------------------------ reading

    def _checked_length(self) -> int:
        if isinstance(self.items, Mapping | str) or not hasattr(self.items, "__getitem__"):
            raise StudyError(
                f"{self.name}: is a {type(self.items).__name__}, not a map-style Dataset; give an object with "
                "__len__ and __getitem__, or a list"
            )
        try:
            length = len(self.items)
        except Exception as error:
            raise StudyError(f"{self.name}: has no length: {_told(error)}; give a map-style Dataset") from error
        if not length:
            raise StudyError(f"{self.name}: no readable image: there is none")
        return length

    def _item(self, index: int) -> tuple[Item, bytes]:
        """An image and its hash. Raises StudyError."""
        try:
            value = self.items[index]
        except Exception as error:
            raise StudyError(
                f"{self.name}: image {index} of {self.length:,} cannot be read: {_told(error)}; mend the Dataset, or "
                "leave the image out of it"
            ) from error
        if (length := len(self.items)) != self.length:
            raise StudyError(
                f"{self.name}: has changed its length from {self.length:,} to {length:,} while image {index} was "
                "read; give a Dataset that stays as it is"
            )
        try:
            item = as_item(value, self.layout)
        except ItemError as problem:
            raise StudyError(f"{self.name}: image {index}: {problem}") from None
        if item.pixels is None:
            assert item.file is not None, "only a file can be unreadable"
            return item, file_hash(item.file)
        return item, bytes.fromhex(pixel_hash(item.pixels))

    def _read_twice(self) -> dict[int, bytes]:
        """Hashes of some images, by index, which are the same when they are read again."""
        indices = {index * (self.length - 1) // max(READ_TWICE - 1, 1) for index in range(READ_TWICE)}
        hashes = {index: self._item(index)[1] for index in sorted(indices)}
        for index, expected in hashes.items():
            self._refuse_change(index, self._item(index)[1], expected)
        return hashes

    def _refuse_change(self, index: int, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise StudyError(
                f"{self.name}: image {index} has other pixels when it is read again; switch off the random transform"
            )

    def _entries(self, hashes: Mapping[int, bytes], channels: set[int]) -> list[Entry]:
        """What is known about every image; about enough of them if there is a limit and the images have no splits.

        channels: takes the numbers of channels that images have.
        """
        entries: list[Entry] = []
        counts: Counter[str] = Counter()
        for index in self._order():
            item, sha256 = self._item(index)
            self._refuse_change(index, sha256, hashes.get(index, sha256))
            self.unstored.update(item.unstored)
            if item.pixels is not None:
                channels.add(channels_of(item.pixels))
            entry = Entry(
                index, sha256, item.unreadable, item.path, self._class_name(index, item.label), item.split, item.group,
                item.attributes,
            )  # fmt: skip
            if entries and (entries[0].split is None) != (item.split is None):
                without = index if item.split is None else entries[0].number
                raise StudyError(f"{self.name}: image {without} has no split, and others have; give all of them one")
            entries.append(entry)
            if self.limit is None and item.pixels is not None:
                self.decoded.add(len(entries) - 1, item.pixels)
            if self.limit is not None and item.split is None:
                counts[self._drawn_split(entry, SPLITS)] += 1
                if all(counts[split] >= self.limit for split in ((ALL,) if self.is_one_split else SPLITS)):
                    break
        return entries

    def _order(self) -> Sequence[int]:
        """The indices in which images are read. With a limit the first ones would often be of one class."""
        if self.limit is None:
            return range(self.length)
        return sorted(range(self.length), key=lambda index: hashlib.sha256(str(index).encode()).digest())

    def _first_of_each_split(self, limit: int) -> list[Entry]:
        counts: Counter[str] = Counter()
        kept = []
        for entry in self.entries:
            split = self._split(entry)
            if counts[split] < limit:
                counts[split] += 1
                kept.append(entry)
        return kept

    # ------------------------------------------------------------ splits and classes

    def _split(self, entry: Entry) -> str:
        if self.is_one_split:
            return ALL
        if entry.split is None or entry.split in self.drawn:
            return self._drawn_split(entry, self.drawn)
        return entry.split

    def _drawn_split(self, entry: Entry, splits: Sequence[str]) -> str:
        """By the hash of the group, so that all its images are in one split; else by that of the pixels."""
        if self.is_one_split:
            return ALL
        of_group = None if entry.group is None else hashlib.sha256(entry.group.encode()).hexdigest()
        return split_by_hash(of_group or entry.sha256.hex(), self.share, splits)

    def _class_name(self, index: int, label: int | str | None) -> str | None:
        if label is None:
            return None
        names = self.names_at(index)
        if isinstance(label, str):
            if names and label not in names:
                raise StudyError(f"{self.name}: image {index}: {label!r} is no class; {choices(label, names)}")
            return label
        if names:
            if not 0 <= label < len(names):
                raise StudyError(
                    f"{self.name}: image {index}: label {label} is no class; there are {len(names)}, from 0: "
                    f"{few(names)}"
                )
            return names[label]
        if self.names:
            raise StudyError(
                f"{self.name}: image {index}: label {label} has no name: its part of the united Datasets has no "
                "attribute classes, and another has; give it one, or return names as labels"
            )
        if not 0 <= label < MAX_CLASSES:
            raise StudyError(f"{self.name}: image {index}: label {label} is no number of a class; give None, or text")
        self.largest_label = max(self.largest_label, label)
        return str(label)

    def _classes(self) -> tuple[str, ...]:
        """The classes in their order. Raises StudyError if some labels are numbers without names, and others text."""
        found = {entry.class_name for entry in self.entries if entry.class_name is not None}
        if self.names:
            return (*self.names, *sorted(found - {*self.names}))
        if self.largest_label < 0:
            return tuple(sorted(found))
        numbered = tuple(map(str, range(self.largest_label + 1)))
        self.has_unnamed_numbers = True
        if texts := found - {*numbered}:
            raise StudyError(
                f"{self.name}: some labels are numbers, others text, such as {min(texts)!r}; give one kind"
            )
        return numbered

    def assumptions(self, sound: Counter[str]) -> list[str]:
        sentences = [] if self.names else told_of_spellings(self.classes)
        if not self.names and self.largest_label >= 0:
            sentences.append(NUMBERED)
        by_group = any(entry.group is not None for entry in self.entries)
        sentences += told_of_drawn(self.drawn, self.share, by_group, sound)
        if self.unstored:
            names = few(sorted(self.unstored))
            sentences.append(f"not stored as attributes, because they are neither text nor numbers: {names}")
        return sentences

    # ------------------------------------------------------------ as a source

    def fingerprint(self) -> str:
        share = self.share if self.drawn else None
        digest = self.settings_hash(kind="python", share=share, classes=list(self.classes))
        for entry in self.entries:
            facts = [entry.class_name, entry.split, entry.group, sorted(entry.attributes.items()), entry.unreadable]
            digest.update(entry.sha256 + json.dumps(facts).encode() + b"\n")
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        pixels = zip(self.entries, self._all_pixels(), strict=True)
        for entry, facts, image in in_threads(partial(_inspect, self.shown), pixels, AT_ONCE):
            yield Record(entry.path, self._split(entry), entry.class_name, facts, image, None, entry.attributes)

    def _all_pixels(self) -> Iterator[Pixels | None]:
        for position, entry in enumerate(self.entries):
            if entry.unreadable is not None:
                yield None
            else:
                yield self.decoded.read(position) if position in self.decoded else self._again(entry)

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        for position in positions:
            if position < len(self.entries):
                yield self._again(self.entries[position])

    def _again(self, entry: Entry) -> Pixels:
        item, sha256 = self._item(entry.number)
        self._refuse_change(entry.number, sha256, entry.sha256)
        assert item.pixels is not None, "its hash is that of an image that could be read"
        return item.pixels


def _inspect(shown: Sequence[int], read: tuple[Entry, Pixels | None]) -> tuple[Entry, Facts, Pixels | None]:
    entry, pixels = read
    if pixels is None:
        return entry, Facts(entry.sha256.hex(), defect=f"unreadable: {entry.unreadable}"), None
    return entry, inspect(pixels, shown), pixels


def _told(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 200)


def open_dataset(dataset: Dataset, items: Any = None) -> DatasetSource:
    """The source of kind = "python". items: a Dataset or list that is there already, in place of a path."""
    if items is not None:
        return DatasetSource(dataset, items, f"dataset {dataset.name}")
    if dataset.path is None:
        raise StudyError(
            f"dataset {dataset.name}: kind = 'python' needs path: path/to/file.py:function, or torchvision:NAME"
        )
    if str(dataset.path).startswith("torchvision:"):
        from dissectdb.extract.images.torchvision_datasets import load

        return DatasetSource(dataset, load(str(dataset.path), dataset.arguments), str(dataset.path))
    return DatasetSource(dataset, _call_function(dataset.path, dataset.arguments), str(dataset.path))


def _call_function(path: Path, arguments: Mapping[str, Any]) -> object:
    """What a function of a user's file returns. Raises StudyError."""
    from dissectdb.extract.models.user_code import UserCode

    name, colon, function = str(path).rpartition(":")
    file = Path(name)
    if not colon or file.suffix != ".py" or not function.isidentifier():
        raise StudyError(f"dataset.path: {path}: kind = 'python' needs path/to/file.py:function, or torchvision:NAME")
    if not is_file(file):
        raise StudyError(f"dataset.path: {file}: no such file")
    try:
        code = UserCode(file)
    except Exception as error:
        raise StudyError(f"dataset.path: {file} cannot be loaded: {_told(error)}") from error
    if not callable(getattr(code.main, function, None)):
        functions = [each for each, value in vars(code.main).items() if callable(value) and not each.startswith("_")]
        raise StudyError(f"dataset.path: {file} has no function {function}; {choices(function, functions)}")
    try:
        return code.function(function)(**arguments)
    except Exception as error:
        raise StudyError(f"dataset.path: {path} raised {_told(error)}") from error
