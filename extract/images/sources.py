"""Probing sets: the images that a network is shown.

    source = open_source(study.dataset)
    source.classes, source.fingerprint()
    for image in source.scan():  # one pass: splits, hashes, thumbnails, defects
        ...
    for pixels in source.read([0, 3, 4]):  # uint8, (height, width) grey or (height, width, 3) RGB
        ...

Positions count the images of a dataset from 0, over all splits, the defective ones included. Three kinds:

fer2013  The CSV of the Kaggle challenge, plain or gzipped: a line is an image, Usage is its split.
folder   <split>/<class>/…, <class>/… and what else extract/images/folders.py understands: JPEG, PNG, BMP, WebP, TIFF,
         GIF, AVIF and PNM files.
demo     The built-in faces: 60 % train, 15 % validation, the rest test.

A folder without a validation part gets one from its train images; a folder without splits gets validation
and test, each of `validation_share`. Which image goes there is decided by the hash of its pixels and nothing
else: another image added, removed or renamed moves nothing, and its copies go where it goes. Nothing is taken from
train where there is a validation part of which the classes are not known, unless `validation_share` is given.

With `probing_split = "all"` every image is in one split of that name, which labels the neurons and is measured; no
image is left that an edit could be chosen or judged on.

`dataset.images` keeps the first so many images of each split (of a demo: makes so many in all). A folder then
takes its classes in turn, because the first files in order of name would all be of one class.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby, islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from dissectdb.did_you_mean import nearest
from dissectdb.extract.images import fer2013
from dissectdb.extract.images.folders import SPLITS, File, find, in_turn, is_named_by_folders
from dissectdb.extract.images.inspection import Facts, Pixels, Unreadable, decode, file_hash, inspect, inspect_file
from dissectdb.extract.images.pixel_cache import PixelFile
from dissectdb.extract.images.scan_notes import Origin, Tally
from dissectdb.extract.study import Dataset, StudyError

VERSION = 1  # part of every fingerprint; raise it when the same bytes come to other pixels, splits or defects

ALL = "all"  # the split of every image where all of them label the neurons
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")

DEMO_IMAGES = 6000
DEMO_BLOCK = 256  # faces drawn at a time
LINES = 64  # of a CSV that a thread looks at, one after another: to hand over one by one costs as much

log = logging.getLogger("dissectdb")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Image(NamedTuple):
    """One row of the table images. The hash is of the pixels, or of the bytes where they are unreadable."""

    position: int
    path: str | None
    split: str
    class_name: str | None
    sha256: str
    width: int | None
    height: int | None
    thumbnail: bytes | None
    defect: str | None


class Record(NamedTuple):
    """An image as its source knows it, before it is compared with others. pixels: None where it is unreadable."""

    path: str | None
    split: str
    class_name: str | None
    facts: Facts
    pixels: Pixels | None = None


def open_source(dataset: Dataset) -> Source:
    """The images that a study names, found but not yet decoded. Raises StudyError."""
    if dataset.kind == "demo":
        return Demo(dataset)
    path = dataset.path
    if not path.exists():
        raise StudyError(f"{path}: no such file or folder; {_near(path)}")
    if path.name.lower().endswith(ARCHIVES) and path.is_file():
        raise StudyError(f"{path}: is an archive; unpack it, and name what was in it")
    if dataset.kind == "folder":
        if not path.is_dir():
            raise StudyError(f"{path}: is a file; kind = 'folder' reads folders of images, 'fer2013' a CSV")
        return Folder(dataset)
    if not path.is_dir() and not path.is_file():  # to open a pipe would take for ever
        raise StudyError(f"{path}: is no file but a pipe or a device; kind = 'fer2013' reads a CSV file")
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.csv*"))
        found = f"name the file: {path / files[0]}" if files else "kind = 'folder' reads folders of images"
        raise StudyError(f"{path}: is a folder; kind = 'fer2013' reads a CSV file: {found}")
    return Fer2013(dataset)


def _near(path: Path) -> str:
    """What the user may have meant by a path that does not exist."""
    if not path.parent.is_dir():
        return f"nor is there a folder {path.parent}"
    names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    if near := nearest(path.name, names, 1):
        return f"did you mean {path.parent / near[0]}?"
    return f"{path.parent} holds {', '.join(names[:5]) or 'nothing'}{' …' if len(names) > 5 else ''}"


class Source:
    """A probing set. Kinds differ in where records and pixels come from; the rest is here."""

    classes: tuple[str, ...]
    name: str  # for messages
    count: int | None = None  # images in all, where that is known before a scan
    left_out: Mapping[tuple[str, str], int] = MappingProxyType(
        {}
    )  # (reason, detail) → files that are none of its images

    def __init__(self, dataset: Dataset) -> None:
        self.decoded = PixelFile()  # what a scan has decoded, so that reading need not
        self.is_one_split = dataset.probing_split == ALL
        self.bits = dataset.bits

    def fingerprint(self) -> str:
        """SHA-256 of every byte that is read and every setting that matters; decodes nothing."""
        raise NotImplementedError

    def settings_hash(self, **settings: object) -> hashlib._Hash:
        """The beginning of a fingerprint. A setting at its default is not in it, so that older datasets keep theirs."""
        settings |= {"split": ALL} if self.is_one_split else {}
        settings |= {"bits": self.bits} if self.bits != 16 else {}
        return hashlib.sha256(json.dumps({"version": VERSION, **settings}, sort_keys=True).encode() + b"\n")

    def records(self) -> Iterator[Record]:
        """The images in order of position."""
        raise NotImplementedError

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        """The pixels at ascending positions; stops short where there are no more. Raises Unreadable."""
        raise NotImplementedError

    def scan(self) -> Iterator[Image]:
        """Every image, in order, with what is wrong with it. Remembers a hash and an origin per image.

        A repeat has the very pixels of an earlier sound image, of whatever split or class. Where the classes of the two
        differ, the first image keeps its own: nothing tells which of the two is right.
        """
        firsts: dict[bytes, Origin] = {}
        readable, problem = 0, "there is none"
        tally = Tally()
        for position, (path, split, class_name, facts, pixels) in enumerate(self.records()):
            split = ALL if self.is_one_split else split
            origin, first = Origin(position, path, split, class_name), None
            defect = facts.defect
            if facts.width is None:
                problem = problem if position else f"the first one, {path}, is {defect}"
            else:
                readable += 1
            if defect is None:
                first = firsts.setdefault(bytes.fromhex(facts.sha256), origin)
                defect = None if first is origin else f"repeat of {first.position}"
            if defect is None:
                self.decoded.add(position, pixels)
            tally.add(origin, defect, facts.bits, first)
            yield Image(position, path, split, class_name, *facts[:4], defect)
        if not readable:
            raise StudyError(f"{self.name}: no readable image: {problem}")
        for line in self.assumptions(tally.sound) if tally.sound else []:
            log.info(line)
        tally.tell(self.left_out, self.bits)

    def assumptions(self, sound: Counter[str]) -> list[str]:
        """Sentences on what the study did not say. sound: images without a defect in each split."""
        return []

    def read(self, positions: Sequence[int]) -> Iterator[Pixels]:
        """The pixels of readable images at ascending positions, one at a time: uint8, (H, W) or (H, W, 3)."""
        wanted = [int(position) for position in positions]
        if wanted and (wanted[0] < 0 or any(after <= before for before, after in pairwise(wanted))):
            raise ValueError("positions must ascend, from 0 on")
        return self._read(wanted)

    def _read(self, wanted: list[int]) -> Iterator[Pixels]:
        others = self.pixels([position for position in wanted if position not in self.decoded])
        found = 0
        try:
            for position in wanted:
                pixels = self.decoded.read(position) if position in self.decoded else next(others, None)
                if pixels is None:
                    break
                yield pixels
                found += 1
        except Unreadable as problem:
            raise StudyError(f"{self.name}: image {wanted[found]} is unreadable: {problem}") from None
        if found < len(wanted):
            raise StudyError(f"{self.name}: there is no image {wanted[found]}; has the dataset changed?")


# ---------------------------------------------------------------- FER2013


class Fer2013(Source):
    """The CSV of the challenge; extract/images/fer2013.py reads its lines.

    A line without a usable Usage counts to the split of the line before it, since the file is in that order.
    """

    classes = fer2013.CLASSES

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.path = dataset.path
        self.name = str(self.path)
        self.images = dataset.images
        self.columns = fer2013.find_columns(self.path)

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="fer2013", images=self.images)
        digest.update(file_hash(self.path))
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        return _in_order(self._record, self._kept(), at_once=LINES)

    def _record(self, kept: tuple[int, bytes, str]) -> Record:
        number, line, split = kept
        class_name = pixels = None
        try:
            emotion, text, usage = fer2013.fields(line, self.columns)
            class_name = fer2013.class_of(emotion)
            fer2013.split_of(usage)
            pixels = fer2013.pixels_of(text)
            facts = inspect(pixels)
        except Unreadable as problem:
            facts = Facts(hashlib.sha256(line).hexdigest(), defect=f"unreadable: {problem}")
        return Record(f"{_printable(self.path.name)}:{number}", split, class_name, facts, pixels)

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


# ---------------------------------------------------------------- folders


class Folder(Source):
    """Folders of image files; extract/images/folders.py says which files those are."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.root = dataset.path.resolve()
        self.name = str(dataset.path)
        self.images = dataset.images
        self.found = find(dataset.path)
        files, self.left_out = self.found.files, self.found.left_out
        self.classes = tuple(sorted({_printable(file.class_name) for file in files if file.class_name is not None}))
        self.is_named_by_folders = is_named_by_folders(files)
        self.drawn = () if self.is_one_split else self._drawn_splits(dataset)
        self.share = dataset.validation_share if self.drawn else None
        if len(self.drawn) == 3 and self.share >= 0.5:
            raise StudyError(
                f"{self.name}: validation_share = {self.share} for validation and as much for test leave "
                "nothing for train; it must be below 0.5 where the folder has no splits of its own"
            )
        files = files if self.images is None else in_turn(files)
        self.files = [file._replace(split=None) if file.split in self.drawn else file for file in files]
        self.kept = self.files if self.images is None else None  # by position; None until it is known
        self.count = len(self.files) if self.images is None else None

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="folder", images=self.images, share=self.share)
        for file in self.files:
            digest.update(os.fsencode(file.path) + b"\0" + file_hash(self.root / file.path))
            if not self.is_named_by_folders:
                digest.update(os.fsencode(f"{file.split}\0{file.class_name}\0"))
        return digest.hexdigest()

    def _drawn_splits(self, dataset: Dataset) -> tuple[str, ...]:
        """The splits that images are put in by their hash."""
        there = {file.split for file in self.found.files}
        if there == {None}:
            return SPLITS
        if "validation" in self.found.unlabelled and "validation_share" not in dataset.model_fields_set:
            return ()
        return () if "validation" in there else ("train", "validation")

    def assumptions(self, sound: Counter[str]) -> list[str]:
        said = list(self.found.assumed)
        share = f"{100 * (self.share or 0):.3g} %"
        if len(self.drawn) == 3:
            counts = ", ".join(f"{sound[split]:,} {split}" for split in SPLITS)
            said.append(
                f"no split folders: the hash of an image's pixels puts {share} into validation and {share} into test: "
                f"{counts}"
            )
        elif self.drawn and sound["train"] + sound["validation"]:
            said.append(
                f"no validation images: the hash of an image's pixels takes {share} of train for it: "
                f"{sound['train']:,} train, {sound['validation']:,} validation"
            )
        elif "validation" in self.found.unlabelled and not (self.is_one_split or sound["validation"]):
            said.append(
                "the validation images have no classes, so that there are none; dataset.validation_share would take "
                "some from train"
            )
        return said

    def records(self) -> Iterator[Record]:
        """Files are looked at in threads. Which split a file is in may be known only from its pixels."""
        counts: Counter[str] = Counter()
        kept: list[File] = []

        def is_wanted(file: File) -> bool:
            splits = [file.split] if file.split else self.drawn or [ALL]
            return self.images is None or any(counts[split] < self.images for split in splits)

        def look(file: File) -> tuple[File, Facts, Pixels | None]:
            return file, *inspect_file(self.root / file.path, self.bits)

        for file, facts, pixels in _in_order(look, filter(is_wanted, self.files), at_once=1):
            split = file.split or (split_by_hash(facts.sha256, self.share, self.drawn) if self.drawn else ALL)
            if self.images is None or counts[split] < self.images:
                counts[split] += 1
                kept.append(file)
                class_name = None if file.class_name is None else _printable(file.class_name)
                yield Record(_printable(file.path), split, class_name, facts, pixels)
        self.kept = kept

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        if self.kept is None:
            deque(self.records(), maxlen=0)
        wanted = (self.kept[position] for position in positions if position < len(self.kept))
        return _in_order(lambda file: decode(self.root / file.path, self.bits), wanted, at_once=1)


