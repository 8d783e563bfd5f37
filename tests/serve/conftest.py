"""Explorers of small warehouses that tests only read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dissectdb.warehouse import Warehouse
from tests.support.explorers import Explorer, explored
from tests.support.report_warehouses import HOSTILE, Plan, compared, filled

TESTED = Plan(tested=True)
MAPPED = Plan(tested=True, maps=True)
ONE, TWO, THREE, _ = HOSTILE
HARMFUL = Plan(tuple(HOSTILE), tuple(HOSTILE), (ONE, TWO), ONE, TWO, (THREE, ONE), tested=True)


@pytest.fixture(scope="session")
def explorer_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Plan | None], Explorer]]:
    """explorer_of(Plan(edits=0)) is an explorer of that warehouse; of None, of an empty one."""
    made: dict[Plan | None, Explorer] = {}
    with ExitStack() as stack:

        def explorer(plan: Plan | None) -> Explorer:
            if plan not in made:
                path = tmp_path_factory.mktemp("explored") / "warehouse.duckdb"
                with filled(path, plan) if plan else Warehouse(path) as warehouse:
                    list(warehouse.build())
                made[plan] = stack.enter_context(explored(path))
            return made[plan]

        yield explorer


@pytest.fixture
def tested(explorer_of: Callable[[Plan | None], Explorer]) -> Explorer:
    """An explorer of a small warehouse in which everything is there."""
    return explorer_of(TESTED)


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """An explorer of a warehouse of four dissections of two networks."""
    path: Path = tmp_path_factory.mktemp("two") / "warehouse.duckdb"
    with compared(path, Plan()):
        pass
    with explored(path) as explorer:
        yield explorer
