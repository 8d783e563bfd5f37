"""What is exchanged as Parquet: a whole warehouse, and an extraction in shards."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissectdb.commands.options import (
    WAIT,
    Memory,
    Threads,
    Wait,
    WarehousePath,
    given_resources,
    label,
    named_resources,
    open_to_read,
    warehouse_path,
)

if TYPE_CHECKING:
    from dissectdb.extract.record.plan import Plan


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
    from dissectdb.commands import terminal
    from dissectdb.warehouse import exchange

    with open_to_read(warehouse_path(warehouse), wait) as opened:
        done = [table for table in exchange.export(opened, folder) if table.rows]
    terminal.show(done, empty="no table has a row")
    print(f"export: {folder.resolve()}")


def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What export made")],
    warehouse: WarehousePath = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Make a new warehouse of an exported folder, or of shards, if nothing in it is missing or damaged.

    Example: dissectdb import shared/ --warehouse copy.duckdb
    """
    from dissectdb.commands import terminal
    from dissectdb.warehouse import exchange, shard_reader

    path = warehouse_path(warehouse)
    finish = (label,) if shard_reader.is_folder_of_shards(folder) else ()  # an export has its labels
    rows = Counter()
    for part in exchange.import_folder(folder, path, wait, *finish, **named_resources()):
        rows[part.table] += part.rows
    found = [{"table": table, "rows": count} for table, count in rows.items() if count]
    terminal.show(found, empty="no table has a row")
    print(f"warehouse: {path.resolve()}")


def compile_(
    dialect: Annotated[str, typer.Option(help="spark")] = "spark",
    select: Annotated[list[str] | None, typer.Option(help="Only this view and what it reads")] = None,
) -> None:
    """Print the SQL of all views for another engine, for people who have a session with the tables in it.

    Example: dissectdb compile --dialect spark > views.sql
    """
    from dissectdb.warehouse import spark, views

    found = views.load_views()
    wanted = views.with_inputs(found, select) if select else {view.name for view in found}
    for statement in spark.compile([view for view in found if view.name in wanted], dialect):
        print(f"{statement};\n")


def build_on_spark(source: Path, select: Sequence[str]) -> None:
    """Compute the materialised views of a folder of tables on Spark, into its folder `views`."""
    from dissectdb.commands import terminal
    from dissectdb.warehouse import resources, spark

    options: dict[str, str | int] = {}
    chosen = resources.choose(given_resources.get("memory"), given_resources.get("threads"))
    if given_resources.get("memory"):
        options["memory"] = f"{chosen.memory >> 20}m"
    if given_resources.get("threads"):
        options["cores"] = chosen.threads
    session = spark.local_session(**options)
    try:
        for built in spark.build(session, source, source / "views", select=select):
            terminal.say(f"built {built.view}: {built.rows:,} rows, {built.seconds:.1f} s")
    finally:
        session.stop()
    print(f"views: {(source / 'views').resolve()}")


def extract_shard(plan: Plan, sink: str, shard: str | None, dry_run: bool) -> None:
    """Write the files of a shard; the small tables are made in memory."""
    from dissectdb.commands import terminal
    from dissectdb.extract.record import shard_writer
    from dissectdb.warehouse import Warehouse, exchange

    mine = shard_writer.choose(shard, os.environ)
    with Warehouse(":memory:", **named_resources()) as catalog:
        if dry_run:
            terminal.show(plan.steps(catalog), title=f"Of this, shard {mine}")
            return
        with terminal.Progress(f"extracting shard {mine}") as progress:
            new = shard_writer.run(
                plan, catalog, sink, mine, lambda folder: list(exchange.export(catalog, folder)), progress
            )
    print(f"shard {mine}: {sink}" if new else f"nothing is stale: shard {mine} is in {sink}")


def show_shards(folder: Path) -> None:
    """Which shards of a sink are there; exits 1 if one is missing or damaged."""
    from dissectdb.commands import terminal
    from dissectdb.warehouse import shard_reader

    states = shard_reader.status(folder)
    terminal.show(states, title=f"Shards in {folder}", empty="none")
    whole = sum(not state.problem for state in states)
    print(f"{whole} of {len(states)} shards are whole")
    if whole < len(states) or not states:
        raise typer.Exit(1)
