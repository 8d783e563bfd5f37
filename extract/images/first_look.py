"""What kind of images a path holds, and how many of them would label the neurons: for a first study.

found = look("photos")
found.keys          # of [dataset]: {"kind": "folder", "path": "photos"}
found.classes       # ("cat", "dog")
found.counts        # {"train": 412, "validation": 51, "test": 49}: sound images, or all of them in a large set
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dissectdb.extract.images import fer2013_source, parquet_files
from dissectdb.extract.images.dataset_source import DatasetSource
from dissectdb.extract.images.decoding import IMAGE_NAMES
from dissectdb.extract.images.folder_source import Folder
from dissectdb.extract.images.folders import KIND_OF_SHARDS
from dissectdb.extract.images.listed_source import Listed
from dissectdb.extract.images.scan import ALL, Source
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.datasets import TORCHVISION

SCANNED = 500  # so many images are looked at one by one; of more of them only names are
TABLES = (".csv", ".tsv", ".csv.gz")
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class FoundImages:
    """keys: of [dataset], without name. counts: images by split; of at most SCANNED images only the sound ones.

    only_label: they have neither classes nor splits of their own, so that no part need be kept for edits.
    """

    keys: Mapping[str, Any]
    why: str  # what the kind was concluded from
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    are_sound: bool
    only_label: bool


def look(images: str, root: str | None = None) -> FoundImages:
    """Find the kind of what a path names, and open it. Raises StudyError.

    images: a folder, a file, torchvision:NAME or FILE.py:FUNCTION. root: the folder of torchvision's files, or the one
    that the paths of a manifest start from.
    """
    keys, why = _kind(images)
    if root is not None:
        if keys["kind"] != "manifest" and not images.startswith(TORCHVISION):
            raise StudyError(f"{images} is of kind {keys['kind']!r}, which has no root; take --root out")
        keys |= {"root": root} if keys["kind"] == "manifest" else {"arguments": {"root": root}}
    elif images.startswith(TORCHVISION):
        raise StudyError(f"{images} needs --root, the folder with the files that torchvision has downloaded")
    settings = Dataset(name="images", **{**keys, "path": Path(images)})
    source = open_source(settings)
    only_label = not source.classes and not any(_named_splits(source))
    if only_label and not isinstance(source, DatasetSource):  # whose opening reads every image
        source = open_source(settings.model_copy(update={"probing_split": ALL}))
    counts, are_sound = counted(source)
    if not counts.total():
        raise StudyError(f"{images}: no image is sound; all are unreadable, blank or repeats")
    return FoundImages(keys, why, tuple(source.classes), dict(counts), are_sound, only_label)


def counted(source: Source) -> tuple[Counter[str], bool]:
    """The images of each split, and whether only sound ones are counted, which takes a look at each of them."""
    if source.size() <= SCANNED:
        return Counter(image.split for image in source.scan() if image.defect is None), True
    return Counter(split or "train" for split in _named_splits(source)), False


def _kind(images: str) -> tuple[dict[str, Any], str]:
    """Keys of [dataset], and what they were concluded from."""
    path, name = Path(images), images.lower()
    if images.startswith(TORCHVISION):
        return {"kind": "python", "path": images}, "a dataset of torchvision"
    if images.rpartition(":")[0].endswith(".py"):
        return {"kind": "python", "path": images}, "a function that returns a Dataset"
    kind, why = "folder", "a folder of images"
    if path.is_dir():
        endings = Counter(file.suffix.lower() for file in path.rglob("*"))
        shards = max(KIND_OF_SHARDS, key=lambda ending: endings[ending])
        if endings[shards] and not any(endings[ending] for ending in IMAGE_NAMES):
            kind, why = KIND_OF_SHARDS[shards], f"a folder with {endings[shards]} files that end in {shards}"
    elif name.endswith(".tar") or ("{" in name and not path.exists()):
        kind, why = "webdataset", "tars of samples"
    elif name.endswith(PARQUET) and path.is_file():
        schema = parquet_files.open_parquet(path).schema_arrow
        has_images = bool(parquet_files.image_columns(schema))
        kind, why = ("parquet", "a file with images") if has_images else ("manifest", "a table without images in it")
    elif name.endswith(TABLES) and path.is_file():
        kind, why = ("fer2013", "its columns are FER2013's") if _is_fer2013(path) else ("manifest", "a list of files")
    return {"kind": kind, "path": images}, why


def _is_fer2013(path: Path) -> bool:
    try:
        fer2013_source.find_columns(path)
    except StudyError:
        return False
    return True


def _named_splits(source: Source) -> Iterable[str | None]:
    """The split of each image, as names give it; None where its hash decides."""
    if isinstance(source, Folder):
        return [file.split for file in source.files]
    if isinstance(source, Listed):
        return source.frame["split"].to_list()
    if isinstance(source, DatasetSource):
        return [entry.split for entry in source.entries]
    return ["train"] * source.size()  # FER2013 has its three splits
