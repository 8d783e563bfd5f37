"""Find the images of a folder: <split>/<class>/… or <class>/….

    for file in list_files(Path("faces")):
        file.path, file.split, file.class_name  # "train/happy/1.jpg", "train", "happy"

Only names are looked at. A split folder is one called train, training, val, valid, validation, publictest,
test, testing or privatetest, in any case. Every folder below it, or below the top where there are no split
folders, is a class; images lie in it at any depth. Hidden files and other kinds of file do not count, nor do
images outside class folders. Order: train, validation, test; then by class; then by path.

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

from extract.study import StudyError
from extract.texts import one_line

SPLITS = ("train", "validation", "test")
SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "publictest": "validation",
    "test": "test", "testing": "test", "privatetest": "test",
}  # fmt: skip
IMAGE_NAMES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


class File(NamedTuple):
    """An image file: its path from the dataset's folder, with slashes; its split, if a folder says."""

    path: str
    split: str | None
    class_name: str


def list_files(folder: Path) -> list[File]:
    """The images of a folder, in order. Raises StudyError where it is not laid out as it must be."""
    root = folder.resolve()
    try:
        top, _ = _children(root, root)
        splits = _split_folders(folder, root, top)
        files = [
            File(image.relative_to(root).as_posix(), split, class_folder.name)
            for split, classes in splits
            for class_folder in classes
            for image in _images_below(class_folder, root)
        ]
    except OSError as error:
        name = one_line(error.filename or folder)
        raise StudyError(f"{name}: cannot be read: {error.strerror or one_line(error)}") from None
    except RecursionError:
        raise StudyError(f"{folder}: its folders are nested too deeply to be a dataset") from None
    if not files:
        raise StudyError(f"{folder}: {_why_empty(root, [name for _, classes in splits for name in classes])}")
    return sorted(files, key=_place)


def in_turn(files: list[File]) -> list[File]:
    """The same files, the first of every class of a split before the second of any."""
    seen: Counter[tuple[str | None, str]] = Counter()
    turns = []
    for file in files:
        seen[file.split, file.class_name] += 1
        turns.append(seen[file.split, file.class_name])
    order = sorted(range(len(files)), key=lambda place: (_split(files[place]), turns[place]))
    return [files[place] for place in order]


def _place(file: File) -> tuple[int, str, list[str]]:
    return _split(file), file.class_name, file.path.split("/")


def _split(file: File) -> int:
    return SPLITS.index(file.split) if file.split else 0


def _split_folders(folder: Path, root: Path, top: list[Path]) -> list[tuple[str | None, list[Path]]]:
    """Class folders by split; by no split where the top folders are the classes themselves."""
    named = [child for child in top if child.name.casefold() in SPLIT_FOLDERS]
    below = {child: _children(child, root)[0] for child in named}
    if len(named) < len(top) and not any(below.values()):
        return [(None, top)]  # a class may be called test: it has no folders of its own
    others = [child for child in top if child not in below and any(_images_below(child, root))]
    if named and others:
        raise StudyError(
            f"{folder}: holds split folders ({', '.join(child.name for child in named)}) beside others "
            f"with images ({', '.join(child.name for child in others)}); move one or the other elsewhere"
        )
    return [(SPLIT_FOLDERS[child.name.casefold()], classes) for child, classes in below.items()]


def _why_empty(root: Path, classes: list[Path]) -> str:
    wanted = "<split>/<class>/ or <class>/ with images in them"
    if not any(root.iterdir()):
        return f"is empty; it must hold folders {wanted}"
    if not classes:
        return f"has no class folders; it must hold {wanted}"
    names = ", ".join(sorted({child.name for child in classes})[:5])
    return f"no image in its class folders ({names}); images end in {', '.join(IMAGE_NAMES)}"


def _images_below(folder: Path, root: Path) -> Iterator[Path]:
    folders, images = _children(folder, root)
    yield from images
    for child in folders:
        yield from _images_below(child, root)


def _children(folder: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the images right in a folder, by name."""
    folders, images = [], []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        is_folder = entry.is_dir()
        is_image = not is_folder and entry.name.lower().endswith(IMAGE_NAMES)
        if entry.name.startswith(".") or not (is_folder or is_image):
            continue
        path = folder / entry.name
        if entry.is_symlink():
            target = path.resolve()
            if not target.is_relative_to(root):
                raise StudyError(f"{path}: links out of the dataset, to {target}; put a copy in its place")
            is_folder = False
            is_image = is_image and not target.is_dir()
        if is_folder:
            folders.append(path)
        elif is_image and (path.is_file() or not path.exists()):  # dead links count, pipes not
            images.append(path)
    return folders, images
