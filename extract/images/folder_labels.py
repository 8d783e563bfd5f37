"""Read the classes of images that lie in a folder without class folders from a file beside it: dataset.labels.

labels = FolderLabels(dataset)
labels.of(root, [["val/1.jpg", "val/2.jpg"], ["test/1.jpg"]], set())   # {"val/1.jpg": "cat", "val/2.jpg": "dog"}
labels.in_order({"cat", "dog"})                                        # ("cat", "dog")
labels.assumed                                                         # sentences for the log

A line of the file is one of these:

name,class    A CSV (also with tabs or semicolons) with or without a header line, or two words, as in Caffe's val.txt.
              Kaggle's LOC_val_solution.csv (ImageId, PredictionString) is read as it is. A name may lack its ending.
class         A list in the order of the sorted names. It needs dataset.classes, and a line for every image.

The images of a split have classes all or none: a file without a label, or a label without a file, is a StudyError.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from dissectdb.did_you_mean import choices
from dissectdb.extract.images.listed_source import first_of, numbered
from dissectdb.extract.images.manifest_source import CLASS_COLUMNS, DELIMITERS, FILE_COLUMNS
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.class_names import MAX_CLASSES, few, meet
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text

MAX_LABELS = 256 * MEGABYTE  # of a file of labels; LOC_train_solution.csv has 30
NAME_COLUMNS = (*FILE_COLUMNS, "imageid", "image_id", "id")
BOXES = "predictionstring"  # a column of Kaggle's: for each box in the image its class and four numbers

Lines = list[tuple[int, list[str]]]  # the number of a line, from 1, and its fields


class FolderLabels:
    """A file of labels."""

    def __init__(self, dataset: Dataset) -> None:
        assert dataset.labels is not None, "only a study with labels asks for them"
        self.path, self.classes = dataset.labels, dataset.classes
        self.image_column, self.label_column = dataset.image_column, dataset.label_column
        self.assumed: list[str] = []
        self.are_numbers = False

    def of(self, root: Path, parts: Sequence[Sequence[str]], folders: Collection[str]) -> dict[str, str]:
        """path → class, of the images of each split that lie outside class folders. folders: the class folders.

        Raises StudyError.
        """
        images = [path for part in parts for path in part]
        if not images:
            raise StudyError(f"{self.path}: dataset.labels would do nothing: all images of {root} lie in class folders")
        files = _Files(root, images)
        lines = _lines(self.path, files)
        if max(len(fields) for _, fields in lines) == 1:
            labels = self._in_list(root, lines, [part for part in parts if part])
        else:
            labels = self._of_names(root, files, lines)
            self._refuse_files_without_labels(parts, labels)
        return self._classes(labels, folders)

    def in_order(self, names: Collection[str]) -> tuple[str, ...]:
        """The classes of the folder in their order: that of dataset.classes, of numbers, or of their names."""
        if self.are_numbers and not self.classes:
            return tuple(map(str, range(max(map(int, names)) + 1)))
        return self.classes or tuple(sorted(names))

    # ------------------------------------------------------------ which image a label is of

    def _in_list(self, root: Path, lines: Lines, parts: Sequence[Sequence[str]]) -> dict[str, tuple[int, str]]:
        """path → line and label, if there is one label a line. Raises StudyError where the order may be another."""
        way_out = "write the file's name before each class"
        if not self.classes:
            raise StudyError(f"{self.path}: has no names of files, only classes; {way_out}, or set dataset.classes")
        if len(parts) > 1:
            raise StudyError(f"{self.path}: has no names of files, and {len(parts)} splits have no classes; {way_out}")
        [paths] = parts
        if len(lines) != len(paths):
            raise StudyError(f"{self.path}: has {len(lines):,} lines, and {root} has {len(paths):,} images; {way_out}")
        by_text, by_number = sorted(paths), sorted(paths, key=lambda path: numbered(Path(path)))
        if by_text != by_number:
            first, second = next(pair for pair in zip(by_text, by_number, strict=True) if pair[0] != pair[1])
            raise StudyError(f"{self.path}: whether {first} or {second} is first is not clear; {way_out}")
        self.assumed.append(
            f"labels: line 1 of {self.path.name} ({one_line(lines[0][1][0], 60)}) is of {by_text[0]}, and so on by name"
        )
        return {path: (number, label) for path, (number, [label]) in zip(by_text, lines, strict=True)}

    def _of_names(self, root: Path, files: _Files, lines: Lines) -> dict[str, tuple[int, str]]:
        """path → line and label, if each line has a name and a class."""
        header = [] if files.named(lines[0][1][0]) else [name.strip() for name in lines[0][1]]
        if not header and (self.image_column or self.label_column):
            raise StudyError(f"{self.path}:1: names an image and no columns; take dataset.label_column out")
        name_at, label_at = self._columns(header) if header else (0, 1)
        has_boxes = bool(header) and header[label_at].lower() == BOXES
        labels: dict[str, tuple[int, str]] = {}
        missing: list[tuple[int, str]] = []
        for number, fields in lines[bool(header) :]:
            where = f"{self.path}:{number}"
            if len(fields) != len(lines[0][1]):
                raise StudyError(f"{where}: has {len(fields)} fields, and the first line has {len(lines[0][1])}")
            name, label = fields[name_at].strip(), fields[label_at].strip()
            if not label:
                raise StudyError(f"{where}: has no class for {one_line(name, 60)}; write it, or move the image away")
            label = _only_class(label, where) if has_boxes else label
            named = files.named(name)
            if not named:
                missing.append((number, name))
                continue
            if len(named) > 1:
                raise StudyError(f"{where}: {one_line(name, 60)} names {few(named)}; write its folder too")
            if labels.get(named[0], (0, label))[1] != label:
                raise StudyError(
                    f"{where}: {one_line(name, 60)} is {label!r}, and line {labels[named[0]][0]} says "
                    f"{labels[named[0]][1]!r}; keep one of them"
                )
            labels.setdefault(named[0], (number, label))
        if missing:
            number, name = missing[0]
            raise StudyError(
                f"{self.path}:{number}: {root} has no image {one_line(name, 60)} outside class folders"
                f"{f', nor those of {len(missing) - 1:,} further lines' if missing[1:] else ''}; "
                f"{choices(name, files.names)}; take the line out, or name another folder"
            )
        return labels

    def _columns(self, header: list[str]) -> tuple[int, int]:
        """Where a line has the file's name and where the class. Raises StudyError."""
        there_is = f"there is {few([one_line(name, 60) for name in header], 12)}"
        for key, asked in (("image_column", self.image_column), ("label_column", self.label_column)):
            if asked is not None and asked not in header:
                raise StudyError(f"{self.path}: dataset.{key}: there is no column {asked!r}; {there_is}")
        name = self.image_column or first_of(header, NAME_COLUMNS)
        if name is None:
            raise StudyError(
                f"{self.path}:1: {one_line(header[0], 60)} is no image of the folder, and no column is called "
                f"{', '.join(NAME_COLUMNS)}; {there_is}; dataset.image_column names the one of files"
            )
        label = self.label_column or first_of(header, (*CLASS_COLUMNS, BOXES))
        if label is None and len(header) == 2:
            label = header[1 - header.index(name)]
        if label is None or label == name:
            raise StudyError(f"{self.path}: which column has the class? {there_is}; dataset.label_column names it")
        return header.index(name), header.index(label)

    def _refuse_files_without_labels(self, parts: Iterable[Sequence[str]], labels: Collection[str]) -> None:
        """Raises StudyError if some images of a split have a label and others have none."""
        for part in parts:
            without = [path for path in part if path not in labels]
            if without and len(without) < len(part):
                raise StudyError(
                    f"{self.path}: has no class for {one_line(without[0], 100)}"
                    f"{f' and {len(without) - 1:,} further images' if without[1:] else ''}; write a line for each "
                    "image, or move them to another folder"
                )

    # ------------------------------------------------------------ which class a label means

    def _classes(self, labels: Mapping[str, tuple[int, str]], folders: Collection[str]) -> dict[str, str]:
        """path → class. Raises StudyError for a label that is no class."""
        known = self.classes or tuple(sorted(folders))
        if self.classes and (unknown := sorted(set(folders) - set(self.classes))):
            raise StudyError(
                f"dataset.classes: has no class for the folders {few(unknown)}; {choices(unknown[0], known)}"
            )
        met = meet((label for _, label in labels.values()), known) if known else {}
        are_known = all(label in met for _, label in labels.values())
        self.are_numbers = not are_known and all(label.isdecimal() for _, label in labels.values())
        if self.are_numbers:
            return self._of_numbers(labels, folders)
        if known:
            for number, label in labels.values():
                if label not in met:
                    raise StudyError(
                        f"{self.path}:{number}: {one_line(label, 60)!r} is no class; {choices(label, known)}"
                    )
        return {path: met.get(label, label) for path, (_, label) in labels.items()}

    def _of_numbers(self, labels: Mapping[str, tuple[int, str]], folders: Collection[str]) -> dict[str, str]:
        """path → class, if labels are numbers: those of dataset.classes, from 0 or from 1."""
        numbers = {path: (line, int(label)) for path, (line, label) in labels.items()}
        lowest, highest = (pick(number for _, number in numbers.values()) for pick in (min, max))
        if not self.classes:
            if folders:
                raise StudyError(
                    f"{self.path}: labels are numbers, and class folders have names; dataset.classes says their order"
                )
            if highest > MAX_CLASSES:
                raise StudyError(f"{self.path}: label {highest} is no class; classes are numbered from 0")
            self.assumed.append("labels are numbers without names; dataset.classes names them")
            return {path: str(number) for path, (_, number) in numbers.items()}
        count = len(self.classes)
        if highest > count or (lowest == 0 and highest == count):
            line, number = next(each for each in numbers.values() if each[1] >= count)
            raise StudyError(
                f"{self.path}:{line}: {number} is no class; dataset.classes has {count}, numbered from 0 or from 1"
            )
        if lowest > 0 and highest < count:
            raise StudyError(
                f"{self.path}: whether classes are numbered from 0 or from 1 is not clear, because neither 0 nor "
                f"{count} occurs; write their names"
            )
        first = 0 if lowest == 0 else 1
        self.assumed.append(f"labels are numbers from {first} on: {first} is {self.classes[0]}")
        return {path: self.classes[number - first] for path, (_, number) in numbers.items()}


