"""Find the images of a folder, the split and class of each, and what is left out.

    found = find(Path("faces"))
    found.files[0].path, found.files[0].split, found.files[0].class_name  # "train/happy/1.jpg", "train", "happy"
    found.left_out  # Counter({("ending", ".txt"): 2, ("outside a class folder", "test"): 42})

Layouts, decided by names alone:

<split>/<class>/…    A split folder is one called train, training, val, valid, validation, publictest, test, testing or
                     privatetest, in any case. Every other folder in it is a class; images lie in it at any depth.
<class>/…            The same without split folders.
<split>/images/…     Images of a split in no class folder. Tiny ImageNet's val/val_annotations.txt gives their classes.
<split>/…, …         No class folders at all: the images are a set without classes.

Folders of two splits are one class where their names differ only in case, spaces, underscores and hyphens, as
train/happy and test/Happy; two of one split stay two classes.

One of these may lie a folder too deep (archive/train/…). Where some images have a class, an image in no class folder is
left out and counted, because nothing says what it shows. Order: train, validation, test; then by class; then by path.

Links: one that leads out of the dataset's folder is refused, with an error, because a dataset from elsewhere
may point at anything, and one that silently shrinks is no better. A link to a file inside is an image like
any other; a link to a folder inside is not followed, since what it holds is in the dataset already.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dissectdb.extract.images.inspection import IMAGE_NAMES
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few, loose_key, meet
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text

SPLITS = ("train", "validation", "test")
SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "publictest": "validation",
    "test": "test", "testing": "test", "privatetest": "test",
}  # fmt: skip
IMAGE_FOLDERS = ("images", "imgs", "img")  # holds the images of the folder above it; never a split's only class
JUNK = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found")
MOST_ANNOTATIONS = 64 * MEGABYTE

HIDDEN, ENDING, NO_FILE, OUTSIDE = "hidden", "ending", "not a file", "outside a class folder"


class File(NamedTuple):
    """An image file: its path from the dataset's folder, with slashes; its split and class, if folders name them."""

    path: str
    split: str | None
    class_name: str | None


class Found(NamedTuple):
    """What a folder holds. left_out: (reason, detail) → files; assumed: what was concluded from names, in sentences.

    unlabelled: splits of which images were left out because others have classes.
    """

    files: list[File]
    left_out: Counter[tuple[str, str]]
    assumed: list[str]
    unlabelled: frozenset[str]


class Folder(NamedTuple):
    """A folder as it was walked: its path from the dataset's folder, its folders, and the paths of its images."""

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


class Part(NamedTuple):
    """The images of one split, or of all: those in class folders, and those in none."""

    split: str | None
    folder: Folder
    classes: list[Folder]
    loose: list[str]


def find(folder: Path) -> Found:
    """The images of a folder, in order, and what is left out. Raises StudyError where there is none."""
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
    if not any(part.classes for part in parts):
        assumed.append("no class folders: the images are a set without classes")
        files = [File(path, part.split, None) for part in parts for path in part.loose]
        return Found(sorted(files, key=_place), left_out, assumed, frozenset())
    names = _class_names(parts)
    assumed += _spellings(parts, names)
    files = []
    unlabelled: set[str | None] = set()
    for part in parts:
        of_list = _annotated(root, part, set(names.values())) if part.loose else {}
        files += [File(path, part.split, names[each.name]) for each in part.classes for path in _images_below(each)]
        files += [File(path, part.split, name) for path, name in of_list.items()]
        if outside := len(part.loose) - len(of_list):
            left_out[OUTSIDE, _shown(part.folder)] += outside
            unlabelled.add(part.split)
        if of_list:
            assumed.append(f"the classes of {_shown(part.folder)} are those of its {_annotations(part)}")
    return Found(
        sorted(files, key=_place), left_out, assumed, frozenset(split for split in unlabelled if split is not None)
    )


def in_turn(files: list[File]) -> list[File]:
    """The same files, the first of every class of a split before the second of any."""
    seen: Counter[tuple[str | None, str | None]] = Counter()
    turns = []
    for file in files:
        seen[file.split, file.class_name] += 1
        turns.append(seen[file.split, file.class_name])
    order = sorted(range(len(files)), key=lambda place: (_split(files[place]), turns[place]))
    return [files[place] for place in order]


def is_named_by_folders(files: list[File]) -> bool:
    """Whether every path is <split>/<class>/… or <class>/…, so that paths alone tell splits and classes."""
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
    """The folder that the dataset begins in: below folders that hold nothing but one other folder with images.

    A chain of folders that ends in images is one class, not a wrapping.
    """
    folder = tree
    while len(folder.filled) == 1 and not folder.images and not folder.filled[0].split:
        [folder] = folder.filled
    return tree if folder.images else folder


def _parts(folder: Path, top: Folder) -> list[Part]:
    """The splits of a dataset; one of no split where the folders are the classes themselves."""
    named = [child for child in top.filled if child.split]
    others = [child for child in top.filled if not child.split]
    if others and not any(child.filled for child in named):
        return [_part(None, top)]  # a class may be called test: it has no folders of its own
    if named and others:
        raise StudyError(
            f"{folder}: holds split folders ({', '.join(child.name for child in named)}) beside others "
            f"with images ({', '.join(child.name for child in others)}); move one or the other elsewhere"
        )
    return [_part(child.split, child) for child in named] or [_part(None, top)]


def _part(split: str | None, folder: Folder) -> Part:
    """The classes and the loose images of a split. A single folder called images is no class, but holds both."""
    inner = folder
    while not inner.images and len(inner.filled) == 1 and inner.filled[0].name.casefold() in IMAGE_FOLDERS:
        [inner] = inner.filled
    return Part(split, folder, inner.filled, inner.images)


