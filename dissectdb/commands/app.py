"""The commands of dissectdb: they open things, hand rows on and print; they decide nothing.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a check or a build failed, 2 usage or a bad
study file, 3 the warehouse is locked or unreadable, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissectdb import ROOT
from dissectdb.commands import ask, concepts, exchange
from dissectdb.commands.options import (
    WAIT,
    Deterministic,
    Device,
    Dissection,
    DryRun,
    Memory,
    Overrides,
    StudyFile,
    StudyWarehousePath,
    Threads,
    Version,
    Wait,
    WarehousePath,
    build_views,
    label,
    load_study,
    open_to_read,
    open_to_write,
    refuse_broken_contracts,
    warehouse_path,
)

if TYPE_CHECKING:
    from dissectdb.extract.record.passes import Plan
    from dissectdb.extract.study import Study

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="What each neuron of a vision network responds to, whether that can be trusted, and what to change: in SQL.",
)
app.add_typer(concepts.app, name="concepts")
app.command()(exchange.export)
app.command()(ask.status)
app.command()(ask.check)
app.command("import")(exchange.import_)
app.command("compile")(exchange.compile_)


@app.callback()
def options(version: Version = False) -> None:
    """Options that stand before a command."""


DEMO = ROOT / "studies" / "demo.toml"


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where warehouse and report go")] = Path("demo"),
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Explain and edit a network on built-in faces: extract, build, modify, effects, report; offline."""
    folder.mkdir(parents=True, exist_ok=True)
    warehouse = folder / "warehouse.duckdb"
    extract(DEMO, warehouse)
    modify(DEMO, warehouse)
    effects(DEMO, warehouse)
    report(folder / "report.html", warehouse=warehouse)


@app.command()
def extract(
    study_file: StudyFile,
    warehouse: StudyWarehousePath = None,
    overrides: Overrides = None,
    device: Device = None,
    deterministic: Deterministic = False,
    sink: Annotated[
        str | None, typer.Option(metavar="parquet:DIR", help="Write Parquet files there instead, to be imported")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Of N parts the one I, from 0; else as SLURM or torchrun say")
    ] = None,
    activations: Annotated[str, typer.Option(help="all, or none: only best images and sums of each neuron")] = "all",
    dry_run: DryRun = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Run the network and CLIP over the probing images, as far as it is not done, then build the views.

    Example: dissectdb extract studies/fer2013.toml --set dataset.path=fer2013.csv
    """
    study = load_study(study_file, overrides, device, None, deterministic)
    from dissectdb.commands import terminal
    from dissectdb.extract.models import classes
    from dissectdb.extract.record import arrays, passes
    from dissectdb.extract.scoring import labels  # torch loads here, so that the other commands start at once

    if activations not in ("all", "none"):
        raise typer.BadParameter(f"{activations!r} is none of all, none", param_hint="--activations")
    if shard is not None and sink is None:
        raise typer.BadParameter("a shard needs a sink: parquet:DIR", param_hint="--shard")
    work = arrays if study.arrays else passes
    terminal.say("reading the arrays" if study.arrays else "loading the network and CLIP")
    plan = replace(work.make_plan(study), keep_activations=activations == "all")
    if not study.arrays:
        terminal.say(passes.preprocessing(plan))
    if sink is not None:
        exchange.extract_shard(plan, sink, shard, dry_run)
        return
    path = warehouse_path(warehouse, study)
    with open_to_write(path, wait, dry_run, study.deterministic) as opened:
        if dry_run:
            terminal.show(plan.steps(opened), empty="nothing is stale")
            return
        if plan.is_done(opened):
            print("nothing is stale: every block of this study is in the warehouse")
        else:
            entered = passes.enter(plan, opened, terminal.Progress)
            with terminal.Progress("extracting") as progress:
                waited = opened.load(work.run(plan, opened, entered, progress))
            terminal.say(f"waited for the database {waited:.0%} of the time")
        label(opened, study.device)
        dissection = plan.dissection_id(opened)
    with open_to_read(path, wait, dissection) as opened:
        classes.warn_of_order(opened, plan)
        ids = [opened.find("dissections", fingerprint) for _, fingerprint in plan.dissections()]
        labels.tell_unlabelled(opened, ids)
        found = {name: opened.rows(query) for name, query in terminal.AFTER_EXTRACT.items()}
    for name, rows in found.items():
        terminal.show(rows, title=name, empty="none")
    refuse_broken_contracts(path, wait)


@app.command()
def build(
    warehouse: WarehousePath = None,
    select: Annotated[list[str] | None, typer.Option(help="Only this view and what it reads")] = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild the fresh ones too")] = False,
    engine: Annotated[str, typer.Option(help="duckdb, or spark on a folder of Parquet files")] = "duckdb",
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
    if engine not in ("duckdb", "spark") or (engine == "spark") != (source is not None):
        raise typer.BadParameter("it is duckdb, or spark with a --source", param_hint="--engine")
    if source is not None:
        exchange.build_on_spark(source, select or ())
        return
    from dissectdb.commands import terminal

    path = warehouse_path(warehouse)
    readable = dry_run or not path.exists()
    with open_to_read(path, wait) if readable else open_to_write(path, wait, deterministic=deterministic) as opened:
        done = "stale" if dry_run else "built"
        for view in opened.build(select=select or (), full_refresh=full_refresh, dry_run=dry_run):
            terminal.say(f"{done} {view.view}: {view.rows:,} rows, {view.seconds:.1f} s")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SELECT", help="One reading statement over tables and views")],
    warehouse: WarehousePath = None,
    format: Annotated[str, typer.Option(help="table, json, csv or parquet")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file")] = None,
    dissection: Dissection = None,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Stop after so many seconds")] = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Ask the warehouse anything; the statement can only read.

    Example: dissectdb query "SELECT concept, neurons FROM concept_counts_by_neuron ORDER BY neurons DESC"
    """
    from dissectdb.commands import terminal

    if format not in terminal.FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(terminal.FORMATS)}", param_hint="--format")
    if format == "parquet" and output is None:
        raise typer.BadParameter("parquet needs a file", param_hint="--output")
    with open_to_read(warehouse_path(warehouse), wait, dissection) as opened:
        rows = opened.ask(sql, timeout)
    terminal.write(rows, format, output)  # with the file let go of: a pager may stay open


