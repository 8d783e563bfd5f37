"""Write the values of a study as TOML. Imports no torch.

as_toml({"dataset": {"name": "faces", "path": Path("faces")}})   # [dataset]\nname = "faces"\npath = "faces"\n
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from pathlib import Path

from dissectdb.extract.study.overrides import StudyError, dotted
from dissectdb.extract.study.values import brief

KINDS = (bool, int, float, datetime, date, time)


def as_toml(values: Mapping[str, object]) -> str:
    """The values as the text of a TOML file; what is None is left out. Raises StudyError for what TOML cannot hold."""
    import tomlkit  # here, because commands that only read a study need not wait for it

    return tomlkit.dumps({key: _plain(value, (key,)) for key, value in values.items() if value is not None})


def _plain(value: object, key: tuple[str | int, ...]) -> object:
    """The value in TOML's types. key: where it is, for the message."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each, (*key, name)) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each, (*key, index)) for index, each in enumerate(value)]
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, KINDS):
        return value
    raise StudyError(f"{dotted(key)}: TOML cannot hold {brief(value)}; write text, numbers, lists or tables")
