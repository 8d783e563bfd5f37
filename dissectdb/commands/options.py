"""Options that several commands share, and what they come to: a study, a warehouse opened to read or to write."""

from __future__ import annotations

import importlib.metadata
import os
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissectdb import ROOT

if TYPE_CHECKING:
    from dissectdb.extract.study import Study
    from dissectdb.warehouse import Warehouse

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, e.g. studies/demo.toml")]


def _warehouse_option(default: str) -> Any:
    return typer.Option("--warehouse", "-w", metavar="PATH", help=f"Default: {default}")


NO_STUDY = "$DISSECTDB_WAREHOUSE, else ./warehouse.duckdb"
WarehousePath = Annotated[Path | None, _warehouse_option(NO_STUDY)]
StudyWarehousePath = Annotated[Path | None, _warehouse_option(f"the study's, else {NO_STUDY}")]
CheckedWarehousePath = Annotated[Path | None, _warehouse_option(f"that of the study of --deep, else {NO_STUDY}")]
Override = typer.Option(
    "--set",
    metavar="KEY=VALUE",
    help="Override a key of the study, e.g. dataset.path=faces.csv (from the current folder)",
)
Overrides = Annotated[list[str] | None, Override]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps; else the study's")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same to the last bit each time, slower; also a key of the study")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for a warehouse that another process holds")]
WAIT = 10.0
# What --memory and --threads of the command that runs were given; open_to_read and open_to_write pass it on.
given_resources: dict[str, str | None] = {}


def _keep(context: typer.Context, option: typer.CallbackParam, value: str | None) -> str | None:
    """Keep an option for as long as its command runs. Raises BadSize."""
    if value is not None:
        from dissectdb.warehouse import resources

        resources.choose(**{"memory": None, "threads": None, option.name: value})
    given_resources[option.name] = value
    context.call_on_close(partial(given_resources.pop, option.name, None))
    return value


Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", callback=_keep, help="Of the database, e.g. 2GB; else $DISSECTDB_MEMORY, else by what is free"
    ),
]
Threads = Annotated[
    str | None,
    typer.Option(metavar="N", callback=_keep, help="Most of the database; else $DISSECTDB_THREADS, else one a core"),
]
Dissection = Annotated[int | None, typer.Option(help="Show this dissection instead of the newest")]


def version() -> str:
    """The version of dissectdb: a checkout's own, else that of the package that is installed."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        found = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if found.get("name") == "dissectdb":
            return str(found["version"])
    try:
        return importlib.metadata.version("dissectdb")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _show_version(asked: bool) -> None:
    if asked:
        print(f"dissectdb {version()}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit")
]


def load_study(
    path: Path,
    overrides: list[str] | None,
    device: str | None,
    command: str | None = None,
    deterministic: bool = False,
) -> Study:
    """The study with its keys overridden. command: one that needs a network. Raises StudyError."""
    from dissectdb.extract.study import Study
    from dissectdb.extract.study.overrides import pairs

    flags = ({"device": device} if device else {}) | ({"deterministic": "true"} if deterministic else {})
    study = Study.load(path, pairs(overrides or []) | flags)
    return study if command is None else study.with_network(command)


def warehouse_path(named: Path | None, study: Study | None = None) -> Path:
    """The flag, else the study's, else the environment's, else ./warehouse.duckdb."""
    if named is None and study is not None:
        named = study.warehouse
    return named or Path(os.environ.get("DISSECTDB_WAREHOUSE") or "warehouse.duckdb")


def named_resources() -> dict[str, str | None]:
    """What the command was told of memory and threads, as Warehouse takes it."""
    return {"memory_limit": given_resources.get("memory"), "threads": given_resources.get("threads")}


def open_to_read(path: Path, wait: float, dissection: int | None = None) -> Warehouse:
    """The warehouse, locked down; others may read it too."""
    from dissectdb.warehouse import Warehouse

    return Warehouse(path, read_only=True, dissection=dissection, wait=wait, **named_resources())


def open_to_write(path: Path, wait: float, dry_run: bool = False, deterministic: bool = False) -> Warehouse:
    """For a dry run: what is there, read only, or an empty one in memory where there is none."""
    from dissectdb.warehouse import Warehouse

    if dry_run:
        return open_to_read(path, wait) if path.exists() else Warehouse(":memory:", **named_resources())
    return Warehouse(path, wait=wait, deterministic=deterministic, **named_resources())


def build_views(opened: Warehouse, **options: Any) -> None:
    """Build what is stale, and sum it up in one line; options as in Warehouse.build."""
    from dissectdb.commands import terminal

    started = time.monotonic()
    with terminal.Progress("building", unit="views") as progress:
        views = 0
        for views, _ in enumerate(opened.build(**options), start=1):
            progress(views, None)
    if views:
        terminal.say(f"built {views} {'view' if views == 1 else 'views'} in {time.monotonic() - started:.1f} s")


def refuse_broken_contracts(path: Path, wait: float) -> None:
    """Run the cheap contracts, which a command does at its end. Raises WarehouseError (exit 1) for a broken one."""
    from dissectdb.warehouse.errors import WarehouseError

    with open_to_read(path, wait) as opened:
        broken = {each.name: len(opened.rows(each.sql)) for each in opened.checks() if each.cheap}
    if names := [f"{name} ({rows:,} rows)" for name, rows in broken.items() if rows]:
        raise WarehouseError(f"{path} breaks {', '.join(names)}; to see the rows, run: dissectdb check -w {path}")


def label(opened: Warehouse, device: str = "auto") -> None:
    """Compute what the tables of an extraction lack: nulls, labels and their checks, and the views."""
    from dissectdb.extract.models import devices
    from dissectdb.extract.scoring import labels

    build_views(opened, select=labels.READS)
    opened.load(labels.run(opened, devices.choose(device)))
    build_views(opened)
