"""Find the images of a folder, with the split and class of each, and count the files that are left out.

    found = find(Path("faces"))
    found.files[0].path, found.files[0].split, found.files[0].class_name  # "train/happy/1.jpg", "train", "happy"
    found.left_out  # Counter({("ending", ".txt"): 2, ("outside a class folder", "test"): 42})

Layouts, recognised by names alone:

<split>/<class>/…    A split folder is one called train, training, val, valid, validation, publictest, test, testing or
                     privatetest, in any case. Every other folder in it is a class; images lie in it at any depth.
<class>/…            The same without split folders.
<split>/images/…     Images without class folders; val/val_annotations.txt, as in Tiny ImageNet, gives their classes.
<split>/…, …         No class folders at all: the images are a set without classes.

A file of labels gives classes to the images outside class folders (dissectdb.extract.images.folder_labels).

Folders of two splits are one class if their names differ only in case, spaces, underscores and hyphens (train/happy and
test/Happy). Two such folders of one split stay two classes.

The layout may begin in a sub-folder (archive/train/…). If some images have a class, an image outside the class folders
is left out and counted, because its class is unknown. Order: train, validation, test; then by class; then by path.

Links: a link that leads out of the dataset's folder is an error, because a downloaded dataset may point at any file,
and leaving it out would shrink the dataset silently. A link to a file inside is an image like any other. A link to a
folder inside is not followed, because its images are in the dataset already.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dissectdb.extract.images.decoding import IMAGE_NAMES
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few, loose_key, meet, told_of_spellings
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text

SPLITS = ("train", "validation", "test")
SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "publictest": "validation",
    "test": "test", "testing": "test", "privatetest": "test",
}  # fmt: skip
IMAGE_FOLDERS = ("images", "imgs", "img")  # as a split's only folder it holds all its images and is not a class
JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found")
KIND_OF_SHARDS = {".parquet": "parquet", ".tar": "webdataset"}  # of files that hold images
MAX_ANNOTATIONS = 64 * MEGABYTE

HIDDEN, ENDING, NO_FILE, OUTSIDE = "hidden", "ending", "not a file", "outside a class folder"


class File(NamedTuple):
    """An image file. path: from the dataset's folder, with "/". split, class_name: None if not named."""

    path: str
    split: str | None
    class_name: str | None


class Found(NamedTuple):
    """What find() found in a folder.

    left_out: (reason, detail) → number of files. assumed: sentences on what was concluded from names.
    unlabelled: splits with images that were left out because they have no class and other images do.
    """

    files: list[File]
    left_out: Counter[tuple[str, str]]
    assumed: list[str]
    unlabelled: frozenset[str]


class Folder(NamedTuple):
    """A folder and what is in it: its path from the dataset's folder, its folders, and the paths of its images."""

    path: str
    folders: list[Folder]
    images: list[str]
    total: int  # images in it, at any depth

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def filled(self) -> list[Folder]:
        """The folders in it that hold images."""
        return [folder for folder in self.folders if folder.total]

    @property
    def split(self) -> str | None:
        """The split that its name stands for."""
        return SPLIT_FOLDERS.get(self.name.casefold())


# The dataset's folder, the loose images of each split, and the class folders; gives path → class of loose images.
Labelled = Callable[[Path, Sequence[Sequence[str]], set[str]], dict[str, str]]


class Part(NamedTuple):
    """The images of one split, or of all splits: those in class folders, and loose ones outside them."""

    split: str | None
    folder: Folder
    classes: list[Folder]
    loose: list[str]


