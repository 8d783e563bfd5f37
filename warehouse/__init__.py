"""Rows in, answers out: the DuckDB file, the views over it and what an ad-hoc query may do. Imports no torch."""

from dissectdb.warehouse.database import Warehouse, WarehouseError, WarehouseUnavailable

__all__ = ["Warehouse", "WarehouseError", "WarehouseUnavailable"]
