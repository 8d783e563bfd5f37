"""The pages: README.md, CONTRIBUTING.md, bench/README.md and docs/. What they claim about commands and files is true.

Every command in them is parsed. Most are run, in the order of the page, in a folder with a copy of the studies, as in
a fresh checkout. OFFLINE makes these runs small and takes a CLIP that needs no download. FER2013 runs where
../shared/data has it.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import typer

import dissectdb
from dissectdb import ROOT, pipeline
from dissectdb.commands import app
from dissectdb.warehouse import Warehouse
from dissectdb.warehouse.view_files import load_views
from tests.support import commands_page
from tests.support.worlds import command

REAL = ROOT.parent / "shared" / "data"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench/README.md", *(ROOT / "docs").glob("*.md")]
}
ROOMS = {"bench", "dissectdb", "docs", "extract", "reports", "sql", "studies", "tests", "warehouse"}

QUICK = """
network.layers=["lin1", "lin2"]
dissections[0].null_draws=1000
dissections[0].bootstraps=0
protocol.controls=3
protocol.shuffles=1
protocol.bootstraps=100
effects.controls=5
"""
OFFLINE = {  # study → overrides
    "studies/demo.toml": f"{QUICK}dataset.images=260",
    "studies/fer2013.toml": f"""{QUICK}
