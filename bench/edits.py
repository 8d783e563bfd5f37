"""Compare the time of `modify` with that of one full forward pass per edit.

python -m bench.edits STUDY --warehouse FILE

STUDY must have been extracted into the warehouse, which is copied first. `modify` runs as a user runs it, in a new
process, with everything that it does: the search, the controls, the test split, intervals, causes and the checkpoint.
A full forward pass runs the preprocessing and the network of an extraction over the validation images. It is measured
on a sample of the images and scaled up to all of them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from bench.made import show
from dissectdb.extract.editing import edits, protocol
from dissectdb.extract.editing.search import Search
from dissectdb.extract.models import batches
from dissectdb.extract.record import network_plan
from dissectdb.extract.study import Study
from dissectdb.warehouse import Warehouse

SAMPLE = 1024  # images


def full_pass(study: Study, warehouse: Path) -> tuple[float, int, int]:
    """Seconds of one full forward pass over validation, the number of images in it, and the number of edits."""
    plan = network_plan.make_plan(study.with_network("modify"))
    with Warehouse(warehouse, read_only=True) as opened:
        planned = edits.plan_edits(opened, plan, edits.find_dissection(opened, plan), study.tried())
        _, blocks = Search(plan).blocks(opened, protocol.SEARCHED)
    images = [image.position for block in blocks for image in block.images]
    model = edits.scaled_copy(plan.network.model, planned[0]).to(memory_format=torch.contiguous_format)
    size, sample = batches.batch_size(plan.device), images[:SAMPLE]

    def run(positions: list[int]) -> None:
        pixels = plan.source.read(positions)
        while batch := list(islice(pixels, size)):
            with torch.inference_mode():
                model(plan.network.recipe.apply(batch, plan.device))

    run(sample[:size])  # the first batch of a process is slower
    started = time.perf_counter()
    run(sample)
    return (time.perf_counter() - started) / len(sample) * len(images), len(images), len(planned)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.edits", description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--warehouse", type=Path, required=True, help="where STUDY has been extracted; it is copied")
    options = parser.parse_args()
    study = Study.load(options.study)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "warehouse.duckdb"
        shutil.copy(options.warehouse, copy)
        one, images, tried = full_pass(study, copy)
        command = [sys.executable, "-m", "dissectdb", "modify", str(options.study), "--warehouse", str(copy)]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ours = time.perf_counter() - started
        with Warehouse(copy, read_only=True) as opened:
            measured = opened.rows("select cast(sum(images) as double) as n from edit_blocks")["n"].item() / images
    print(f"One full pass over {images:,} images: {one:.1f} s. modify, from start to end: {ours:.1f} s.")
    rows = [
        ("the edits, on validation", f"{tried:,}", f"{tried * one:,.0f}", f"{tried * one / ours:.1f} ×"),
        ("all that modify measured", f"{measured:,.0f}", f"{measured * one:,.0f}", f"{measured * one / ours:.1f} ×"),
    ]
    head = ("a full pass for each of", "passes", "seconds", "modify is faster by")
    show("Search and protocol", head, rows)


if __name__ == "__main__":
    main()
