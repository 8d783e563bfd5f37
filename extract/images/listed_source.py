"""What the sources share that list their images in a table: manifests, Parquet files, and tars.

The table has a row per image: path, split, label and group, and the columns that become attributes. It is held in
memory as text; images are read one by one. Rows are positions, unless `dataset.images` is set: then classes take turns,
as in a folder.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from dissectdb.did_you_mean import choices
from dissectdb.extract.images.decoding import Pixels, decode
from dissectdb.extract.images.folder_source import drawn_splits, split_by_hash, told_of_drawn
from dissectdb.extract.images.folders import SPLIT_FOLDERS, SPLITS
from dissectdb.extract.images.places import Place, inspect_place, opened
from dissectdb.extract.images.scan import ALL, Record, Source, group_name, in_threads
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.class_names import MAX_CLASSES, few, told_of_spellings
from dissectdb.extract.study.text_files import one_line

FACTS = ("path", "split", "label", "group")
FILES = 4  # per hand-over to a thread or process
LARGE = 1000  # from so many images on, processes are worth their start
ROWS = 1024  # that are taken out of the table at a time
NUMBERED = "labels are numbers without names, so that classes are called 0, 1, …; dataset.classes names them"
WHOLE_NUMBER = r"^-?[0-9]{1,18}(\.0+)?$"  # pandas writes whole numbers as 3.0 if some are missing


class Row(NamedTuple):
    """What the table says about an image. split: None if the hash of its pixels decides."""

    path: str
    split: str | None
    class_name: str | None
    attributes: Mapping[str, str]


class Listed(Source):
    """A source whose images are rows of a table. A subclass reads the table and finds the images."""

    kind: str
    notes: Sequence[str] = ()  # sentences on what was assumed

    def __init__(
        self,
        dataset: Dataset,
        name: str,
        facts: pl.DataFrame,
        extras: pl.DataFrame,
        where: Callable[[int], str],
        names: Sequence[str] = (),
        *,
        are_numbers: bool = False,
    ) -> None:
        """facts: FACTS as text. extras: columns of text that become attributes. where: a row's place, for messages.

        names: of the classes. are_numbers: whether labels are numbers even if they are spelt like names.
        """
        super().__init__(dataset)
        self.name, self.where, self.limit = name, where, dataset.images
        if facts.is_empty():
            raise StudyError(f"{name}: no readable image: there is none")
        self.settings = {key: getattr(dataset, key) for key in ("classes", "image_column", "label_column")}
        self.extras = extras
        names_of_groups = {text: group_name(text) for text in facts["group"].unique().drop_nulls()}
        if any(text != name for text, name in names_of_groups.items()):  # then an older dataset is read anew
            facts = facts.with_columns(pl.col("group").replace_strict(names_of_groups, return_dtype=pl.String))
            self.settings["groups"] = "named"
        self.groups, self.splits = facts["group"], self._own_splits(facts["split"])
        self.classes, class_names = self._classes(facts["label"], tuple(names), are_numbers)
        self.share = dataset.validation_share
        self.drawn = drawn_splits(self, set(self.splits.unique()), self.share)
        self.frame = facts.select("path", "group", known_splits(self), class_names.alias("class"))
        self.order = range(len(facts)) if self.limit is None else self._in_turn()
        self.kept: Sequence[int] | None = self.order if self.limit is None else None  # by position; None until known
        self.count = len(facts) if self.limit is None else None

    # ------------------------------------------------------------ what a subclass does

    def places(self, numbers: Iterable[int]) -> Iterator[Place]:
        """The images of rows, in the order of the numbers."""
        raise NotImplementedError

    def hash_files(self, digest: hashlib._Hash) -> None:
        """Add every byte that is read to the digest."""
        raise NotImplementedError

    # ------------------------------------------------------------ splits and classes

    def _own_splits(self, given: pl.Series) -> pl.Series:
        """The splits of the rows as ours. Raises StudyError with the row of one that is unknown."""
        folded = given.str.strip_chars().str.to_lowercase()
        folded = folded.set(folded == "", None)
        known = folded.replace_strict(SPLIT_FOLDERS, default=None, return_dtype=pl.String)
        if (number := _first(folded.is_not_null() & known.is_null())) is not None:
            raise StudyError(
                f"{self.where(number)}: the split {one_line(given[number], 60)!r} is unknown; write "
                f"{', '.join(SPLITS)} (or {', '.join(name for name in SPLIT_FOLDERS if name not in SPLITS)})"
            )
        if known.null_count() not in (0, len(known)):
            number = _first(known.is_null())
            assert number is not None, "there is one"
            raise StudyError(f"{self.where(number)}: has no split, and others have; give all of them one, or none")
        return known

    def _classes(
        self, given: pl.Series, names: tuple[str, ...], are_numbers: bool
    ) -> tuple[tuple[str, ...], pl.Series]:
        """The classes in their order, and the class of each row. Raises StudyError with the row of an unknown one."""
        labels = given.str.strip_chars()
        labels = labels.set(labels == "", None)
        found = labels.unique().drop_nulls()
        are_names = bool(names) and not are_numbers and found.is_in(list(names)).all()
        if are_names or not found.len() or not found.str.contains(WHOLE_NUMBER).all():
            if not names and found.len() and found.cast(pl.Float64, strict=False).is_not_null().all():
                number = _first(labels.is_not_null() & ~labels.str.contains(WHOLE_NUMBER))
                assert number is not None, "not all are whole"
                raise StudyError(
                    f"{self.where(number)}: label {labels[number]} is neither a whole number nor a name; "
                    "dataset.label_column names the column with the class"
                )
            if names and (number := _first(labels.is_not_null() & ~labels.is_in(list(names)))) is not None:
                raise StudyError(
                    f"{self.where(number)}: {labels[number]!r} is no class; {choices(labels[number], names)}"
                )
            self.notes = [*self.notes, *(() if names else told_of_spellings(found))]
            return names or tuple(sorted(found)), labels
        numbers = labels.str.replace(r"\.0+$", "").cast(pl.Int64)
        numbers = numbers.set(numbers == -1, None)  # as Hugging Face writes that an image has no label
        largest = len(names) - 1 if names else MAX_CLASSES
        if (number := _first((numbers < 0) | (numbers > largest))) is not None:
            of_names = f"there are {len(names)}, from 0: {few(names)}" if names else "classes are numbered from 0"
            raise StudyError(f"{self.where(number)}: label {labels[number]} is no class; {of_names}")
        if not names and (highest := numbers.max()) is not None:
            names = tuple(map(str, range(int(str(highest)) + 1)))
            self.has_unnamed_numbers = True
            self.notes = [*self.notes, NUMBERED]
        return names, numbers.replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)

    def _in_turn(self) -> list[int]:
        """Rows in rounds: the first one of every class of a split, then the second of every class, and so on."""
        turns = self.frame.select(pl.int_range(pl.len()).over("split", "class").alias("turn"))["turn"]
        return [int(number) for number in np.argsort(turns.to_numpy(), kind="stable")]

    def assumptions(self, sound: Counter[str]) -> list[str]:
        sentences = list(self.notes)
        by_group = self.groups.null_count() < len(self.groups)
        sentences += told_of_drawn(self.drawn, self.share, by_group, sound)
        return sentences

    # ------------------------------------------------------------ as a source

    def fingerprint(self) -> str:
        share = self.share if self.drawn else None
        digest = self.settings_hash(kind=self.kind, images=self.limit, share=share, **self.settings)
        self.hash_files(digest)
        return digest.hexdigest()

    def records(self) -> Iterator[Record]:
        """Images are inspected in processes or threads."""
        counts: Counter[str] = Counter()
        kept = array("q")
        pending: deque[tuple[int, Row]] = deque()  # rows whose images are being inspected
        splits = self.frame["split"]

        def is_wanted(number: int) -> bool:
            if self.limit is None:
                return True
            known = splits[number]
            return any(counts[split] < self.limit for split in ([known] if known else self.drawn))

        def images() -> Iterator[Place]:
            numbers, again, once_more = tee(filter(is_wanted, self.order), 3)
            for number, row, place in zip(numbers, self._rows(again), self.places(once_more), strict=True):
                pending.append((number, row))
                yield place

        for facts, pixels in self.inspected(partial(inspect_place, self.bits), images(), at_once=FILES, large=LARGE):
            number, row = pending.popleft()
            split = row.split or split_by_hash(facts.sha256, self.share, self.drawn)
            if self.limit is None or counts[split] < self.limit:
                counts[split] += 1
                kept.append(number)
                yield Record(row.path, split, row.class_name, facts, pixels, None, row.attributes)
        self.kept = kept

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        if self.kept is None:
            deque(self.records(), maxlen=0)
        kept = self.kept or ()
        numbers = (kept[position] for position in positions if position < len(kept))
        return in_threads(lambda place: decode(opened(place), self.bits), self.places(numbers), at_once=1)

    def _rows(self, numbers: Iterable[int]) -> Iterator[Row]:
        for some in chunks(numbers, ROWS):
            extras = self.extras[some].iter_rows(named=True) if self.extras.width else ({} for _ in some)
            for (path, group, split, name), values in zip(self.frame[some].iter_rows(), extras, strict=True):
                attributes = {key: value for key, value in values.items() if value is not None}
                yield Row(path, split, name, attributes | ({} if group is None else {"group": group}))


def known_splits(source: Listed) -> pl.Series:
    """The split of each row: all, its own, or by the hash of its group; null if the hash of its pixels decides."""
    splits, groups = source.splits, source.groups
    if source.is_one_split:
        return pl.repeat(ALL, len(splits), eager=True).alias("split")
    if not source.drawn:
        return splits.alias("split")
    by_group = {
        group: split_by_hash(hashlib.sha256(group.encode()).hexdigest(), source.share, source.drawn)
        for group in groups.unique().drop_nulls()
    }
    of_group = groups.replace_strict(by_group, default=None, return_dtype=pl.String)
    is_open = splits.is_null() | splits.is_in(source.drawn)
    return pl.select(pl.when(is_open).then(of_group).otherwise(splits).alias("split")).to_series()


def _first(is_so: pl.Series) -> int | None:
    """The number of the first row for which it is so."""
    numbers = is_so.fill_null(False).arg_true()
    return int(numbers[0]) if len(numbers) else None


def chunks(numbers: Iterable[int], size: int) -> Iterator[list[int]]:
    """The numbers in lists of `size`; the last one may be shorter."""
    numbers = iter(numbers)
    return iter(lambda: list(islice(numbers, size)), [])


# ---------------------------------------------------------------- files in a folder


def numbered(path: Path) -> list[object]:
    """A key that sorts names by the numbers in them: shard-2 before shard-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", str(path))]


