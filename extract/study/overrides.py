"""Override settings of a study file from the command line: --set KEY=VALUE.

override(values, "network.weights", "vgg.pt")
override(values, "edits[0].factor", "2")       # read as TOML if it is valid TOML, else as plain text

Text set here gets the class Typed, so that a path in it is relative to the current folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any


class StudyError(ValueError):
    """The study file, an override of it, or a file or model that it names is not valid."""

    exit_code = 2


class Typed(str):
    """Text from the command line. A path in it is relative to the current folder, one in a study file to that file."""


_PART = r"[^.\[\]\s]+(\[[0-9]{1,9}\])*"
_KEY = re.compile(rf"{_PART}(\.{_PART})*")


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Key → value of texts such as network.weights=vgg.pt."""
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise StudyError(f"--set {text}: write KEY=VALUE, e.g. --set network.weights=vgg.pt")
        values[key.strip()] = value.strip()
    return values


def override(values: dict[str, object], key: str, text: str) -> None:
    """Set a key such as edits[0].factor. text: read as TOML if it is valid TOML, else as a plain string."""
    if not _KEY.fullmatch(key):
        raise StudyError(f"--set {key!r}: not a key; write it like network.weights or edits[0].factor")
    parts = [int(part[1:-1]) if part[0] == "[" else part for part in re.findall(r"[^.\[\]]+|\[[0-9]+\]", key)]
    parent: Any = values
    for index, part in enumerate(parts):
        _refuse_missing_parent(parent, part, key, dotted(parts[:index]))
        if index == len(parts) - 1:
            parent[part] = _value(text)
        elif isinstance(parent, dict):
            parent = parent.setdefault(part, [] if isinstance(parts[index + 1], int) else {})
        else:
            parent = parent[part]


def _refuse_missing_parent(parent: object, part: str | int, key: str, name: str) -> None:
    if isinstance(part, int):
        if not isinstance(parent, list):
            raise StudyError(f"--set {key}: {name} is not a list")
        if part >= len(parent):
            raise StudyError(f"--set {key}: {name} has {len(parent)} entries, the first of them is {name}[0]")
    elif not isinstance(parent, dict):
        if isinstance(parent, list):
            raise StudyError(f"--set {key}: {name} is a list; name one entry, as {name}[0], or replace the list")
        raise StudyError(f"--set {key}: {name} is not a table")


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
        return [_typed(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _typed(entry) for key, entry in value.items()}
    return value


def dotted(location: Sequence[str | int]) -> str:
    """The key at a location of a study, as people write it: edits[0].factor."""
    return ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in location).replace(".[", "[")
