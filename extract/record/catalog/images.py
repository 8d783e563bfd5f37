"""Enter datasets, splits, classes and images into a warehouse."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import pyarrow as pa

from dissectdb.extract.images.scan import ALL, Image, Source
from dissectdb.extract.study import Dataset
from dissectdb.extract.warehouse_protocol import Store
from dissectdb.progress import Progress, unshown

IMAGES = pa.schema(
    [
        ("image_id", pa.int32()),
        ("split_id", pa.int32()),
        ("position", pa.int32()),
        ("path", pa.string()),
        ("class", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("thumbnail", pa.binary()),
        ("defect", pa.string()),
        ("source", pa.string()),
    ]
)
ATTRIBUTES = pa.schema([("image_id", pa.int32()), ("attribute", pa.string()), ("value", pa.string())])
SPLITS = ("train", "validation", "test")
IMAGES_AT_ONCE = 2048


@dataclass(frozen=True)
class ProbingSet:
    """A dataset as the warehouse stores it.

    origin: the path of its file or folder, or its kind. probing_split: the split whose images label the neurons.
    fingerprint: of its content.
    """

    name: str
    origin: str
    probing_split: str
    fingerprint: str

    @classmethod
    def of(cls, dataset: Dataset, fingerprint: str) -> ProbingSet:
        """The dataset of a study."""
        return cls(dataset.name, dataset.origin, dataset.probing_split, fingerprint)


def enter_dataset(
    warehouse: Store,
    probing_set: ProbingSet,
    source: Source,
    accept: Callable[[Counter[str]], None],
    progress: Progress = unshown,
    *,
    block_images: int,
) -> int:
    """The id of a dataset. If the warehouse has none with this content, the images are scanned and entered.

    accept: called with the number of sound images of each split. If it raises an error, nothing is written.
    progress: called with the number of images scanned and of all images (None if unknown). block_images: of its splits.
    """
    if (stored_id := warehouse.find("datasets", probing_set.fingerprint)) is not None:
        return stored_id
    dataset_id = warehouse.next_id("datasets")
    first_split, first_image = warehouse.next_id("splits"), warehouse.next_id("images")
    names = (ALL,) if probing_set.probing_split == ALL else SPLITS
    split_ids = {split: first_split + index for index, split in enumerate(names)}
    dataset = {
        "dataset_id": dataset_id,
        "name": probing_set.name,
        "source": probing_set.origin,
        "fingerprint": probing_set.fingerprint,
    }

    # Scan before writing, so that the warehouse is not locked meanwhile.
    with tempfile.TemporaryFile() as scanned, tempfile.TemporaryFile() as attributes:
        accept(_scan(source, first_image, split_ids, scanned, attributes, progress))
        scanned.seek(0)
        attributes.seek(0)
        warehouse.write(
            {
                "images": pa.ipc.open_stream(scanned),
                "image_attributes": pa.ipc.open_stream(attributes),
                "datasets": [dataset],
                "classes": [
                    {"dataset_id": dataset_id, "position": position, "class": name}
                    for position, name in enumerate(source.classes)
                ],
                "splits": [
                    {"split_id": split_id, "dataset_id": dataset_id, "split": split, "block_images": block_images}
                    for split, split_id in split_ids.items()
                ],
                "left_out": [
                    {"dataset_id": dataset_id, "reason": reason, "detail": detail, "files": files}
                    for (reason, detail), files in source.left_out.items()
                ],
            }
        )
    return dataset_id


def _scan(
    source: Source,
    first_image: int,
    split_ids: Mapping[str, int],
    file: BinaryIO,
    attributes_file: BinaryIO,
    progress: Progress,
) -> Counter[str]:
    """Write the rows of all images, and their attributes, to files; returns the sound images of each split."""
    counts: Counter[str] = Counter()
    scan = _counted(source.scan(), source.count, progress)
    with pa.ipc.new_stream(file, IMAGES) as rows, pa.ipc.new_stream(attributes_file, ATTRIBUTES) as attributes:
        while chunk := list(islice(scan, IMAGES_AT_ONCE)):
            counts.update(image.split for image in chunk if image.defect is None)
            rows.write_table(_image_table(chunk, first_image, split_ids))
            attributes.write_table(_attribute_table(chunk, first_image))
    return counts


def _counted(images: Iterator[Image], total: int | None, progress: Progress) -> Iterator[Image]:
    for done, image in enumerate(images, start=1):
        yield image
        if done % 100 == 0 or done == total:
            progress(done, total)


def _image_table(images: Sequence[Image], first_image: int, split_ids: Mapping[str, int]) -> pa.Table:
    rows = [
        (
            first_image + image.position,
            split_ids[image.split],
            image.position,
            image.path,
            image.class_name,
            image.sha256,
            image.width,
            image.height,
            image.thumbnail,
            image.defect,
            image.source,
        )
        for image in images
    ]
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, IMAGES, strict=True)], schema=IMAGES)


def _attribute_table(images: Sequence[Image], first_image: int) -> pa.Table:
    rows = [
        {"image_id": first_image + image.position, "attribute": attribute, "value": value}
        for image in images
        for attribute, value in image.attributes.items()
    ]
    return pa.Table.from_pylist(rows, ATTRIBUTES)


def sound_counts(warehouse: Store, dataset_id: int) -> Counter[str]:
    """The number of images without a defect in each split of a dataset."""
    rows = warehouse.rows(
        """
        select splits.split, count(images.image_id) as images
        from splits left join images on splits.split_id = images.split_id and images.defect is null
        where splits.dataset_id = $dataset_id group by splits.split
        """,
        {"dataset_id": dataset_id},
    )
    return Counter(dict(rows.rows()))
