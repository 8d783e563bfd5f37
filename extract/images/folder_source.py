"""A folder of images as a probing set; dissectdb.extract.images.folders finds the files."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dissectdb.extract.images.decoding import Facts, Pixels, decode, file_hash, inspect_file
from dissectdb.extract.images.folders import SPLITS, File, find, in_turn, is_named_by_folders
from dissectdb.extract.images.scan import ALL, Record, Source, in_threads, printable
from dissectdb.extract.study import Dataset, StudyError

FILES = 4  # per hand-over to a thread or process
LARGE = 1000  # from so many files on, processes are worth their start


class Folder(Source):
    """The images of a folder, with the splits and classes of its sub-folders."""

    def __init__(self, dataset: Dataset, path: Path) -> None:
        super().__init__(dataset)
        self.root = path.resolve()
        self.name = str(path)
        self.images = dataset.images
        self.found = find(path)
        files, self.left_out = self.found.files, self.found.left_out
        self.classes = tuple(sorted({printable(file.class_name) for file in files if file.class_name is not None}))
        self.is_named_by_folders = is_named_by_folders(files)
        self.drawn = () if self.is_one_split else self._drawn_splits(dataset)
        self.share = dataset.validation_share if self.drawn else None
        if len(self.drawn) == 3 and dataset.validation_share >= 0.5:
            raise StudyError(
                f"{self.name}: validation_share = {self.share} for validation and as much for test leave "
                "nothing for train; it must be below 0.5 where the folder has no splits of its own"
            )
        files = files if self.images is None else in_turn(files)
        self.files = [file._replace(split=None) if file.split in self.drawn else file for file in files]
        self.kept: list[File] | None = self.files if self.images is None else None  # by position; None until known
        self.count = len(self.files) if self.images is None else None

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="folder", images=self.images, share=self.share)
        for file in self.files:
            digest.update(os.fsencode(file.path) + b"\0" + file_hash(self.root / file.path))
            if not self.is_named_by_folders:
                digest.update(os.fsencode(f"{file.split}\0{file.class_name}\0"))
        return digest.hexdigest()

    def _drawn_splits(self, dataset: Dataset) -> tuple[str, ...]:
        """The splits that images are assigned to by their hash; none if the folder has its own."""
        named_splits = {file.split for file in self.found.files}
        if named_splits == {None}:
            return SPLITS
        if "validation" in self.found.unlabelled and "validation_share" not in dataset.model_fields_set:
            return ()
        return () if "validation" in named_splits else ("train", "validation")

    def assumptions(self, sound: Counter[str]) -> list[str]:
        sentences = list(self.found.assumed)
        share = f"{100 * (self.share or 0):.3g} %"
        if len(self.drawn) == 3:
            counts = ", ".join(f"{sound[split]:,} {split}" for split in SPLITS)
            sentences.append(
                f"no split folders: the hash of an image's pixels puts {share} into validation and {share} into test: "
                f"{counts}"
            )
        elif self.drawn and sound["train"] + sound["validation"]:
            sentences.append(
                f"no validation images: the hash of an image's pixels takes {share} of train for it: "
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

        work = partial(_inspect, self.root, self.bits)
        for file, facts, pixels in self.inspected(work, filter(is_wanted, self.files), at_once=FILES, large=LARGE):
            split = file.split or (ALL if self.share is None else split_by_hash(facts.sha256, self.share, self.drawn))
            if self.images is None or counts[split] < self.images:
                counts[split] += 1
                kept.append(file)
                class_name = None if file.class_name is None else printable(file.class_name)
                yield Record(printable(file.path), split, class_name, facts, pixels)
        self.kept = kept

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        if self.kept is None:
            deque(self.records(), maxlen=0)
        kept = self.kept or []
        wanted = (kept[position] for position in positions if position < len(kept))
        return in_threads(lambda file: decode(self.root / file.path, self.bits), wanted, at_once=1)


def _inspect(root: Path, bits: int, file: File) -> tuple[File, Facts, Pixels | None]:
    return file, *inspect_file(root / file.path, bits)


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
