"""A warehouse that is named, but not open yet: its path and the limits that it is opened with.

file = WarehouseFile(Path("warehouse.duckdb"), wait=60, memory="2GB")
with file.to_read() as warehouse:
    warehouse.rows("select * from layer_summary")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dissectdb.warehouse import Warehouse

WAIT_SECONDS = 10.0
IN_MEMORY = Path(":memory:")


@dataclass(frozen=True)
class WarehouseFile:
    """The path of a warehouse and the limits that it is opened with.

    wait: seconds to wait while another process holds the file. memory: of DuckDB, e.g. "2GB". threads: at most so many.
    Default: $DISSECTDB_MEMORY and $DISSECTDB_THREADS, else what this machine has free.
    """

    path: Path
    wait: float = WAIT_SECONDS
    memory: str | None = None
    threads: str | int | None = None

    def check_path(self, *, read_only: bool) -> None:
        """Raise WarehouseUnavailable if no warehouse can be at the path. read_only: if it must be there already.

        It is cheap and opens nothing: what takes long, such as loading a network, should come after it.
        """
        from dissectdb.warehouse.locking import check_path

        check_path(self.path, read_only=read_only)

    def to_read(self, dissection: int | None = None) -> Warehouse:
        """The warehouse, locked down for reading. dissection: the one that views show. Default: the newest."""
        from dissectdb.warehouse import Warehouse

        return Warehouse(
            self.path,
            read_only=True,
            dissection=dissection,
            wait=self.wait,
            memory_limit=self.memory,
            threads=self.threads,
        )

    def to_write(self, *, deterministic: bool = False) -> Warehouse:
        """The warehouse, opened for writing; made if there is no such file."""
        from dissectdb.warehouse import Warehouse

        return Warehouse(
            self.path,
            wait=self.wait,
            memory_limit=self.memory,
            threads=self.threads,
            deterministic=deterministic,
        )

    def import_folder(self, folder: Path, finish: Callable[[Warehouse], None]) -> Counter[str]:
        """Make the file from a folder of Parquet files; returns table → rows. finish: what else is computed."""
        from dissectdb.warehouse import exchange

        rows: Counter[str] = Counter()
        parts = exchange.import_folder(
            folder, self.path, self.wait, finish, memory_limit=self.memory, threads=self.threads
        )
        for part in parts:
            rows[part.table] += part.rows
        return rows


AnyWarehouse = Path | str | WarehouseFile


def as_file(warehouse: AnyWarehouse) -> WarehouseFile:
    """The warehouse as a WarehouseFile."""
    return warehouse if isinstance(warehouse, WarehouseFile) else WarehouseFile(Path(warehouse))
