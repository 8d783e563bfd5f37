"""What commands say, and what they leave behind, where there is nothing to say or much of it."""

from __future__ import annotations

import pytest
from worlds import World

from warehouse import Warehouse

pytest_plugins = ["world_fixtures"]


# ---------------------------------------------------------------- a warehouse with nothing in it


def test_a_warehouse_that_is_made_and_left_by_an_error_is_deleted(tmp_path):
    path = tmp_path / "new.duckdb"
    with pytest.raises(ZeroDivisionError), Warehouse(path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_warehouse_that_was_there_or_has_rows_outlives_an_error(tmp_path):
    path = tmp_path / "old.duckdb"
    Warehouse(path).close()
    with pytest.raises(ZeroDivisionError), Warehouse(path):
        raise ZeroDivisionError
    assert path.exists()
    filled = tmp_path / "filled.duckdb"
    with pytest.raises(ZeroDivisionError), Warehouse(filled) as warehouse:  # noqa: PT012
        warehouse.write({"datasets": [{"dataset_id": 1, "name": "a", "source": "b", "fingerprint": "c"}]})
        raise ZeroDivisionError
    assert filled.exists()


def test_an_extraction_that_is_refused_after_its_scan_leaves_no_file(new_world: World):
    done = new_world.run("extract", new_world.study, "--set", "dissections[0].top_k=100")
    assert done.code == 2
    assert "fewer than top_k" in done.err
    assert not new_world.warehouse.exists()


def test_check_of_an_empty_warehouse_says_that_nothing_was_extracted(new_world: World):
    Warehouse(new_world.warehouse).close()
    done = new_world.run("check")
    assert done.code == 1
    assert "nothing has been extracted" in done.err
    assert "contracts hold" not in done.out
