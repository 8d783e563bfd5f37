"""A declarative warehouse for network dissection."""

from pathlib import Path

# In a checkout the rooms (extract, warehouse, sql, reports) lie beside this folder; in an installation, inside it.
_here = Path(__file__).resolve().parent
ROOT = _here.parent if (_here.parent / "sql" / "tables.sql").is_file() else _here
if _here != ROOT:
    __path__.append(str(ROOT))
