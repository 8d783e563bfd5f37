"""The layout: who imports whom, what starts without torch, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectdb import ROOT

LIBRARIES = ("warehouse", "reports", "extract")
ROOMS = (*LIBRARIES, "serve")  # serve reads a warehouse and draws with the reports' parts
SOURCES = [path for name in ROOMS for path in sorted((ROOT / name).rglob("*.py"))]
COMMANDS = [ROOT / "cli.py", *sorted((ROOT / "dissectdb").rglob("*.py"))]
CODE = [*COMMANDS, *SOURCES, *sorted((ROOT / "bench").rglob("*.py"))]
TORCHES = {"torch", "torchvision", "timm", "open_clip", "safetensors"}

# What a room of extract may import: itself, and these.
STUDY = {"fingerprints", "study", "threads", "warehouse_protocol"}
INPUTS = STUDY | {"images", "models", "demo"}
BELOW = {
    "fingerprints": set(),
    "warehouse_protocol": set(),
    "threads": set(),
    "study": {"fingerprints"},
    "images": STUDY | {"demo", "models"},  # of models, how code of the user is loaded
    "models": STUDY,
    "concepts": INPUTS,
    "scoring": STUDY,
    "record": INPUTS | {"concepts", "scoring"},
    "editing": INPUTS | {"concepts", "scoring", "record"},
    "judging": INPUTS | {"concepts", "scoring", "record"},
    "training": INPUTS | {"concepts", "scoring", "record"},
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Dotted names of all modules and names that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{named(path)}:{node.lineno} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The rooms of dissectdb that a file imports from."""
    parts = (name.split(".") for name in imported(path))
    return {names[1] for names in parts if names[0] == "dissectdb" and len(names) > 1}


def rooms_of_extract(path: Path) -> set[str]:
    """The rooms of dissectdb.extract that a file imports from."""
    parts = (name.split(".") for name in imported(path))
    return {names[2] for names in parts if names[:2] == ["dissectdb", "extract"] and len(names) > 2}


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_the_libraries_do_not_import_each_other_nor_the_commands(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    allowed = {"serve", "warehouse", "reports"} if own == "serve" else {own}
    assert rooms(path) & {*ROOMS, "commands", "pipeline"} <= allowed


@pytest.mark.parametrize("path", [path for path in SOURCES if path.is_relative_to(ROOT / "extract")], ids=named)
def test_rooms_of_extract_import_only_rooms_below(path: Path) -> None:
    room = path.relative_to(ROOT / "extract").parts[0].removesuffix(".py")
    if room in BELOW:  # demo draws the built-in faces and trains their network, from every room
        assert rooms_of_extract(path) <= {room, *BELOW[room]}


@pytest.mark.parametrize("path", [*CODE, *sorted((ROOT / "tests").rglob("*.py"))], ids=named)
def test_there_is_one_import_name(path: Path) -> None:
    first = {name.partition(".")[0] for name in imported(path)}
    assert first & {*ROOMS, "cli", "sql", "studies"} == set()


def test_only_the_pipeline_imports_both_the_warehouse_and_extract() -> None:
    """Commands may import every room. dissectdb/__init__.py names the public classes of both for editors."""
    others = [path for path in COMMANDS if not path.is_relative_to(ROOT / "dissectdb" / "commands")]
    importing = {named(path) for path in [*SOURCES, *others] if {"warehouse", "extract"} <= rooms(path)}
    assert importing == {"dissectdb/pipeline.py", "dissectdb/__init__.py"}


def test_there_is_something_to_look_at() -> None:
    assert {named(path).partition("/")[0] for path in SOURCES} == set(ROOMS)
    assert {path.name for path in (ROOT / "extract").iterdir() if (path / "__init__.py").exists()} <= {*BELOW, "demo"}
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", [path for path in CODE if not path.is_relative_to(ROOT / "extract")], ids=named)
def test_torch_is_imported_under_extract_only(path: Path) -> None:
    if not path.is_relative_to(ROOT / "bench"):
        assert {name.partition(".")[0] for name in imported(path)} & TORCHES == set()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import dissectdb, dissectdb.pipeline", TORCHES | {"polars", "duckdb", "pydantic", "typer"}),
        ("import dissectdb.warehouse", TORCHES),
        ("import dissectdb.reports.page, dissectdb.commands.terminal", TORCHES),
        ("import dissectdb.serve.app", TORCHES),
        ("import dissectdb.extract.study", TORCHES | {"polars", "duckdb"}),
        (
            "import sys; sys.argv = ['dissectdb', '--help']\n"
            "from dissectdb.commands import app\napp.app(standalone_mode=False)",
            {*TORCHES, "polars", "duckdb"},
        ),
    ],
    ids=["dissectdb", "warehouse", "reports", "serve", "study", "help"],
)
def test_what_needs_no_torch_loads_none(code: str, absent: set[str]) -> None:
    command = f"{code}\nimport sys\nprint('loaded', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()[1:]
    assert set(loaded) & absent == set()
    assert loaded


def test_the_package_is_imported_in_a_moment() -> None:
    code = "import time; start = time.perf_counter(); import dissectdb; print(time.perf_counter() - start)"
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True) for _ in range(5)]
    assert min(float(done.stdout) for done in runs) < 0.15  # the least, because other processes may hold up a run


@pytest.mark.parametrize("path", CODE, ids=named)
def test_a_file_is_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def public_without_docstring(path: Path) -> Iterator[str]:
    """Public functions and classes at the top of a file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if public and ast.get_docstring(node) is None:
            yield f"{named(path)}:{node.lineno} {node.name}"


def test_every_public_function_and_class_says_what_it_is() -> None:
    assert [line for path in [*SOURCES, *COMMANDS] for line in public_without_docstring(path)] == []


@pytest.mark.parametrize("path", [*SOURCES, *COMMANDS], ids=named)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", CODE, ids=named)
def test_one_module_compares_names_that_look_alike(path: Path) -> None:
    assert "difflib" not in imported(path) or named(path) == "dissectdb/did_you_mean.py"