def split_of_file(path: Path) -> str | None:
    """The split that a file's name stands for, or else its folders' names: train-00000-of-00002.parquet, test/0.tar."""
    for name in (path.name.partition(".")[0], *reversed(path.parent.parts)):
        words = re.split(r"[^a-z]+", name.lower())
        if len(found := {SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS}) == 1:
            return found.pop()
    return None


def shards(path: Path, ending: str, kind: str) -> list[tuple[Path, str, str | None]]:
    """The files of a folder, or the file itself, each with its name and split; by split, then by name.

    Raises StudyError if there is none, or if some have a split in their names and others have none.
    """
    if path.is_dir():
        names = [
            file.relative_to(path)
            for file in path.rglob(f"*{ending}")
            if file.is_file() and not any(part.startswith((".", "__MACOSX")) for part in file.relative_to(path).parts)
        ]
        if not names:
            raise StudyError(f"{path}: holds no file that ends in {ending}, which kind = {kind!r} reads")
        _refuse_missing_shards(path, names)
        return of_splits(path, [(path / name, name) for name in names])
    return of_splits(path, [(path, Path(path.name))])


def of_splits(path: Path, files: Iterable[tuple[Path, Path]]) -> list[tuple[Path, str, str | None]]:
    """Files with the split of their names, in order. path: what the study names, for messages."""
    found = [(file, name, split_of_file(name)) for file, name in files]
    splits = {split for *_, split in found}
    if None in splits and len(splits) > 1:
        lone = next(name for _, name, split in found if split is None)
        raise StudyError(
            f"{path}: {lone} has no split in its name, and other files have; rename it, or move it elsewhere"
        )
    order = sorted(found, key=lambda each: (SPLITS.index(each[2]) if each[2] else 0, numbered(each[1])))
    return [(file, name.as_posix(), split) for file, name, split in order]


