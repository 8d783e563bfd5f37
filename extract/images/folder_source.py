"""A folder of images as a probing set; dissectdb.extract.images.folders finds the files."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

from dissectdb.extract.images.decoding import Pixels, decode, file_hash, inspect_file
from dissectdb.extract.images.folders import SPLITS, File, find, in_turn, is_named_by_folders
from dissectdb.extract.images.scan import ALL, Record, Source, group_name, in_threads, printable
from dissectdb.extract.study import Dataset, StudyError

if TYPE_CHECKING:
    from dissectdb.extract.images.folder_labels import FolderLabels

FILES = 4  # per hand-over to a thread or process
LARGE = 1000  # from so many files on, processes are worth their start


class Folder(Source):
    """The images of a folder, with the splits and classes of its sub-folders."""

    def __init__(self, dataset: Dataset, path: Path, labels: FolderLabels | None = None) -> None:
        """labels: of the images outside class folders."""
        super().__init__(dataset)
        self.root = path.resolve()
        self.name = str(path)
        self.images, self.labels = dataset.images, labels
        self.pattern = re.compile(dataset.group_pattern) if dataset.group_pattern else None
        self.found = find(path, labels.of if labels else None)
        files, self.left_out = self.found.files, self.found.left_out
        names = {printable(file.class_name) for file in files if file.class_name is not None}
        self.classes = labels.in_order(names) if labels else tuple(sorted(names))
        self.has_unnamed_numbers = labels is not None and labels.are_numbers and not labels.classes
        self.is_named_by_folders = is_named_by_folders(files)
        self.drawn = self._drawn_splits(dataset)
        self.share = dataset.validation_share if self.drawn else None
        files = files if self.images is None else in_turn(files)
        self.files = [file._replace(split=None) if file.split in self.drawn else file for file in files]
        self.kept: list[File] | None = self.files if self.images is None else None  # by position; None until known
        self.count = len(self.files) if self.images is None else None
        if self.pattern and self.files and not any(self._group(file) for file in self.files):
            raise StudyError(
                f"dataset.group_pattern: {self.pattern.pattern!r} is in no image's path, such as {self.files[0].path}"
            )

    def _group(self, file: File) -> str | None:
        """What the pattern, or the first bracket of it that takes part, finds in the file's path; None for nothing."""
        found = self.pattern.search(file.path) if self.pattern else None
        if found is None:
            return None
        return group_name(printable(next((text for text in found.groups() if text is not None), found[0])))

    def fingerprint(self) -> str:
        if_set: dict[str, object] = {"classes": self.classes} if self.labels else {}
        if_set |= {"group_pattern": self.pattern.pattern} if self.pattern else {}
        digest = self.settings_hash(kind="folder", images=self.images, share=self.share, **if_set)
        for file in self.files:
            digest.update(os.fsencode(file.path) + b"\0" + file_hash(self.root / file.path))
            if not self.is_named_by_folders:
                digest.update(os.fsencode(f"{file.split}\0{file.class_name}\0"))
        return digest.hexdigest()

    def _drawn_splits(self, dataset: Dataset) -> tuple[str, ...]:
        """The splits that images are assigned to by their hash; none if the folder has its own."""
        if "validation" in self.found.unlabelled and "validation_share" not in dataset.model_fields_set:
            return ()
        return drawn_splits(self, {file.split for file in self.found.files}, dataset.validation_share)

    def assumptions(self, sound: Counter[str]) -> list[str]:
        sentences = [*self.found.assumed, *(self.labels.assumed if self.labels else ())]
        if self.pattern:
            groups = Counter(self._group(file) for file in self.files)
            alone = groups.pop(None, 0)
            more = f"; in none: {alone:,}, each of which is a group of its own" if alone else ""
            sentences.append(f"group_pattern puts {groups.total():,} images into {len(groups):,} groups{more}")
        share, by = f"{100 * (self.share or 0):.3g} %", "group" if self.pattern else "pixels"
        if len(self.drawn) == 3:
            counts = ", ".join(f"{sound[split]:,} {split}" for split in SPLITS)
            sentences.append(
                f"no split folders: the hash of an image's {by} puts {share} into validation and {share} into test: "
                f"{counts}"
            )
        elif self.drawn and sound["train"] + sound["validation"]:
            sentences.append(
                f"no validation images: the hash of an image's {by} takes {share} of train for it: "
                f"{sound['train']:,} train, {sound['validation']:,} validation"
            )
        elif "validation" in self.found.unlabelled and not (self.is_one_split or sound["validation"]):
            sentences.append(
                "the validation images have no classes, so that there are none; dataset.validation_share would take "
                "some from train"
            )
        return sentences

    def records(self) -> Iterator[Record]:
        """Files are inspected in processes or threads. A file's split may depend on its pixels, by split_by_hash."""
        counts: Counter[str] = Counter()
        kept: list[File] = []

        def is_wanted(file: File) -> bool:
            splits = [file.split] if file.split else self.drawn or [ALL]
            return self.images is None or any(counts[split] < self.images for split in splits)

        wanted, again = tee(filter(is_wanted, self.files))
        paths = (self.root / file.path for file in again)
        inspected = self.inspected(partial(inspect_file, bits=self.bits), paths, at_once=FILES, large=LARGE)
        for (facts, pixels), file in zip(inspected, wanted, strict=False):  # strict would read a file more
            group = self._group(file)
            by = facts.sha256 if group is None else hashlib.sha256(group.encode()).hexdigest()
            split = file.split or (ALL if self.share is None else split_by_hash(by, self.share, self.drawn))
            if self.images is None or counts[split] < self.images:
                counts[split] += 1
                kept.append(file)
                class_name = None if file.class_name is None else printable(file.class_name)
                attributes = {} if group is None else {"group": group}
                yield Record(printable(file.path), split, class_name, facts, pixels, attributes=attributes)
        self.kept = kept

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        if self.kept is None:
            deque(self.records(), maxlen=0)
        kept = self.kept or []
        wanted = (kept[position] for position in positions if position < len(kept))
        return in_threads(lambda file: decode(self.root / file.path, self.bits), wanted, at_once=1)


