"""Types of values in the tables of a study file, and the messages about invalid values.

Imports no torch.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    ValidationInfo,
)

from dissectdb.did_you_mean import choices
from dissectdb.extract.study.overrides import Typed
from dissectdb.extract.study.text_files import MEGABYTE, one_line, read_text

MAX_NAME = 4000  # characters; a path may be given as a name
MAX_LIST_BYTES = 4 * MEGABYTE  # of a text file of class names


def as_path(value: object, info: ValidationInfo) -> Path:
    """The path in a value: relative to the study file's folder, or to the current folder if the value is Typed."""
    if not isinstance(value, str | Path):
        raise ValueError(f"must be text, the path of a file or folder, not {brief(value)}")
    text = os.fsencode(value)
    if not text or b"\0" in text or len(text) > 4000 or any(len(part) > 255 for part in text.split(b"/")):
        raise ValueError(f"{brief(str(value))} is not a path")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{brief(str(value))} names the home of a user that does not exist") from None
    if not info.context:
        return path
    return Path(os.path.normpath(path if isinstance(value, Typed) else info.context["folder"] / path))


def _path_if_file(value: object, info: ValidationInfo) -> object:
    """Turn text with a dot or slash into the path of a file; other text is a name and stays."""
    return str(as_path(value, info)) if isinstance(value, str) and ("/" in value or "." in value) else value


def _words_or_file(value: object, info: ValidationInfo) -> str | tuple[str, ...]:
    """A list of words, or a name or file of one, as `_path_if_file` tells them apart."""
    if not isinstance(value, list | tuple):
        if not isinstance(value, str) or not value:
            raise ValueError(f"must be a list of words, a file of them or a set that ships, not {brief(value)}")
        return _plain(str(_path_if_file(value, info)))
    if bad := [word for word in value if not isinstance(word, str) or not word.strip()]:
        raise ValueError(f"each word must be text that is not empty, not {brief(bad[0])}")
    return tuple(value)


def _lines_of_file(value: object, info: ValidationInfo) -> object:
    """The lines of the text file that a value names; a list stays as it is.

    If a name occurs twice, as in lists of ImageNet's classes, the output's index is added to it.
    """
    if not isinstance(value, str):
        return value
    path = as_path(value, info)
    try:
        names = [line.strip() for line in read_text(path, MAX_LIST_BYTES).rstrip("\n").split("\n")]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give a list of names, or a text file with one per line") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable text file: {one_line(error)}") from None
    if "" in names:
        raise ValueError(f"{path}:{names.index('') + 1}: is blank; each line is the name of an output, in order")
    repeated = {name for name, times in Counter(names).items() if times > 1}
    return [f"{name} (output {index})" if name in repeated else name for index, name in enumerate(names)]


def _plain(name: str) -> str:
    if len(name) > MAX_NAME or any(unicodedata.category(letter) == "Cc" for letter in name if letter not in "\n\t"):
        raise ValueError(f"{brief(name)} is not a name: it is too long, or holds a control character")
    return name


def _not_empty(values: tuple) -> tuple:
    if not values:
        raise ValueError("is an empty list; at least one is needed")
    return values


def _different(values: tuple) -> tuple:
    refuse_twice(values)
    return values


T = TypeVar("T")
Several = Annotated[tuple[T, ...], Strict(False)]  # TOML has lists
AtLeastOne = Annotated[tuple[T, ...], Strict(False), AfterValidator(_not_empty)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_plain)]
Classes = Annotated[tuple[Name, ...], Strict(False), AfterValidator(_different)]
ClassesOrFile = Annotated[Classes, BeforeValidator(_lines_of_file)]
NameOrFile = Annotated[Name, BeforeValidator(_path_if_file)]
WordsOrFile = Annotated[str | tuple[str, ...], PlainValidator(_words_or_file)]
StudyPath = Annotated[Path, BeforeValidator(as_path)]
Threshold = Annotated[float, Field(ge=-1e6, le=1e6)]
Pooling = Literal["avg", "max", "cls"]
Units = Literal["channels", "heads"]
Resize = Literal["squash", "shortest"]
Kind = Literal["conv", "linear", "attention", "block"]  # of modules, see extract/models/layer_patterns.py


class Settings(BaseModel):
    """A table of a study: no unknown keys, no numbers given as text, no NaN; it cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def refuse_twice(names: Sequence[str], what: str = "") -> None:
    """Raises ValueError if a name occurs more than once. what: the message's beginning."""
    if twice := {name for name, times in Counter(names).items() if times > 1}:
        raise ValueError(f"{what}{', '.join(sorted(twice))} appears twice")


def read_as(pooling: str, units: str) -> str:
    """What a layer's pooling is called with its units: "avg" of channels, "avg of heads"."""
    return pooling if units == "channels" else f"{pooling} of {units}"


def way(pooling: str, call: int | None) -> str:
    """How a module's output is read, as in the view named_layers: "avg", "avg, call 2"; "call 2" without pooling.

    pooling: as read_as says it.
    """
    if call is None:
        return pooling
    return f"call {call}" if pooling == "none" else f"{pooling}, call {call}"


def written(layer: str, way: str) -> str:
    """A layer's name if its module is read in several ways, as in the view named_layers: "conv1 (avg)"."""
    return f"{layer} ({way})"


def is_pattern(layer: str) -> bool:
    """Whether a layer's name stands for several modules: it has *, ? or [."""
    return any(letter in layer for letter in "*?[")


def refuse_unknown(key: str, what: str, name: str, known: Sequence[str]) -> None:
    """Raises ValueError if a key's value is not among the known names."""
    if name not in known:
        raise ValueError(f"{key}: there is no {what} {name!r}; {choices(name, known)}")


def brief(value: object) -> str:
    """A value as an error shows it, at most a line long."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # Python refuses to print numbers with very many digits
        return f"a {type(value).__name__} that is too large to be shown"
    return text if len(text) <= 60 else f"{text[:57]}…"
