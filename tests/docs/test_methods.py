"""docs/methods.md: every formula names the tests that hold it, these exist, and limits are those of the code."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectdb import ROOT
from dissectdb.extract.scoring import correlation_null, nulls, rank_reorder_null, spread_nulls

TEXT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
FORMULAS, _, HELD = TEXT.partition("\n## §11 ")
ROW = re.compile(r"^- (.+?) · (numpy|cases|simulation) · `(tests/\S+\.py)::(test_\w+)`$", re.MULTILINE)
ROWS = [  # section, what, how, file, test
    (part.partition("\n")[0].removeprefix("§"), *row)
    for part in re.split(r"^### Of ", HELD, flags=re.MULTILINE)[1:]
    for row in ROW.findall(part)
]
NO_FORMULA = {"Symbols"}  # paragraphs that begin in bold


def topics() -> list[tuple[str, str]]:
    """Section and name of each paragraph or bullet that begins with a name in bold or italics."""
    found = []
    for section in re.split(r"^## §", FORMULAS, flags=re.MULTILINE):
        number = section.partition(" ")[0]
        names = re.findall(r"^(?:- )?\*\*(.+?)\*\*|^\*([A-Z].+?)\*", section, re.MULTILINE)
        found += [(number, (bold or italic).rstrip(".,")) for bold, italic in names]
    return [(number, name) for number, name in found if name not in NO_FORMULA]


def test_every_line_of_the_list_is_read() -> None:
    assert len(ROWS) == len(re.findall(r"^- .*::", HELD, re.MULTILINE)) > 90
    assert len(set(ROWS)) == len(ROWS)


@pytest.mark.parametrize(("number", "name"), topics(), ids=lambda value: value)
def test_every_formula_has_a_test(number: str, name: str) -> None:
    """A paragraph on one topic needs a line that begins with its name."""
    assert [what for section, what, *_ in ROWS if section == number and what.startswith(name)]


def test_every_section_with_formulas_has_rows() -> None:
    sections = set(re.findall(r"^## §(\d+) ", FORMULAS, re.MULTILINE))
    assert sections == {section for section, *_ in ROWS if section.isdigit()}
    assert len(topics()) > 30


@pytest.mark.parametrize(("file", "test"), sorted({(file, test) for *_, file, test in ROWS}), ids=lambda value: value)
def test_the_test_exists(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@given(st.integers(1, 10**6), st.floats(1, 1e12), st.sampled_from([4e9, 1e11, 4e10, 2e9]))
def test_as_many_draws_as_the_page_says(wanted: int, products: float, limit: float) -> None:
    """`null_draws`, or what the products allow, but at least 1,000 unless `null_draws` is smaller."""
    found = nulls.affordable_draws(wanted, products, limit)
    allowed = max(1000, int(limit // products))
    assert abs(found - min(wanted, allowed)) <= 1
    assert found <= wanted
    assert found * products <= limit or found in (1000, wanted)


def test_the_limits_of_draws_are_those_of_the_page() -> None:
    limits = {
        "4 \\cdot 10^9$ gains": nulls.LIKELIHOOD_PRODUCTS / 4e9,
        "$10^{11}$ products": correlation_null.LINEAR_PRODUCTS / 1e11,
        "4 \\cdot 10^{10}$ products": spread_nulls.SPREAD_PRODUCTS / 4e10,
        "2 \\cdot 10^9$ for": rank_reorder_null.REORDER_PRODUCTS / 2e9,
        "`cos_cubed` and `rank_reorder` at 4,000 draws": correlation_null.CUBED_DRAWS / rank_reorder_null.REORDER_DRAWS,
        "At least 1,000 are drawn": nulls.MIN_DRAWS / 1000,
    }
    assert {text: text in TEXT for text in limits} == dict.fromkeys(limits, True)
    assert set(limits.values()) == {1}
    assert correlation_null.CUBED_DRAWS == 4000