def split_by_hash(sha256: str, share: float, splits: Sequence[str] = SPLITS) -> str:
    """The split of an image: `share` of all hashes are validation, as many again test where splits has it.

    A larger share takes images from train and leaves those of validation where they are.

    >>> split_by_hash("00" * 32, 0.1), split_by_hash("ff" * 32, 0.1)
    ('validation', 'train')
    """
    place = int(sha256[:13], 16) / 16**13  # 0 to 1; 52 bits, which a double holds exactly
    if place < share:
        return "validation"
    return "test" if "test" in splits and place < 2 * share else "train"


def _printable(name: str) -> str:
    """A file name as text that can be stored; names need not be UTF-8."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return name if text == name else text  # one string, not two, for each path of a large dataset


def _in_order(work: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Iterator[Result]:
    """work(item) for each item, in order, by threads that take `at_once` of them; only a few wait at a time.

    Of files one at once: their images may be large.
    """
    workers = min(8, os.cpu_count() or 1)
    items = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        while some := list(islice(items, at_once)):
            waiting.append(pool.submit(lambda some: [work(item) for item in some], some))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


# ---------------------------------------------------------------- the demo's faces


class Demo(Source):
    """Faces that are drawn when they are needed: any block of them, without those before it."""

    name = "the demo's faces"

    def __init__(self, dataset: Dataset) -> None:
        from dissectdb.extract.demo import faces  # only the demo needs it

        super().__init__(dataset)
        if dataset.seed < 0:
            raise StudyError(f"{self.name}: seed = {dataset.seed} must be 0 or more")
        self.faces = faces
        self.classes = tuple(self.faces.CLASSES)
        self.count = dataset.images or DEMO_IMAGES
        self.seed = dataset.seed

    def fingerprint(self) -> str:
        digest = self.settings_hash(kind="demo", images=self.count, seed=self.seed)
        for name in ("faces.py", "render.py", "relief.py", "strokes.py"):  # another way of drawing is another dataset
            digest.update(file_hash(Path(self.faces.__file__).with_name(name)))
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        for start in range(0, self.count, DEMO_BLOCK):
            faces = self._block(start)
            for place, (pixels, emotion) in enumerate(zip(faces.pixels, faces.emotions, strict=True), start):
                yield Record(None, self._split(place), self.classes[emotion], inspect(pixels), pixels)

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        wanted = (position for position in positions if position < self.count)
        for block, places in groupby(wanted, key=lambda position: position // DEMO_BLOCK):
            faces = self._block(block * DEMO_BLOCK)
            for place in places:
                yield faces.pixels[place - block * DEMO_BLOCK]

    def _block(self, start: int) -> Any:
        return self.faces.draw(min(DEMO_BLOCK, self.count - start), self.seed, start=start)

    def _split(self, position: int) -> str:
        if position < self.count * 60 // 100:
            return "train"
        return "validation" if position < self.count * 75 // 100 else "test"
