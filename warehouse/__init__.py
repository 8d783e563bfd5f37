"""The DuckDB file, the views over it and the guard for ad-hoc queries. Imports no torch."""

from dissectdb.warehouse.database import Warehouse, WarehouseError, WarehouseUnavailable

__all__ = ["Warehouse", "WarehouseError", "WarehouseUnavailable"]
