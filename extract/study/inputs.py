"""The tables of a study file that name its models: network and CLIP, or arrays in their place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, Strict, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dissectdb.extract.study.values import (
    AtLeastOne,
    ClassesOrFile,
    Kind,
    Name,
    NameOrFile,
    Pooling,
    Resize,
    Settings,
    Several,
    StudyPath,
    Threshold,
    Units,
    as_path,
    brief,
    is_pattern,
    read_as,
    refuse_twice,
    way,
    written,
)

Channels = Several[Annotated[int, Field(ge=0, le=9999)]]  # indices of an image's channels


def refuse_other_than_one_or_three(channels: tuple[int, ...]) -> None:
    """Raises ValueError if channels that are to be grey or colour are neither one nor three."""
    if len(channels) not in (0, 1, 3):
        raise ValueError(
            f"channels has {len(channels)} numbers; name the one that is grey, or three as red, green, blue"
        )


MAX_SIDE = 4096  # pixels


class Input(Settings):
    """How an image is prepared for the network. resize: a way, or the pixels of the shorter side before the crop."""

    size: int = Field(ge=1, le=MAX_SIDE)
    mode: Literal["grey", "rgb", "bands"] = "rgb"
    channels: Channels = ()
    resize: Resize | int = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    rounding: bool = True
    mean: Several[Threshold] = ()
    std: Several[Annotated[float, Field(ge=1e-6, le=1e6)]] = ()

    @model_validator(mode="before")
    @classmethod
    def _crop_is_the_size(cls, values: object) -> object:
        """After a resize to a number of pixels, the size is the crop's and may be called so, as torchvision does."""
        if isinstance(values, dict) and isinstance(values.get("resize"), int) and "size" not in values:
            values = {"size" if key == "crop" else key: value for key, value in values.items()}
        return values

    @field_validator("resize", mode="plain")
    @classmethod
    def _way_or_pixels(cls, resize: object) -> str | int:
        if isinstance(resize, str) and resize in get_args(Resize):
            return resize
        if isinstance(resize, int) and not isinstance(resize, bool):
            if not 1 <= resize <= MAX_SIDE:
                raise ValueError(f"must be from 1 to {MAX_SIDE} pixels, not {resize}")
            return resize
        raise ValueError(
            f"{brief(resize)} is not allowed; allowed: {', '.join(get_args(Resize))}, or the pixels that the shorter "
            "side is resized to before the centre is cropped, such as 256"
        )

    @model_validator(mode="after")
    def _crop_lies_within(self) -> Input:
        if isinstance(self.resize, int) and self.resize < self.size:
            raise ValueError(
                f"resize = {self.resize} leaves no crop of {self.size} × {self.size} pixels; it is smaller"
            )
        return self

    @model_validator(mode="after")
    def _statistics_fit_the_channels(self) -> Input:
        bands = len(self.channels) or len(self.mean) or len(self.std)
        if self.mode == "bands" and not bands:
            raise ValueError("mode 'bands' needs mean, std or channels, one number for each channel")
        count = {"grey": 1, "rgb": 3, "bands": bands}[self.mode]
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, count):
                raise ValueError(f"{name} has {len(getattr(self, name))} numbers; mode {self.mode!r} has {count}")
        if self.mode != "bands":
            refuse_other_than_one_or_three(self.channels)
        return self


class Layer(Settings):
    """A module of the network whose outputs are recorded; or a pattern, for all modules that it fits.

    kind: only modules of this kind, among those that a pattern fits. units: the output's channels, or an attention
    layer's heads.
    """

    name: Name
    kind: Kind | None = None
    pooling: Pooling = "avg"
    units: Units = "channels"
    layout: Literal["auto", "channels_last"] = "auto"
    call: int | None = Field(None, ge=1, le=10_000)

    @property
    def way(self) -> str:
        """How the module's output is read, as in the view named_layers."""
        return way(read_as(self.pooling, self.units), self.call)

    @property
    def is_pattern(self) -> bool:
        """Whether the name may stand for several modules."""
        return is_pattern(self.name)

    @model_validator(mode="after")
    def _kind_chooses_among_several(self) -> Layer:
        if self.kind and not self.is_pattern:
            raise ValueError(f"kind would do nothing: {self.name} is one module; kind is for patterns, such as **")
        return self