dataset.images=110
dissections[1].null_draws=1000
sweeps=[]
clip.architecture=face-rn-small
clip.weights={REAL / "face_clip.pt"}
clip.config={REAL / "face-rn-small.json"}
""",
}
NOT_RUN = ("train", "convert")  # tests/training and tests/record run these


# ---------------------------------------------------------------- commands


def blocks(text: str) -> Iterator[str]:
    """The indented blocks of a page."""
    for block in re.findall(r"(?:^ {4}.*\n)(?:^(?: {4}.*)?\n)*", text, re.MULTILINE):
        yield re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip()


def loops_unrolled(line: str) -> list[str]:
    """The commands that `for i in 0 1; do …$i…; done` runs."""
    loop = re.fullmatch(r"for (\w+) in ([\w ]+); do (.*); done", line)
    return [line] if loop is None else [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()]


def dissectdb_commands(text: str) -> list[list[str]]:
    """The arguments of each dissectdb command in a text, without comments and redirections."""
    lines = text.replace("\\\n", " ").splitlines()
    commands = []
    for line in chain.from_iterable(loops_unrolled(line.strip()) for line in lines):
        start = re.search(r"(?:^|exec )dissectdb |python cli\.py ", line)
        if start is None or line.startswith("#"):
            continue
        words = shlex.split(line[start.end() :].removesuffix("'"), comments=True)
        commands.append(words[: words.index(">")] if ">" in words else words)
    return commands


def parse(words: list[str]) -> None:
    """Parse a command without running it. Raises what the parser raises."""
    parser = typer.main.get_command(app.app)
    context = parser.context_class(parser)
    while hasattr(parser, "commands"):
        name, parser, words = parser.resolve_command(context, words)
        context = parser.context_class(parser, info_name=name, parent=context)
    parser.parse_args(context, words)


OF_PAGES = [words for text in PAGES.values() for block in blocks(text) for words in dissectdb_commands(block)]
OF_STUDIES = [
    words
    for path in sorted((ROOT / "studies").glob("*.toml"))
    for line in re.findall(
        r"^#(?: {4,}| No checkpoint\? )(dissectdb .*)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    for words in dissectdb_commands(line)
]
DIFFERENT = list({" ".join(words): words for words in OF_PAGES + OF_STUDIES}.values())


@pytest.mark.parametrize("words", DIFFERENT, ids=" ".join)
def test_every_command_in_a_page_or_a_study_is_one_that_exists(words: list[str]) -> None:
    parse(words)


def test_the_commands_were_found() -> None:
    assert len(DIFFERENT) >= 40
    assert len(OF_STUDIES) >= 6
    assert ["extract", "studies/demo.toml", "--sink", "parquet:shards", "--shard", "3/4"] in OF_PAGES
    with pytest.raises(Exception, match="No such option"):
        parse(["extract", "studies/demo.toml", "--shards", "3/4"])


def test_the_page_of_commands_is_written_from_their_help() -> None:
    again = "python -m tests.support.commands_page > docs/commands.md"
    assert PAGES["docs/commands.md"] == commands_page.page(), f"a help text has changed; run: {again}"


# ---------------------------------------------------------------- links, files, views, sections


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading.

    >>> anchor("§6 Edits, `modify`")
    '6-edits-modify'
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken_links(page: str, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, section = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        if not path.exists():
            yield target
        elif section:
            headings = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
            if section not in map(anchor, headings):
                yield target


def missing_files(text: str) -> Iterator[str]:
    """Paths in backticks that begin with a folder of the project and do not exist."""
    for path in re.findall(r"`([\w.-]+/[\w./-]*)`", text):
        if path.partition("/")[0] in ROOMS and not (ROOT / path).exists():
            yield path


@pytest.mark.parametrize("page", PAGES)
def test_links_and_file_names_exist(page: str) -> None:
    assert list(broken_links(page, PAGES[page])) == []
    assert list(missing_files(PAGES[page])) == []


def test_a_broken_link_and_a_missing_file_are_noticed() -> None:
    text = "[a](docs/none.md) [b](docs/methods.md#none) [c](docs/methods.md#6-edits) `extract/none.py` `sql/tables.sql`"
    assert list(broken_links("README.md", text)) == ["docs/none.md", "docs/methods.md#none"]
    assert list(missing_files(text)) == ["extract/none.py"]


def test_the_tables_of_views_name_views_and_all_public_ones() -> None:
    from tests.sql.test_views import PUBLIC

    rows = [
        row for text in PAGES.values() for row in re.findall(r"^\| view \|.*\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    ]
    named = {name for row in rows for line in row.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named - {view.name for view in load_views()} == set()
    assert PUBLIC.keys() - named == set()


def test_every_section_of_the_methods_that_is_cited_exists() -> None:
    sections = set(re.findall(r"^## (§\d+) ", PAGES["docs/methods.md"], re.MULTILINE))
    files = [path for room in ROOMS for end in ("py", "sql", "toml") for path in (ROOT / room).rglob(f"*.{end}")]
    texts = [*PAGES.values(), *(path.read_text(encoding="utf-8") for path in files)]
    cited = {f"§{n}" for text in texts for n in re.findall(r"methods\.md\)?(?: §|,\s+section )(\d+)", text)}
    assert {"§2", "§3", "§6", "§7"} <= cited
    assert cited - sections == set()


def test_the_readme_fits_on_two_screens_and_pictures_are_small() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 100
    assert all(path.stat().st_size < 300_000 for path in (ROOT / "docs" / "images").iterdir())


def test_the_functions_of_the_page_for_notebooks_exist_and_take_these_arguments() -> None:
    calls = re.findall(r"^\| `pipeline\.(\w+)\((.*)\)` \|", PAGES["docs/python.md"], re.MULTILINE)
    for name, arguments in calls:
        call = ast.parse(f"f({arguments})", mode="eval").body
        inspect.signature(getattr(pipeline, name)).bind(*call.args)
    modules = (pipeline.__name__, "dissectdb.report_files")
    own = {name for name, found in vars(pipeline).items() if getattr(found, "__module__", "") in modules}
    defined = {name for name in own if inspect.isfunction(getattr(pipeline, name)) and not name.startswith("_")}
    inner = {"build_views", "choose_shard", "label", "refuse_broken_contracts"}
    assert {name for name, _ in calls} == defined - inner


# ---------------------------------------------------------------- the pages, run


# What stands for downloads and large networks when the page for notebooks is run.
SMALL_MODELS = {
    'clip="ViT-B-32/openai"': 'clip="dissectdb-face-rn"',
    '"layer3", "layer4"': '"layer1", "layer2"',
    '"layer4"': '"layer2"',
    '"size": 224': '"size": 32',
    "    warehouse=": "    top_k=20, null_draws=200, bootstraps=0, warehouse=",
}


def small_resnet() -> object:
    """A ResNet with the layers that the pages name, and random weights."""
    import torch
    from torchvision.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)


def test_the_examples_for_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, on drawn noise, with a small ResNet of random weights and the CLIP that ships."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(40):
        PIL.Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(f"photos/{number}.png")
    names: dict[str, Any] = {"model": small_resnet()}
    examples = "\n".join(re.findall(r"```python\n(.*?)```", PAGES["docs/python.md"], re.DOTALL))
    for old, new in SMALL_MODELS.items():
        assert old in examples, f"docs/python.md no longer has {old}"
        examples = examples.replace(old, new)
    examples = examples.replace('w = dissectdb.open("w.duckdb")', 'opened = dissectdb.open("w.duckdb")')  # w goes on
    exec(compile(examples, "docs/python.md", "exec"), names)
    assert names["labels"].columns[1:4] == ["layer", "unit", "concept"]
    assert names["counts"].columns == ["concept", "neurons"]
    assert names["card"].label["unit"] == 12
    assert (names["again"].computed, names["steps"]) == (False, [])
    assert [edit.name for edit in names["edited"].edits] == ["paper"]
    assert Path("report.html").exists()
    assert names["study"].dissections[0].top_k == 50


def run_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, **offline: str) -> int:
    """Run the commands of a text in a folder; returns how many ran. offline: overrides by study."""
    monkeypatch.chdir(folder)
    overrides = OFFLINE | offline
    for line in re.findall(r"^ {4}export (\w+)=(\S+)", text, re.MULTILINE):
        monkeypatch.setenv(*line)
    ran = 0
    for words in [words for block in blocks(text) for words in dissectdb_commands(block)]:
        study = next((word for word in words if word.endswith(".toml")), None)
        on_spark = words[:3] == ["build", "--engine", "spark"]  # test_spark.py and test_export.py run these
        if on_spark or "--charts" in words or words[0] in NOT_RUN or study not in {None, *overrides}:
            continue
        flags = [flag for value in overrides.get(study, "").split("\n") if value for flag in ("--set", value)]
        done = command(*words, *(flags if words[:2] != ["check", "--deep"] else ()))
        assert done.code == 0, f"dissectdb {' '.join(words)}: {done.err}"
        ran += 1
    return ran


def section(page: str, title: str = "") -> str:
    """A section of a page, or what stands before its first one."""
    text = PAGES[page]
    return (text.partition(f"\n## {title}\n")[2] if title else text).partition("\n## ")[0]


def test_the_study_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On drawn birds, with random weights and the demo's CLIP."""
    text = section("README.md", "Your own network")
    [study] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "study.toml").write_text(study)
    (tmp_path / "words.txt").write_text("a wing\na beak\nthe sky\n")
    random = np.random.default_rng(0)
    for number in range(60):
        path = tmp_path / "birds" / ("heron", "wren")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    demo = tomllib.loads((ROOT / "studies" / "demo.toml").read_text(encoding="utf-8"))["clip"]
    clip = [
        f"clip.{key}={(ROOT / 'studies' / value).resolve() if '/' in value else value}" for key, value in demo.items()
    ]
    small = [
        "network.weights=random",
        "network.input.size=40",
        "dissections[0].top_k=12",
        "dissections[0].null_draws=200",
    ]
    assert run_in_order(tmp_path, monkeypatch, text, **{"study.toml": "\n".join([*clip, *small])}) == 3
    assert (tmp_path / "report.html").exists()
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for old, new in SMALL_MODELS.items():
        example = example.replace(old, new)
    example = example.replace("warehouse=", "top_k=12, null_draws=200, warehouse=")
    names: dict[str, Any] = {"dissectdb": dissectdb, "model": small_resnet()}
    exec(compile(example, "README.md", "exec"), names)
    assert set(names["w"].neuron_concepts()["layer"]) == {"layer2"}