class _Files:
    """The images that a label may name, by the last part of their paths, with and without its ending."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self.root, self.names = root.as_posix(), [path.rpartition("/")[2] for path in paths]
        self.by_name: dict[str, list[str]] = defaultdict(list)
        self.by_stem: dict[str, list[str]] = defaultdict(list)
        for path, name in zip(paths, self.names, strict=True):
            self.by_name[name].append(path)
            self.by_stem[name.rpartition(".")[0]].append(path)

    def named(self, label: str) -> list[str]:
        """The images whose path ends in what a label says; its folders may begin above the dataset's."""
        asked = PurePosixPath(label.strip().replace("\\", "/"))
        if not asked.name:
            return []
        folder = asked.parent.as_posix()
        ending = "" if folder == "." else f"/{folder.removeprefix('/')}"
        paths = self.by_name.get(asked.name) or self.by_stem.get(asked.name, [])
        return [path for path in paths if f"{self.root}/{path}".rpartition("/")[0].endswith(ending)]


def _only_class(boxes: str, where: str) -> str:
    """The class in a value of Kaggle's PredictionString. Raises StudyError if there are several."""
    words = boxes.split()
    classes = list(dict.fromkeys(words[::5]))
    if len(words) % 5:
        raise StudyError(
            f"{where}: PredictionString has {len(words)} words; it must have a class and four numbers a box"
        )
    if len(classes) > 1:
        raise StudyError(f"{where}: its boxes are of {few(classes)}; an image has one class, so keep one")
    return classes[0]


def _lines(path: Path, files: _Files) -> Lines:
    """The lines that are not blank, split into fields. Raises StudyError."""
    try:
        text = read_text(path, MAX_LABELS).rstrip("\n").split("\n")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; dataset.labels is a CSV of file name and class") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a readable text file: {one_line(error)}") from None
    if not text[0].strip():
        raise StudyError(f"{path}:1: is blank; each line is a file name and a class")
    delimiter = max(DELIMITERS, key=text[0].count)
    if delimiter in text[0]:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            return [(reader.line_num, fields) for fields in reader if fields]
        except csv.Error as error:
            raise StudyError(f"{path}:{reader.line_num}: is no line of CSV: {one_line(error)}") from None
    are_pairs = bool(files.named(text[0].strip().rpartition(" ")[0]))
    for number, line in enumerate(text, 1):
        if not line.strip():
            raise StudyError(
                f"{path}:{number}: is blank; each line has {'a file name and ' if are_pairs else ''}a class"
            )
    return [(number, line.strip().rsplit(None, are_pairs)) for number, line in enumerate(text, 1)]
