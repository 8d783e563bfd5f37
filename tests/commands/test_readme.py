"""The commands of README.md, of the studies and of the help texts: every one is understood, and the README's run.

They run in the order of the page, in a folder that holds a copy of the studies, as in a fresh checkout. What takes long
or is not there offline is set on top: few images and layers, and a CLIP that is no download. FER2013 runs where
../shared/data has it.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import typer

from dissectdb import ROOT
from dissectdb.commands import app
from tests.support.worlds import command

REAL = ROOT.parent / "shared" / "data"
README = (ROOT / "README.md").read_text(encoding="utf-8")

QUICK = """
network.layers=["lin1", "lin2"]
dissections[0].null_draws=1000
dissections[0].bootstraps=0
"""
OFFLINE = {  # by the study: what is set on top
    "studies/demo.toml": f"{QUICK}dataset.images=260",
    "studies/fer2013.toml": f"""{QUICK}
dataset.images=110
dissections[1].null_draws=1000
sweeps=[]
protocol.controls=3
protocol.shuffles=1
protocol.bootstraps=100
clip.architecture=face-rn-small
clip.weights={REAL / "face_clip.pt"}
clip.config={REAL / "face-rn-small.json"}
""",
}


def blocks(text: str) -> Iterator[str]:
    """The indented blocks of a page."""
    for block in re.findall(r"(?:^ {4}.*\n)(?:^(?: {4}.*)?\n)*", text, re.MULTILINE):
        yield re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip()


def loops_unrolled(line: str) -> list[str]:
    """for i in 0 1; do …$i…; done as its commands."""
    loop = re.fullmatch(r"for (\w+) in ([\w ]+); do (.*); done", line)
    return [line] if loop is None else [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()]


def dissectdb_commands(text: str) -> list[list[str]]:
    """The words of each command, without those of other programs; a redirection and a comment are no words."""
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in chain.from_iterable(loops_unrolled(line.strip()) for line in lines):
        start = re.search(r"(?:^|exec )dissectdb ", line)
        if start is None or line.startswith("#"):
            continue
        words = shlex.split(line[start.end() :].removesuffix("'"), comments=True)
        found.append(words[: words.index(">")] if ">" in words else words)
    return found


def understood(words: list[str]) -> None:
    """Parse a command without running it. Raises what the parser raises."""
    parser = typer.main.get_command(app.app)
    context = parser.context_class(parser)
    while hasattr(parser, "commands"):
        name, parser, words = parser.resolve_command(context, words)
        context = parser.context_class(parser, info_name=name, parent=context)
    parser.parse_args(context, words)


OF_README = [words for block in blocks(README) for words in dissectdb_commands(block)]
ELSEWHERE = [
    words
    for path in [*ROOT.glob("cli*.py"), ROOT / "studies" / "fer2013.toml", ROOT / "studies" / "arrays.toml"]
    for line in re.findall(r"(?:Example:|^#.*?) (dissectdb (?:concepts )?\w+ [^m].*)", path.read_text(), re.MULTILINE)
    for words in dissectdb_commands(line)
]


@pytest.mark.parametrize("words", [*OF_README, *ELSEWHERE], ids=" ".join)
def test_every_command_that_is_written_somewhere_is_understood(words: list[str]) -> None:
    understood(words)


def test_the_commands_were_found() -> None:
    assert len(OF_README) >= 17
    assert len(ELSEWHERE) >= 16
    assert ["extract", "studies/demo.toml", "--sink", "parquet:shards", "--shard", "3/4"] in OF_README
    with pytest.raises(Exception, match="No such option"):
        understood(["extract", "studies/demo.toml", "--shards", "3/4"])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a fresh checkout, with FER2013 and its network in it where they are at hand."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "studies", folder / "studies")
    (folder / "extract").symlink_to(ROOT / "extract")
    if REAL.exists():
        unpack = [sys.executable, REAL / "unpack.py", folder, "--layout", "csv", "--limit", "120"]
        subprocess.run(unpack, check=True, capture_output=True)
        (folder / "vgg.pt").symlink_to(REAL / "vgg_fer2013.pt")
    return folder


def run_in_order(checkout: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    """Run the commands of some of the page; how many there were."""
    monkeypatch.chdir(checkout)
    for line in re.findall(r"^ {4}export (\w+)=(\S+)", text, re.MULTILINE):
        monkeypatch.setenv(*line)
    found = [words for block in blocks(text) for words in dissectdb_commands(block)]
    ran = 0
    for words in found:
        study = next((word for word in words if word.endswith(".toml")), None)
        if words[:3] == ["build", "--engine", "spark"] or "--charts" in words or study not in {None, *OFFLINE}:
            continue  # test_spark.py and test_export.py run these, and study.toml stands for a study of one's own
        given = [flag for setting in OFFLINE.get(study, "").split("\n") if setting for flag in ("--set", setting)]
        done = command(*words, *given)
        assert done.code == 0, f"dissectdb {' '.join(words)}: {done.err}"
        ran += 1
    return ran


def section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")
def test_the_commands_for_a_network_of_ones_own_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(section(title) for title in ("Your own network", "Asking", "The report"))
    assert run_in_order(checkout, monkeypatch, text) >= 9
    assert {path.name for path in checkout.iterdir()} >= {
        "fer2013.duckdb", "edits", "report.html", "compared.html", "layers.csv",
    }  # fmt: skip


@pytest.mark.slow
def test_the_commands_past_one_machine_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_in_order(checkout, monkeypatch, section("Past one machine")) >= 8
    assert (checkout / "new.duckdb").exists()
