"""The options that several commands share, and the study and the warehouse that they name."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dissectdb import ROOT
from dissectdb.warehouse_file import WAIT_SECONDS as WAIT
from dissectdb.warehouse_file import WarehouseFile

if TYPE_CHECKING:
    from dissectdb.extract.study import Study

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, e.g. studies/demo.toml")]


def _warehouse_option(default: str) -> object:
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
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"] | None, typer.Option(help="Where the network runs. Default: the study's")
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same result to the last bit, slower; also a key of the study")
]
Rehash = Annotated[
    bool,
    typer.Option("--rehash", help="Read every file again, even if its size and times are as the last run left them"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for a warehouse that another process holds")]


def _checked(option: typer.CallbackParam, value: str | None) -> str | None:
    """The value of --memory or --threads. Raises BadSize."""
    if value is not None:
        from dissectdb.warehouse import resources

        if option.name == "memory":
            resources.choose(value, None)
        else:
            resources.choose(None, value)
    return value


Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        callback=_checked,
        help="Memory of the database, e.g. 2GB. Default: $DISSECTDB_MEMORY, else a share of what is free",
    ),
]
Threads = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        callback=_checked,
        help="Maximum threads of the database. Default: $DISSECTDB_THREADS, else one per core",
    ),
]
Dissection = Annotated[int | None, typer.Option(help="Show this dissection instead of the newest")]


def version() -> str:
    """The version of dissectdb: a checkout's own, else that of the package that is installed."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        stated = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
        if stated.get("name") == "dissectdb":
            return str(stated["version"])
    try:
        return importlib.metadata.version("dissectdb")
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _show_version(is_given: bool) -> None:
    if is_given:
        print(f"dissectdb {version()}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit")
]


def load_study(
    path: Path, overrides: list[str] | None, device: str | None = None, deterministic: bool = False
) -> Study:
    """The study, with the keys that options override. Raises StudyError."""
    from dissectdb.extract.study import Study
    from dissectdb.extract.study.overrides import pairs

    flags = ({"device": device} if device else {}) | ({"deterministic": "true"} if deterministic else {})
    return Study.load(path, pairs(overrides or []) | flags)


def warehouse_file(
    path: Path | None, wait: float = WAIT, memory: str | None = None, threads: str | None = None
) -> WarehouseFile:
    """The warehouse that the options name. Default: $DISSECTDB_WAREHOUSE, else ./warehouse.duckdb."""
    path = path or Path(os.environ.get("DISSECTDB_WAREHOUSE") or "warehouse.duckdb")
    return WarehouseFile(path, wait, memory, threads)
