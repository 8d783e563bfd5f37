"""The commands that exchange files: export and import a whole warehouse, convert what CLIP-Dissect saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dissectdb import pipeline
from dissectdb.commands.options import WAIT, Memory, Threads, Wait, WarehousePath, warehouse_file


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet")],
    warehouse: WarehousePath = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Write every table as a Parquet file, with a manifest of rows and hashes.

    Example: dissectdb export shared/
    """
    from dissectdb.commands import tables
    from dissectdb.warehouse import exchange

    with warehouse_file(warehouse, wait, memory, threads).to_read() as opened:
        exported = [table for table in exchange.export(opened, folder) if table.rows]
    tables.show(exported, empty="no table has a row")
    print(f"export: {folder.resolve()}")


def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What export or extract --sink wrote")],
    warehouse: WarehousePath = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Make a new warehouse of an exported folder, or of shards, if nothing in it is missing or damaged.

    Example: dissectdb import shared/ --warehouse copy.duckdb
    """
    from dissectdb.commands import next_steps, stages, tables

    file = warehouse_file(warehouse, wait, memory, threads)
    counts = pipeline.import_folder(folder, file, watch=stages.Stage)
    tables.show([{"table": table, "rows": rows} for table, rows in counts.items() if rows], empty="no table has a row")
    print(f"warehouse: {file.path.resolve()}")
    run = next_steps.Run(file.path)
    next_steps.show(run.report(), run.query())


def convert(
    layer: Annotated[list[str], typer.Option(metavar="NAME=FILE", help="Activations of a layer (N × K); repeatable")],
    images: Annotated[Path, typer.Option(metavar="FILE", help="CLIP's features of the images (N × D)")],
    texts: Annotated[Path, typer.Option(metavar="FILE", help="CLIP's features of the concepts (C × D)")],
    classes: Annotated[Path | None, typer.Option(metavar="FILE", help="The class of each image, a number")] = None,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("features.safetensors"),
) -> None:
    """Make the arrays that a study may name instead of a network from tensors that CLIP-Dissect saved.

    Example: dissectdb convert --layer fc=target.pt --images clip.pt --texts text.pt
    """
    from dissectdb.extract.record.convert_tensors import convert as write

    print(f"arrays: {write(layer, images, texts, classes, output).resolve()}")
