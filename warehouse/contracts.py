"""The contracts: queries that find rows which break a rule of the warehouse. A sound warehouse yields none.

for contract in checks():
    print(contract.name, contract.meaning, contract.cheap)

Each file of sql/checks is one. Two more, keys_are_unique and references_exist, are made of the declarations in
sql/tables.sql.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dissectdb.warehouse import schema


@dataclass(frozen=True)
class Contract:
    """One query. meaning: what a row of it means; any row is an offender.

    cheap: it reads no activations and no maps, so that a command can run it after its work.
    """

    name: str
    meaning: str
    sql: str
    cheap: bool = True


def checks() -> Iterator[Contract]:
    """Every contract, by name."""
    queries = {path.stem: path.read_text(encoding="utf-8") for path in (schema.SQL / "checks").glob("*.sql")}
    queries |= {"keys_are_unique": schema.keys_are_unique(), "references_exist": schema.references_exist()}
    for name, text in sorted(queries.items()):
        yield _contract(name, text.strip())


def _contract(name: str, text: str) -> Contract:
    """The contract of a query with its header. "-- cheap: no" marks one that takes seconds at the size of FER2013."""
    comment = [line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")]
    meaning = " ".join(line for line in comment if line != "cheap: no")
    return Contract(name, meaning, text, "cheap: no" not in comment)