def find(folder: Path, labelled: Labelled | None = None) -> Found:
    """Find the images of a folder, in order, and what is left out. Raises StudyError if there are none.

    labelled: gives the classes of images that lie outside class folders.
    """
    root = folder.resolve()
    left_out: Counter[tuple[str, str]] = Counter()
    try:
        tree = _walk(root, "", root, left_out)
    except OSError as error:
        name = one_line(error.filename or folder)
        raise StudyError(f"{name}: cannot be read: {error.strerror or one_line(error)}") from None
    except RecursionError:
        raise StudyError(f"{folder}: its folders are nested too deeply to be a dataset") from None
    if not tree.total:
        raise StudyError(f"{folder}: {_why_empty(tree, left_out)}")
    top = _without_wrapping(tree)
    assumed = [f"the images are those of {one_line(folder / top.path)}"] if top.path else []
    parts = _parts(folder, top)
    assumed += _joined(parts)
    if top.images and parts[0].folder is not top:
        left_out[OUTSIDE, _shown(top)] += len(top.images)
    names = _class_names(parts)
    labels = labelled(root, [part.loose for part in parts], set(names.values())) if labelled else None
    if not labels and not any(part.classes for part in parts):
        assumed.append("no class folders: the images are a set without classes")
        files = [File(path, part.split, None) for part in parts for path in part.loose]
        return Found(sorted(files, key=_place), left_out, assumed, frozenset())
    assumed += _spellings(parts, names)
    files = []
    unlabelled: set[str | None] = set()
    for part in parts:
        if labels is None:
            class_by_path = _annotated(root, part, set(names.values())) if part.loose else {}
        else:
            class_by_path = {path: labels[path] for path in part.loose if path in labels}
        files += [
            File(path, part.split, names[class_folder.name])
            for class_folder in part.classes
            for path in _images_below(class_folder)
        ]
        files += [File(path, part.split, name) for path, name in class_by_path.items()]
        if outside := len(part.loose) - len(class_by_path):
            left_out[OUTSIDE, _shown(part.folder)] += outside
            unlabelled.add(part.split)
        if class_by_path and labels is None:
            assumed.append(f"the classes of {_shown(part.folder)} are those of its {_annotations(part)}")
    return Found(
        sorted(files, key=_place), left_out, assumed, frozenset(split for split in unlabelled if split is not None)
    )


def in_turn(files: list[File]) -> list[File]:
    """The same files in rounds: the first file of every class of a split, then the second of every class, and so on."""
    counts: Counter[tuple[str | None, str | None]] = Counter()
    turns = []
    for file in files:
        counts[file.split, file.class_name] += 1
        turns.append(counts[file.split, file.class_name])
    order = sorted(range(len(files)), key=lambda index: (_split(files[index]), turns[index]))
    return [files[index] for index in order]


def is_named_by_folders(files: list[File]) -> bool:
    """Whether every path is <split>/<class>/… or <class>/…, so that it contains the split and class."""
    for file in files:
        first, _, rest = file.path.partition("/")
        if file.split and SPLIT_FOLDERS.get(first.casefold()) != file.split:
            return False
        if (rest.partition("/")[0] if file.split else first) != file.class_name:
            return False
    return True


def _shown(folder: Folder) -> str:
    """Its path as text that can be stored; names need not be UTF-8."""
    return one_line(folder.path) or "."


def _place(file: File) -> tuple[int, str, list[str]]:
    return _split(file), file.class_name or "", file.path.split("/")


def _split(file: File) -> int:
    return SPLITS.index(file.split) if file.split else 0


# ---------------------------------------------------------------- the layout


def _without_wrapping(tree: Folder) -> Folder:
    """The folder in which the layout begins: skips folders that hold only one folder with images.

    A chain of folders that ends in images is one class, so it is not skipped.
    """
    folder = tree
    while len(folder.filled) == 1 and not folder.images and not folder.filled[0].split:
        [folder] = folder.filled
    return tree if folder.images else folder


def _parts(folder: Path, top: Folder) -> list[Part]:
    """The splits of a dataset; a single part without a split if the folders are classes."""
    named = [child for child in top.filled if child.split]
    unnamed = [child for child in top.filled if not child.split]
    if unnamed and not any(child.filled for child in named):
        return [_part(None, top)]  # a class may be called test; unlike a split, it has no sub-folders
    if named and unnamed:
        raise StudyError(
            f"{folder}: holds split folders ({', '.join(child.name for child in named)}) beside other "
            f"folders with images ({', '.join(child.name for child in unnamed)}); move one kind elsewhere"
        )
    return [_part(child.split, child) for child in named] or [_part(None, top)]


def _part(split: str | None, folder: Folder) -> Part:
    """The classes and the loose images of a split. A single folder called images is not a class but holds them."""
    inner = folder
    while not inner.images and len(inner.filled) == 1 and inner.filled[0].name.casefold() in IMAGE_FOLDERS:
        [inner] = inner.filled
    return Part(split, folder, inner.filled, inner.images)


def _joined(parts: list[Part]) -> list[str]:
    """Notes on splits that are made of two folders."""
    names: dict[str | None, list[str]] = {}
    for part in parts:
        names.setdefault(part.split, []).append(part.folder.name)
    return [f"{' and '.join(both)} are joined: each is {split}" for split, both in names.items() if len(both) > 1]


def _class_names(parts: list[Part]) -> dict[str, str]:
    """Folder name → class: the spelling of the first split that has it.

    If one split has a name in two spellings, they are different classes in every split.
    """
    in_order = sorted(parts, key=lambda part: SPLITS.index(part.split) if part.split else 0)
    spelt: dict[str, str] = {}
    ambiguous_keys: set[str] = set()
    for part in in_order:
        keys = Counter(loose_key(folder.name) for folder in part.classes)
        ambiguous_keys |= {key for key, times in keys.items() if times > 1 or not key}
        for folder in part.classes:
            spelt.setdefault(loose_key(folder.name), folder.name)
    names = [folder.name for part in in_order for folder in part.classes]
    return {name: name if loose_key(name) in ambiguous_keys else spelt[loose_key(name)] for name in names}