ALL_KINDS = [{"name": "**", "kind": kind} for kind in get_args(Kind)]  # what layers = "all" stands for


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
    input: Input | None = Field(None, validate_default=True)
    pooling: Pooling = "avg"
    precision: Literal["float32", "tf32"] = "float32"
    layers: AtLeastOne[Layer]

    @model_validator(mode="before")
    @classmethod
    def _hub_models_have_weights(cls, values: object) -> object:
        if isinstance(values, dict) and str(values.get("architecture")).startswith("hf:"):
            values = {"weights": "pretrained", **values}
        return values

    @model_validator(mode="before")
    @classmethod
    def _layers_by_name(cls, values: object) -> object:
        """A layer may be just its name; it then takes the pooling of the network."""
        if isinstance(values, dict) and values.get("layers") == "all":
            values = {**values, "layers": ALL_KINDS}
        if isinstance(values, dict) and isinstance(values.get("layers"), list | tuple):
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
        refuse_twice([written(f"{layer.kind or ''}{layer.name}", layer.way) for layer in layers])
        return layers

    @field_validator("input")
    @classmethod
    def _input_is_known(cls, given: Input | None, info: ValidationInfo) -> Input | None:
        """Without [network.input], the weights' own metadata must say how an image is prepared."""
        architecture, weights = info.data.get("architecture", ""), info.data.get("weights")
        if given is None and not (architecture.startswith(("timm:", "hf:")) or weights == "pretrained"):
            raise PydanticCustomError("missing", "Field required")
        return given

    def layer_names(self) -> tuple[list[str], list[str]]:
        """The names that a study may use for its layers: the shortest unique ones, and all that are accepted."""
        modules = [layer.name for layer in self.layers]
        written_out = [written(layer.name, layer.way) for layer in self.layers]
        brief_names = [
            name if modules.count(name) == 1 else written_name
            for name, written_name in zip(modules, written_out, strict=True)
        ]
        return brief_names, written_out + [written(layer.name, way("none", layer.call)) for layer in self.layers]

    @field_validator("output", mode="plain")
    @classmethod
    def _key_or_place(cls, output: object) -> str | int | None:
        """The key or index of the logits within the network's return value; "none" if there are no logits."""
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
        if architecture.startswith("hf:"):
            name = architecture.removeprefix("hf:")
            folder = as_path(type(architecture)(name), info)
            return f"hf:{folder}" if name.startswith((".", "/", "~")) or folder.is_dir() else architecture
        return architecture


WHOLE_CLIPS = ("hf-hub", "local-dir")  # before a colon in an architecture of open_clip: it has weights of its own


class Clip(Settings):
    """The CLIP model that images and concepts are compared in."""

    architecture: Name
    weights: NameOrFile | None = None  # a pretrained tag of open_clip has no dot and no slash
    config: StudyPath | None = None
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"  # of images; concepts are always in float32
    channels: Channels = ()

    @field_validator("channels")
    @classmethod
    def _channels_are_grey_or_colour(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        refuse_other_than_one_or_three(channels)
        return channels

    @field_validator("architecture", mode="before")
    @classmethod
    def _path_of_its_folder(cls, architecture: object, info: ValidationInfo) -> object:
        if not isinstance(architecture, str) or not architecture.startswith("local-dir:"):
            return architecture
        return f"local-dir:{as_path(type(architecture)(architecture.removeprefix('local-dir:')), info)}"

    @model_validator(mode="after")
    def _has_weights_once(self) -> Clip:
        if self.architecture.partition(":")[0] not in WHOLE_CLIPS:
            if self.weights is None:
                raise ValueError("weights is missing; name a pretrained tag of open_clip, a file or a folder")
            return self
        for name in ("weights", "config"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} would do nothing: {self.architecture} has its own; take it out")
        return self


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
    grid: Annotated[tuple[int, ...], Strict(False)] | None = None
    pooling: Literal["avg", "max"] = "avg"
    input: Input | None = None

    @field_validator("grid")
    @classmethod
    def _grid_has_rows_and_columns(cls, grid: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if grid is not None and (len(grid) != 2 or min(grid) < 1):
            raise ValueError(f"must be [rows, columns], two whole numbers from 1, not {list(grid)}")
        return grid

    @model_validator(mode="after")
    def _keys_of_places_need_a_grid(self) -> Arrays:
        if (given := sorted({"pooling", "input"} & self.model_fields_set)) and self.grid is None:
            raise ValueError(f"{given[0]} does nothing without grid, the rows and columns of arrays with places")
        return self
