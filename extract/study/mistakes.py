"""Turn pydantic's errors about a study file into messages for its author."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dissectdb.did_you_mean import did_you_mean
from dissectdb.extract.study.overrides import dotted
from dissectdb.extract.study.text_files import one_line
from dissectdb.extract.study.values import Settings, brief

MAX_MISTAKES = 20  # lines of a message
MAX_LINE = 1000  # characters

WRONG_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def explain(error: ValidationError, study: type[Settings], path: Path | str, overrides: Collection[str]) -> str:
    """A message with one line per mistake, for the first MAX_MISTAKES of them.

    study: the class of the whole file. overrides: the keys that were set on the command line.
    """
    mistakes = error.errors()
    lines = [one_line(_line(mistake, study, path, overrides), MAX_LINE) for mistake in mistakes[:MAX_MISTAKES]]
    more = [f"{path}: and {len(mistakes) - MAX_MISTAKES} more"] if len(mistakes) > MAX_MISTAKES else []
    return "\n".join([*lines, *more])


def _line(error: ErrorDetails, study: type[Settings], path: Path | str, overrides: Collection[str]) -> str:
    """One mistake: the file, the key, what is wrong and what is allowed."""
    location = error["loc"]
    key = dotted(location)
    message = _message(error)
    flag = next((flag for flag in overrides if _touches(flag, key or message.partition(":")[0])), None)
    where = f"{path} with {flag} from the command line" if flag else str(path)
    if error["type"] == "extra_forbidden":
        allowed = sorted(_settings_at(location[:-1], study))
        hint = did_you_mean(str(location[-1]), allowed, after=" ")
        return f"{where}: {key} is not a setting; {hint}allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{where}: {key} is missing"
    return f"{where}: {key}: {message}" if key else f"{where}: {message}"


def _touches(flag: str, key: str) -> bool:
    """Whether one of two keys is the other or lies within it."""
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((flag, key), (key, flag)))


def _message(error: ErrorDetails) -> str:
    """What is wrong, without pydantic's terms."""
    kind, given = error["type"], error["input"]
    if kind in WRONG_TYPES:
        return f"must be {WRONG_TYPES[kind]}, not {brief(given)}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        hint = did_you_mean(str(given), allowed, after=" ")
        return f"{brief(given)} is not allowed; {hint}allowed: {', '.join(allowed)}"
    if kind == "string_too_short":
        return "must not be empty"
    message = error["msg"].removeprefix("Value error, ")
    return f"{message.replace('Input should', 'must')}, not {brief(given)}" if "Input should" in message else message


def _settings_at(location: Sequence[str | int], study: type[Settings]) -> list[str]:
    """The keys that are allowed in the table at this location of a study."""
    model = study
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _settings_class(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _settings_class(annotation: object) -> type[Settings] | None:
    """The table class within an annotation such as tuple[Layer, ...]."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None
    return next(filter(None, map(_settings_class, get_args(annotation))), None)
