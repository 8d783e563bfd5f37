"""The layout: who imports whom, what starts without torch, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = ("warehouse", "reports", "extract")
SOURCES = [path for name in LIBRARIES for path in sorted((ROOT / name).rglob("*.py"))]
CODE = [*sorted(ROOT.glob("cli*.py")), *SOURCES, *sorted((ROOT / "bench").rglob("*.py"))]
TORCHES = {"torch", "torchvision", "timm", "open_clip", "safetensors"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Top-level names of all that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(path.relative_to(ROOT).parts[0] if node.level else (node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            found |= {str(getattr(argument, "value", "?")).partition(".")[0] for argument in node.args}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_the_libraries_do_not_import_each_other_nor_the_command_line(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    assert imported(path) & {*LIBRARIES, "cli", "cli_options", "cli_concepts", "cli_exchange", "tests"} <= {own}


def test_there_is_something_to_look_at() -> None:
    assert {named(path).partition("/")[0] for path in SOURCES} == set(LIBRARIES)
    assert len(SOURCES) > 20


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in CODE
        if path.relative_to(ROOT).parts[0]
        in ("cli.py", "cli_options.py", "cli_concepts.py", "cli_exchange.py", "warehouse", "reports")
    ],
    ids=named,
)
def test_torch_is_imported_under_extract_only(path: Path) -> None:
    assert imported(path) & TORCHES == set()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import warehouse", TORCHES),
        ("import reports.page, reports.terminal", TORCHES),
        ("import extract.study", TORCHES | {"polars", "duckdb"}),
        (
            "import sys; sys.argv = ['cli.py', '--help']; import cli; cli.app(standalone_mode=False)",
            {*TORCHES, "polars"},
        ),
    ],
    ids=["warehouse", "reports", "study", "help"],
)
def test_what_needs_no_torch_loads_none(code: str, absent: set[str]) -> None:
    command = f"{code}\nimport sys\nprint('loaded', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()[1:]
    assert set(loaded) & absent == set()
    assert loaded


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
    assert [line for path in SOURCES for line in public_without_docstring(path)] == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)
