"""The reference is made from the code when the site is built; what cannot be taken from there is complete."""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest
import site_reference
import site_study_keys

from dissectdb.extract.study.study_file import Study
from dissectdb.warehouse.view_files import View

PUBLIC = site_reference.public_views()


@pytest.mark.parametrize("view", PUBLIC, ids=lambda view: view.name)
def test_every_column_of_a_public_view_has_a_meaning(view: View) -> None:
    missing = [name for name, *_ in site_reference.columns()[view.name] if not site_reference.meaning(view, name)]
    assert missing == [], f"explain them in the header of {view.name}.sql, or in docs/site/columns.toml"


def test_no_meaning_is_about_a_column_that_is_gone() -> None:
    there = {view.name: {name for name, *_ in site_reference.columns()[view.name]} for view in PUBLIC}
    everywhere = set().union(*there.values())
    for view, meanings in site_reference.common_meanings().items():
        assert set(meanings) - (everywhere if view == "all" else there[view]) == set(), view


def test_the_pages_name_every_view_every_table_and_every_column() -> None:
    pages = site_reference.pages()
    sections = re.findall(r"^### (\w+)$", pages["reference/views.md"], re.MULTILINE)
    assert sections == [view.name for view in PUBLIC]
    tables = re.findall(r"^## (\w+)$", pages["reference/tables.md"], re.MULTILINE)
    assert len(tables) > 40
    assert {"activations", "dissections", "edit_scales"} <= set(tables)
    for page in ("reference/tables.md", "reference/views.md"):
        rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|", pages[page], re.MULTILINE)
        assert len(rows) > 200
    assert "[networks](#networks)" in pages["reference/tables.md"], "a reference is a link"


def test_a_table_without_a_comment_is_noticed() -> None:
    for name, text in site_reference.tables().items():
        assert f"comment on table {name} is" in text


def models() -> dict[str, dict[str, Any]]:
    schema = Study.model_json_schema()
    return {"Study": schema, **schema["$defs"]}


def test_every_key_of_a_study_is_in_the_page_with_a_meaning() -> None:
    assert set(models()) == set(site_study_keys.TABLES.values())
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*?) \| (.*) \|$", site_study_keys.page(), re.MULTILINE)
    assert len(rows) == sum(len(model["properties"]) for model in models().values())
    assert [(key, kind) for key, kind, _, meaning in rows if len(meaning) < 5] == []


def test_no_meaning_is_about_a_key_that_is_gone() -> None:
    keys = {(table, key) for table, model in site_study_keys.TABLES.items() for key in models()[model]["properties"]}
    assert set(site_study_keys.OWN) - keys == set()
    assert set(site_study_keys.OF_LAYERS) == set(models()["Layer"]["properties"])


def test_defaults_and_ranges_are_those_that_are_checked() -> None:
    page = site_study_keys.page()
    assert "| `top_k` | whole number, 1 to 256 | `100` |" in page
    assert "| `rule` | `tau`, `q` | `q` |" in page
    assert "| `architecture` | text | required |" in page


def test_the_functions_of_the_pipeline_are_those_of_the_page_for_notebooks() -> None:
    assert {"extract", "modify", "effects", "judge", "check"} <= set(site_reference.pipeline_functions())


@pytest.mark.parametrize("module", [site_reference, site_study_keys], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_run(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted >= 1