def split_by_hash(sha256: str, share: float, splits: Sequence[str] = SPLITS) -> str:
    """The split of an image: `share` of all hashes are validation, and as many are test if `splits` has test.

    A larger share moves images from train to validation, and none out of validation.

    >>> split_by_hash("00" * 32, 0.1), split_by_hash("ff" * 32, 0.1)
    ('validation', 'train')
    """
    fraction = int(sha256[:13], 16) / 16**13  # 0 to 1; 52 bits, which a double holds exactly
    if fraction < share:
        return "validation"
    return "test" if "test" in splits and fraction < 2 * share else "train"


def drawn_splits(source: Source, given: Collection[str | None], share: float) -> tuple[str, ...]:
    """The splits that images are assigned to by their hash; none if they come with their own. given: what they have.

    Raises StudyError if a share for validation and one for test leave none for train.
    """
    if source.is_one_split or "validation" in given:
        return ()
    if set(given) != {None}:
        return ("train", "validation")
    if share >= 0.5:
        raise StudyError(
            f"{source.name}: validation_share = {share} for validation and as much for test leave nothing for train; "
            "it must be below 0.5 where the images have no splits of their own"
        )
    return SPLITS


def told_of_drawn(drawn: Sequence[str], share: float, by_group: bool, sound: Counter[str]) -> list[str]:
    """Sentences on the splits that were drawn, for sources that list their images. sound: images by split."""
    percent = f"{100 * share:.3g} %"
    by = "an image's group" if by_group else "an image's pixels"
    counts = ", ".join(f"{sound[split]:,} {split}" for split in SPLITS)
    if len(drawn) == 3:
        return [f"no splits: the hash of {by} puts {percent} into validation and {percent} into test: {counts}"]
    return [f"no validation images: the hash of {by} takes {percent} of train for it: {counts}"] if drawn else []
