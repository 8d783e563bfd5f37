"""Commands that look at a warehouse: what is in it, and whether its contracts hold."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissectdb.commands import exchange
from dissectdb.commands.options import (
    WAIT,
    CheckedWarehousePath,
    Device,
    Memory,
    Overrides,
    Threads,
    Wait,
    WarehousePath,
    load_study,
    open_to_read,
    warehouse_path,
)

if TYPE_CHECKING:
    from dissectdb.extract.study import Study


def status(warehouse: WarehousePath = None, memory: Memory = None, threads: Threads = None, wait: Wait = WAIT) -> None:
    """What is in the warehouse, how large it is, and what is stale; of a folder of shards, which are whole."""
    from dissectdb.commands import terminal
    from dissectdb.warehouse import shard_reader

    path = warehouse_path(warehouse)
    if shard_reader.is_folder_of_shards(path):
        exchange.show_shards(path)
        return
    with open_to_read(path, wait) as opened:
        found = {name: opened.rows(query) for name, query in terminal.STATUS.items()}
        stale = [built.view for built in opened.build(dry_run=True)]
    print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")
    terminal.show(terminal.public_views(), title="Views to query")
    for name, rows in found.items():
        terminal.show(rows, title=name, empty="none")
    print(f"stale views: {', '.join(stale)}; run: dissectdb build" if stale else "every view is built")


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
    from dissectdb.commands import terminal
    from dissectdb.warehouse.locking import WarehouseError

    study = None if deep is None else load_study(deep, overrides, device)
    path, broken = warehouse_path(warehouse, study), 0
    with open_to_read(path, wait) as opened:
        if opened.rows("select 1 from extraction_blocks limit 1").is_empty():
            raise WarehouseError(
                f"{path}: nothing has been extracted, so there is nothing to check; run: dissectdb extract STUDY"
            )
        results = [(contract, opened.rows(contract.sql)) for contract in opened.checks()]
    for contract, rows in results:
        if len(rows):
            broken += 1
            print(f"{contract.name}: {len(rows):,} rows break it. {contract.meaning}\n\n{contract.sql}\n")
            terminal.show(rows.head(5))
    print(f"{len(results) - broken} of {len(results)} contracts hold")
    if study is not None and not _recheck(study, path, images, seed, wait):
        broken += 1
    if broken:
        raise typer.Exit(1)


def _recheck(study: Study, path: Path, images: int, seed: int | None, wait: float) -> bool:
    """Compute a sample again, and show how it compares; returns whether all is as stored."""
    from dissectdb.commands import terminal
    from dissectdb.extract.record import arrays, passes, recheck

    seed = secrets.randbelow(2**31) if seed is None else seed
    plan = (arrays if study.arrays else passes).make_plan(study)
    with open_to_read(path, wait) as opened:
        found = list(recheck.recheck(plan, opened, images, seed))
    terminal.show(found, title=f"Computed again for a sample of images (--seed {seed})")
    print(f"{sum(each.holds for each in found)} of {len(found)} are as they were stored")
    return all(each.holds for each in found)
