"""The folder that the shards of an extraction wrote: which shards are complete, and the files to import.

status("shards/")                     # one State per shard: done, missing, or what is damaged
files("shards/")                      # the files of a complete set; raises ShardError if it is not

The small tables are in shards/catalog, as in an export. The others have one file per table and shard; the receipt of
the shard lists them. No code from the folder runs, and only file names that a shard can write are opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dissectdb.warehouse.errors import WarehouseError

CATALOG = "catalog"
RECEIPTS = "table=extraction_blocks"
NAME = re.compile(r"table=(\w+)/(?:layer=[^/]+/)?shard=(\d{5}-of-\d{5})\.parquet")


class ShardError(WarehouseError):
    """A folder of shards is incomplete; the message lists what is missing and what to do."""


@dataclass(frozen=True)
class State:
    """One shard. problem: empty if it is done and complete."""

    shard: str
    files: int
    rows: int
    megabytes: float
    problem: str


@dataclass(frozen=True)
class File:
    """A file of a complete set of shards."""

    table: str
    path: Path
    rows: int


@dataclass(frozen=True)
class Receipt:
    """What a shard wrote: the rows of each file by its name, and how many blocks. fingerprint: of the extraction."""

    fingerprint: str
    files: dict[str, int]
    blocks: int


def is_folder_of_shards(folder: Path) -> bool:
    """Whether an extraction wrote shards there."""
    return (folder / RECEIPTS).is_dir() or (folder / CATALOG).is_dir()


def status(folder: Path) -> list[State]:
    """The state of every expected shard. If there are several divisions, the most frequent one counts."""
    receipts = {name: _receipt(folder, name) for name in _names(folder)}
    divisions = [name.partition("-of-")[2] for name in receipts]
    if not divisions:
        return []
    of = max(sorted(set(divisions)), key=divisions.count)
    fingerprints = [receipt.fingerprint for receipt in receipts.values() if receipt]
    fingerprint = max(sorted(set(fingerprints)), key=fingerprints.count, default="")
    names = [f"{number:05}-of-{of}" for number in range(int(of))]
    return [
        _state(folder, name, receipts[name], fingerprint) if name in receipts else State(name, 0, 0, 0.0, "missing")
        for name in names
    ]


def files(folder: Path) -> list[File]:
    """The files of all shards, with the receipts. Raises ShardError if one is missing or damaged."""
    states = status(folder)
    broken = [f"{state.shard} ({state.problem})" for state in states if state.problem]
    if not states or broken:
        few = ", ".join(broken[:5]) + (", …" if len(broken) > 5 else "")
        raise ShardError(f"{folder} is not whole: {few or 'no shard is there'}; run these shards again")
    found = []
    for state in states:
        receipt = _receipt(folder, state.shard)
        if receipt is None:
            raise ShardError(f"the receipt of shard {state.shard} was changed or deleted while it was read")
        for name, rows in receipt.files.items():
            found.append(File(name.partition("/")[0].removeprefix("table="), folder / name, rows))
        name = f"{RECEIPTS}/shard={state.shard}.parquet"
        found.append(File("extraction_blocks", folder / name, receipt.blocks))
    return found


def _names(folder: Path) -> Iterator[str]:
    for path in sorted((folder / RECEIPTS).glob("shard=*.parquet")):
        if re.fullmatch(r"\d{5}-of-\d{5}", name := path.stem.removeprefix("shard=")):
            yield name


def _receipt(folder: Path, shard: str) -> Receipt | None:
    """The receipt of a shard; None if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(folder / RECEIPTS / f"shard={shard}.parquet")
        said = json.loads((about.metadata or {})[b"dissectdb"])
        rows = {str(name): int(count) for name, count in said["files"].items()}
        if said["shard"] != shard or not all(_is_of(name, shard) for name in rows):
            return None
        return Receipt(str(said["fingerprint"]), rows, about.num_rows)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _is_of(name: str, shard: str) -> bool:
    found = NAME.fullmatch(name)
    return found is not None and found[2] == shard


def _state(folder: Path, shard: str, receipt: Receipt | None, fingerprint: str) -> State:
    if receipt is None:
        return State(shard, 0, 0, 0.0, "its receipt is damaged")
    problem = "" if receipt.fingerprint == fingerprint else "of another study or division"
    size = 0
    for name, rows in receipt.files.items():
        problem = problem or _damage(folder / name, rows)
        size += (folder / name).stat().st_size if (folder / name).exists() else 0
    return State(shard, len(receipt.files), sum(receipt.files.values()), size / 1e6, problem)


def _damage(path: Path, rows: int) -> str:
    """What is wrong with a file, judged by its footer; empty if nothing is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    what = f"{path.parent.name}/{path.name}"
    if path.is_symlink() or not path.is_file():
        return f"{what} is missing"
    try:
        about = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return f"{what} is damaged"
    return "" if about.num_rows == rows else f"{what} has {about.num_rows:,} rows, not {rows:,}"
