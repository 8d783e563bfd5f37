"""Probing sets: the images that a network is shown.

    source = open_source(study.dataset)
    source.classes, source.fingerprint()
    for image in source.scan():  # one pass: splits, hashes, thumbnails, defects
        ...
    for pixels in source.read([0, 3, 4]):  # uint8, (height, width) grey or (height, width, 3) RGB
        ...

Positions count the images of a dataset from 0, over all splits, the defective ones included. Three kinds:

fer2013  The CSV of the Kaggle challenge, plain or gzipped: a line is an image, Usage is its split.
folder   <split>/<class>/…, <class>/… and what else dissectdb.extract.images.folders understands: JPEG, PNG, BMP,
         WebP, TIFF, GIF, AVIF and PNM files.
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

from pathlib import Path

from dissectdb.did_you_mean import nearest
from dissectdb.extract.images.base import Source
from dissectdb.extract.images.demo_source import Demo
from dissectdb.extract.images.fer2013_source import Fer2013
from dissectdb.extract.images.folder_source import Folder
from dissectdb.extract.study import Dataset, StudyError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def open_source(dataset: Dataset) -> Source:
    """The images that a study names, found but not yet decoded. Raises StudyError."""
    if dataset.kind == "demo":
        return Demo(dataset)
    path = dataset.path
    assert path is not None, "the study has refused a dataset without it"
    if not path.exists():
        raise StudyError(f"{path}: no such file or folder; {_near(path)}")
    if path.name.lower().endswith(ARCHIVES) and path.is_file():
        raise StudyError(f"{path}: is an archive; unpack it, and name what was in it")
    if dataset.kind == "folder":
        if not path.is_dir():
            raise StudyError(f"{path}: is a file; kind = 'folder' reads folders of images, 'fer2013' a CSV")
        return Folder(dataset, path)
    if not path.is_dir() and not path.is_file():  # to open a pipe would take for ever
        raise StudyError(f"{path}: is no file but a pipe or a device; kind = 'fer2013' reads a CSV file")
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.csv*"))
        found = f"name the file: {path / files[0]}" if files else "kind = 'folder' reads folders of images"
        raise StudyError(f"{path}: is a folder; kind = 'fer2013' reads a CSV file: {found}")
    return Fer2013(dataset, path)


def _near(path: Path) -> str:
    """What the user may have meant by a path that does not exist."""
    if not path.parent.is_dir():
        return f"nor is there a folder {path.parent}"
    names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    if near := nearest(path.name, names, 1):
        return f"did you mean {path.parent / near[0]}?"
    return f"{path.parent} holds {', '.join(names[:5]) or 'nothing'}{' …' if len(names) > 5 else ''}"
