"""Options that several commands share, and what they come to: a study, a warehouse opened to read or to write."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from extract.study import Study
    from warehouse import Warehouse

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, e.g. studies/demo.toml")]
WarehousePath = Annotated[
    Path | None,
    typer.Option(
        "--warehouse", "-w", metavar="PATH", help="Else the study's, $DISSECTDB_WAREHOUSE, ./warehouse.duckdb"
    ),
]
Override = typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study, e.g. dataset.path=faces.csv")
Overrides = Annotated[list[str] | None, Override]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps; else the study's")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same to the last bit each time, slower; also a key of the study")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for a warehouse that another process holds")]
WAIT = 10.0
Dissection = Annotated[int | None, typer.Option(help="Show this dissection instead of the newest")]


def version() -> str:
    """The version of dissectdb: a checkout's own, else that of the package that is installed."""
    project = Path(__file__).resolve().parent / "pyproject.toml"
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
    from extract.overrides import pairs
    from extract.study import Study

    flags = ({"device": device} if device else {}) | ({"deterministic": True} if deterministic else {})
    study = Study.load(path, pairs(overrides or []) | flags)
    return study if command is None else study.with_network(command)


def warehouse_path(named: Path | None, study: Study | None = None) -> Path:
    """The flag, else the study's, else the environment's, else ./warehouse.duckdb."""
    if named is None and study is not None:
        named = study.warehouse
    return named or Path(os.environ.get("DISSECTDB_WAREHOUSE") or "warehouse.duckdb")


def open_to_read(path: Path, wait: float, dissection: int | None = None, memory: str | None = None) -> Warehouse:
    """The warehouse, locked down; others may read it too."""
    from warehouse import Warehouse

    return Warehouse(path, read_only=True, dissection=dissection, memory_limit=memory, wait=wait)


def open_to_write(path: Path, wait: float, dry_run: bool = False, deterministic: bool = False) -> Warehouse:
    """For a dry run: what is there, read only, or an empty one in memory where there is none."""
    from warehouse import Warehouse

    if dry_run:
        return Warehouse(path, read_only=True, wait=wait) if path.exists() else Warehouse(":memory:")
    return Warehouse(path, wait=wait, deterministic=deterministic)


def build_views(opened: Warehouse, **options: Any) -> None:
    """Build what is stale, and say so; options as in Warehouse.build."""
    from reports import terminal

    done = "stale" if options.get("dry_run") else "built"
    for built in opened.build(**options):
        terminal.say(f"{done} {built.view}: {built.rows:,} rows, {built.seconds:.1f} s")


def label(opened: Warehouse, device: str = "auto") -> None:
    """Compute what the tables of an extraction lack: nulls, labels and their checks, and the views."""
    from extract import devices, labels

    build_views(opened, select=labels.READS)
    opened.load(labels.run(opened, devices.choose(device)))
    build_views(opened)
