"""Probing sets: the images that a network is shown.

    source = open_source(study.dataset)
    source.classes, source.fingerprint()
    for image in source.scan():  # one pass: splits, hashes, thumbnails, defects
        ...
    for pixels in source.read([0, 3, 4]):  # uint8, (height, width) grey or (height, width, 3) RGB
        ...

Positions number the images of a dataset from 0, over all splits and including defective images. Kinds:

fer2013  The CSV of the Kaggle challenge, plain or gzipped: one image per line, its split in Usage.
folder   JPEG, PNG, BMP, WebP, TIFF, GIF, AVIF and PNM files in <split>/<class>/…, <class>/… or another layout that
         dissectdb.extract.images.folders describes. A file of labels may give the classes.
manifest A CSV, TSV or Parquet file that lists image files, with class, split, group and attributes.
parquet  Parquet files that hold images, as Hugging Face writes them.
webdataset  Tars of samples: an image and files of the same name with its class, caption or other facts.
python   A map-style Dataset that a function of the user's returns, or one of torchvision's.
demo     The built-in faces: 60 % train, 15 % validation, the rest test.

If a folder has no validation images, some train images become validation. If it has no splits, some become validation
and as many test; the share is `validation_share`. The hash of an image's pixels alone decides its split, so adding,
removing or renaming other images moves none, and copies of an image are in the same split. If the validation images
have no classes, train images are moved only if the study sets `validation_share`.

With `probing_split = "all"` every image is in one split called all, which labels the neurons and is measured. No image
is left to choose or judge an edit on.

Several sources are one dataset if the study has [[dataset.sources]]; their images follow one another.

`dataset.images` is the number of images to keep of each split (for the demo: to draw in all). A folder then takes its
classes in turn, because the first files by name would all be of one class.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dissectdb.did_you_mean import nearest
from dissectdb.extract.images.dataset_source import open_dataset
from dissectdb.extract.images.demo_source import Demo
from dissectdb.extract.images.fer2013_source import Fer2013
from dissectdb.extract.images.folder_labels import FolderLabels
from dissectdb.extract.images.folder_source import Folder
from dissectdb.extract.images.manifest_source import Manifest
from dissectdb.extract.images.parquet_source import Parquet
from dissectdb.extract.images.scan import Source
from dissectdb.extract.images.tar_source import Tars
from dissectdb.extract.images.united_source import United
from dissectdb.extract.study import Dataset, StudyError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def open_source(dataset: Dataset, items: Any = None) -> Source:
    """Find the images that a study names. Only kind = "python" decodes them already. Raises StudyError.

    items: for kind = "python", a map-style Dataset, or a list of images, of paths or of (image, label), that is used in
    place of a path.
    """
    if items is not None and (dataset.kind != "python" or dataset.path is not None):
        raise StudyError(
            f"dataset {dataset.name}: images are given as objects, and the study names some; write kind = 'python' "
            "without path or sources, or leave Given(images=…) out"
        )
    if dataset.sources:
        return United(dataset, [(source.name, open_source(source)) for source in dataset.united()])
    if dataset.kind == "python":
        return open_dataset(dataset, items)
    if dataset.kind == "demo":
        return Demo(dataset)
    path = dataset.path
    assert path is not None, "the study has refused a dataset without it"
    if dataset.kind == "webdataset":
        return Tars(dataset, path)
    if not path.exists():
        raise StudyError(f"{path}: no such file or folder; {_near(path)}")
    if dataset.kind == "parquet":
        return Parquet(dataset, path)
    if dataset.kind == "manifest" and path.is_file():
        return Manifest(dataset, path)
    if dataset.kind == "manifest":
        raise StudyError(f"{path}: is no file; kind = 'manifest' reads a CSV, TSV or Parquet file that lists images")
    if path.name.lower().endswith(ARCHIVES) and path.is_file():
        hint = "; kind = 'webdataset' reads samples in it as they are" if path.name.lower().endswith(".tar") else ""
        raise StudyError(f"{path}: is an archive; unpack it, and name the folder or file that it held{hint}")
    if path.name.lower().endswith((".parquet", ".pq")):
        raise StudyError(f"{path}: is a Parquet file; kind = 'parquet' reads images in it, 'manifest' a list of files")
    if dataset.kind == "folder":
        if not path.is_dir():
            raise StudyError(f"{path}: is a file; kind = 'folder' reads folders of images, 'fer2013' a CSV")
        return Folder(dataset, path, FolderLabels(dataset) if dataset.labels else None)
    if not path.is_dir() and not path.is_file():  # opening a pipe could block for ever
        raise StudyError(f"{path}: is not a file but a pipe or a device; kind = 'fer2013' reads a CSV file")
    if path.is_dir():
        files = sorted(file.name for file in path.glob("*.csv*"))
        hint = f"name the file: {path / files[0]}" if files else "kind = 'folder' reads folders of images"
        raise StudyError(f"{path}: is a folder; kind = 'fer2013' reads a CSV file: {hint}")
    return Fer2013(dataset, path)


def _near(path: Path) -> str:
    """A hint for a path that does not exist: where a link leads, a similar name, or what the folder holds."""
    if path.is_symlink():
        return f"it is a link to {os.readlink(path)}, which is not there"
    if not path.parent.is_dir():
        return f"nor is there a folder {path.parent}"
    names = sorted(entry.name for entry in path.parent.iterdir() if not entry.name.startswith("."))
    if near := nearest(path.name, names, 1):
        return f"did you mean {path.parent / near[0]}?"
    return f"{path.parent} holds {', '.join(names[:5]) or 'nothing'}{' …' if len(names) > 5 else ''}"
