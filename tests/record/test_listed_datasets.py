"""Whole runs on a manifest, on Parquet files and on tars: the same images give the same labels as a folder."""

from __future__ import annotations

import csv
import io
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

LABELS = "select layer, unit, concept, similarity from neuron_concepts order by all"


def files(world) -> list[Path]:
    return sorted((world.folder / "images").rglob("*.*"))


def write(world, kind: str) -> None:
    """The world's images as a dataset of a kind, in the place of the folder."""
    split_class = [(path, *path.parts[-3:-1]) for path in files(world)]
    split_class.sort(key=lambda each: ["train", "validation", "test"].index(each[1]))
    target = {"manifest": "images.csv", "parquet": "data", "webdataset": "tars"}[kind]
    if kind == "manifest":
        with (world.folder / target).open("w", newline="") as file:
            rows = [(path.relative_to(world.folder), split, name, path.stem) for path, split, name in split_class]
            csv.writer(file).writerows([("file", "split", "class", "number"), *rows])
    else:
        (world.folder / target).mkdir()
        for split in ("train", "validation", "test"):
            own = [(path, name) for path, of, name in split_class if of == split]
            if kind == "parquet":
                table = pa.table({"image": [p.read_bytes() for p, _ in own], "label": [name for _, name in own]})
                pq.write_table(table, world.folder / f"data/{split}-00000-of-00001.parquet", row_group_size=7)
            else:
                with tarfile.open(world.folder / f"tars/{split}-000.tar", "w") as tar:
                    for number, (path, name) in enumerate(own):
                        for ending, content in ((path.suffix, path.read_bytes()), (".cls", name.encode())):
                            about = tarfile.TarInfo(f"{number:05}{ending}")
                            about.size = len(content)
                            tar.addfile(about, io.BytesIO(content))
        shutil.rmtree(world.folder / "images")
    world.change('kind = "folder"\npath = "images"', f'kind = "{kind}"\npath = "{target}"')


@pytest.mark.parametrize("kind", ["manifest", "parquet", "webdataset"])
def test_a_dataset_of_each_kind_from_its_file_to_a_report(world, kind):
    assert world.extract().code == 0
    of_folder = world.frame(LABELS)
    world.warehouse.unlink()
    write(world, kind)
    dry = world.extract("--dry-run")
    assert dry.code == 0, dry.err
    done = world.extract()
    assert done.code == 0, done.err
    assert_frame_equal(world.frame(LABELS), of_folder, rel_tol=1e-9)  # sums in parallel differ in their last bits
    assert "othing is stale" in (again := world.extract()).err + again.out
    assert world.run("check", "--deep", world.study).code == 0
    report = world.folder / "report.html"
    assert world.run("report", "-o", report).code == 0
    assert report.stat().st_size > 10_000
    before = len(world.rows("select * from datasets"))
    changed = next(path for path in files(world) if path.name == "000.png") if kind == "manifest" else None
    if changed is not None:
        shutil.copy(changed.parent / "001.png", changed)
    else:
        target = next((world.folder / {"parquet": "data", "webdataset": "tars"}[kind]).iterdir())
        content = bytearray(target.read_bytes())
        place = content.index(b"IDAT") + 12
        content[place] ^= 1
        target.write_bytes(content)
    assert world.extract().code == 0
    assert len(world.rows("select * from datasets")) == before + 1