def _refuse_missing_shards(path: Path, names: Iterable[Path]) -> None:
    """A shard may say of how many it is one: train-00000-of-00002. Raises StudyError if others are not there."""
    seen: dict[tuple[str, str], set[int]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)(\d+)-of-(\d+)(\D.*)?", name.as_posix()):
            seen.setdefault((match[1], match[3]), set()).add(int(match[2]))
    for (stem, of), numbers in seen.items():
        missing = sorted(set(range(int(of))) - numbers) if max(numbers) < int(of) else []
        if missing:
            first = f"{stem}{missing[0]:0{len(of)}d}-of-{of}"
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise StudyError(
                f"{path}: {first}{more} is not there, and the names say that it is a part; bring it, or "
                "rename the files that are there"
            )


def first_of(columns: Iterable[str], known: Sequence[str]) -> str | None:
    """The column that has the first of the known names, in any case."""
    folded = {column.strip().lower(): column for column in reversed(list(columns))}
    return next((folded[name] for name in known if name in folded), None)


def facts_of(columns: Mapping[str, pl.Series], count: int) -> pl.DataFrame:
    """FACTS as columns of text; null in a column that there is not."""
    unknown = pl.Series([None] * count, dtype=pl.String)
    return pl.DataFrame({name: columns.get(name, unknown) for name in FACTS})
