"""The tables of a study file that name its images: [dataset] and [[dataset.sources]]."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dissectdb.extract.study.values import (
    ClassesOrFile,
    Name,
    Settings,
    StudyPath,
    as_path,
    refuse_twice,
)

TORCHVISION = "torchvision:"  # the beginning of a path that names a dataset of torchvision
LISTED = ("manifest", "parquet", "webdataset")  # kinds whose files list their images with class and attributes
KINDS_OF = {  # key → the kinds that read it
    "arguments": ("python",),
    "layout": ("python",),
    "classes": ("python", "folder", *LISTED),
    "root": ("manifest",),
    "image_column": ("folder", *LISTED),
    "label_column": ("folder", "manifest", "parquet"),
    "labels": ("folder",),
    "group_pattern": ("folder",),
    "bits": ("folder", *LISTED),
}
OF_LABELS = ("classes", "image_column", "label_column")  # kind = "folder" reads them for its labels only
OF_ALL_SOURCES = ("probing_split", "validation_share", "images")  # what a source takes from [dataset] by default

Layout = Literal["auto", "channels_first", "channels_last"]


class Dataset(Settings):
    """The images, and how they are split into train, validation and test. Several sources may be united to one."""

    name: Name
    kind: Literal["fer2013", "folder", "demo", "python", "manifest", "parquet", "webdataset", "sources"]
    path: StudyPath | None = None
    root: StudyPath | None = None
    labels: StudyPath | None = None
    image_column: Name | None = None
    label_column: Name | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    classes: ClassesOrFile = ()
    layout: Layout = "auto"
    group_pattern: str | None = None
    probing_split: Literal["train", "validation", "test", "all"] = "train"
    validation_share: float = Field(0.1, gt=0, lt=1)
    bits: int = Field(16, ge=8, le=16)
    images: int | None = Field(None, ge=1, le=2**31 - 1)
    seed: int = Field(0, le=2**32 - 1)  # a negative one is refused where it is used
    sources: Annotated[tuple[Dataset, ...], Field(strict=False)] = ()

    @property
    def runs_code(self) -> bool:
        """Whether images come from a user's Dataset, which may read any file, also one that the study does not name."""
        return self.kind == "python" or any(source.runs_code for source in self.sources)

    @property
    def origin(self) -> str:
        """Where the images are from: a path or a kind, or those of all sources."""
        if self.sources:
            return ", ".join(f"{source.name}: {source.origin}" for source in self.sources)
        return str(self.path) if self.path else self.kind

    def united(self) -> list[Dataset]:
        """The sources with the keys that they take from [dataset]."""
        kept = {key: getattr(self, key) for key in OF_ALL_SOURCES if key in self.model_fields_set}
        return [
            source.model_copy(update={key: kept[key] for key in kept if key not in source.model_fields_set})
            for source in self.sources
        ]

    @model_validator(mode="before")
    @classmethod
    def _several_sources_are_a_kind(cls, values: object) -> object:
        return {"kind": "sources", **values} if isinstance(values, dict) and values.get("sources") else values

    @field_validator("path", mode="plain")
    @classmethod
    def _path_or_name(cls, path: object, info: ValidationInfo) -> Path | None:
        if path is None or (info.data.get("kind") == "python" and str(path).startswith(TORCHVISION)):
            return None if path is None else Path(str(path))
        return as_path(path, info)

    @field_validator("group_pattern", mode="after")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        if pattern == "":
            raise ValueError("it is empty; leave it out")
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern

    @field_validator("arguments", mode="after")
    @classmethod
    def _root_is_a_path(cls, arguments: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """torchvision's root is a path like any other; what a user's function takes is unknown and stays."""
        if "root" not in arguments or not str(info.data.get("path")).startswith(TORCHVISION):
            return arguments
        return {**arguments, "root": str(as_path(arguments["root"], info))}

    @model_validator(mode="after")
    def _names_what_its_kind_needs(self) -> Dataset:
        given = self.model_fields_set
        if self.sources:
            self._refuse_what_sources_have()
        if self.kind in ("fer2013", "folder", *LISTED) and self.path is None:
            raise ValueError(f"kind = {self.kind!r} needs path, the file or folder with the images")
        if self.kind not in KINDS_OF["bits"] and self.bits != 16:
            raise ValueError(f"bits would do nothing: kind = {self.kind!r} has no 16-bit images")
        for key, kinds in KINDS_OF.items():
            if key in given and key != "bits" and self.kind not in kinds:
                raise ValueError(f"{key} would do nothing: it is for kind = {' or '.join(map(repr, kinds))}")
        if (
            self.kind == "folder"
            and self.labels is None
            and (key := next((key for key in OF_LABELS if key in given), ""))
        ):
            raise ValueError(
                f"{key} would do nothing: kind = 'folder' reads it with labels, a file of names and classes"
            )
        if self.kind == "sources" and not self.sources:
            raise ValueError("kind = 'sources' needs [[dataset.sources]], one table for each of them")
        return self

    def _refuse_what_sources_have(self) -> None:
        if self.kind != "sources":
            raise ValueError(f"sources are united; take kind = {self.kind!r} out, or move it into a source")
        if unused := [key for key in ("path", "bits", "seed") if key in self.model_fields_set]:
            raise ValueError(f"{unused[0]} would do nothing beside sources; write it into a source")
        refuse_twice([source.name for source in self.sources], "sources: the name ")
        for source in self.sources:
            if source.sources:
                raise ValueError(f"sources: {source.name} has sources of its own; name them all in one list")
            if "probing_split" in source.model_fields_set and source.probing_split != self.probing_split:
                raise ValueError(f"sources: {source.name}: probing_split is for all; write it under [dataset]")
