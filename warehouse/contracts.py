"""The contracts of sql/checks: one query a file, any row of which is an offender.

for contract in checks():
    print(contract.name, contract.meaning, contract.cheap)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dissectdb.warehouse.views import SQL


@dataclass(frozen=True)
class Contract:
    """One file of sql/checks. meaning: what a row of it says; any row is an offender.

    cheap: it reads no activations, so that a command can run it after its work.
    """

    name: str
    meaning: str
    sql: str
    cheap: bool = True


def checks(folder: Path = SQL / "checks") -> Iterator[Contract]:
    """Every contract, by name. A header line "-- cheap: no" is for those that take seconds at the size of FER2013."""
    for path in sorted(folder.glob("*.sql")):
        text = path.read_text(encoding="utf-8").strip()
        comment = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
        meaning = " ".join(line for line in comment if line != "cheap: no")
        yield Contract(path.stem, meaning, text, "cheap: no" not in comment)