def _joined(parts: list[Part]) -> list[str]:
    """Notes on splits that two folders stand for."""
    names: dict[str | None, list[str]] = {}
    for part in parts:
        names.setdefault(part.split, []).append(part.folder.name)
    return [f"{' and '.join(both)} are joined: each is {split}" for split, both in names.items() if len(both) > 1]


def _class_names(parts: list[Part]) -> dict[str, str]:
    """Folder name → class: the name in the first split that has it, however it is spelt in another.

    Names that one split spells in two ways are classes of their own everywhere.
    """
    in_order = sorted(parts, key=lambda part: SPLITS.index(part.split) if part.split else 0)
    spelt: dict[str, str] = {}
    kept: set[str] = set()
    for part in in_order:
        keys = Counter(loose_key(each.name) for each in part.classes)
        kept |= {key for key, times in keys.items() if times > 1 or not key}
        for each in part.classes:
            spelt.setdefault(loose_key(each.name), each.name)
    names = [each.name for part in in_order for each in part.classes]
    return {name: name if loose_key(name) in kept else spelt[loose_key(name)] for name in names}


def _spellings(parts: list[Part], names: dict[str, str]) -> list[str]:
    """Notes on class folders whose names differ only in spelling."""
    joined = [
        f"{_shown(each)} as {one_line(names[each.name])}"
        for part in parts
        for each in part.classes
        if names[each.name] != each.name
    ]
    by_key: dict[str, set[str]] = {}
    for name in names.values():
        by_key.setdefault(loose_key(name), set()).add(name)
    apart = [" and ".join(map(one_line, sorted(found))) for found in by_key.values() if len(found) > 1]
    lines = [f"class folders that are spelt otherwise in another split are joined to its class: {few(joined)}"]
    lines += [f"classes whose names differ only in spelling stay apart: {few(sorted(apart))}"]
    return [line for line, found in zip(lines, (joined, apart), strict=True) if found]


def _annotations(part: Part) -> str:
    return f"{part.folder.name}_annotations.txt"


def _annotated(root: Path, part: Part, classes: set[str]) -> dict[str, str]:
    """path → class of the loose images that a list like Tiny ImageNet's val_annotations.txt names."""
    path = root / part.folder.path / _annotations(part)
    if not path.is_file() or not path.resolve().is_relative_to(root):
        return {}
    try:
        lines = read_text(path, MOST_ANNOTATIONS).splitlines()
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read: {one_line(error)}") from None
    of_name = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    met = meet(of_name.values(), classes)
    named = ((path, met.get(of_name.get(path.rpartition("/")[2], ""))) for path in part.loose)
    return {path: name for path, name in named if name is not None}


def _why_empty(tree: Folder, left_out: Counter[tuple[str, str]]) -> str:
    wanted = "<split>/<class>/ or <class>/ with images in them"
    if not tree.folders and not left_out:
        return f"is empty; it must hold folders {wanted}"
    inside = f" in its folders ({', '.join(child.name for child in tree.folders[:5])})" if tree.folders else ""
    others = [f"{files} {reason} {detail}".strip() for (reason, detail), files in left_out.most_common(5)]
    there = f"; there is {', '.join(others)}" if others else ""
    return f"no image{inside}; it must hold {wanted}, which end in {', '.join(IMAGE_NAMES)}{there}"


# ---------------------------------------------------------------- the walk


def _images_below(folder: Folder) -> Iterator[str]:
    yield from folder.images
    for child in folder.folders:
        yield from _images_below(child)


def _walk(folder: Path, path: str, root: Path, left_out: Counter[tuple[str, str]]) -> Folder:
    """A folder with all that is in it; counts the files that are no images."""
    folders, images = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        below = f"{path}/{entry.name}" if path else entry.name
        if entry.name.startswith(".") or entry.name.casefold() in JUNK:
            if files := _files_in(entry):
                left_out[HIDDEN, ""] += files
        elif _is_walked(entry, root):
            folders.append(_walk(folder / entry.name, below, root, left_out))
        elif not entry.is_dir():
            if (reason := _no_image(entry)) is None:
                images.append(below)
            else:
                left_out[reason] += 1
    return Folder(path, folders, images, len(images) + sum(child.total for child in folders))


def _is_walked(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether it is a folder of the dataset's own. Raises StudyError for a link that leads elsewhere."""
    is_folder = entry.is_dir()
    if entry.is_symlink() and (is_folder or entry.name.lower().endswith(IMAGE_NAMES)):
        target = Path(entry.path).resolve()
        if not target.is_relative_to(root):
            raise StudyError(f"{entry.path}: links out of the dataset, to {target}; put a copy in its place")
    return is_folder and not entry.is_symlink()


def _no_image(entry: os.DirEntry[str]) -> tuple[str, str] | None:
    """Why a file is no image, by its name and kind: (reason, detail); a dead link counts as an image."""
    if not entry.name.lower().endswith(IMAGE_NAMES):
        ending = os.path.splitext(entry.name)[1].lower()
        return ENDING, one_line(ending, 12) or "none"
    return None if entry.is_file() or not os.path.exists(entry.path) else (NO_FILE, "")


def _files_in(entry: os.DirEntry[str]) -> int:
    """How many files a hidden folder holds; 1 of a file. Links are not followed."""
    if entry.is_dir(follow_symlinks=False):
        return sum(len(files) for _, _, files in os.walk(entry.path))
    return 1