def _spellings(parts: list[Part], names: dict[str, str]) -> list[str]:
    """Notes on class folders whose names differ only in spelling."""
    joined = [
        f"{_shown(folder)} as {one_line(names[folder.name])}"
        for part in parts
        for folder in part.classes
        if names[folder.name] != folder.name
    ]
    line = f"class folders that are spelt differently in another split are joined to its class: {few(joined)}"
    return [line] * bool(joined) + told_of_spellings(names.values())


def _annotations(part: Part) -> str:
    return f"{part.folder.name}_annotations.txt"


def _annotated(root: Path, part: Part, classes: set[str]) -> dict[str, str]:
    """path → class, for loose images in a list like Tiny ImageNet's val_annotations.txt."""
    path = root / part.folder.path / _annotations(part)
    if not path.is_file() or not path.resolve().is_relative_to(root):
        return {}
    try:
        lines = read_text(path, MAX_ANNOTATIONS).splitlines()
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read: {one_line(error)}") from None
    class_by_name = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    met = meet(class_by_name.values(), classes)
    named = ((path, met.get(class_by_name.get(path.rpartition("/")[2], ""))) for path in part.loose)
    return {path: name for path, name in named if name is not None}


def _why_empty(tree: Folder, left_out: Counter[tuple[str, str]]) -> str:
    wanted = "<split>/<class>/ or <class>/ with images in them"
    if not tree.folders and not left_out:
        return f"is empty; it must hold folders {wanted}"
    inside = f" in its folders ({', '.join(child.name for child in tree.folders[:5])})" if tree.folders else ""
    for ending, kind in KIND_OF_SHARDS.items():
        if files := left_out[ENDING, ending]:
            return f"no image, but {files} files that end in {ending}; kind = {kind!r} reads images in them"
    counts = [f"{files} {reason} {detail}".strip() for (reason, detail), files in left_out.most_common(5)]
    instead = f"; there is {', '.join(counts)}" if counts else ""
    return f"no image{inside}; it must hold {wanted}, which end in {', '.join(IMAGE_NAMES)}{instead}"


# ---------------------------------------------------------------- the walk


def _images_below(folder: Folder) -> Iterator[str]:
    yield from folder.images
    for child in folder.folders:
        yield from _images_below(child)


def _walk(folder: Path, path: str, root: Path, left_out: Counter[tuple[str, str]]) -> Folder:
    """Read a folder and everything in it. Counts files that are not images in left_out."""
    folders, images = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        below = f"{path}/{entry.name}" if path else entry.name
        if entry.name.startswith(".") or entry.name.casefold() in JUNK:
            if files := _files_in(entry):
                left_out[HIDDEN, ""] += files
        elif _is_walked(entry, root):
            folders.append(_walk(folder / entry.name, below, root, left_out))
        elif not _is_folder(entry):
            if (reason := _no_image(entry)) is None:
                images.append(below)
            else:
                left_out[reason] += 1
    return Folder(path, folders, images, len(images) + sum(child.total for child in folders))


def _is_walked(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether an entry is a folder and not a link. Raises StudyError for a link out of the dataset."""
    is_folder = _is_folder(entry)
    if entry.is_symlink() and (is_folder or entry.name.lower().endswith(IMAGE_NAMES)):
        target = Path(os.path.realpath(entry.path))  # Path.resolve raises an error for a link to itself
        if not target.is_relative_to(root):
            raise StudyError(f"{entry.path}: links out of the dataset, to {target}; replace the link by a copy")
    return is_folder and not entry.is_symlink()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one. A link that leads to itself is none. Raises OSError."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _no_image(entry: os.DirEntry[str]) -> tuple[str, str] | None:
    """Why a file is not an image, by its name and kind: (reason, detail). A dead link counts as an image."""
    if not entry.name.lower().endswith(IMAGE_NAMES):
        ending = os.path.splitext(entry.name)[1].lower()
        return ENDING, one_line(ending, 12) or "none"
    is_file = os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()
    return None if is_file or not os.path.exists(entry.path) else (NO_FILE, "")


def _files_in(entry: os.DirEntry[str]) -> int:
    """How many files a hidden folder holds; 1 of a file. Links are not followed."""
    if entry.is_dir(follow_symlinks=False):
        return sum(len(files) for _, _, files in os.walk(entry.path))
    return 1
