"""Every block of code in the pages is run by a test, or this file says why not. Tutorials say it in the page."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import dissectdb
from dissectdb import ROOT
from tests.commands.test_readme import OF_PAGES, blocks, dissectdb_commands
from tests.docs.conftest import FLAGS, LABELS
from tests.docs.test_recipes import REST
from tests.docs.test_tutorials import BLOCK
from tests.support.worlds import command

README = "tests/commands/test_readme.py"
QUERIES = "tests/commands/test_documented_queries.py::test_a_query_in_a_page_runs"
HERE = "tests/docs/test_blocks.py"
RUN = {  # page, kind of block → the test that runs it
    ("README.md", "toml"): f"{README}::test_the_study_of_the_readme_runs",
    ("README.md", "python"): f"{README}::test_the_study_of_the_readme_runs",
    ("README.md", "dissectdb"): f"{README}::test_the_study_of_the_readme_runs",
    ("docs/edits.md", "dissectdb"): f"{README}::test_the_commands_for_the_demos_edits_run",
    ("docs/errors.md", "text"): "tests/docs/test_errors.py::test_the_message_is_one_of_the_program",
    ("docs/features.md", "python"): "tests/record/test_features_page.py::test_the_study_of_the_page_reads_the_file",
    ("docs/features.md", "toml"): "tests/record/test_features_page.py::test_the_study_of_the_page_reads_the_file",
    ("docs/features.md", "dissectdb"): "tests/record/test_features_page.py::test_the_study_of_the_page_reads_the_file",
    ("docs/judge.md", "dissectdb"): f"{HERE}::test_the_commands_of_the_judge_run",
    ("docs/judge.md", "sql"): f"{HERE}::test_the_commands_of_the_judge_run",
    ("docs/labels.md", "sql"): QUERIES,
    ("docs/labels.md", "dissectdb"): QUERIES,
    ("docs/labels.md", "toml"): f"{HERE}::test_a_block_of_toml_is_part_of_a_study",
    ("docs/python.md", "python"): f"{README}::test_the_examples_for_notebooks_run",
    ("docs/reports.md", "dissectdb"): f"{README}::test_the_commands_for_fer2013_run",
    ("docs/start.md", "dissectdb"): "tests/docs/test_tutorials.py::test_the_first_steps",
    ("docs/study.md", "dissectdb"): f"{README}::test_the_commands_for_fer2013_run",
    ("docs/study.md", "toml"): f"{HERE}::test_a_block_of_toml_is_part_of_a_study",
    ("docs/study.md", "python"): f"{HERE}::test_the_lines_that_write_arrays_run",
    ("docs/study.md", "sql"): QUERIES,
    ("docs/warehouse.md", "dissectdb"): f"{README}::test_the_commands_past_one_machine_run",
    ("docs/warehouse.md", "sql"): QUERIES,
}
NOT_RUN = {  # page, kind of block → why not
    ("README.md", "text"): "make demo and make test: CI runs make test, and the demo has tests",
    ("CONTRIBUTING.md", "text"): "make and pytest: CI runs make test and make lint",
    ("CONTRIBUTING.md", "dissectdb"): "the command query, among lines of make and pytest",
    ("docs/architecture.md", "text"): "a drawing",
    (
        "docs/explorer.md",
        "dissectdb",
    ): "serve ends with Ctrl-C; tests/serve/test_browser.py starts its application",
}
ELSEWHERE = ("docs/tutorials/", "docs/how-to/", "docs/commands.md", "bench/")  # test_tutorials, -recipes, -queries


def pages() -> dict[str, str]:
    files = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")] + sorted(ROOT.glob("docs/**/*.md"))
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    return {page: text for page, text in texts.items() if not page.startswith(ELSEWHERE)}


def is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False


def is_python(text: str) -> bool:
    try:
        return bool(ast.parse(text))
    except SyntaxError:
        return False


def kind(text: str) -> str:
    """What a block without a name for its language holds.

    >>> [kind(text) for text in ("SELECT 1", "    dissectdb status", "size = 3", "size = f(3)", "make demo")]
    ['sql', 'dissectdb', 'toml', 'python', 'text']
    """
    if re.match(r"(?i)(select|with)\s", text):
        return "sql"
    if dissectdb_commands(text):
        return "dissectdb"
    return "toml" if is_toml(text) else "python" if is_python(text) else "text"


def found(page: str, text: str) -> list[tuple[str, str]]:
    """Kind and text of each block of a page that the page does not mark as not run."""
    here = []
    for block in BLOCK.finditer(text):
        if block["skipped"] or (page, block["kind"]) == ("docs/methods.md", "math"):
            continue
        indented = list(blocks(block["commands"])) if block["commands"] else []
        here += [(kind(each), each) for each in indented] if indented else [(block["kind"], block["code"])]
    return here


BLOCKS = [(page, *block) for page, text in pages().items() for block in found(page, text)]
TOML = [(page, text) for page, name, text in BLOCKS if name == "toml" and page in ("docs/study.md", "docs/labels.md")]


def test_every_block_is_run_or_has_a_reason() -> None:
    assert {(page, name) for page, name, _ in BLOCKS} == RUN.keys() | NOT_RUN.keys()


@pytest.mark.parametrize("test", sorted(set(RUN.values())))
def test_the_test_that_runs_it_exists(test: str) -> None:
    file, _, name = test.partition("::")
    assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_blocks_of_every_kind_are_found() -> None:
    text = "*Not run: x.*\n\n    make a\n\n    SELECT 1\n\n```toml\na = 1\n```\n"
    assert found("x.md", text) == [("toml", "a = 1\n")], "a mark holds for the block below it"
    assert found("x.md", text.replace("*Not run: x.*\n\n", "")) == [
        ("text", "make a\n\nSELECT 1"),
        ("toml", "a = 1\n"),
    ]


@pytest.mark.parametrize(("page", "text"), TOML, ids=[f"{page} {text.splitlines()[0]}" for page, text in TOML])
def test_a_block_of_toml_is_part_of_a_study(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    part = tomllib.loads(text)
    if part.keys() <= {"layers", "clip"}:  # a line of a table
        part = {"network": part} if "layers" in part else part
    whole = {key: value for key, value in REST.items() if "arrays" not in part or key not in ("network", "clip")}
    for table, value in part.items():
        known = whole.get(table, {})
        whole[table] = {**known, **value} if isinstance(value, dict) and table != "dataset" else value
    study = dissectdb.Study(**whole)
    assert all(getattr(study, table) is not None for table in part)


def test_the_lines_that_write_arrays_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of a sparse layer, and the paths of photographs beside arrays."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    m = SimpleNamespace(indptr=np.array([0, 1, 2]), indices=np.array([3, 0]), data=np.ones(2, np.float32), shape=(2, 4))
    given = {"image_embedding": np.ones((2, 4), np.float32)}
    names = {"m": m, "np": np, "json": json, "Path": Path, "save_file": save_file, "arrays": given, "tensors": given}
    lines = [text for page, name, text in BLOCKS if (page, name) == ("docs/study.md", "python")]
    written = []
    for text in lines:
        exec(compile(text, "docs/study.md", "exec"), names)
        written.append(set(load_file("features.safetensors")))
    sparse = {f"layer/sae/{part}" for part in ("indptr", "indices", "data", "shape")}
    assert written == [{"image_embedding"}, {"image_embedding"} | sparse]


@pytest.mark.slow
def test_the_commands_of_the_judge_run(demo_warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the demo's warehouse, with labels of two methods."""
    monkeypatch.chdir(tmp_path)
    for name in ("studies", "extract"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "demo").mkdir()
    shutil.copy(demo_warehouse, tmp_path / "demo" / "warehouse.duckdb")
    for name in ("descriptions", "milan"):
        (tmp_path / f"{name}.csv").write_text(LABELS)
    text, query = (text for page, _, text in BLOCKS if page == "docs/judge.md")
    for words in dissectdb_commands(text):
        assert words in OF_PAGES
        done = command(*words, *[flag for line in FLAGS for flag in ("--set", line)])
        assert done.code == 0, done.err
    assert "MILAN" in (tmp_path / "judge.html").read_text(encoding="utf-8")
    rows = dissectdb.open(tmp_path / "demo" / "warehouse.duckdb").sql(query)
    assert set(rows["method"]) >= {"MILAN", "OTHER", "descriptions"}
    assert rows.select("layer", "unit", "method").is_duplicated().sum() == 0
