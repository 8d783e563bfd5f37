"""The study file: what to look at, with which network, CLIP and concepts, and what to edit.

study = Study.load("studies/demo.toml")
study = Study.load("studies/fer2013.toml", {"dataset.path": "faces.csv"})  # a flag overrides the file

A study is data. Every key is described in studies/demo.toml and studies/fer2013.toml; a key or value that is
not allowed is an error that names the file, the key and what is allowed. Paths are relative to the study file.
Imports no torch, so that commands which only need its names start at once.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)


class StudyError(ValueError):
    """The study file, or something that it names, is not as it must be."""

    exit_code = 2


def _beside_the_study(path: Path, info: ValidationInfo) -> Path:
    return (info.context["folder"] / path.expanduser()) if info.context else path


StudyPath = Annotated[Path, AfterValidator(_beside_the_study)]
Pooling = Literal["avg", "max", "cls"]
Resize = Literal["squash", "shortest"]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Dataset(Settings):
    name: str = Field(min_length=1)
    kind: Literal["fer2013", "folder", "demo"]
    path: StudyPath | None = None
    probing_split: Literal["train", "validation", "test"] = "train"
    validation_share: float = Field(0.1, gt=0, lt=1)
    images: int | None = Field(None, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _names_what_its_kind_needs(self) -> Dataset:
        if self.kind != "demo" and self.path is None:
            raise ValueError(f"kind = {self.kind!r} needs path, the file or folder with the images")
        return self


class Input(Settings):
    """What an image becomes before the network sees it."""

    size: int = Field(ge=1)
    mode: Literal["grey", "rgb"] = "rgb"
    resize: Resize = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    rounding: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _statistics_fit_the_channels(self) -> Input:
        channels = 1 if self.mode == "grey" else 3
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} numbers; mode {self.mode!r} has {channels}")
        if any(value <= 0 for value in self.std):
            raise ValueError("std must be positive")
        return self


class Layer(Settings):
    name: str
    pooling: Pooling = "avg"
    layout: Literal["auto", "channels_last"] = "auto"


class Network(Settings):
    name: str = Field(min_length=1)
    architecture: str = Field(min_length=1)
    arguments: dict[str, Any] = {}
    weights: Literal["pretrained"] | StudyPath | None = None
    classes: tuple[str, ...] = ()
    input: Input
    pooling: Pooling = "avg"
    layers: tuple[Layer, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _layers_by_name(cls, values: Any) -> Any:
        """A layer may be just its name; it then takes the pooling of the network."""
        if isinstance(values, dict) and isinstance(values.get("layers"), list):
            pooling = values.get("pooling", "avg")
            layers = [{"name": layer} if isinstance(layer, str) else layer for layer in values["layers"]]
            layers = [{"pooling": pooling, **layer} if isinstance(layer, dict) else layer for layer in layers]
            values = {**values, "layers": layers}
        return values

    @field_validator("layers")
    @classmethod
    def _layers_differ(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        names = [layer.name for layer in layers]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{', '.join(sorted(twice))} is listed twice")
        return layers

    @field_validator("architecture")
    @classmethod
    def _file_beside_the_study(cls, architecture: str, info: ValidationInfo) -> str:
        file, colon, function = architecture.rpartition(":")
        if colon and file.endswith(".py") and info.context:
            return f"{info.context['folder'] / Path(file).expanduser()}:{function}"
        return architecture


class Clip(Settings):
    architecture: str = Field(min_length=1)
    weights: str
    config: StudyPath | None = None

    @field_validator("weights")
    @classmethod
    def _file_beside_the_study(cls, weights: str, info: ValidationInfo) -> str:
        """A pretrained tag of open_clip has no dot and no slash; anything else is a file."""
        is_file = "/" in weights or "." in weights
        return str(info.context["folder"] / Path(weights).expanduser()) if is_file and info.context else weights


class ConceptSet(Settings):
    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    templates: tuple[str, ...] = ("{}",)

    @field_validator("templates")
    @classmethod
    def _templates_have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("at least one template is needed; {} is the plain concept")
        if bad := [template for template in templates if template.count("{}") != 1]:
            raise ValueError(f"{bad[0]!r} must hold {{}} once, where the concept goes")
        return templates

    @field_validator("source")
    @classmethod
    def _file_beside_the_study(cls, source: str, info: ValidationInfo) -> str:
        """The name of a shipped set has no dot and no slash; anything else is a file."""
        is_file = "/" in source or "." in source
        return str(info.context["folder"] / Path(source).expanduser()) if is_file and info.context else source


class Dissection(Settings):
    """Defaults are those of CLIP-Dissect (arXiv 2204.10965)."""

    concepts: str
    scorer: Literal["soft_wpmi"] = "soft_wpmi"
    top_k: int = Field(100, ge=1, le=256)
    softmax_scale: float = Field(10.0, gt=0)
    prior_weight: float = Field(1.0, ge=0)
    p_first: float = Field(0.998, gt=0, lt=1)
    p_last: float = Field(0.97, gt=0, lt=1)
    include_dead: bool = False
    tau: float = 0.0
    accuracy_images: int = Field(5, ge=1)
    images_neurons: int = Field(5, ge=1, le=20)

    @model_validator(mode="after")
    def _judged_on_images_that_are_kept(self) -> Dissection:
        if self.accuracy_images > self.top_k:
            raise ValueError(f"accuracy_images = {self.accuracy_images} is more than top_k = {self.top_k}")
        return self


class Edit(Settings):
    name: str = Field(min_length=1)
    rule: Literal["paper", "sql"] = "paper"
    layer: str | None = None
    tau: float = 0.0
    factor: float = Field(1.5, gt=0)
    sql: str | None = None

    @model_validator(mode="after")
    def _rule_has_what_it_needs(self) -> Edit:
        if (self.rule == "sql") != (self.sql is not None):
            raise ValueError("rule = 'sql' and the key sql belong together: a query that yields layer, unit, scale")
        if self.rule == "sql" and self.layer is None:
            raise ValueError("rule = 'sql' needs layer, the layer whose weights are scaled")
        return self


class Study(Settings):
    warehouse: StudyPath | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dataset: Dataset
    network: Network
    clip: Clip
    concept_sets: tuple[ConceptSet, ...] = Field(min_length=1)
    dissections: tuple[Dissection, ...] = Field(min_length=1)
    edits: tuple[Edit, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        sets = [concept_set.name for concept_set in self.concept_sets]
        for dissection in self.dissections:
            if dissection.concepts not in sets:
                raise ValueError(f"dissections: no concept set {dissection.concepts!r}; there is {', '.join(sets)}")
        layers = [layer.name for layer in self.network.layers]
        for edit in self.edits:
            if edit.layer is not None and edit.layer not in layers:
                raise ValueError(f"edits: no layer {edit.layer!r} in network.layers; there is {', '.join(layers)}")
        for kind, names in (("concept_sets", sets), ("edits", [edit.name for edit in self.edits])):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{kind}: the name {', '.join(sorted(twice))} is used twice")
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Mapping[str, str] | None = None) -> Study:
        """Read a study file; `overrides` maps dotted keys to TOML values (or bare strings) that replace its own.

        Raises StudyError, one line per mistake.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StudyError(f"{path}: no such study file") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise StudyError(f"{path}: not a readable TOML file: {error}") from error
        for key, text in (overrides or {}).items():
            _override(values, key, text)
        try:
            return cls.model_validate(values, context={"folder": path.parent})
        except ValidationError as error:
            raise StudyError("\n".join(_explain(path, line) for line in error.errors())) from None


def _override(values: dict[str, Any], key: str, text: str) -> None:
    """Set a dotted key. The text is read as TOML where it is TOML, and as a plain string elsewhere."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise StudyError(f"--set {key}: {table} is no table of single settings; edit the study file instead")
    values[last] = value


def _explain(path: Path, error: Any) -> str:
    """One line for one mistake: the file, the key, what is wrong and what is allowed."""
    place = tuple(part for part in error["loc"] if part not in ("literal['pretrained']", "function-after[_beside"))
    key = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in place).replace(".[", "[")
    if error["type"] == "extra_forbidden":
        allowed = sorted(_settings_at(place[:-1]))
        close = difflib.get_close_matches(str(place[-1]), allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{path}: {key} is no setting; {hint}allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{path}: {key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {key}: {message}" if key else f"{path}: {message}"


def _settings_at(place: tuple[str | int, ...]) -> list[str]:
    """The settings that are allowed in the table at this place of a study."""
    model: type[Settings] = Study
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = _settings_class(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _settings_class(annotation: Any) -> type[Settings] | None:
    """The table class within an annotation such as tuple[Layer, ...]."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None
    return next(filter(None, map(_settings_class, get_args(annotation))), None)
