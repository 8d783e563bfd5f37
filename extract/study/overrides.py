"""Settings from the command line over those of a study file: --set KEY=VALUE.

override(values, "network.weights", "vgg.pt")
override(values, "edits[0].factor", "2")       # read as TOML where it is TOML, as plain text elsewhere

Text that is set here is of the class Typed, so that a path in it is taken from the current folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any


class StudyError(ValueError):
    """The study file, a flag over it, or something that it names, is not as it must be."""

    exit_code = 2


class Typed(str):
    """Text from the command line. A path in it is relative to the current folder, one in a study file to that file."""


_PART = r"[^.\[\]\s]+(\[[0-9]{1,9}\])*"
_KEY = re.compile(rf"{_PART}(\.{_PART})*")


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Key → value of texts such as network.weights=vgg.pt."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise StudyError(f"--set {text}: write KEY=VALUE, e.g. --set network.weights=vgg.pt")
        found[key.strip()] = value.strip()
    return found


def override(values: dict[str, object], key: str, text: str) -> None:
    """Set a key such as edits[0].factor. The text is read as TOML where it is TOML, and as a plain string elsewhere."""
    if not _KEY.fullmatch(key):
        raise StudyError(f"--set {key!r}: no key; write it like network.weights or edits[0].factor")
    parts = [int(part[1:-1]) if part[0] == "[" else part for part in re.findall(r"[^.\[\]]+|\[[0-9]+\]", key)]
    inside: Any = values
    for place, part in enumerate(parts):
        _refuse_no_place(inside, part, key, dotted(parts[:place]))
        if place == len(parts) - 1:
            inside[part] = _value(text)
        elif isinstance(inside, dict):
            inside = inside.setdefault(part, [] if isinstance(parts[place + 1], int) else {})
        else:
            inside = inside[part]


def _refuse_no_place(inside: object, part: str | int, key: str, name: str) -> None:
    if isinstance(part, int):
        if not isinstance(inside, list):
            raise StudyError(f"--set {key}: {name} is no list")
        if part >= len(inside):
            raise StudyError(f"--set {key}: {name} has {len(inside)} entries, the first of them is {name}[0]")
    elif not isinstance(inside, dict):
        if isinstance(inside, list):
            raise StudyError(f"--set {key}: {name} is a list; name one entry, as {name}[0], or replace the list")
        raise StudyError(f"--set {key}: {name} is no table")


def _value(text: str) -> object:
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return Typed(text)
    return _typed(table["value"]) if len(table) == 1 else Typed(text)


def _typed(value: object) -> object:
    """The same value with every text in it marked as Typed."""
    if isinstance(value, str):
        return Typed(value)
    if isinstance(value, list):
        return [_typed(each) for each in value]
    if isinstance(value, dict):
        return {key: _typed(each) for key, each in value.items()}
    return value


def dotted(place: Sequence[str | int]) -> str:
    """A place in a study as people write it: edits[0].factor."""
    return ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in place).replace(".[", "[")
