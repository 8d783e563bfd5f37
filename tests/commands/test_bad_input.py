"""What a user may get wrong: each answered in a line with the way out, its exit code, and nothing changed."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb
import numpy as np
import PIL.Image
import pytest
import torch

from dissectdb import ROOT
from dissectdb.warehouse import Warehouse
from tests.support.worlds import CLASSES, World, command, draw, save_network


def refused(world: World, *arguments: object, code: int, says: tuple[str, ...]) -> None:
    """The command fails with this code, says all of it in one line, and leaves every row as it was."""
    before = world.tables() if world.warehouse.exists() else None
    done = command(*arguments)
    assert done.code == code, done.err
    message = done.err.rpartition("dissectdb: ")[2]
    for text in says:
        assert text in message
    assert "Traceback" not in done.err
    if before is not None:
        assert world.tables() == before
    else:
        assert not world.warehouse.exists()


# ---------------------------------------------------------------- studies that do not work

Change = Callable[[World], None]


def text(old: str, new: str, file: str = "study.toml") -> Change:
    return lambda world: world.change(old, new, file)


def empty_folder(world: World) -> None:
    shutil.rmtree(world.folder / "images")
    (world.folder / "images").mkdir()


def nan_weight(world: World) -> None:
    values = torch.load(world.folder / "net.pt", weights_only=True)
    values["params"]["conv2.weight"][1, 2] = float("nan")
    torch.save(values, world.folder / "net.pt")


def truncated_checkpoint(world: World) -> None:
    content = (world.folder / "net.pt").read_bytes()
    (world.folder / "net.pt").write_bytes(content[: len(content) // 2])


STUDIES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "a study that is not TOML": (text("[dataset]", "[dataset"), ("study.toml", "not a readable TOML file")),
    "a key that is none": (text('kind = "folder"', 'kin = "folder"'), ("dataset.kin", "did you mean kind?")),
    "an image folder that is not there": (text('path = "images"', 'path = "imags"'), ("imags", "did you mean")),
    "an empty image folder": (empty_folder, ("images: is empty", "<class>/ with images")),
    "a CSV that is not there": (text('"folder"\npath = "images"', '"fer2013"\npath = "f.csv"'), ("no such file",)),
    "a folder instead of a CSV": (text('kind = "folder"', 'kind = "fer2013"'), ("is a folder", "kind = 'folder'")),
    "a checkpoint that is not there": (text('"net.pt"', '"nett.pt"'), ("nett.pt: no such checkpoint", "net.pt?")),
    "a checkpoint cut off": (truncated_checkpoint, ("net.pt", "not a readable checkpoint")),
    "a checkpoint of another network": (text("nn.Linear(8, 1)", "nn.Linear(8, 2)", "net.py"), ("gate.weight (1, 8)",)),
    "NaN in the weights": (nan_weight, ("conv2.weight holds NaN", "net.pt")),
    "a layer misspelled": (text('["conv1"', '["conv11"'), ("no layer conv11", "did you mean conv1?", "gate")),
    "an input that does not fit": (text("size = 16", "size = 3"), ("network.input", "1 × 3 × 3")),
    "a network that raises": (text("seen = self.pool", "assert len(images) > 9, 'few'; seen = self.pool", "net.py"),
        ("network.input", "few")),
    "too few class names": (text('weights = "net.pt"', 'weights = "net.pt"\nclasses = ["a", "b"]'),
        ("names 2 classes", "3 outputs")),
    "a list of one concept": (lambda world: (world.folder / "looks.txt").write_text("round\n") and None,
        ("looks.txt: holds 1 concept", "at least two")),
    "a concept file that is not there": (text('"looks.txt"', '"look.txt"'), ("look.txt: no such concept file",)),
    "a concept set that does not ship": (text('"looks.txt"', '"emotion"'), ("did you mean emotions?",)),
    "fewer images than top_k": (text("top_k = 5\nsoftmax", "top_k = 73\nsoftmax"),
        ("train has 72 sound images", "top_k = 73", "lower top_k")),
    "a CLIP without weights": (text('"clip.safetensors"', '"clap.safetensors"'), ("clip.weights", "no such file")),
    "an edit of no layer": (text('name = "twin"\nlayer = "lin"', 'name = "twin"\nlayer = "li"'), ("no layer 'li'",)),
    "a device that is not here": (text('"cpu"', '"mps"'), ("device 'mps' is not available", "cpu, or auto")),
}  # fmt: skip


@pytest.mark.parametrize("what", STUDIES)
def test_a_study_that_does_not_work_is_refused(new_world: World, what: str) -> None:
    change, says = STUDIES[what]
    change(new_world)
    refused(new_world, "extract", new_world.study, code=2, says=says)


@pytest.mark.parametrize("what", ["fewer images than top_k", "a layer misspelled", "NaN in the weights"])
def test_a_study_that_does_not_work_leaves_a_warehouse_as_it_was(world: World, what: str) -> None:
    change, says = STUDIES[what]
    change(world)
    refused(world, "extract", world.study, code=2, says=says)
    refused(world, "extract", world.study, "--dry-run", code=2, says=says)


def test_too_few_images_of_a_new_dataset_leave_a_warehouse_as_it_was(world: World) -> None:
    for path in sorted((world.folder / "images" / "train").rglob("0[0-2]?.png")):
        if path.stem != "000":
            path.unlink()
    refused(world, "extract", world.study, code=2, says=("has 4 sound images", "top_k = 5"))


def test_a_study_that_is_not_there_is_named(tmp_path) -> None:
    done = command("extract", tmp_path / "none.toml")
    assert (done.code, done.err) == (2, f"dissectdb: {tmp_path / 'none.toml'}: no such study file\n")


def test_a_set_without_a_value_says_how_to_write_it(world: World) -> None:
    done = world.extract("--set", "dataset.path")
    assert done.code == 2
    assert "write KEY=VALUE" in done.err


# ---------------------------------------------------------------- images that are no good


def test_a_broken_image_among_good_ones_is_a_defect(finished: World) -> None:
    assert finished.rows("select count(*) as n from images where defect like 'unreadable%'") == [{"n": 1}]


def test_a_cut_off_line_of_a_csv_is_a_defect(new_world: World) -> None:
    lines = ["emotion,pixels,Usage"]
    for number in range(30):
        pixels = np.kron(draw(CLASSES[number % 3], number), np.ones((3, 3), np.uint8))
        usage = ("Training", "Training", "Training", "PublicTest", "PrivateTest")[number % 5]
        lines.append(f"{number % 7},{' '.join(map(str, pixels.ravel()))},{usage}")
    lines[8] = lines[8][:5000]
    (new_world.folder / "faces.csv").write_text("\n".join(lines) + "\n")
    new_world.change('kind = "folder"\npath = "images"', 'kind = "fer2013"\npath = "faces.csv"')
    done = new_world.extract(
        "--set", "network.arguments={classes = 7}", "--set", f"network.weights={new_world.folder}/seven.pt"
    )
    assert done.code == 2  # no such checkpoint
    save_network(new_world.folder / "seven.pt", classes=7)
    done = new_world.extract(
        "--set", "network.arguments={classes = 7}", "--set", f"network.weights={new_world.folder}/seven.pt"
    )
    assert done.code == 0, done.err
    [row] = new_world.rows("select path, defect from images where defect is not null")
    assert row["path"] == "faces.csv:9"
    assert row["defect"].startswith("unreadable: ")
    assert new_world.run("check").code == 0


def test_images_of_other_sizes_and_colours_are_made_to_fit(new_world: World) -> None:
    bars = new_world.folder / "images" / "train" / "bar"
    image = PIL.Image.fromarray(draw("bar", 500)).resize((31, 45))
    image.save(bars / "large.png")
    PIL.Image.merge("RGB", [image, image.rotate(90, expand=False), image]).save(bars / "colour.webp")
    assert new_world.extract().code == 0
    rows = new_world.rows("select width, height from images where defect is null and width <> 16 order by all")
    assert rows == [{"width": 31, "height": 45}] * 2
    assert new_world.run("check").code == 0


# Images whose first pixel is 200 make the named layer yield what is not finite.
POISON = "        poison = torch.where((images[:, :1, 0, 0] * 0.25 + 0.5) * 255 > 199.5, float('{value}'), 0.0)\n"


@pytest.mark.parametrize(
    ("value", "line", "what"),
    [
        ("nan", "seen = F.relu(self.lin(seen + poison))", "layer lin"),
        ("inf", "seen = F.relu(self.lin(seen + poison))", "layer lin"),
        ("nan", "seen = F.relu(self.lin(seen)) + poison", "layer gate"),
    ],
)
def test_a_network_that_yields_nan_is_stopped_at_the_layer_and_image(
    new_world: World, value: str, line: str, what: str
) -> None:
    old = "        seen = F.relu(self.lin(seen))"
    new_world.change(old, POISON.format(value=value) + f"        {line}", "net.py")
    ring = new_world.folder / "images" / "train" / "ring" / "020.png"
    for path in sorted((new_world.folder / "images").rglob("*.png")):
        pixels = np.asarray(PIL.Image.open(path)).copy()
        pixels[0, 0] = 200 if path == ring else min(pixels[0, 0], 190)
        if path.name not in ("010b.png", "012b.png"):
            PIL.Image.fromarray(pixels).save(path)
    done = new_world.extract()
    assert done.code == 2
    [row] = new_world.rows("select position from images where path = 'train/ring/020.png'")
    assert f"{what} is NaN or infinite for image {row['position']} (train/ring/020.png)" in done.err
    # What was finished before it is kept and whole; nothing reads it as complete.
    assert new_world.run("check").code == 0
    assert new_world.rows("select distinct block from extraction_blocks order by 1") == [{"block": 0}, {"block": 1}]
    assert new_world.rows("select * from dissections") == []
    ring.unlink()
    assert new_world.extract().code == 0


# ---------------------------------------------------------------- warehouses that cannot be used


@pytest.mark.parametrize("name", ["build", "query", "report", "status", "check", "modify"])
def test_a_warehouse_that_is_not_there_is_not_made(new_world: World, name: str) -> None:
    arguments = {"query": ["select 1"], "modify": [new_world.study]}.get(name, [])
    done = command(name, *arguments, "-w", new_world.warehouse)
    assert done.code == 3
    assert "no such warehouse; make one with: dissectdb extract STUDY" in done.err
    assert not new_world.warehouse.exists()


def test_a_warehouse_beside_the_missing_one_is_named(new_world: World) -> None:
    beside = new_world.warehouse.with_name("birds.duckdb")
    beside.touch()
    done = command("query", "select 1", "-w", new_world.warehouse)
    assert done.code == 3
    assert "make one with: dissectdb extract STUDY, or name with --warehouse: birds.duckdb\n" in done.err


MISSING = """
import sys
from dissectdb import Study, WarehouseError, pipeline