@app.command()
def modify(
    study_file: StudyFile,
    warehouse: StudyWarehousePath = None,
    edit: Annotated[str | None, typer.Option(help="Only the edit of this name")] = None,
    overrides: Overrides = None,
    device: Device = None,
    deterministic: Deterministic = False,
    dry_run: DryRun = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Try the study's edits on validation, judge the best of them on test beside its controls, save its network.

    Example: dissectdb modify studies/demo.toml --edit paper
    """
    study = load_study(study_file, overrides, device, "modify", deterministic)
    from dissectdb.commands import terminal
    from dissectdb.extract.editing import edits, protocol

    asked = edits.choose(study.tried(), edit)
    path = warehouse_path(warehouse, study)
    folder = path.parent / "edits"
    plan, dissection = _find_dissection(study, path, wait, (protocol.SEARCHED, protocol.OPENED), "modify")
    if not dry_run:
        with open_to_write(path, wait, deterministic=study.deterministic) as opened:
            build_views(opened)  # the rules read views, and a run that was stopped may have left them stale
    with open_to_read(path, wait, dissection) as opened:
        planned = edits.plan_edits(opened, plan, dissection, asked)
    if dry_run:
        terminal.show(protocol.describe(plan, planned, folder), title="Of these edits one would be chosen")
        return
    with open_to_write(path, wait, deterministic=study.deterministic) as opened:
        watch = partial(terminal.Progress, unit="predictions")
        chosen, checkpoint = protocol.run(opened, plan, planned, folder, watch, terminal.say)
        build_views(opened)
        found = {name: opened.rows(query, {"edit_id": chosen.edit_id}) for name, query in terminal.EDIT.items()}
    terminal.show_edit(found, checkpoint, path)
    refuse_broken_contracts(path, wait)


@app.command()
def effects(
    study_file: StudyFile,
    warehouse: StudyWarehousePath = None,
    overrides: Overrides = None,
    device: Device = None,
    deterministic: Deterministic = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Silence neurons, one by one and by concept, and measure which classes suffer, as the study's effects say.

    Example: dissectdb effects studies/demo.toml
    """
    study = load_study(study_file, overrides, device, "effects", deterministic)
    from dissectdb.commands import terminal
    from dissectdb.extract.editing import ablations as silencing

    path = warehouse_path(warehouse, study)
    splits = (study.effects.split,) if study.effects else ()
    plan, dissection = _find_dissection(study, path, wait, splits, "effects")
    with open_to_write(path, wait, deterministic=study.deterministic) as opened:
        build_views(opened)
        watch = partial(terminal.Progress, unit="ablations")
        opened.load(silencing.run(opened, plan, dissection, watch, terminal.say))
        build_views(opened)
    with open_to_read(path, wait, dissection) as opened:
        found = {name: opened.rows(query) for name, query in terminal.AFTER_EFFECTS.items()}
    for name, rows in found.items():
        terminal.show(rows, title=name, empty="none")
    refuse_broken_contracts(path, wait)


@app.command()
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file")] = Path("report.html"),
    thumbnails: Annotated[float, typer.Option(min=0, help="Megabytes of thumbnails in a page")] = 8,
    every_neuron: Annotated[bool, typer.Option("--every-neuron", help="Also a page a layer, in a folder")] = False,
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
    from dissectdb.reports import compare as comparison
    from dissectdb.reports import export, page

    budget, links = int(thumbnails * 1e6), ()
    with open_to_read(warehouse_path(warehouse), wait, dissection) as opened:
        rows = comparison.ask(opened.rows, *compare) if compare else page.ask(opened.rows)
        if every_neuron and not compare:
            links = page.write_layers(opened.rows, rows, output, budget=budget)
    if compare:
        comparison.write(rows, output)
    else:
        page.write(rows, output, budget=budget, layer_pages=links)
        if charts:
            print(f"charts: {len(export.save_charts(rows, charts))} in {charts.resolve()}")
    print(f"report: {output.resolve()}")


@app.command()
def train(
    study_file: StudyFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint (.safetensors or .pt)")],
    epochs: Annotated[int, typer.Option(min=1)] = 30,
    seed: int = 0,
    overrides: Overrides = None,
    device: Device = None,
) -> None:
    """Train the study's network on its train split; stopped and started again it goes on where it was.

    Example: dissectdb train studies/fer2013.toml -o vgg.safetensors --set dataset.path=fer2013.csv
    """
    study = load_study(study_file, overrides, device, "train")
    from dissectdb.commands import terminal
    from dissectdb.extract.training import run

    def on_epoch(record: dict[str, float]) -> None:
        terminal.say("  ".join(f"{name} {value:.4g}" for name, value in record.items()))

    run.run(study, output, epochs=epochs, seed=seed, on_epoch=on_epoch)
    print(f"checkpoint: {output.resolve()}")


@app.command()
def convert(
    layer: Annotated[list[str], typer.Option(metavar="NAME=FILE", help="Activations of a layer (N × K); repeatable")],
    images: Annotated[Path, typer.Option(metavar="FILE", help="CLIP's features of the images (N × D)")],
    texts: Annotated[Path, typer.Option(metavar="FILE", help="Its features of the concepts (C × D)")],
    classes: Annotated[Path | None, typer.Option(metavar="FILE", help="The class of each image, a number")] = None,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("features.safetensors"),
) -> None:
    """Make the arrays that a study may name instead of a network from tensors that CLIP-Dissect saved.

    Example: dissectdb convert --layer fc=target.pt --images clip.pt --texts text.pt
    """
    from dissectdb.extract.record.convert import convert as write

    print(f"arrays: {write(layer, images, texts, classes, output).resolve()}")


def _find_dissection(study: Study, path: Path, wait: float, judged: tuple[str, ...], command: str) -> tuple[Plan, int]:
    """The study with its models loaded, and its dissection in the warehouse; judged: the splits that are asked of."""
    from dissectdb.extract.editing import edits
    from dissectdb.extract.models import classes
    from dissectdb.extract.record import passes

    with open_to_read(path, wait) as opened:
        plan = passes.make_plan(study)
        dissection = edits.find_dissection(opened, plan)
        classes.refuse_unjudged(opened, plan, judged, command)
        return plan, dissection


def main() -> None:
    """Run a command; an expected failure is one line and its exit code, a bug is a traceback."""
    stopped = _stop_on_signals()
    _show_notes()
    try:
        app()
    except BaseException as error:
        succeeded = isinstance(error, SystemExit) and not error.code
        if stopped and not succeeded:  # DuckDB and typer make errors of their own of an interrupt
            print("dissectdb: stopped; the same command goes on from what is committed", file=sys.stderr)
            sys.exit(130)
        code = getattr(error, "exit_code", None)  # our own error classes carry theirs
        if code is None:
            raise
        print(f"dissectdb: {error}", file=sys.stderr)
        sys.exit(code)


class _Note(logging.Formatter):
    """The message alone; a warning is marked as one, so that it stands out among lines of progress."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{'warning: ' if record.levelno >= logging.WARNING else ''}{record.getMessage()}"


def _show_notes() -> None:
    """Print what the rooms log for the user (an assumption, a warning) on stderr, as progress is."""
    log = logging.getLogger("dissectdb")
    log.setLevel(logging.INFO)
    log.handlers = [logging.StreamHandler()]
    log.handlers[0].setFormatter(_Note())
    # open_clip logs to the root, which then gets a handler by itself and would print every note a second time.
    logging.getLogger().addHandler(logging.NullHandler())


def _stop_on_signals() -> list[int]:
    """Have Ctrl-C and SIGTERM leave out the unit that is under way; the list gets what came."""
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(each, stop)
    return stopped
