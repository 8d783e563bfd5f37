"""A declarative warehouse for network dissection.

w = dissectdb.dissect(model, "photos", concepts=["dog", "grass"], layers=["layer4"], clip=…, warehouse="w.duckdb")
w = dissectdb.open("w.duckdb")      # its views are methods: w.neuron_concepts()

from dissectdb import Study, Warehouse, pipeline

dissect labels the neurons of a torch module, and open reads what is there. Study reads a study file, Warehouse opens a
warehouse to write too, and pipeline holds what the commands do: extract, modify, effects, report. Each is imported when
it is first used, so that `import dissectdb` loads neither torch nor DuckDB. (The functions stay in pipeline because
dissectdb.extract is the package of the code that runs networks.)
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dissectdb import pipeline
    from dissectdb.dissecting import dissect
    from dissectdb.extract.study import Study, StudyError
    from dissectdb.given import Given
    from dissectdb.opened import OpenWarehouse, open
    from dissectdb.warehouse import Warehouse, WarehouseError

__all__ = [
    "Given",
    "OpenWarehouse",
    "Study",
    "StudyError",
    "Warehouse",
    "WarehouseError",
    "dissect",
    "open",
    "pipeline",
]

_HERE = Path(__file__).resolve().parent
# The folder of extract, warehouse, reports, sql and studies: in a checkout they lie beside this package, in an
# installation inside it.
ROOT = _HERE if (_HERE / "sql").is_dir() else _HERE.parent
if ROOT != _HERE:
    __path__.append(str(ROOT))

_MODULES = {
    "Given": "dissectdb.given",
    "OpenWarehouse": "dissectdb.opened",
    "Study": "dissectdb.extract.study",
    "StudyError": "dissectdb.extract.study",
    "Warehouse": "dissectdb.warehouse",
    "WarehouseError": "dissectdb.warehouse",
    "dissect": "dissectdb.dissecting",
    "open": "dissectdb.opened",
}


def _open_standard_streams() -> None:
    """Let a standard stream that is closed lead nowhere, before a file takes its number.

    What a C library prints would be written into that file: a warehouse, or pixels that processes share.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


_open_standard_streams()


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used."""
    if name == "pipeline":
        return import_module("dissectdb.pipeline")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, which editors and notebooks complete."""
    return sorted({*globals(), *__all__})
