"""The study file: the images, network, CLIP and concepts of a study, and what to edit.

study = Study.load("studies/demo.toml")
study = Study.load("studies/fer2013.toml", {"dataset.path": "faces.csv", "edits[0].factor": "2"})  # with overrides
study = Study(dataset={"name": "faces", "kind": "demo"}, network={…}, …)   # the same keys, as keywords
study.write("study.toml")

studies/demo.toml and studies/fer2013.toml describe every key. A key or value that is not allowed is an error; its
message names the file, the key and what is allowed. A path in a study file is relative to that file's folder, one in an
override or a keyword to the current folder. Imports no torch, so that commands that only read the study start at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from dissectdb.extract.study.as_toml import as_toml
from dissectdb.extract.study.datasets import Dataset
from dissectdb.extract.study.edits import Edit, Effects, Protocol, Sweep
from dissectdb.extract.study.inputs import Arrays, Clip, Controls, Judge, Network
from dissectdb.extract.study.mistakes import explain
from dissectdb.extract.study.overrides import StudyError, override
from dissectdb.extract.study.scorers import SCORERS, known_scorer
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text, without_endless_keys
from dissectdb.extract.study.values import (
    AtLeastOne,
    Name,
    Settings,
    Several,
    StudyPath,
    Threshold,
    WordsOrFile,
    refuse_twice,
    refuse_unknown,
    written,
)
from dissectdb.given import OBJECT
from dissectdb.output import save

Engine = Literal["auto", "sql", "kernel"]  # what scores the neurons: the views or torch; auto is the faster one


class ConceptSet(Settings):
    """The words that a neuron's label is chosen from, and the prompt templates that they are inserted into."""

    name: Name
    source: WordsOrFile
    templates: Several[str] = ("{}",)

    @field_validator("templates")
    @classmethod
    def _templates_have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("at least one template is needed; {} is the plain concept")
        if bad := [template for template in templates if template.count("{}") != 1]:
            raise ValueError(f"{bad[0]!r} must hold {{}} once, where the concept goes")
        return templates


# Measured by bench.noise --shape few, for neurons that fire on n images of one concept. At n = 5, 10 and 20 soft_wpmi
# labels 52, 74 and 94 % right (cos: 43, 62 and 82 %), and q is below its limit for 8, 34 and 76 % (cos: 4, 12, 35 %).
LEAST_IMAGES = 10
STORED_IMAGES = 256  # top images that are stored of each neuron, so the most that a scorer of top images can use


class Dissection(Settings):
    """One labelling of the neurons. A scorer of CLIP-Dissect (arXiv 2204.10965) has the defaults that it has there."""

    concepts: str
    scorer: Annotated[str, BeforeValidator(known_scorer)] = "presence"
    engine: Engine = "auto"
    top_k: int = Field(100, ge=1, le=STORED_IMAGES)
    min_images: int = Field(LEAST_IMAGES, ge=1, le=STORED_IMAGES)
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
    def _defaults_of_the_scorer(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("scorer"), str):
            values = {**(SCORERS[values["scorer"]].defaults if values["scorer"] in SCORERS else {}), **values}
        if isinstance(values, dict) and isinstance(values.get("top_k"), int) and values["top_k"] < LEAST_IMAGES:
            values = {"min_images": values["top_k"], **values}
        return values

    @model_validator(mode="after")
    def _judged_on_images_that_are_kept(self) -> Dissection:
        if self.accuracy_images > self.top_k:
            raise ValueError(f"accuracy_images = {self.accuracy_images} is more than top_k = {self.top_k}")
        if self.min_images > self.top_k:
            raise ValueError(f"min_images = {self.min_images} is more than top_k = {self.top_k}")
        SCORERS[self.scorer].refuse_changes(self.scorer, self)
        if self.engine == "sql" and SCORERS[self.scorer].view_seconds is None:
            raise ValueError(f"engine = 'sql' needs a view, and {self.scorer} has none; choose 'kernel' or 'auto'")
        return self


