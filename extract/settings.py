"""What the tables of a study have in common: how a value may look, and what is said of one that does not.

Imports no torch.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationInfo

LONGEST_NAME = 4000  # a path may stand where a name does
NEAREST = 5  # names that an error offers for an unknown one
FEW = 8  # names that it lists one by one


def beside_the_study(value: Any, info: ValidationInfo) -> Path:
    """A path as the study file gives it, from the folder of that file."""
    if not isinstance(value, str | Path):
        raise ValueError(f"must be text, a path beside the study file, not {brief(value)}")
    text = os.fsencode(value)
    if not text or b"\0" in text or len(text) > 4000 or any(len(part) > 255 for part in text.split(b"/")):
        raise ValueError(f"{brief(str(value))} is no path")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{brief(str(value))} names the home of a user who is not here") from None
    return Path(os.path.normpath(info.context["folder"] / path)) if info.context else path


def _if_file_beside_the_study(value: str, info: ValidationInfo) -> str:
    """A name has no dot and no slash; anything else is a file."""
    return str(beside_the_study(value, info)) if "/" in value or "." in value else value


def _plain(name: str) -> str:
    if len(name) > LONGEST_NAME or any(unicodedata.category(letter) == "Cc" for letter in name if letter not in "\n\t"):
        raise ValueError(f"{brief(name)} is no name: it is too long, or holds a control character")
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
NameOrFile = Annotated[Name, AfterValidator(_if_file_beside_the_study)]
StudyPath = Annotated[Path, BeforeValidator(beside_the_study)]
Threshold = Annotated[float, Field(ge=-1e6, le=1e6)]
Pooling = Literal["avg", "max", "cls"]
Resize = Literal["squash", "shortest"]


class Settings(BaseModel):
    """A table of a study: no other keys than its own, no number from text, no NaN, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def refuse_twice(names: Sequence[str], what: str = "") -> None:
    """Raises ValueError where a name is there more than once; `what` begins the message."""
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{what}{', '.join(sorted(twice))} is there twice")


def refuse_unknown(key: str, what: str, name: str, known: Sequence[str]) -> None:
    """Raises ValueError where a key names what is not known."""
    if name not in known:
        raise ValueError(f"{key}: there is no {what} {name!r}; {choices(name, known)}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A hint where one of the known names is nearly the given one, else nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? " if close else ""


def choices(name: str, known: Collection[str], verb: str = "there is") -> str:
    """What there is instead of an unknown name: of few names all; of many the nearest, or else the first few."""
    names = list(known)
    if len(names) <= FEW:
        return f"{did_you_mean(name, names)}{verb} {', '.join(names) or 'none'}"
    if close := difflib.get_close_matches(name, names, n=NEAREST, cutoff=0.5):
        meant = close[0] if len(close) == 1 else f"{', '.join(close[:-1])} or {close[-1]}"
        return f"did you mean {meant}? there are {len(names):,} in all"
    return f"{verb} {', '.join(names[:NEAREST])} and {len(names) - NEAREST:,} more"


def brief(value: Any) -> str:
    """A value as it is shown in an error: not longer than a line."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # Python writes no number of so many digits
        return f"a {type(value).__name__} that is too large to be shown"
    return text if len(text) <= 60 else f"{text[:57]}…"
