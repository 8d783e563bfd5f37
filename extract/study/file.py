"""The study file: what to look at, with which network, CLIP and concepts, and what to edit.

study = Study.load("studies/demo.toml")
study = Study.load("studies/fer2013.toml", {"dataset.path": "faces.csv", "edits[0].factor": "2"})  # flags override it

A study is data. Every key is described in studies/demo.toml and studies/fer2013.toml; a key or value that is
not allowed is an error that names the file, the key and what is allowed. A path is relative to where it is written:
in a study file to that file's folder, in an override to the current folder.
Imports no torch, so that commands which only need its names start at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from dissectdb.did_you_mean import did_you_mean
from dissectdb.extract.study.edits import READS, Edit, Effects, Protocol, Sweep
from dissectdb.extract.study.overrides import StudyError, dotted, override
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text, without_endless_keys
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
    refuse_unknown,
    way,
    written,
)

__all__ = ["READS", "Dissection", "Edit", "Study", "StudyError", "way", "written"]


class Dataset(Settings):
    """The images, and how they fall into train, validation and test."""

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
    """What an image becomes before the network sees it."""

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
    def _layers_by_name(cls, values: Any) -> Any:
        """A layer may be just its name; it then takes the pooling of the network."""
        if isinstance(values, dict) and isinstance(values.get("layers"), list):
            pooling = values.get("pooling", "avg")
            inherited = {"pooling": pooling} if pooling in get_args(Pooling) else {}  # else one error, not one a layer
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
        """What the study may call its layers: as briefly as tells them apart, or with how they are read written out."""
        modules = [layer.name for layer in self.layers]
        written_out = [written(layer.name, way(layer.pooling, layer.call)) for layer in self.layers]
        brief_names = [
            name if modules.count(name) == 1 else full for name, full in zip(modules, written_out, strict=True)
        ]
        return brief_names, written_out + [written(layer.name, way("none", layer.call)) for layer in self.layers]

    @field_validator("output", mode="plain")
    @classmethod
    def _key_or_place(cls, output: Any) -> str | int | None:
        """Of the part with the logits, in what the network returns."""
        fits = isinstance(output, str | int) and not isinstance(output, bool) and output != ""
        if output is not None and (not fits or (isinstance(output, int) and output < 0)):
            raise ValueError(f"must be a key (text) or a place (a whole number from 0), not {brief(output)}")
        return output

    @field_validator("weights", mode="plain")
    @classmethod
    def _pretrained_or_file(cls, weights: Any, info: ValidationInfo) -> Path | str | None:
        if weights is None or weights in ("pretrained", "random"):
            return weights
        if not isinstance(weights, str | Path):
            raise ValueError(f'must be "pretrained", "random" or the path of a checkpoint, not {brief(weights)}')
        return as_path(weights, info)

    @model_validator(mode="after")
    def _settings_of_weights_fit_them(self) -> Network:
        if self.seed and self.weights != "random":
            raise ValueError('seed is for weights = "random"')
        for name in ("weights_key", "weights_left_out"):
            if getattr(self, name) and not isinstance(self.weights, Path):
                raise ValueError(f"{name} is for weights from a file")
        return self

    @field_validator("architecture", mode="before")
    @classmethod
    def _path_of_its_file(cls, architecture: Any, info: ValidationInfo) -> Any:
        file, colon, function = architecture.rpartition(":") if isinstance(architecture, str) else ("", "", "")
        if colon and file.endswith(".py"):
            return f"{as_path(type(architecture)(file), info)}:{function}"
        return architecture


class Clip(Settings):
    """The CLIP model that images and concepts are compared in."""

    architecture: Name
    weights: NameOrFile  # a pretrained tag of open_clip has no dot and no slash
    config: StudyPath | None = None
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"  # of images; concepts are always in float32


class Arrays(Settings):
    """Activations and embeddings that were computed elsewhere, instead of [dataset], [network] and [clip]."""

    path: StudyPath
    name: Name
    classes: ClassesOrFile = ()


class ConceptSet(Settings):
    """The words that a neuron's label is chosen from, and the prompts that they are put in."""

    name: Name
    source: NameOrFile
    templates: Several[str] = ("{}",)

    @field_validator("templates")
    @classmethod
    def _templates_have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("at least one template is needed; {} is the plain concept")
        if bad := [template for template in templates if template.count("{}") != 1]:
            raise ValueError(f"{bad[0]!r} must hold {{}} once, where the concept goes")
        return templates


