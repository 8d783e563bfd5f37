"""The tutorials: their blocks run, in the order of the page, in a folder like a checkout after make demo.

A block runs unless the line above it says "*Not run …*" and why. Python blocks share their names; a block with a title
is a file; SQL runs on the warehouse of the page. Small models stand in for downloads (CLIPS).
"""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dissectdb import ROOT
from tests.commands.test_readme import PAGES, blocks, dissectdb_commands, section
from tests.docs.conftest import FLAGS
from tests.support.worlds import command

TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(
    r"(?P<skipped>^\*Not run[^\n]*\*\n\n)?"
    r"(?:^```(?P<kind>\w+)(?: title=\"(?P<file>[^\"]+)\")?\n(?P<code>.*?)^```"
    r"|(?P<commands>(?:^ {4}\S[^\n]*\n)(?:^ {4}[^\n]*\n|\n)*))",
    re.MULTILINE | re.DOTALL,
)
CLIP = tomllib.loads((ROOT / "studies" / "demo.toml").read_text(encoding="utf-8"))["clip"]
CLIPS = [f"clip.{key}={(ROOT / 'studies' / value).resolve() if '/' in value else value}" for key, value in CLIP.items()]
FEW_DRAWS = "dissections[0].null_draws=200"


@dataclass
class Run:
    """A page that runs in the current folder. settings: overrides, by study. seen: the rows of each query."""

    page: str
    warehouse: str
    settings: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    seen: list[Any] = field(default_factory=list)
    count: int = 0

    def all_blocks(self) -> None:
        for block in BLOCK.finditer((ROOT / "docs" / self.page).read_text(encoding="utf-8")):
            if not block["skipped"]:
                self.run(block)

    def run(self, block: re.Match[str]) -> None:
        self.count += 1
        if block["commands"]:
            for text in blocks(block["commands"]):
                for words in dissectdb_commands(text):
                    self.command(words)
        elif block["file"]:
            Path(block["file"]).write_text(block["code"])
        elif block["kind"] == "python":
            exec(compile(block["code"], self.page, "exec"), self.names)
        elif block["kind"] == "sql":
            import dissectdb

            self.seen.append(dissectdb.open(self.warehouse).sql(block["code"]))
        else:
            raise AssertionError(f"a block of kind {block['kind']} neither runs nor says why not")

    def command(self, words: list[str]) -> None:
        study = next((word for word in words if word.endswith(".toml")), None)
        flags = [flag for value in self.settings.get(study or "", []) for flag in ("--set", value)]
        done = command(*words, *flags)
        assert done.code == 0, f"dissectdb {' '.join(words)}: {done.err}"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the studies, in which the test runs."""
    for name in ("studies", "extract"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def after_demo(checkout: Path, demo_warehouse: Path) -> Path:
    (checkout / "demo").mkdir()
    shutil.copy(demo_warehouse, checkout / "demo" / "warehouse.duckdb")
    return checkout


@pytest.mark.slow
def test_a_network_on_a_folder_of_photographs(checkout: Path) -> None:
    run = Run("tutorials/resnet.md", "study.duckdb", {"study.toml": [*CLIPS, FEW_DRAWS]})
    run.all_blocks()
    layers, labels, classes = run.seen
    assert set(layers["layer"]) >= {"layer1", "layer4"}
    assert len(labels) == 10
    assert set(classes["true_class"]) <= {"beach", "forest", "night"}
    assert (checkout / "report.html").exists()
    [(mean_accuracy,)] = run.names["w"].sql("select max(accuracy) from network_accuracies").rows()
    assert mean_accuracy > 0.5, "the images are prepared as in training"


@pytest.mark.slow
def test_features_of_a_sparse_autoencoder(after_demo: Path) -> None:
    run = Run("tutorials/sae.md", "sae.duckdb", {"sae.toml": [FEW_DRAWS]})
    run.all_blocks()
    unlabelled, labels, classes = run.seen
    assert set(unlabelled["reason"]) <= {"dead", "too few images", "ties"}
    assert unlabelled["features"].sum() > 0
    assert len(labels) > 0
    assert len(classes) > 0


@pytest.mark.slow
def test_are_these_labels_true(after_demo: Path) -> None:
    run = Run("tutorials/labels.md", "demo/warehouse.duckdb", {"studies/demo.toml": FLAGS})
    run.all_blocks()
    assert all(len(rows) for rows in run.seen)
    assert len(run.seen) == 8
    assert "OTHER" in set(run.seen[-1]["method"])


@pytest.mark.slow
def test_the_first_steps(after_demo: Path) -> None:
    run = Run("start.md", "demo/warehouse.duckdb")
    run.all_blocks()
    assert run.count == 1
    skipped = commands_of((ROOT / "docs" / "start.md").read_text(encoding="utf-8"), skipped=True)
    assert [words.split()[0] for words in skipped] == ["demo", "init", "extract", "extract"]


def commands_of(text: str, skipped: bool = False) -> list[str]:
    """The commands of a tutorial's blocks: those that run, or those that are marked as not run."""
    found = [block["commands"] for block in BLOCK.finditer(text) if bool(block["skipped"]) == skipped]
    return [" ".join(words) for commands in filter(None, found) for words in dissectdb_commands(commands)]


@pytest.mark.parametrize(
    ("page", "elsewhere"),
    [
        ("cluster.md", section("docs/warehouse.md", "Past one machine")),
        ("fer2013.md", PAGES["docs/study.md"]),
    ],
)
def test_long_tutorials_have_commands_that_test_readme_runs(page: str, elsewhere: str) -> None:
    """test_the_commands_past_one_machine_run and test_the_commands_for_fer2013_run; the latter where FER2013 is."""
    text = (TUTORIALS / page).read_text(encoding="utf-8")
    run = {" ".join(words) for block in blocks(elsewhere) for words in dissectdb_commands(block)}
    assert len(commands_of(text)) >= 3
    assert set(commands_of(text)) - run == set()
    kinds = [block["kind"] for block in BLOCK.finditer(text) if block["kind"] and not block["skipped"]]
    assert kinds == [], "run it, or say why not"


def test_every_tutorial_is_here() -> None:
    here = {"resnet.md", "sae.md", "labels.md", "cluster.md", "fer2013.md"}
    assert {path.name for path in TUTORIALS.iterdir()} == here
    assert len(commands_of((TUTORIALS / "cluster.md").read_text(encoding="utf-8"), skipped=True)) == 3
