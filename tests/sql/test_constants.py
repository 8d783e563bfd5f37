"""The numbers of the recording that SQL has to write out are those that Python defines, once each."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from dissectdb.extract.record.blocks import BLOCK
from dissectdb.extract.study import STORED_IMAGES
from dissectdb.warehouse.schema import SQL

# Other whole numbers in these files: steps in which numbers of images are rounded, and what packs two numbers into one.
OTHERS = {16, 32, 64, 128, 512, 1000}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("views/evidence/dissected_neurons", {STORED_IMAGES}),
        ("views/evidence/neuron_statistics", {STORED_IMAGES}),
        ("views/evidence/top_activations", {STORED_IMAGES, BLOCK}),
        ("views/similarity/rank_reorder", {STORED_IMAGES}),
        ("checks/block_tops_are_activations", {STORED_IMAGES}),
        ("checks/dissections_ask_for_what_views_hold", {STORED_IMAGES}),
    ],
)
def test_sql_writes_the_numbers_of_stored_images_and_of_a_block_as_python_defines_them(
    name: str, expected: set[int]
) -> None:
    tree = sqlglot.parse_one((SQL / f"{name}.sql").read_text(encoding="utf-8"), dialect="duckdb")
    numbers = {literal.name for literal in tree.find_all(exp.Literal) if not literal.is_string}
    assert {int(number) for number in numbers if number.isdigit() and int(number) > 12} - OTHERS == expected


def test_no_other_view_and_no_other_check_writes_them() -> None:
    known = {"dissected_neurons", "neuron_statistics", "top_activations", "rank_reorder"}
    known |= {"block_tops_are_activations", "dissections_ask_for_what_views_hold"}
    for path in [*(SQL / "views").rglob("*.sql"), *(SQL / "checks").glob("*.sql")]:
        tree = sqlglot.parse_one(path.read_text(encoding="utf-8"), dialect="duckdb")
        numbers = {literal.name for literal in tree.find_all(exp.Literal) if not literal.is_string}
        assert path.stem in known or not numbers & {str(STORED_IMAGES), str(BLOCK)}, path.stem
