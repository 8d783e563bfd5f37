"""A declarative warehouse for network dissection.

from dissectdb import Study, Warehouse, pipeline

Study reads a study file, Warehouse opens a warehouse, and pipeline holds what the commands do: extract, modify,
effects, report. Each is imported when it is first used, so that `import dissectdb` loads neither torch nor DuckDB.
(The functions stay in pipeline because dissectdb.extract is the package of the code that runs networks.)
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dissectdb import pipeline
    from dissectdb.extract.study import Study, StudyError
    from dissectdb.warehouse import Warehouse, WarehouseError

__all__ = ["Study", "StudyError", "Warehouse", "WarehouseError", "pipeline"]

_HERE = Path(__file__).resolve().parent
# The folder of extract, warehouse, reports, sql and studies: in a checkout they lie beside this package, in an
# installation inside it.
ROOT = _HERE if (_HERE / "sql").is_dir() else _HERE.parent
if ROOT != _HERE:
    __path__.append(str(ROOT))

_MODULES = {
    "Study": "dissectdb.extract.study",
    "StudyError": "dissectdb.extract.study",
    "Warehouse": "dissectdb.warehouse",
    "WarehouseError": "dissectdb.warehouse",
}


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