study = Study.load(sys.argv[1])
for work in (pipeline.modify, pipeline.plan_edits, pipeline.effects, pipeline.judge):
    try:
        work(study, "missing.duckdb")
    except WarehouseError as error:
        assert "no such warehouse" in str(error)
    assert "torch" not in sys.modules, work.__name__
"""


def test_a_warehouse_that_is_not_there_is_missed_before_torch_is_loaded(new_world: World) -> None:
    subprocess.run([sys.executable, "-c", MISSING, new_world.study], cwd=ROOT, check=True)


def test_a_warehouse_of_a_newer_version_is_left_alone(world: World) -> None:
    with Warehouse(world.warehouse) as opened:
        opened.connection.execute("update warehouse_info set value = '99' where key = 'schema_version'")
    before = world.warehouse.read_bytes()
    for arguments in (["extract", world.study], ["modify", world.study], ["status", "-w", world.warehouse]):
        done = command(*arguments)
        assert done.code == 3
        assert "newer dissectdb (schema 99" in done.err
    assert world.warehouse.read_bytes() == before


def test_a_file_that_is_no_warehouse_is_left_alone(new_world: World) -> None:
    new_world.warehouse.write_text("my diary, page one\n" * 900)
    done = new_world.extract()
    assert done.code == 3
    assert "cannot be opened as a warehouse" in done.err
    assert new_world.warehouse.read_text().startswith("my diary")


def test_a_warehouse_that_was_never_finished_says_how_to_finish_it(new_world: World) -> None:
    duckdb.connect(str(new_world.warehouse)).close()  # as a run leaves it that is stopped right at its start
    for arguments in (["status"], ["query", "select * from layer_summary"], ["build", "--dry-run"]):
        done = new_world.run(*arguments)
        assert done.code == 3
        assert "was never completed; run: dissectdb extract STUDY" in done.err
    assert new_world.extract("--dry-run").code == 3
    assert new_world.extract().code == 0


def remove_models(world: World) -> None:
    """Whatever is refused after this was refused before a model was loaded."""
    (world.folder / "net.pt").unlink()
    (world.folder / "clip.safetensors").unlink()


def test_a_warehouse_in_a_folder_that_is_not_there_is_refused_before_models_are_loaded(new_world: World) -> None:
    remove_models(new_world)
    folder = new_world.folder / "no"
    done = new_world.extract("-w", folder / "w.duckdb")
    assert done.code == 3
    assert done.err == f"dissectdb: {folder / 'w.duckdb'}: there is no folder {folder}; make it first\n"
    done = new_world.run("check", "--deep", new_world.study)
    assert done.code == 3
    assert "no such warehouse" in done.err


@pytest.mark.parametrize("kind", ["folder", "fer2013"])
def test_images_that_are_not_there_are_refused_before_models_are_loaded(new_world: World, kind: str) -> None:
    remove_models(new_world)
    new_world.change('kind = "folder"\npath = "images"', f'kind = "{kind}"\npath = "nowhere"')
    refused(new_world, "extract", new_world.study, code=2, says=("nowhere: no such file or folder",))


@contextmanager
def held(world: World) -> Iterator[int]:
    """Another process that has the warehouse open for writing; its id."""
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", script, str(world.warehouse)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def test_a_locked_warehouse_is_told_from_a_broken_one(world: World) -> None:
    before = world.warehouse.read_bytes()
    with held(world) as process_id:
        for name in ("extract", "modify"):
            done = world.run(name, world.study)
            assert done.code == 3
            assert f"is held by process {process_id}; wait until it is done" in done.err
        assert world.run("status").code == 3
        assert world.run("build").code == 3
    assert world.warehouse.read_bytes() == before
    assert world.extract().code == 0


@contextmanager
def full_disk(largest: int) -> Iterator[None]:
    """No file grows beyond so many bytes: to DuckDB the same as a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 0.95])