class Study(Settings):
    """A whole study, by its keys. Study(…) and Study.load return one of its two kinds, NetworkStudy or ArraysStudy.

    Raises StudyError, one line per mistake.
    """

    warehouse: StudyPath | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    deterministic: bool = False
    map_images: int = Field(16, ge=0, le=STORED_IMAGES)
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
    controls: Controls | None = None
    judge: Judge | None = None

    def __new__(cls, **values: Any) -> Study:
        if cls is not Study:
            return super().__new__(cls)
        return super().__new__(NetworkStudy if values.get("arrays") is None else ArraysStudy)

    def __init__(self, /, **values: Any) -> None:
        made = _checked(values, Path.cwd(), "the study", ())
        for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
            object.__setattr__(self, slot, getattr(made, slot))

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as of BaseModel: validation does not call it

    @model_validator(mode="after")
    def _has_a_network_or_arrays(self) -> Study:
        given = [name for name in ("dataset", "network", "clip") if getattr(self, name) is not None]
        if self.arrays is None:
            if missing := [name for name in ("dataset", "network", "clip") if name not in given]:
                raise ValueError(
                    f"{', '.join(missing)} missing; a study has dataset, network and clip, or arrays instead"
                )
            return self
        if replaced := [name for name in given if name != "dataset"]:
            raise ValueError(f"arrays: replaces network and clip; remove {' and '.join(replaced)}")
        if unused := [name for name in ("edits", "sweeps", "effects", "controls") if getattr(self, name)]:
            raise ValueError(f"{unused[0]}: arrays have no weights that could be scaled")
        if len(self.concept_sets) > 1 or self.concept_sets[0].templates != ("{}",):
            raise ValueError("concept_sets: arrays hold the embeddings of one set, without templates")
        return self

    @model_validator(mode="after")
    def _labels_are_judged_on_other_images(self) -> Study:
        if self.judge and self.dataset is None:
            raise ValueError("judge: arrays without [dataset] are one split; add [dataset], or take [judge] out")
        if self.judge and self.arrays is not None and self.judge.clip:
            raise ValueError("judge.clip: arrays hold the embeddings of one CLIP; another one cannot judge")
        if self.judge and self.judge.split and self.dataset and self.dataset.probing_split in ("all", self.judge.split):
            raise ValueError(
                f"judge.split = {self.judge.split!r}: its images label the neurons, as dataset.probing_split = "
                f"{self.dataset.probing_split!r} says; take [judge] out, or set dataset.probing_split to 'train'"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Study:
        sets = [concept_set.name for concept_set in self.concept_sets]
        for index, dissection in enumerate(self.dissections):
            refuse_unknown(f"dissections[{index}].concepts", "concept set", dissection.concepts, sets)
            if (first := self.dissections.index(dissection)) < index:
                raise ValueError(f"dissections[{index}]: is the same as dissections[{first}]")
        if self.network and not any(layer.is_pattern for layer in self.network.layers):
            self.refuse_unknown_layers(self.network)
        refuse_twice(sets, "concept_sets: the name ")
        refuse_twice([edit.name for edit in self.tried()], "edits: the name ")
        return self

    def refuse_unknown_layers(self, network: Network) -> None:
        """Raises ValueError if an edit, a sweep or the effects name a layer that the network's layers are not."""
        layers, written_out = network.layer_names()
        named = [
            (f"edits[{index}].{'layers' if edit.layers else 'layer'}", edit.layer_names)
            for index, edit in enumerate(self.edits)
        ]
        named += [(f"sweeps[{index}].layers", sweep.layers) for index, sweep in enumerate(self.sweeps)]
        named += [("effects.layers", self.effects.layers)] if self.effects else []
        of_heads = {
            name
            for layer, brief_name in zip(network.layers, layers, strict=True)
            for name in (brief_name, written(layer.name, layer.way))
            if layer.units == "heads"
        }
        for key, names in named:
            for name in names:
                if name in of_heads:
                    raise ValueError(
                        f"{key}: the units of {name} are heads, which cannot be changed; name another layer"
                    )
                if name not in written_out:
                    refuse_unknown(key, "layer", name, layers)

    def tried(self) -> list[Edit]:
        """All edits: those of the study, then those of its sweeps, in order."""
        return [*self.edits, *(edit for sweep in self.sweeps for edit in sweep.edits())]

    def with_network(self, command: str) -> NetworkStudy:
        """The study itself, for a command that needs a network. Raises StudyError."""
        if not isinstance(self, NetworkStudy):
            raise StudyError(f"{command} runs a network, but this study has [arrays], the output of one")
        if command in NEED_SPLITS and self.dataset.probing_split == "all":
            raise StudyError(
                f"{command} needs images that label no neuron, and dataset.probing_split = 'all' leaves none; "
                "set it to 'train'"
            )
        return self

    @classmethod
    def load(cls, path: Path | str, overrides: Mapping[str, str] | None = None) -> NetworkStudy | ArraysStudy:
        """Read a study file. overrides: key → a TOML value, or a plain string, that replaces the file's.

        Keys are written as in messages: network.weights, edits[0].factor. Raises StudyError, one line per mistake.
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
        return _checked(values, path.parent, path, overrides or ())

    def changed(self, **values: Any) -> Study:
        """The study with other values of whole tables, e.g. edits=[{"name": "paper", "layer": "lin"}]."""
        return Study(**(self.model_dump(exclude_unset=True) | values))

    def to_toml(self) -> str:
        """The study as the text of a study file: the keys that were set. Raises StudyError if TOML cannot hold one.

        Paths in it are absolute if the study was built from keywords.
        """
        if self.network and self.network.architecture.startswith(OBJECT):
            raise StudyError(
                f"network.architecture: {self.network.architecture} is an object of Python, which no file can name; "
                "write a function that builds it into a file, and name it: FILE.py:FUNCTION"
            )
        return as_toml(self.model_dump(exclude_unset=True))

    def write(self, path: Path | str) -> None:
        """Write the study file, whole or not at all. Study.load reads an equal study from it. Raises StudyError."""
        text = self.to_toml()
        if (again := _checked(tomllib.loads(text), Path(path).parent, path, ())) != self:
            keys = [key for key in Study.model_fields if getattr(again, key) != getattr(self, key)]
            raise StudyError(f"{path}: {', '.join(keys)} would be read differently from a file; write paths in full")
        save(text.encode(), Path(path))


class NetworkStudy(Study):
    """A study that runs a network and CLIP over images."""

    dataset: Dataset
    network: Network
    clip: Clip
    arrays: None = None


class ArraysStudy(Study):
    """A study of activations and embeddings that were computed elsewhere."""

    arrays: Arrays
    network: None = None
    clip: None = None


def _checked(
    values: Mapping[str, Any], folder: Path, where: Path | str, overrides: Collection[str]
) -> NetworkStudy | ArraysStudy:
    """The study of these values. folder: that relative paths start from. where: the file that messages name."""
    try:
        study = Study.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        raise StudyError(explain(error, Study, where, overrides)) from None
    kind = NetworkStudy if study.arrays is None else ArraysStudy
    return kind.model_construct(study.model_fields_set, **dict(study))


NEED_SPLITS = ("modify", "effects", "train")  # commands that need images which label no neuron