SCORER_DEFAULTS: dict[str, dict[str, Any]] = {
    "soft_wpmi": {},
    # WPMI is soft-WPMI with every image at full weight.
    "wpmi": {"top_k": 28, "softmax_scale": 2.0, "prior_weight": 0.6, "p_first": 1.0, "p_last": 1.0},
    "cos": {},
    "cos_cubed": {},
    "rank_reorder": {},
    "pearson": {},
}


# Of neurons that fire on n images of one concept, soft_wpmi labels 52 % right at n = 5, 74 % at 10 and 94 % at 20; cos
# labels 43, 62 and 82 %. q believes 8, 34 and 76 % of them (cos: 4, 12 and 35 %). By bench.noise --shape few.
LEAST_IMAGES = 10


class Dissection(Settings):
    """One labelling of the neurons. Defaults are those of CLIP-Dissect (arXiv 2204.10965) for each scorer."""

    concepts: str
    scorer: Literal["soft_wpmi", "wpmi", "cos", "cos_cubed", "rank_reorder", "pearson"] = "soft_wpmi"
    engine: Literal["auto", "sql", "kernel"] = "auto"
    top_k: int = Field(100, ge=1, le=256)
    min_images: int = Field(LEAST_IMAGES, ge=1, le=256)
    softmax_scale: float = Field(10.0, gt=0, le=1e4)
    prior_weight: float = Field(1.0, ge=0, le=1e6)
    p_first: float = Field(0.998, gt=0, le=1)
    p_last: float = Field(0.97, gt=0, le=1)
    rank_fraction: float = Field(0.05, gt=0, le=1)
    rank_power: float = Field(3.0, gt=0, le=100)
    rank_scale: float = Field(0.5, ge=0, le=100)
    include_dead: bool = False
    kept_concepts: int = Field(100, ge=2, le=10_000)
    null_draws: int = Field(100_000, ge=100, le=10_000_000)
    bootstraps: int = Field(0, ge=0, le=10_000)
    seed: int = Field(0, ge=0, lt=2**31)
    rule: Literal["tau", "q"] = "q"
    tau: Threshold = 0.0
    q_limit: float = Field(0.05, gt=0, lt=1)
    accuracy_images: int = Field(5, ge=1)
    images_neurons: int = Field(5, ge=1, le=20)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_scorer(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("scorer"), str):
            values = {**SCORER_DEFAULTS.get(values["scorer"], {}), **values}
        if isinstance(values, dict) and isinstance(values.get("top_k"), int) and values["top_k"] < LEAST_IMAGES:
            values = {"min_images": values["top_k"], **values}
        return values

    @model_validator(mode="after")
    def _judged_on_images_that_are_kept(self) -> Dissection:
        if self.accuracy_images > self.top_k:
            raise ValueError(f"accuracy_images = {self.accuracy_images} is more than top_k = {self.top_k}")
        if self.min_images > self.top_k:
            raise ValueError(f"min_images = {self.min_images} is more than top_k = {self.top_k}")
        if self.scorer == "wpmi" and (self.p_first, self.p_last) != (1.0, 1.0):
            raise ValueError("wpmi weighs every image fully: p_first and p_last are 1; others make it soft_wpmi")
        return self


