"""Every question file: its header, its SQL, its grain, and what the pages' sentences repeat of its limits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dissectdb.commands import terminal
from dissectdb.reports import compare, gallery
from dissectdb.reports.questions import FOLDER, Question, load, read
from dissectdb.warehouse import Warehouse
from tests.sql.test_view_sql import traps_of_question
from tests.support.report_warehouses import Plan, compared

FOLDERS = ("page", "gallery", "card", "compare", "judge", "serve", "terminal")
QUESTIONS = {f"{folder}/{name}": question for folder in FOLDERS for name, question in load(folder).items()}
each_question = pytest.mark.parametrize("name", QUESTIONS)

VALUES: dict[str, Any] = {
    "layer": None,
    "pictured": 480,
    "neuron_ids": [1, 2, 3, 4],
    "edit_id": 1,
    "a": 1,
    "b": 2,
    "unit": 0,
    "neuron": 1,
    "image": 1,
    "concept": "Smile",
    "label": "Smile",
    "text": None,
    "state": "any",
    "most_q": None,
    "sort": "place",
    "falls": False,
    "kind": None,
    "first": 0,
    "images": "[1, 2]",
    "size": 50,
    "most": 8,
    "wanted": '[{"layer": "conv1", "unit": 0}]',
}


def test_every_file_is_a_question_of_a_page_or_a_command():
    assert {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.sql")} == QUESTIONS.keys()
    used = "\n".join([*terminal.AFTER_EXTRACT.values(), *terminal.EDIT.values(), *terminal.AFTER_EFFECTS.values()])
    used += "\n".join([*terminal.STATUS.values(), *terminal.FOUND.values()])
    assert [question.name for question in load("terminal").values() if question.sql not in used] == []


@each_question
def test_every_question_asks_in_a_sentence_and_names_its_parameters(name):
    question = QUESTIONS[name]
    assert "?" in question.title
    assert question.title[0].isupper()
    assert 20 < len(question.title) < 160
    assert set(re.findall(r"\$(\w+)", question.sql)) == set(question.parameters)


@each_question
def test_a_question_uses_only_what_means_the_same_on_every_engine(name):
    question = QUESTIONS[name]
    if question.engine is None:
        assert traps_of_question(question.sql) == []


@pytest.mark.parametrize(
    "text",
    [
        "select a from t limit 3",
        "select a from t where a in (select b from u limit 3)",
        "select a from t qualify row_number() over (order by a) <= 3 order by a limit 2",
        "select cast(a as bigint) as a from t order by a",
        "select list(a order by b) from t order by a",
        "select a from t where b > 0.2 order by a",
        "with images as (select 1 as a) select a from images order by a",
    ],
)
def test_the_lint_finds_each_trap_of_a_question(text):
    assert traps_of_question(text) != []


def test_the_lint_lets_pass_what_only_a_question_may_have():
    text = "select a, cast(sum(b) over () as bigint) as b from t where c = $c order by a limit 3"
    assert traps_of_question(text) == []


@pytest.fixture(scope="module")
def warehouses(scored_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Warehouse]]:
    """One with every scorer and edits; one with two networks, a stopped extraction, and concepts that mean the same."""
    folder = tmp_path_factory.mktemp("asked")
    shutil.copy(scored_file, folder / "scored.duckdb")
    with (
        Warehouse(folder / "scored.duckdb") as scored,
        compared(folder / "compared.duckdb", Plan(concepts=("Smile", "Frown", "Grin", "Raised Brows"))) as two,
    ):
        two.connection.execute("delete from extraction_blocks where extraction_id = 0")
        same = "(select embedding from concept_embeddings where concept_id = 0 limit 1)"
        two.connection.execute(f"update concept_embeddings set embedding = {same}")
        yield [scored, two]


def answer(warehouses: list[Warehouse], question: Question) -> pl.DataFrame:
    """The rows from the first warehouse, dissection shown and layer that has any."""
    for warehouse, dissection, module in product(warehouses, ("null", "1"), ("conv1", "conv")):
        warehouse.connection.execute(f"set variable dissection = {dissection}")
        rows = warehouse.rows(question.with_values(**VALUES | {"module": module}))
        if len(rows):
            return rows
    return rows


@each_question
def test_every_question_has_one_row_per_grain(name, warehouses):
    question = QUESTIONS[name]
    rows = answer(warehouses, question)
    assert len(rows) > 0, "the warehouses of this test leave this question without an answer"
    assert rows.select(question.grain).n_unique() == len(rows)


def test_a_file_without_a_grain_is_refused_by_name(tmp_path):
    path = tmp_path / "broken.sql"
    path.write_text("-- What is this?\n\nselect 1 as a\n")
    with pytest.raises(ValueError, match=r"broken\.sql: a question starts with what it asks"):
        read(path)


def test_values_are_written_as_sql():
    question = Question("q", "What?", ("a",), ("a", "b"), None, "select $a, $b, $c")
    assert question.with_values(a="it's", b=[1, 2]) == "select 'it''s', 1, 2, $c"
    assert question.with_values(a=None) == "select null, $b, $c"


@pytest.mark.parametrize(
    ("name", "number", "limit"),
    [
        ("compare/moves", compare.MOVES, "limit {}"),
        ("compare/neurons", compare.NEURONS, "limit {}"),
        ("compare/words", compare.CONCEPTS, "limit {}"),
        ("compare/flips", compare.FLIPS, "<= {}\n"),
    ],
)
def test_the_pages_sentences_repeat_the_limits_of_their_questions(name, number, limit):
    assert limit.format(number) in QUESTIONS[name].sql + "\n"


def test_the_gallery_draws_the_bars_of_its_view():
    text = (FOLDER.parent / "views" / "meaning" / "activation_histograms.sql").read_text()
    assert f"/ {gallery.BARS} as width" in text
