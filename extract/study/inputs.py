"""The tables of a study file that name its inputs: images, network and CLIP, or arrays in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from dissectdb.extract.study.values import (
    AtLeastOne,
    ClassesOrFile,
    Name,
    NameOrFile,
    Pooling,
    Resize,
    Settings,
    Several,
    StudyPath,
    Threshold,
    as_path,
    brief,
    refuse_twice,
    way,
    written,
)


class Dataset(Settings):
    """The images, and how they are split into train, validation and test."""

    name: Name
    kind: Literal["fer2013", "folder", "demo"]
    path: StudyPath | None = None
    probing_split: Literal["train", "validation", "test", "all"] = "train"
    validation_share: float = Field(0.1, gt=0, lt=1)
    bits: int = Field(16, ge=8, le=16)
    images: int | None = Field(None, ge=1, le=2**31 - 1)
    seed: int = Field(0, le=2**32 - 1)  # a negative one is refused where it is used

    @model_validator(mode="after")
    def _names_what_its_kind_needs(self) -> Dataset:
        if self.kind != "demo" and self.path is None:
            raise ValueError(f"kind = {self.kind!r} needs path, the file or folder with the images")
        if self.kind != "folder" and self.bits != 16:
            raise ValueError(f"bits would do nothing: kind = {self.kind!r} has no 16-bit images")
        return self


class Input(Settings):
    """How an image is prepared for the network."""

    size: int = Field(ge=1, le=4096)
    mode: Literal["grey", "rgb"] = "rgb"
    resize: Resize = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    rounding: bool = True
    mean: Several[Threshold] = ()
    std: Several[Annotated[float, Field(ge=1e-6, le=1e6)]] = ()

    @model_validator(mode="after")
    def _statistics_fit_the_channels(self) -> Input:
        channels = 1 if self.mode == "grey" else 3
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, channels):
                raise ValueError(f"{name} has {len(getattr(self, name))} numbers; mode {self.mode!r} has {channels}")
        return self


class Layer(Settings):
    """A module of the network whose outputs are recorded."""

    name: Name
    pooling: Pooling = "avg"
    layout: Literal["auto", "channels_last"] = "auto"
    call: int | None = Field(None, ge=1, le=10_000)


class Controls(Settings):
    """Networks with the weights of the study's in random order, or with fresh ones, that are dissected beside it."""

    networks: AtLeastOne[Literal["shuffled", "initialised"]]
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("networks")
    @classmethod
    def _networks_differ(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        refuse_twice(networks)
        return networks


class Network(Settings):
    """The network that is probed."""

    name: Name
    architecture: Name
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: Path | Literal["pretrained", "random"] | None = None
    weights_key: Name | None = None
    weights_left_out: Several[Name] = ()
    seed: int = Field(0, ge=0, lt=2**31)
    classes: ClassesOrFile = ()
    output: str | int | None = None
    input: Input
    pooling: Pooling = "avg"
    precision: Literal["float32", "tf32"] = "float32"
    layers: AtLeastOne[Layer]

    @model_validator(mode="before")
    @classmethod
    def _layers_by_name(cls, values: object) -> object:
        """A layer may be just its name; it then takes the pooling of the network."""
        if isinstance(values, dict) and isinstance(values.get("layers"), list):
            pooling = values.get("pooling", "avg")
            inherited = (
                {"pooling": pooling} if pooling in get_args(Pooling) else {}
            )  # if it is invalid: one error, not one per layer
            layers = [{"name": layer} if isinstance(layer, str) else layer for layer in values["layers"]]
            layers = [{**inherited, **layer} if isinstance(layer, dict) else layer for layer in layers]
            values = {**values, "layers": layers}
        return values

    @field_validator("layers")
    @classmethod
    def _layers_differ(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        refuse_twice([written(layer.name, way(layer.pooling, layer.call)) for layer in layers])
        return layers

    def layer_names(self) -> tuple[list[str], list[str]]:
        """The names that a study may use for its layers: the shortest unique ones, and all that are accepted."""
        modules = [layer.name for layer in self.layers]
        written_out = [written(layer.name, way(layer.pooling, layer.call)) for layer in self.layers]
        brief_names = [
            name if modules.count(name) == 1 else written_name
            for name, written_name in zip(modules, written_out, strict=True)
        ]
        return brief_names, written_out + [written(layer.name, way("none", layer.call)) for layer in self.layers]

    @field_validator("output", mode="plain")
    @classmethod
    def _key_or_place(cls, output: object) -> str | int | None:
        """The key or index of the logits within the network's return value."""
        if output is None or (isinstance(output, str) and output):
            return output
        if isinstance(output, int) and not isinstance(output, bool) and output >= 0:
            return output
        raise ValueError(f"must be a key (text) or a position (a whole number from 0), not {brief(output)}")

    @field_validator("weights", mode="plain")
    @classmethod
    def _pretrained_or_file(cls, weights: object, info: ValidationInfo) -> Path | str | None:
        if weights is None or weights in ("pretrained", "random"):
            return weights
        if not isinstance(weights, str | Path):
            raise ValueError(f'must be "pretrained", "random" or the path of a checkpoint, not {brief(weights)}')
        return as_path(weights, info)

    @model_validator(mode="after")
    def _settings_of_weights_fit_them(self) -> Network:
        if self.seed and self.weights != "random":
            raise ValueError('seed has an effect only with weights = "random"')
        for name in ("weights_key", "weights_left_out"):
            if getattr(self, name) and not isinstance(self.weights, Path):
                raise ValueError(f"{name} has an effect only with weights from a file")
        return self

    @field_validator("architecture", mode="before")
    @classmethod
    def _path_of_its_file(cls, architecture: object, info: ValidationInfo) -> object:
        if not isinstance(architecture, str):
            return architecture
        file, colon, function = architecture.rpartition(":")
        if colon and file.endswith(".py"):
            return f"{as_path(type(architecture)(file), info)}:{function}"
        return architecture


class Clip(Settings):
    """The CLIP model that images and concepts are compared in."""

    architecture: Name
    weights: NameOrFile  # a pretrained tag of open_clip has no dot and no slash
    config: StudyPath | None = None
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"  # of images; concepts are always in float32


class Judge(Settings):
    """What judges labels too: a split, beside the half of the probing images that did not give them; another CLIP."""

    split: Literal["validation"] | None = None
    clip: Clip | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Judge:
        if self.split is None and self.clip is None:
            raise ValueError("name a split or a clip, or take [judge] out")
        return self


class Arrays(Settings):
    """Activations and embeddings that were computed elsewhere, instead of [dataset], [network] and [clip]."""

    path: StudyPath
    name: Name
    classes: ClassesOrFile = ()
