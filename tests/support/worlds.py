"""A tiny world for whole runs: 120 drawn images, a network and a CLIP with random weights, two concept sets.

world.run("extract", world.study)     # a command, in this process: code, out, err
world.change("top_k = 5", "top_k = 6")
world.rows("select * from layer_summary")
world.tables()                        # every base table as sorted rows, without times

Everything is made once per session and copied for each test. Blocks hold 32 images, so that there are several of them.
The fixtures are in tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import polars as pl
import pytest
import typer

from dissectdb.commands import app
from dissectdb.warehouse import Warehouse

BLOCK = 32
BATCH = 20  # does not divide a block
CLASSES = ("bar", "disc", "ring")
COUNTS = {"train": 24, "validation": 7, "test": 6}  # sound images of each class
TRAIN = len(CLASSES) * COUNTS["train"]  # images that are probed
UNITS = {"conv1": 4, "conv2": 6, "lin": 8, "gate": 1}  # neurons of each layer
SIDE = 16

NETWORK = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.lin = nn.Linear(6 * 4, 8)
        self.gate = nn.Linear(8, 1)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(8, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = self.pool(F.relu(self.conv1(images)))
        seen = F.adaptive_max_pool2d(F.relu(self.conv2(seen)), 2).flatten(1)
        seen = F.relu(self.lin(seen))
        return self.head(seen) * torch.sigmoid(self.gate(seen))


def make(classes: int = 3) -> nn.Module:
    return Net(classes)
"""

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}

# What schema 6 had in the place of today's tables.
TO_SCHEMA_6 = """
    alter table label_checks drop column p;
    update warehouse_info set value = '6' where key = 'schema_version';
"""

# What schema 5 had.
TO_SCHEMA_5 = f"""{TO_SCHEMA_6}
    alter table concepts drop column category;
    alter table images drop column source;
    drop table image_attributes;
    update warehouse_info set value = '5' where key = 'schema_version';
"""

# A file of an earlier version states other tables, or none.
OTHER_TABLES = "delete from warehouse_info where key = 'tables';"

# What schema 4 had.
TO_SCHEMA_4 = f"""{TO_SCHEMA_5}
    alter table splits drop column block_images;
    update warehouse_info set value = '4' where key = 'schema_version';
"""

# What schema 3 had.
TO_SCHEMA_3 = f"""{TO_SCHEMA_4}
    alter table label_checks drop column p_within;
    update warehouse_info set value = '3' where key = 'schema_version';
"""

# What schema 2 had.
TO_SCHEMA_2 = f"""{TO_SCHEMA_3}
    drop table left_out;
    drop table labelled_layers;
    alter table layers drop column call;
    alter table dissections drop column min_images;
    alter table null_samples drop column null_group;
    alter table null_quantiles drop column null_group;
    alter table label_checks alter column split_half_agrees set not null;
    update warehouse_info set value = '2' where key = 'schema_version';
"""

STUDY = """
warehouse = "warehouse.duckdb"
device = "cpu"

[dataset]
name = "shapes"
kind = "folder"
path = "images"

[network]
name = "net"
architecture = "net.py:make"
weights = "net.pt"
layers = ["conv1", { name = "conv2", pooling = "max" }, "lin", "gate"]

[network.input]
size = 16
mode = "grey"
mean = [0.5]
std = [0.25]

[clip]
architecture = "tiny-clip"
weights = "clip.safetensors"
config = "tiny-clip.json"

[[concept_sets]]
name = "shapes"
source = "shapes.toml"
templates = ["{}", "a picture of a {}"]

[[concept_sets]]
name = "looks"
source = "looks.txt"

[[dissections]]
concepts = "looks"
scorer = "soft_wpmi"
top_k = 5

[[dissections]]
concepts = "shapes"
scorer = "soft_wpmi"
top_k = 5
softmax_scale = 40.0
accuracy_images = 3
images_neurons = 2
rule = "tau"

[[edits]]
name = "paper"
layer = "lin"

[[edits]]
name = "twin"
layer = "lin"
tau = 0.0001

[[edits]]
name = "mine"
rule = "sql"
layer = "conv2"
sql = "select layer, unit, 1 + unit / 4 as scale from neuron_concepts where layer = 'conv2'"

[protocol]
controls = 12
shuffles = 3
bootstraps = 200
"""

SHAPES = """
[concepts]
"bar" = ["bar"]
"disc" = ["disc"]
"circle" = ["disc", "ring"]
"ring" = ["ring"]
"nothing" = []
"""

LOOKS = "bright\ndark\nround\nstraight\n"


@dataclass(frozen=True)
class Done:
    """The exit code of a command, and its output."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> Done:
    """Run a command in this process. An exception that would be a traceback is raised."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["dissectdb", *map(str, arguments)])
        patch.setattr(typer.main, "get_command", _get_command)
        if arguments[0] in ("extract", "modify", "check"):
            from dissectdb.extract.models import batches
            from dissectdb.extract.record import blocks

            patch.setattr(blocks, "BLOCK", BLOCK)
            patch.setattr(batches, "batch_size", lambda device: BATCH)
        try:
            app.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Done(code, out.getvalue(), err.getvalue())


# Typer makes its commands anew at each call, from the signatures of their functions; that takes 0.05 s.
_get_command = cache(typer.main.get_command)


