"""What a release is made of: one version, complete files, extras that say what to install; and what is promised.

make release does what takes minutes: fresh environments of several Pythons (tests/support/release_trial.py).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import duckdb
import pytest

from dissectdb import ROOT
from dissectdb.warehouse import Warehouse, WarehouseError
from tests.commands.test_readme import parse
from tests.support import release_trial
from tests.support.worlds import command

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_WORKING_ON_IT = {"docs", "test"}  # extras that no command asks for
OURS = "Copyright (c) 2026 The dissectdb developers"
FOREIGN = re.compile(r"^.{0,20}Copyright \(c\) .*", re.MULTILINE)


def test_the_citation_and_the_changes_are_of_this_version():
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version
    assert len(headings) == len(set(headings))


def test_the_classifiers_name_the_oldest_python_that_is_allowed():
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert named == [f"3.{minor}" for minor in range(11, 11 + len(named))]


# ---------------------------------------------------------------- the files


@dataclass(frozen=True)
class Distributions:
    """The files of a release: the source distribution, the wheel of the checkout and the wheel of the former."""

    source: Path
    wheel: Path
    wheel_of_source: Path


def built(kind: str, checkout: Path, folder: Path) -> Path:
    """The only file that hatchling builds of a checkout into an empty folder."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(build, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [file] = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    pytest.importorskip("hatchling", reason="needs the extra test")
    linked = ROOT / "build" / "linked" / "extract"  # as make docs and make types leave the rooms
    linked.parent.mkdir(parents=True, exist_ok=True)
    if not linked.is_symlink():
        linked.symlink_to(ROOT / "extract", target_is_directory=True)
    folder = tmp_path_factory.mktemp("release")
    source, wheel = built("sdist", ROOT, folder / "source"), built("wheel", ROOT, folder / "wheel")
    with tarfile.open(source) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [checkout] = (folder / "unpacked").iterdir()
    return Distributions(source, wheel, built("wheel", checkout, folder / "again"))


def contents(wheel: Path) -> dict[str, int]:
    """The checksum of each file of a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def test_the_source_distribution_builds_the_same_wheel(distributions: Distributions) -> None:
    assert distributions.wheel.name == distributions.wheel_of_source.name
    assert contents(distributions.wheel) == contents(distributions.wheel_of_source)


def test_the_wheel_is_below_10_megabytes(distributions: Distributions) -> None:
    assert distributions.wheel.stat().st_size < 10e6


def test_the_source_distribution_holds_code_tests_and_documentation(distributions: Distributions) -> None:
    with tarfile.open(distributions.source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    pages = ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
    files = {"LICENSE", "CITATION.cff", "Makefile", "mkdocs.yml", "pyproject.toml", "cli.py"}
    files |= {f"{page}.md" for page in pages}
    for room in ("bench", "dissectdb", "docs", "extract", "reports", "serve", "sql", "studies", "tests", "warehouse"):
        found = {str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*") if path.is_file()}
        files |= {name for name in found if "__pycache__" not in name}
    assert files - inside == set()
    assert not [name for name in inside if re.match(r"(\.venv|build|dist|demo)/", name)]


def test_what_others_wrote_stands_beside_its_licence_and_not_in_the_wheel(distributions: Distributions) -> None:
    """A file with the copyright of others is named in CONTRIBUTING.md; a wheel has none."""
    with zipfile.ZipFile(distributions.wheel) as archive:
        texts = {name: archive.read(name).decode("utf-8", errors="ignore") for name in archive.namelist()}
    assert {name: line for name, text in texts.items() for line in FOREIGN.findall(text) if OURS not in line} == {}
    assert any(OURS in text for text in texts.values())
    with tarfile.open(distributions.source) as archive:
        named = [name.partition("/")[2] for name in archive.getnames() if name.endswith((".LICENSE", "/LICENSE"))]
    assert sorted(named) == ["LICENSE", "docs/site/assets/iframe-worker.LICENSE"]
    assert "docs/site/assets/iframe-worker.js" in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


# ---------------------------------------------------------------- the extras


def test_every_extra_is_asked_for_where_it_is_missing_and_no_other() -> None:
    rooms = ("dissectdb", "extract", "reports", "serve", "warehouse")
    code = "".join(path.read_text(encoding="utf-8") for room in rooms for path in (ROOT / room).rglob("*.py"))
    asked = set(re.findall(r"pip install 'dissectdb\[(\w+)\]'", code))
    assert asked == set(PROJECT["optional-dependencies"]) - FOR_WORKING_ON_IT
    [named] = re.findall(r"pip install '\.\[(.*?)\]'", (ROOT / "docs" / "start.md").read_text(encoding="utf-8"))
    assert set(named.split(",")) == asked


def test_a_trial_asks_every_extra_and_its_commands_exist() -> None:
    assert release_trial.EXTRAS.keys() == set(PROJECT["optional-dependencies"]) - FOR_WORKING_ON_IT
    for words in [*release_trial.COMMANDS, *release_trial.EXTRAS.values()]:
        parse(list(words))


@pytest.mark.parametrize(
    ("extra", "modules", "words"),
    [
        ("serve", ["uvicorn"], lambda world: ("serve", "-w", world)),
        ("words", ["wordfreq"], lambda _: ("concepts", "check", "wordfreq:20", "--study", ROOT / "studies/demo.toml")),
        ("generate", ["openai"], lambda _: ("concepts", "generate", "--classes", "happy,sad", "--model", "gpt-4o")),
        (
            "spark",
            ["pyspark", "pyspark.sql"],
            lambda world: ("build", "--engine", "spark", "--source", world.parent, "-w", world.parent / "new.duckdb"),
        ),
    ],
    ids=["serve", "words", "generate", "spark"],
)
def test_a_command_without_its_extra_says_what_to_install(
    extra: str,
    modules: list[str],
    words: Callable[[Path], tuple[object, ...]],
    tiny_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """hf: has the same test in tests/models/test_hugging_face.py."""
    absent: dict[str, ModuleType | None] = dict.fromkeys(modules)
    for name, nothing in absent.items():
        monkeypatch.setitem(sys.modules, name, nothing)  # type: ignore[arg-type]
    done = command(*words(tiny_file))
    assert done.code in (1, 2)
    assert done.err.endswith(f"pip install 'dissectdb[{extra}]'\n")
    assert done.err.count("\n") == 1, "one line"


# ---------------------------------------------------------------- what SECURITY.md promises


def test_a_view_that_was_changed_to_read_a_file_reads_none(tiny_file, tmp_path):
    secret, path = tmp_path / "secret.txt", tmp_path / "w.duckdb"
    secret.write_text("secret")
    path.write_bytes(tiny_file.read_bytes())
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            f"create or replace view layer_summary as select content as layer from read_text('{secret}')"
        )
        assert connection.execute("select layer from layer_summary").fetchone() == ("secret",)
    with Warehouse(path, read_only=True) as warehouse, pytest.raises((WarehouseError, duckdb.Error), match="disabled"):
        warehouse.rows("select * from layer_summary")
