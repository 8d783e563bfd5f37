"""Probing sets: the images that a network is shown.

    source = open_source(study.dataset)
    source.classes, source.fingerprint()
    for image in source.scan():  # one pass: splits, hashes, thumbnails, defects
        ...
    for pixels in source.read([0, 3, 4]):  # uint8, (height, width) grey or (height, width, 3) RGB
        ...

Positions number the images of a dataset from 0, over all splits and including defective images. Three kinds:

fer2013  The CSV of the Kaggle challenge, plain or gzipped: one image per line, its split in Usage.
folder   JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF and PNM files in <split>/<class>/…, <class>/… or another layout that
         dissectdb.extract.images.folders describes.
demo     The built-in faces: 60 % train, 15 % validation, the rest test.

If a folder has no validation images, some train images become validation. If it has no splits, some become validation
and as many test; the share is `validation_share`. The hash of an image's pixels alone decides its split, so adding,
removing or renaming other images moves none, and copies of an image are in the same split. If the validation images
have no classes, train images are moved only if the study sets `validation_share`.

With `probing_split = "all"` every image is in one split called all, which labels the neurons and is measured. No image
is left to choose or judge an edit on.

`dataset.images` is the number of images to keep of each split (for the demo: to draw in all). A folder then takes its
classes in turn, because the first files by name would all be of one class.
"""

from __future__ import annotations

from pathlib import Path

from dissectdb.did_you_mean import nearest
from dissectdb.extract.images.demo_source import Demo
from dissectdb.extract.images.fer2013_source import Fer2013
from dissectdb.extract.images.folder_source import Folder
from dissectdb.extract.images.scan import Source
from dissectdb.extract.study import Dataset, StudyError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def open_source(dataset: Dataset) -> Source:
    """Find the images that a study names, without decoding them. Raises StudyError."""
    if dataset.kind == "demo":
        return Demo(dataset)
    path = dataset.path
    assert path is not None, "the study has refused a dataset without it"
    if not path.exists():
        raise StudyError(f"{path}: no such file or folder; {_near(path)}")
    if path.name.lower().endswith(ARCHIVES) and path.is_file():
        raise StudyError(f"{path}: is an archive; unpack it, and name the folder or file that it held")
    if dataset.kind == "folder":
        if not path.is_dir():
            raise StudyError(f"{path}: is a file; kind = 'folder' reads folders of images, 'fer2013' a CSV")
        return Folder(dataset, path)
    if not path.is_dir() and not path.is_file():  # opening a pipe could block for ever
        raise StudyError(f"{path}: is not a file but a pipe or a device; kind = 'fer2013' reads a CSV file")
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.csv*"))
        hint = f"name the file: {path / files[0]}" if files else "kind = 'folder' reads folders of images"
        raise StudyError(f"{path}: is a folder; kind = 'fer2013' reads a CSV file: {hint}")
    return Fer2013(dataset, path)


def _near(path: Path) -> str:
    """A hint for a path that does not exist: a similar name, or what the folder holds."""
    if not path.parent.is_dir():
        return f"nor is there a folder {path.parent}"
    names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    if near := nearest(path.name, names, 1):
        return f"did you mean {path.parent / near[0]}?"
    return f"{path.parent} holds {', '.join(names[:5]) or 'nothing'}{' …' if len(names) > 5 else ''}"