class Study(Settings):
    """A whole study file."""

    warehouse: StudyPath | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    deterministic: bool = False
    dataset: Dataset | None = None
    network: Network | None = None
    clip: Clip | None = None
    arrays: Arrays | None = None
    concept_sets: AtLeastOne[ConceptSet]
    dissections: AtLeastOne[Dissection]
    edits: Several[Edit] = ()
    sweeps: Several[Sweep] = ()
    protocol: Protocol = Protocol()
    effects: Effects | None = None

    @model_validator(mode="after")
    def _has_a_network_or_arrays(self) -> Study:
        given = [name for name in ("dataset", "network", "clip") if getattr(self, name) is not None]
        if self.arrays is None:
            if missing := [name for name in ("dataset", "network", "clip") if name not in given]:
                raise ValueError(
                    f"{', '.join(missing)} missing; a study has dataset, network and clip, or arrays instead"
                )
            return self
        if given:
            raise ValueError(f"arrays: stands instead of dataset, network and clip; take out {', '.join(given)}")
        if unused := [name for name in ("edits", "sweeps", "effects") if getattr(self, name)]:
            raise ValueError(f"{unused[0]}: arrays have no weights that could be scaled")
        if len(self.concept_sets) > 1 or self.concept_sets[0].templates != ("{}",):
            raise ValueError("concept_sets: arrays bring the embeddings of one set, without templates")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        sets = [concept_set.name for concept_set in self.concept_sets]
        for place, dissection in enumerate(self.dissections):
            refuse_unknown(f"dissections[{place}].concepts", "concept set", dissection.concepts, sets)
            if (first := self.dissections.index(dissection)) < place:
                raise ValueError(f"dissections[{place}]: is dissections[{first}] once more")
        layers, written_out = self.network.layer_names() if self.network else ([], [])
        named = [
            (f"edits[{place}].{'layers' if edit.layers else 'layer'}", edit.layer_names)
            for place, edit in enumerate(self.edits)
        ]
        named += [(f"sweeps[{place}].layers", sweep.layers) for place, sweep in enumerate(self.sweeps)]
        named += [("effects.layers", self.effects.layers)] if self.effects else []
        for key, names in named:
            for name in names:
                if name not in written_out:
                    refuse_unknown(key, "layer", name, layers)
        for kind, names in (("concept_sets", sets), ("edits", [edit.name for edit in self.tried()])):
            refuse_twice(names, f"{kind}: the name ")
        return self

    def tried(self) -> list[Edit]:
        """The edits of the study and of its sweeps, in order."""
        return [*self.edits, *(edit for sweep in self.sweeps for edit in sweep.edits())]

    def with_network(self, command: str) -> Study:
        """The study itself, which a command asks to have a network. Raises StudyError."""
        if self.arrays is not None:
            raise StudyError(f"{command} runs a network; this study has [arrays], which is only what one computed")
        if command in NEED_SPLITS and self.dataset.probing_split == "all":
            raise StudyError(
                f"{command} needs images that label no neuron, and dataset.probing_split = 'all' leaves none; "
                "set it to 'train'"
            )
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Mapping[str, str] | None = None) -> Study:
        """Read a study file; `overrides` maps keys to TOML values (or bare strings) that replace its own.

        A key is written as errors write it: network.weights, edits[0].factor. Raises StudyError, one line per mistake.
        """
        path = Path(path)
        try:
            values = tomllib.loads(without_endless_keys(read_text(path, MEGABYTE)))
        except FileNotFoundError:
            raise StudyError(f"{path}: no such study file") from None
        except (OSError, ValueError, RecursionError) as error:
            raise StudyError(f"{path}: not a readable TOML file: {one_line(error)}") from error
        for key, text in (overrides or {}).items():
            override(values, key, text)
        try:
            return cls.model_validate(values, context={"folder": path.parent})
        except ValidationError as error:
            mistakes = error.errors()
            lines = [one_line(_explain(path, line, overrides or ()), LONGEST_LINE) for line in mistakes[:MOST_LINES]]
            more = [f"{path}: and {len(mistakes) - MOST_LINES} more"] if len(mistakes) > MOST_LINES else []
            raise StudyError("\n".join([*lines, *more])) from None


NEED_SPLITS = ("modify", "effects", "train")  # commands that measure or choose on images of their own
MOST_LINES = 20  # mistakes that are shown of a study
LONGEST_LINE = 1000

WRONG_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def _explain(path: Path, error: Any, overrides: Collection[str]) -> str:
    """One line for one mistake: the file, the key, what is wrong and what is allowed."""
    place = error["loc"]
    key = dotted(place)
    message = _message(error)
    flag = next((flag for flag in overrides if _touches(flag, key or message.partition(":")[0])), None)
    where = f"{path} with {flag} from the command line" if flag else str(path)
    if error["type"] == "extra_forbidden":
        allowed = sorted(_settings_at(place[:-1]))
        hint = did_you_mean(str(place[-1]), allowed, after=" ")
        return f"{where}: {key} is no setting; {hint}allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{where}: {key} is missing"
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"


def _touches(flag: str, key: str) -> bool:
    """Whether one of two keys is the other or lies within it."""
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((flag, key), (key, flag)))


def _message(error: Any) -> str:
    """pydantic's message in our words."""
    kind, given = error["type"], error["input"]
    if kind in WRONG_TYPES:
        return f"must be {WRONG_TYPES[kind]}, not {brief(given)}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        hint = did_you_mean(str(given), allowed, after=" ")
        return f"{brief(given)} is none of the allowed; {hint}allowed: {', '.join(allowed)}"
    if kind == "string_too_short":
        return "must not be empty"
    message = error["msg"].removeprefix("Value error, ")
    return f"{message.replace('Input should', 'must')}, not {brief(given)}" if "Input should" in message else message


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
