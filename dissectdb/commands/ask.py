"""The commands that read a warehouse: query, report, status, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dissectdb import pipeline
from dissectdb.commands.options import (
    WAIT,
    CheckedWarehousePath,
    Device,
    Dissection,
    Memory,
    Overrides,
    Threads,
    Wait,
    WarehousePath,
    load_study,
    warehouse_file,
)

if TYPE_CHECKING:
    from dissectdb.extract.study import Study
    from dissectdb.warehouse_file import WarehouseFile


def query(
    sql: Annotated[str, typer.Argument(metavar="SELECT", help="One reading statement over tables and views")],
    warehouse: WarehousePath = None,
    format: Annotated[
        Literal["table", "markdown", "vertical", "json", "csv", "parquet"],
        typer.Option(help="How the rows are written: table, markdown and vertical (one line per column) round numbers"),
    ] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file")] = None,
    dissection: Dissection = None,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Stop after so many seconds")] = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Ask the warehouse anything; the statement can only read.

    Example: dissectdb query "SELECT concept, count(*) AS n FROM neuron_concepts WHERE interpretable GROUP BY concept"
    """
    from dissectdb.commands import tables

    if format == "parquet" and output is None:
        raise typer.BadParameter("parquet needs a file", param_hint="--output")
    with warehouse_file(warehouse, wait, memory, threads).to_read(dissection) as opened:
        rows = opened.ask(sql, timeout)
    tables.write(rows, format, output)  # after the warehouse is closed, because a pager may stay open


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file")] = Path("report.html"),
    thumbnails: Annotated[float, typer.Option(min=0, help="Megabytes of thumbnails in a page")] = 8,
    every_neuron: Annotated[bool, typer.Option("--every-neuron", help="Also one page per layer, in a folder")] = False,
    charts: Annotated[Path | None, typer.Option(help="Write each chart here as SVG, PNG and JSON too")] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare two dissections instead: their numbers, or what sets them apart"),
    ] = None,
    warehouse: WarehousePath = None,
    dissection: Dissection = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Write one offline HTML page of what the warehouse shows.

    Example: dissectdb report -o report.html
    """
    file = warehouse_file(warehouse, wait, memory, threads)
    if compare:
        pipeline.compare(file, output, *compare, dissection=dissection)
    else:
        saved = pipeline.report(
            file, output, dissection=dissection, thumbnail_bytes=int(thumbnails * 1e6), every_neuron=every_neuron,
            charts=charts,
        )  # fmt: skip
        if charts:
            print(f"charts: {len(saved)} in {charts.resolve()}")
    print(f"report: {output.resolve()}")


def status(warehouse: WarehousePath = None, memory: Memory = None, threads: Threads = None, wait: Wait = WAIT) -> None:
    """What is in the warehouse, how large it is, and what is stale; of a folder of shards, which are whole."""
    from dissectdb.commands import tables, terminal
    from dissectdb.warehouse import shard_reader

    file = warehouse_file(warehouse, wait, memory, threads)
    if shard_reader.is_folder_of_shards(file.path):
        _show_shards(file.path)
        return
    with file.to_read() as opened:
        answers = {title: opened.rows(query) for title, query in terminal.STATUS.items()}
        stale = [built.view for built in opened.build(dry_run=True)]
    print(f"{file.path}: {file.path.stat().st_size / 1e6:,.1f} MB")
    tables.show(terminal.public_views(), title="Views to query")
    for title, rows in answers.items():
        tables.show(rows, title=title, empty="none", nulls=terminal.UNKNOWN)
    print()
    print(f"stale views: {', '.join(stale)}; run: dissectdb build" if stale else "every view is built")


def _show_shards(folder: Path) -> None:
    """Print which shards are in a folder; exits 1 if one is missing or damaged."""
    from dissectdb.commands import tables
    from dissectdb.warehouse import shard_reader

    states = shard_reader.status(folder)
    tables.show(states, title=f"Shards in {folder}", empty="none")
    whole = sum(not state.problem for state in states)
    print(f"{whole} of {len(states)} shards are whole")
    if whole < len(states) or not states:
        raise typer.Exit(1)


def check(
    warehouse: CheckedWarehousePath = None,
    deep: Annotated[
        Path | None, typer.Option(metavar="STUDY", help="Also compute a sample again from this study's files")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images of each split in that sample")] = 64,
    seed: Annotated[int | None, typer.Option(help="Of the sample, to draw the same again")] = None,
    overrides: Overrides = None,
    device: Device = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Run every contract of sql/checks; a broken one exits 1 with its query and a sample of its rows.

    Example: dissectdb check --deep studies/demo.toml
    """
    from dissectdb.commands import tables
    from dissectdb.warehouse import contracts

    study = None if deep is None else load_study(deep, overrides, device)
    of_study = None if study is None else study.warehouse
    file = warehouse_file(warehouse or of_study, wait, memory, threads)
    results = pipeline.check(file)
    broken = [(contract, rows) for contract, rows in results if len(rows)]
    for contract, rows in broken:
        print(f"{contract.name}: {len(rows):,} rows break it. {contract.meaning}\n\n{contract.sql}\n")
        tables.show(rows.head(5))
    print(f"{len(results) - len(broken)} of {len(results)} contracts hold")
    if unchecked := len(list(contracts.checks())) - len(results):
        print(f"{unchecked} are about views that are not computed yet; run: dissectdb build, then check again")
    is_as_stored = study is None or _recheck(study, file, images, seed)
    if broken or not is_as_stored:
        raise typer.Exit(1)


def _recheck(study: Study, file: WarehouseFile, images: int, seed: int | None) -> bool:
    """Compute a sample again and print how it compares with what is stored; returns whether all is equal."""
    from dissectdb.commands import tables

    seed, findings = pipeline.recheck(study, file, images=images, seed=seed)
    tables.show(findings, title=f"Computed again for a sample of images (--seed {seed})")
    print(f"{sum(finding.holds for finding in findings)} of {len(findings)} are as they were stored")
    return all(finding.holds for finding in findings)