@dataclass(frozen=True)
class World:
    """A folder with everything that a study needs."""

    folder: Path

    @property
    def study(self) -> Path:
        return self.folder / "study.toml"

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.duckdb"

    def run(self, *arguments: object) -> Done:
        """Run a command on this world's warehouse; -w is added where no study names it."""
        needs_path = arguments[0] in ("build", "query", "report", "status", "check")
        return command(*arguments, *(("-w", self.warehouse) if needs_path else ()))

    def extract(self, *options: object) -> Done:
        return self.run("extract", self.study, *options)

    def modify(self, *options: object) -> Done:
        return self.run("modify", self.study, *options)

    def change(self, old: str, new: str, file: str = "study.toml") -> None:
        """Replace a text that occurs once in a file."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} holds {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def rows(self, query: str) -> list[dict[str, Any]]:
        with Warehouse(self.warehouse, read_only=True) as opened:
            return opened.rows(query).to_dicts()

    def frame(self, query: str) -> pl.DataFrame:
        with Warehouse(self.warehouse, read_only=True) as opened:
            return opened.rows(query)

    def tables(self) -> dict[str, list[tuple]]:
        """The sorted rows of every base table, without times and durations; no tables of views or completed runs."""
        with Warehouse(self.warehouse, read_only=True) as opened:
            columns = opened.columns()
            built = {row["view"] for row in opened.rows("select view from view_builds").to_dicts()}
            names = opened.rows("select table_name from duckdb_tables()")["table_name"].to_list()
            return {
                name: _sorted_rows(opened, name, columns[name])
                for name in sorted(set(names) - built - {"view_builds", "view_parts", "completed_runs"})
            }

    def counts(self) -> dict[str, int]:
        return {name: len(rows) for name, rows in self.tables().items()}

    def bytes(self) -> dict[str, bytes]:
        """Every file of the world, by its path."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


def _sorted_rows(opened: Warehouse, table: str, columns: list[str]) -> list[tuple]:
    """The rows without times, and without the folder in paths, which differs from world to world."""
    kept = [name for name in columns if not name.endswith("_at") and name != "seconds"]
    rows = opened.rows(f"select {', '.join(kept)} from {table} order by all").rows()
    rows = [row for row in rows if row[0] != "completed_runs"]  # of table_versions
    folder = str(opened.path.parent)
    return [tuple(value.replace(folder, "") if isinstance(value, str) else value for value in row) for row in rows]


# ---------------------------------------------------------------- making it


def with_groups(world: World, group_of: Callable[[int], str]) -> None:
    """Give the images of a world groups, by a manifest; a group is of one split."""
    files = sorted((world.folder / "images").rglob("*.png"))
    lines = [
        f"images/{file.relative_to(world.folder / 'images')},{file.parent.parent.name},{file.parent.name},"
        f"{file.parent.parent.name}-{group_of(number)}"
        for number, file in enumerate(files)
    ]
    (world.folder / "images.csv").write_text("\n".join(["path,split,class,group", *lines]))
    world.change('kind = "folder"\npath = "images"', 'kind = "manifest"\npath = "images.csv"')


def draw(class_name: str, number: int) -> np.ndarray:
    """A noisy picture of a class, uint8 (SIDE, SIDE)."""
    chance = np.random.default_rng([CLASSES.index(class_name), number])
    rows, columns = np.mgrid[:SIDE, :SIDE] - chance.uniform(5, 10, (2, 1, 1))
    radius = np.hypot(rows, columns)
    shape = {"bar": abs(rows) < 2, "disc": radius < 5, "ring": abs(radius - 4) < 1.2}[class_name]
    return np.clip(60 + 130 * shape + chance.normal(0, 15, (SIDE, SIDE)), 0, 255).astype(np.uint8)


def make_images(folder: Path, counts: Mapping[str, int] = COUNTS) -> None:
    """<split>/<class>/<number>.png, and among the train images of class bar a broken, a blank and a repeated one."""
    number = 0
    for split, count in counts.items():
        for class_name in CLASSES:
            (folder / split / class_name).mkdir(parents=True)
            for place in range(count):
                PIL.Image.fromarray(draw(class_name, number)).save(folder / split / class_name / f"{place:03}.png")
                number += 1
    bars = folder / "train" / "bar"
    (bars / "005b.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more of it")
    PIL.Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(bars / "010b.png")
    shutil.copy(bars / "003.png", bars / "012b.png")


def save_network(path: Path, seed: int = 1, classes: int = 3) -> None:
    import torch

    scope: dict[str, Any] = {}
    exec(NETWORK, scope)
    torch.manual_seed(seed)
    torch.save({"epoch": 3, "params": scope["make"](classes).state_dict()}, path)


def save_clip(path: Path, config: Path, seed: int = 2) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    if config.stem not in open_clip.list_models():
        open_clip.add_model_config(config)
    torch.manual_seed(seed)
    model = open_clip.create_model(config.stem)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def make_world(folder: Path) -> World:
    folder.mkdir(parents=True, exist_ok=True)
    make_images(folder / "images")
    texts = {"study.toml": STUDY, "net.py": NETWORK, "shapes.toml": SHAPES, "looks.txt": LOOKS}
    texts["tiny-clip.json"] = json.dumps(CLIP)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    save_network(folder / "net.pt")
    save_clip(folder / "clip.safetensors", folder / "tiny-clip.json")
    return World(folder)