NEURONS = re.findall(r"^\| (\w+) \| (\d+) \| ([\w ]+) \| (.*) \|$", PAGES["README.md"], re.MULTILINE)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse of the demo, edited, with the layers of the README."""
    folder = tmp_path_factory.mktemp("demo")
    layers = json.dumps(sorted({layer for layer, *_ in NEURONS}))
    few = [f"network.layers={layers}", "dissections[0].bootstraps=0"]
    # Without the controls: they change nothing about the trained network (tests/record/test_controls.py).
    text = (ROOT / "studies" / "demo.toml").read_text(encoding="utf-8").replace("../extract", str(ROOT / "extract"))
    study = folder / "demo.toml"
    study.write_text(re.sub(r"(?s)\[controls\].*?\n\n", "", text), encoding="utf-8")
    warehouse = folder / "demo.duckdb"
    flags = [flag for value in few for flag in ("--set", value)]
    for name in ("extract", "modify"):
        assert command(name, study, "-w", warehouse, *flags).code == 0
    return warehouse


@pytest.mark.slow
def test_the_neurons_in_the_readme_come_out_of_the_demo(demo: Path) -> None:
    with Warehouse(demo, read_only=True) as opened:
        for layer, unit, concept, numbers in NEURONS:
            query = (
                "select concept, similarity, z, p, q, interpretable from neuron_concepts where layer = $l and unit = $u"
            )
            [row] = opened.rows(query, {"l": layer, "u": int(unit)}).rows()
            *numbers, interpretable = numbers.split(" | ")
            assert (row[0], str(row[-1]).lower()) == (concept, interpretable)
            digits = [len(number.partition(".")[2]) for number in numbers]
            assert [f"{value:.{n}f}" for value, n in zip(row[1:5], digits, strict=True)] == numbers
    assert len(NEURONS) == 3


@pytest.mark.slow
def test_the_result_of_the_edit_in_its_page_comes_out_of_the_demo(demo: Path) -> None:
    with Warehouse(demo, read_only=True) as opened:
        [row] = opened.rows("select * from edit_results where split = 'test'").to_dicts()
        controls = opened.rows("select * from edit_controls where split = 'test'").to_dicts()
        [random] = opened.rows(
            "select count(*) as draws, count_if(difference >= difference_of_edit) as at_least from edit_control_draws "
            "where split = 'test' and control = 'random'"
        ).to_dicts()
    said = (
        "does harm: of its {images:,} test images, {gained} become right and {lost} become wrong, McNemar's p is "
        "{p_mcnemar:.2g}, and the verdict is `{verdict}`. Of its {draws} random edits, {at_least} do at least as well."
    )
    assert said.format(**row, **random) in " ".join(PAGES["docs/edits.md"].split())
    # It is the first edit that a user meets.
    assert all(control["percentile"] is not None for control in controls)


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


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data")
def test_the_commands_for_fer2013_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = section("docs/warehouse.md", "Export, import, older versions")
    pages = [PAGES["docs/study.md"], section("docs/warehouse.md"), PAGES["docs/reports.md"], export]
    assert run_in_order(checkout, monkeypatch, "\n".join(pages)) >= 14
    assert {path.name for path in checkout.iterdir()} >= {
        "fer2013.duckdb", "edits", "report.html", "compared.html", "layers.csv", "shared", "copy.duckdb",
    }  # fmt: skip


@pytest.mark.slow
def test_the_commands_for_the_demos_edits_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = "    dissectdb extract studies/demo.toml\n\n"  # as make demo does
    (checkout / "demo").mkdir()
    assert run_in_order(checkout, monkeypatch, extract + PAGES["docs/edits.md"]) >= 5


@pytest.mark.slow
def test_the_commands_past_one_machine_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_in_order(checkout, monkeypatch, section("docs/warehouse.md", "Past one machine")) >= 8
    assert (checkout / "new.duckdb").exists()
