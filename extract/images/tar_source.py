"""WebDataset's tars as a probing set: one tar, a folder of them, or a pattern such as data-{000..010}.tar.

The files of a tar that have the same name up to its first point are a sample: an image, and beside it .cls (the class),
.txt (its caption) or .json (class or label, split, group; other text and numbers become attributes). A tar's split is
in its name, unless the .json has one. Tars are read once for where the images are; each image is read from its place.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import IO, Any

import polars as pl

from dissectdb.extract.images.decoding import IMAGE_NAMES, file_hash
from dissectdb.extract.images.listed_source import FACTS, Listed, facts_of, first_of, of_splits, shards
from dissectdb.extract.images.manifest_source import CLASS_COLUMNS, GROUP_COLUMNS, SPLIT_COLUMNS
from dissectdb.extract.images.places import Part, Place
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.text_files import MEGABYTE, one_line

PACKED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
MAX_TEXT = MEGABYTE  # of a .json, .txt or .cls
BLOCK = 512  # bytes of a header; a block of zeros ends a tar
MAX_SHARDS = 1_000_000
PLACE = ("\0file", "\0offset", "\0size")


class Tars(Listed):
    """The images in tars of samples."""

    kind = "webdataset"

    def __init__(self, dataset: Dataset, path: Path) -> None:
        self.files = expanded(path)
        left_out: Counter[tuple[str, str]] = Counter()
        tables = [_index(index, *each, dataset.image_column, left_out) for index, each in enumerate(self.files)]
        self.left_out = left_out
        tables = [table for table in tables if len(table)]
        if not tables:
            what = "; ".join(f"{reason} {detail}" for reason, detail in left_out) or "they are empty"
            raise StudyError(f"{path}: no readable image in {len(self.files)} tar(s): {what}")
        table = pl.concat(tables, how="diagonal")
        self.where_in = table.select(PLACE)
        super().__init__(
            dataset, str(path), facts_of({name: table[name] for name in FACTS}, len(table)),
            table.drop([*FACTS, *PLACE]).rename(lambda name: name.removeprefix(OWN)),
            lambda row: f"{self.name}: {table['path'][row]}", dataset.classes,
        )  # fmt: skip

    def places(self, numbers: Iterable[int]) -> Iterator[Place]:
        for number in numbers:
            file, offset, size = self.where_in.row(number)
            yield Part(self.files[file][0], offset, size)

    def hash_files(self, digest: hashlib._Hash) -> None:
        for file, name, _ in self.files:
            digest.update(f"{name}\0".encode(errors="surrogateescape") + file_hash(file))


OWN = "\0"  # the beginning of an attribute's column, so that none is called like a fact


def expanded(path: Path) -> list[tuple[Path, str, str | None]]:
    """The tars that a path names, each with its name and split. Raises StudyError if one is not there."""
    if path.exists():
        return shards(path, ".tar", "webdataset")
    parts = re.split(r"\{([^{}]*)\}", str(path))
    if len(parts) == 1:
        raise StudyError(f"{path}: no such file or folder; name a tar, a folder of tars, or data-{{000..010}}.tar")
    choices = [_alternatives(part) if index % 2 else [part] for index, part in enumerate(parts)]
    files = [Path("".join(each)) for each in product(*choices)]
    if missing := [file for file in files if not file.is_file()]:
        raise StudyError(f"{path}: {len(missing)} of {len(files)} tars are not there, the first is {missing[0]}")
    return of_splits(path, [(file, Path(file.name)) for file in files])


def _alternatives(text: str) -> list[str]:
    """What stands for the inside of braces: 000..010, or a,b,c."""
    if match := re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", text):
        first, last = match.groups()
        if int(last) - int(first) >= MAX_SHARDS:
            raise StudyError(f"{{{text}}}: names more than {MAX_SHARDS:,} tars")
        return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return text.split(",")


# ---------------------------------------------------------------- one tar


def _index(
    number: int, file: Path, name: str, split: str | None, image: str | None, left_out: Counter[tuple[str, str]]
) -> pl.DataFrame:
    """The samples of a tar: FACTS, PLACE and attributes. Raises StudyError if it is cut, packed or none."""
    samples: dict[str, dict[str, Any]] = {}
    for tar, member in _members(file):
        folder, slash, base = member.name.rpartition("/")
        stem, _, ending = base.partition(".")
        if not stem or not member.isreg():
            continue
        sample = samples.setdefault(folder + slash + stem, {})
        ending = ending.lower()
        if ending in sample:
            raise StudyError(f"{file}: holds {one_line(member.name, 100)} twice; write each file once")
        is_text = ending in ("json", "txt", "cls")
        sample[ending] = _text(file, tar, member) if is_text else (member.offset_data, member.size)
    rows = []
    for key, sample in samples.items():
        images = [image] if image else [each for each in sample if f".{each}" in IMAGE_NAMES]
        images = images or [
            each for each in sample if each not in ("json", "txt", "cls") and each.endswith(IMAGE_NAMES)
        ]
        if len(images) > 1:
            raise StudyError(
                f"{file}: {one_line(key, 100)} holds several images: {', '.join(images)}; dataset.image_column names "
                "the ending of one"
            )
        if not images or images[0] not in sample:
            left_out["sample without an image", ", ".join(f".{each}" for each in sample)[:60]] += 1
            continue
        fields = _fields(file, key, sample)
        place = dict(zip(PLACE, (number, *sample[images[0]]), strict=True))
        rows.append({"path": f"{name}/{key}.{images[0]}", **place, **{"split": split} | fields})
    columns = dict.fromkeys(each for row in rows for each in (*FACTS, *row))
    kinds = {each: pl.Int64 if each in PLACE else pl.String for each in columns}
    return pl.DataFrame([[row.get(each) for each in columns] for row in rows], schema=kinds, orient="row")


def _members(file: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar, which is open until the next is asked for. Raises StudyError if it is cut or packed."""
    last = "its start"
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
            if packer := next((each for magic, each in PACKED.items() if start.startswith(magic)), None):
                raise StudyError(f"{file}: is compressed, so that no image can be read alone; unpack it with {packer}")
            opened.seek(0)
            with tarfile.open(fileobj=opened, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    last = one_line(member.name, 100)
                    tar.members = []  # type: ignore[attr-defined]  # which would otherwise keep all
                    yield tar, member
                _refuse_cut(file, opened, tar.offset, last)
    except tarfile.TarError as error:
        raise StudyError(
            f"{file}: is no tar, or is cut off or damaged after {last}: {one_line(error, 100)}; fetch it again"
        ) from None
    except OSError as error:
        raise StudyError(f"{file}: cannot be read: {error.strerror or one_line(error)}") from None


def _refuse_cut(file: Path, opened: IO[bytes], end: int, last: str) -> None:
    """Raises StudyError unless a block of zeros ends the tar, without which tarfile says nothing of what is missing."""
    opened.seek(end)
    rest = opened.read(MEGABYTE)
    if len(rest) < BLOCK or any(rest[:BLOCK]):
        raise StudyError(f"{file}: is cut off or damaged after {last}, at byte {end:,}; fetch it again")
    if any(rest):
        raise StudyError(f"{file}: goes on after its end, at byte {end:,}; write joined tars as files of their own")


def _text(file: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MAX_TEXT:
        raise StudyError(f"{file}: {one_line(member.name, 100)} has more than {MAX_TEXT // MEGABYTE} MB")
    content = tar.extractfile(member)
    assert content is not None, "it is a file"
    try:
        return content.read().decode("utf-8", "backslashreplace")
    except tarfile.TarError:
        raise StudyError(f"{file}: is cut off in {one_line(member.name, 100)}; fetch it again") from None


def _fields(file: Path, key: str, sample: Mapping[str, Any]) -> dict[str, str]:
    """label, split and group of a sample, and its attributes, as text."""
    try:
        fields = json.loads(sample.get("json", "{}"))
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{file}: {one_line(key, 100)}.json is no JSON: {one_line(error, 100)}") from None
    if not isinstance(fields, dict):
        raise StudyError(f"{file}: {one_line(key, 100)}.json is no object with fields, but a {type(fields).__name__}")
    texts = {name: text for name, value in fields.items() if (text := _as_text(value))}
    chosen = (("label", CLASS_COLUMNS), ("split", SPLIT_COLUMNS), ("group", GROUP_COLUMNS))
    found = {fact: texts.pop(column) for fact, columns in chosen if (column := first_of(texts, columns)) is not None}
    if "cls" in sample:
        found["label"] = sample["cls"].strip()
    given = {name: value for name, value in fields.items() if isinstance(value, dict | list)}
    for fact, columns in chosen:
        if fact not in found and (column := first_of(given, columns)) is not None:
            instead = ", or a .cls beside it" if fact == "label" else ""
            raise StudyError(
                f"{file}: {one_line(key, 100)}.json: its {column} is a {type(given[column]).__name__}; write text or a "
                f"number{instead}"
            )
    if "txt" in sample:
        texts["caption"] = sample["txt"].strip()
    return found | {OWN + name: text for name, text in texts.items()}


def _as_text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return repr(value) if isinstance(value, int | float) and value == value else None
