"""The images of a study of arrays: rows without pictures, or the images of [dataset], one per row.

source = PicturedSource(arrays, open_source(study.dataset))   # its scan refuses images that do not fit the rows
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping

from dissectdb.extract import fingerprints
from dissectdb.extract.images.scan import Image, Source
from dissectdb.extract.record.arrays_file import CLASS, IMAGES, PATHS, Arrays, slices
from dissectdb.extract.study import StudyError
from dissectdb.extract.warehouse_protocol import Store

SPLIT = "train"  # of all rows without pictures


class RowsSource(Source):
    """Images that are known only by their embeddings. arrays: the open file."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.name = arrays, str(arrays.path)
        self.classes = arrays.classes if CLASS in arrays.shapes else ()

    def fingerprint(self) -> str:
        return fingerprints.of_values("arrays", self.arrays.fingerprint, self.classes)

    def scan(self) -> Iterator[Image]:
        for start, stop in slices(self.arrays.count):
            rows = self.arrays.directions(IMAGES, range(start, stop))
            numbers = self.arrays.numbers(CLASS, range(start, stop)) if self.classes else []
            for row, position in enumerate(range(start, stop)):
                class_name = self.classes[numbers[row]] if self.classes else None
                # Two images may have the same embedding, so the position is hashed too.
                digest = hashlib.sha256(rows[row].tobytes() + position.to_bytes(8, "little")).hexdigest()
                yield Image(position, f"row {position}", SPLIT, class_name, digest, None, None, None, None)


class PicturedSource(Source):
    """The images of a dataset, where row i of the arrays is of the image at position i.

    If the dataset has no classes, they are those of the file. Raises StudyError, here or in its scan, if the number of
    images, their classes or their paths are not those of the file.
    """

    def __init__(self, arrays: Arrays, pictures: Source) -> None:
        self.arrays, self.pictures, self.name = arrays, pictures, pictures.name
        numbers = arrays.numbers(CLASS, range(arrays.count)) if CLASS in arrays.shapes else []
        self.row_classes = [arrays.classes[number] for number in numbers]
        self.takes_classes = bool(numbers) and not pictures.classes
        self.classes = arrays.classes if self.takes_classes else pictures.classes
        self.row_paths = _paths(arrays)
        if pictures.count is not None:
            self._refuse_count(pictures.count)
        self.count = arrays.count

    @property
    def left_out(self) -> Mapping[tuple[str, str], int]:  # type: ignore[override]  # known after the scan
        return self.pictures.left_out

    def fingerprint(self) -> str:
        """That of the dataset, so that arrays and networks share its images."""
        pictures = self.pictures.fingerprint()
        return fingerprints.of_values("pictures", pictures, self.row_classes) if self.takes_classes else pictures

    def scan(self) -> Iterator[Image]:
        images = 0
        for images, image in enumerate(self.pictures.scan(), start=1):
            if images <= self.arrays.count:
                self._refuse_other(image.position, image.path, image.class_name)
                yield image._replace(class_name=self.row_classes[image.position]) if self.takes_classes else image
        self._refuse_count(images)

    def refuse_stored(self, warehouse: Store, dataset_id: int) -> None:
        """Raises StudyError if the images that the warehouse has of the dataset do not fit the rows."""
        rows = warehouse.rows(
            """
            select position, path, class from images inner join splits using (split_id)
            where dataset_id = $dataset order by position
            """,
            {"dataset": dataset_id},
        )
        self._refuse_count(len(rows))
        for position, path, class_name in rows.iter_rows():
            self._refuse_other(position, path, class_name)

    def _refuse_count(self, images: int) -> None:
        if images != self.arrays.count:
            raise StudyError(
                f"{self.arrays.path} has {self.arrays.count:,} rows per array, {self.name} has {images:,} images; row "
                "i is of the image at position i, so write a row for every image, also for blank, repeated and "
                "unreadable ones"
            )

    def _refuse_other(self, position: int, path: str | None, class_name: str | None) -> None:
        """Raises StudyError if the file names another class or another path for an image."""
        way_out = f"write the rows in the order of the images of {self.name}"
        if self.row_paths and path is not None and not f"/{self.row_paths[position]}".endswith(f"/{path}"):
            raise StudyError(
                f"{self.arrays.path}: row {position} is of {self.row_paths[position]}, as its {PATHS} say, but image "
                f"{position} is {path}; {way_out}"
            )
        if self.row_classes and class_name not in (None, self.row_classes[position]):
            raise StudyError(
                f"{self.arrays.path}: class is {self.row_classes[position]} in row {position}, but image {position} "
                f"({path}) is of class {class_name}; {way_out}, or take class out of the file"
            )


def _paths(arrays: Arrays) -> list[str]:
    """The path of each row's image, from the file's metadata; empty if it has none. Raises StudyError."""
    if (text := (arrays.handle.metadata() or {}).get(PATHS)) is None:
        return []
    try:
        paths = json.loads(text)
    except (ValueError, RecursionError):
        paths = None
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise StudyError(f"{arrays.path}: {PATHS} of its metadata must be a JSON list of texts")
    if len(paths) != arrays.count:
        raise StudyError(f"{arrays.path}: {PATHS} of its metadata has {len(paths)} paths for {arrays.count} rows")
    return paths
