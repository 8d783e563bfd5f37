"""The commands about views: build them, or print their SQL for another engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dissectdb.commands.options import (
    WAIT,
    Deterministic,
    DryRun,
    Memory,
    Threads,
    Wait,
    WarehousePath,
    warehouse_file,
)

Select = Annotated[list[str] | None, typer.Option(help="Only this view and what it reads")]


def build(
    warehouse: WarehousePath = None,
    select: Select = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Also rebuild what is not stale")] = False,
    engine: Annotated[
        Literal["duckdb", "spark"], typer.Option(help="spark builds from a folder of Parquet files")
    ] = "duckdb",
    source: Annotated[Path | None, typer.Option(metavar="DIR", help="For Spark: an export, or shards")] = None,
    deterministic: Deterministic = False,
    dry_run: DryRun = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Recompute the materialised views whose inputs changed.

    Example: dissectdb build --select layer_summary
    """
    if (engine == "spark") != (source is not None):
        raise typer.BadParameter("spark needs a --source, and duckdb takes none", param_hint="--engine")
    if source is not None:
        _build_on_spark(source, select or [], memory, threads)
        return
    from dissectdb.commands import stages, tables

    file = warehouse_file(warehouse, wait, memory, threads)
    read_only = dry_run or not file.path.exists()  # reading reports a missing file; writing would make it
    with file.to_read() if read_only else file.to_write(deterministic=deterministic) as opened:
        built = opened.build(select=select or (), full_refresh=full_refresh, dry_run=dry_run)
        if dry_run:
            stale = [{"view": view.view, "rows": view.rows} for view in built]
            tables.show(stale, title="Stale views", empty="none")
            return
        with stages.Stage("building", unit="views") as progress:
            views = list(stages.counted(built, progress))
    tables.show(views, title="Built", empty="nothing: no view is stale")


def _build_on_spark(source: Path, select: list[str], memory: str | None, threads: str | None) -> None:
    """Build the materialised views of a folder of tables on Spark, into its folder `views`."""
    from dissectdb.commands import stages, tables
    from dissectdb.warehouse import resources, spark

    chosen = resources.choose(memory, threads)
    session = spark.local_session(
        cores=chosen.threads if threads else None, memory=f"{chosen.memory >> 20}m" if memory else None
    )
    try:
        with stages.Stage("building", unit="views") as progress:
            views = list(stages.counted(spark.build(session, source, source / "views", select=select), progress))
    finally:
        session.stop()
    tables.show(views, title="Built", empty="none")
    print(f"views: {(source / 'views').resolve()}")


def compile_(
    dialect: Annotated[Literal["spark"], typer.Option(help="The engine")] = "spark",
    select: Select = None,
) -> None:
    """Print the SQL of all views for another engine, for people who have a session with the tables in it.

    Example: dissectdb compile --dialect spark > views.sql
    """
    from dissectdb.warehouse import spark, view_files

    all_views = view_files.load_views()
    names = view_files.with_inputs(all_views, select) if select else {view.name for view in all_views}
    for statement in spark.compile([view for view in all_views if view.name in names], dialect):
        print(f"{statement};\n")
