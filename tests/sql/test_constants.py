"""The numbers of stored images and of a block, which SQL has to write out, are those that Python defines."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from dissectdb.extract.record.blocks import BLOCK
from dissectdb.extract.study import STORED_IMAGES
from dissectdb.warehouse.schema import SQL

FILES = {  # file → which of the two it writes
    "views/evidence/dissected_neurons": {STORED_IMAGES},
    "views/evidence/neuron_statistics": {STORED_IMAGES},
    "views/evidence/top_activations": {STORED_IMAGES},
    "views/similarity/rank_reorder": {STORED_IMAGES},
    "checks/block_tops_are_activations": {STORED_IMAGES},
    "checks/dissections_ask_for_what_views_hold": {STORED_IMAGES},
}
# Other numbers in these files: neurons per image, steps in which numbers are rounded, the least effective share
# of cubes (1 / 100), and what packs two into one.
OTHERS = {20, 16, 32, 64, 100, 128, 512, 1000}


def whole_numbers(path: Path) -> set[int]:
    """The whole numbers above 12 in a file's statement."""
    tree = sqlglot.parse_one(path.read_text(encoding="utf-8"), dialect="duckdb")
    texts = {literal.name for literal in tree.find_all(exp.Literal) if not literal.is_string}
    return {int(text) for text in texts if text.isdigit() and int(text) > 12}


@pytest.mark.parametrize("name", FILES)
def test_sql_writes_the_numbers_that_python_defines(name: str) -> None:
    assert whole_numbers(SQL / f"{name}.sql") - OTHERS == FILES[name]


def test_no_other_view_and_no_other_check_writes_them() -> None:
    paths = [*(SQL / "views").rglob("*.sql"), *(SQL / "checks").glob("*.sql")]
    writing = {path for path in paths if whole_numbers(path) & {STORED_IMAGES, BLOCK}}
    assert {str(path.relative_to(SQL).with_suffix("")) for path in writing} == FILES.keys()