def test_a_full_disk_stops_a_run_that_then_goes_on(
    new_world: World, finished: World, share: float, log_size: int
) -> None:
    with full_disk(int(share * log_size) + 1000):
        done = new_world.extract()
    assert done.code == 1, done.err
    assert done.err.endswith(
        f"dissectdb: no space left for {new_world.warehouse}: free some and run the same command again; "
        "what was committed is kept\n"
    )
    if new_world.warehouse.exists():
        done = new_world.run("check")
        assert done.code == 0 or (done.code == 3 and "was never completed; run: dissectdb extract" in done.err)
    assert new_world.extract().code == 0
    assert new_world.tables() == finished.tables()
    assert new_world.run("check").code == 0


@pytest.fixture(scope="session")
def log_size(untouched: World, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How large the log of an extraction gets, which is all that is written before the file is closed."""
    world = World(shutil.copytree(untouched.folder, tmp_path_factory.mktemp("log") / "world"))
    sizes = []
    with pytest.MonkeyPatch.context() as patch:
        leave = Warehouse.__exit__

        def look(self: Warehouse, *error: object) -> None:
            log = self.path.with_name(f"{self.path.name}.wal")
            sizes.append(log.stat().st_size if log.exists() else 0)
            leave(self, *error)

        patch.setattr(Warehouse, "__exit__", look)
        assert world.extract().code == 0
    return max(sizes)


# ---------------------------------------------------------------- edits that do not work

MINE = "select layer, unit, 1 + unit / 4 as scale from neuron_concepts where layer = 'conv2'"
FROM = "from neuron_concepts where layer = 'conv2'"

RULES = {
    "NaN": (f"select layer, unit, 'nan'::double as scale {FROM}", ("unit 0 of conv2", "nan")),
    "infinity": (f"select layer, unit, 'inf'::double as scale {FROM}", ("unit 0 of conv2", "inf")),
    "a negative scale": (f"select layer, unit, 3.0 - unit as scale {FROM}", ("unit 4 of conv2", "-1.0", "0 or more")),
    "no scale": (f"select layer, unit, case when unit <> 2 then 1 end as scale {FROM}", ("unit 2 of conv2", "None")),
    "a unit left out": (f"select layer, unit, 1 as scale {FROM} and unit <> 3", ("1 unit(s) of conv2", "first is 3")),
    "no rows": (f"select layer, unit, 1 as scale {FROM} and false", ("6 unit(s) of conv2 have no scale",)),
    "a unit twice": (f"select layer, unit, 1 as scale {FROM} union all select 'conv2', 2, 1", ("unit 2", "than one")),
    "a unit that is not there": (
        f"select layer, unit, 1 as scale {FROM} union all select 'conv2', 66, 1",
        ("no unit 66", "0 to 5"),
    ),
    "a unit without a number": (
        f"select layer, nullif(unit, 1) as unit, 1 as scale {FROM}",
        ("no unit None", "0 to 5"),
    ),
    "another layer": ("select layer, unit, 1 as scale from neuron_concepts", ("yields layer conv1", "is of conv2")),
    "no layer": (f"select null as layer, unit, 1 as scale {FROM}", ("yields layer None", "is of conv2")),
    "other columns": (f"select unit, 1 as factor {FROM}", ("no column layer, scale",)),
    "units that are text": (f"select layer, unit::varchar as unit, 1 as scale {FROM}", ("unit as String", "a whole")),
    "scales that are text": (f"select layer, unit, 'twice' as scale {FROM}", ("scale as String", "a number")),
    "SQL that writes": ("delete from activations", ("its sql", "DELETE", "SELECT")),
    "SQL that is broken": ("select layer, unit from", ("its sql",)),
    "a column that is not there": (f"select layer, unit, similarty as scale {FROM}", ("its sql", "similarity")),
}  # fmt: skip


@pytest.mark.parametrize("what", RULES)
def test_a_rule_that_does_not_work_is_refused_before_any_edit_is_made(world: World, what: str) -> None:
    sql, says = RULES[what]
    world.change(MINE, sql)
    refused(world, "modify", world.study, code=2, says=("edit mine", *says))
    assert not (world.folder / "edits").exists()


def test_an_edit_of_a_name_that_is_not_there_is_refused(world: World) -> None:
    refused(world, "modify", world.study, "--edit", "papr", code=2, says=("no edit 'papr'", "paper, twin, mine"))


def test_a_study_without_edits_says_how_to_add_one(world: World) -> None:
    world.study.write_text(world.study.read_text().partition("[[edits]]")[0])
    refused(world, "modify", world.study, code=2, says=("no [[edits]]", "name, rule and factor"))


def test_an_edit_of_a_layer_that_is_not_linear_in_its_weights_is_refused(new_world: World) -> None:
    forward = "def forward(self, seen):\n        return torch.tanh(5 * super().forward(seen))\n"
    squashed = f"class Squashed(nn.Linear):\n    {forward}"
    new_world.change("class Net(nn.Module):", f"{squashed}\n\nclass Net(nn.Module):", "net.py")
    new_world.change("self.lin = nn.Linear(6 * 4, 8)", "self.lin = Squashed(6 * 4, 8)", "net.py")
    assert new_world.extract().code == 0
    says = ("edit paper: the output of lin is not linear in its weights",)
    refused(new_world, "modify", new_world.study, "--edit", "paper", code=2, says=says)


def test_an_edit_of_a_layer_without_weights_is_refused(world: World) -> None:
    world.change('"gate"]', '"gate", "pool"]')
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"\nlayer = "pool"')
    assert world.extract().code == 0
    refused(world, "modify", world.study, code=2, says=("edit paper: pool has no weight row for each unit",))


def test_an_edit_of_a_layer_that_was_not_extracted_is_refused(world: World) -> None:
    world.change('"gate"]', '"gate", "head"]')
    world.change('name = "paper"\nlayer = "lin"', 'name = "paper"\nlayer = "head"')
    refused(world, "modify", world.study, code=2, says=("head is not extracted", "dissectdb extract STUDY"))


def test_modify_needs_test_images_before_it_writes_anything(new_world: World) -> None:
    shutil.rmtree(new_world.folder / "images" / "test")
    assert new_world.extract().code == 0
    refused(new_world, "modify", new_world.study, code=2, says=("no sound test images", "validation, then test"))
    assert not (new_world.folder / "edits").exists()


def test_modify_needs_the_study_as_it_was_extracted(world: World) -> None:
    world.change("softmax_scale = 40.0", "softmax_scale = 41.0")
    refused(world, "modify", world.study, code=2, says=("has not been extracted as it stands",))


def test_a_layer_whose_rows_are_no_units_has_no_weights_to_scale() -> None:
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    from dissectdb.extract.editing.layers import has_weight_rows

    assert has_weight_rows(nn.Conv2d(4, 4, 3), 4)
    assert not has_weight_rows(nn.ConvTranspose2d(4, 4, 3), 4)  # its rows are inputs
    assert not has_weight_rows(weight_norm(nn.Linear(4, 4)), 4)  # computed anew at every pass
    assert not has_weight_rows(nn.AvgPool2d(2), 4)
    assert not has_weight_rows(nn.PReLU(4), 4)  # scales what is negative only
