"""The commands of dissectdb: they open things, hand rows on and print; they decide nothing.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 a check or a build failed, 2 usage or a bad
study file, 3 the warehouse is locked or unreadable, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from extract.concepts.making import Made
    from extract.jobs import Plan
    from extract.study import Study
    from warehouse import Warehouse

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="What each neuron of a vision network responds to, whether that can be trusted, and what to change: in SQL.",
)
concepts_app = typer.Typer(no_args_is_help=True, help="Concept sets: list or check them, or have a model make one.")
app.add_typer(concepts_app, name="concepts")

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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing")]
Dissection = Annotated[int | None, typer.Option(help="Show this dissection instead of the newest")]

Concepts = Annotated[str, typer.Argument(metavar="SOURCE", help="A set that ships, or a .txt or .toml file")]
Classes = Annotated[str, typer.Option(metavar="A,B,…", help="The classes, by name")]
About = Annotated[str, typer.Option(help="What the images show, for the prompt")]
ConceptFile = Annotated[Path, typer.Option("--output", "-o", help="The concept set (.toml)")]
Model = Annotated[str, typer.Option(help="A model, as the endpoint calls it; the key comes from $OPENAI_API_KEY")]
Endpoint = Annotated[
    str | None, typer.Option(metavar="URL", help="An OpenAI-compatible one; else $OPENAI_BASE_URL, else OpenAI's")
]
Timeout = Annotated[float, typer.Option(min=0.01, help="Seconds to wait for an answer")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file")]
Threshold = Annotated[float, typer.Option(min=-1, max=1, help="Near-duplicates have a cosine above this")]

DEMO = Path(__file__).resolve().parent / "studies" / "demo.toml"


@app.command()
def demo(folder: Annotated[Path, typer.Option(help="Where warehouse and report go")] = Path("demo")) -> None:
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
    warehouse: WarehousePath = None,
    overrides: Overrides = None,
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Run the network and CLIP over the probing images, as far as it is not done, then build the views.

    Example: dissectdb extract studies/fer2013.toml --set dataset.path=fer2013.csv
    """
    study = _load_study(study_file, overrides, device)
    from extract import arrays, jobs, labels  # torch loads here, so that the other commands start at once
    from reports import terminal

    work = arrays if study.arrays else jobs
    terminal.say("reading the arrays" if study.arrays else "loading the network and CLIP")
    plan = work.make_plan(study)
    path = _path(warehouse, study)
    with _open_to_write(path, dry_run) as opened:
        if dry_run:
            terminal.show(plan.steps(opened), empty="nothing is stale")
            return
        if plan.is_done(opened):
            print("nothing is stale: every block of this study is in the warehouse")
        else:
            with terminal.Progress("extracting") as progress:
                opened.load(work.run(plan, opened, progress))
        _build(opened, select=labels.READS)
        opened.load(labels.run(opened, plan.device))
        _build(opened)
        dissection = plan.dissection_id(opened)
    with _open_to_read(path, dissection) as opened:
        for name, query in terminal.AFTER_EXTRACT.items():
            terminal.show(opened.rows(query), title=name)


@app.command()
def build(
    warehouse: WarehousePath = None,
    select: Annotated[list[str] | None, typer.Option(help="Only this view and what it reads")] = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Rebuild the fresh ones too")] = False,
    dry_run: DryRun = False,
) -> None:
    """Recompute the materialised views whose inputs changed.

    Example: dissectdb build --select layer_summary
    """
    path = _path(warehouse)
    with _open_to_read(path) if dry_run or not path.exists() else _open_to_write(path) as opened:
        _build(opened, select=select or (), full_refresh=full_refresh, dry_run=dry_run)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SELECT", help="One reading statement over tables and views")],
    warehouse: WarehousePath = None,
    format: Annotated[str, typer.Option(help="table, json, csv or parquet")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file")] = None,
    dissection: Dissection = None,
) -> None:
    """Ask the warehouse anything; the statement can only read.

    Example: dissectdb query "SELECT concept, neurons FROM concept_counts_by_neuron ORDER BY neurons DESC"
    """
    from reports import terminal

    if format not in terminal.FORMATS:
        raise typer.BadParameter(f"{format!r} is none of {', '.join(terminal.FORMATS)}", param_hint="--format")
    if format == "parquet" and output is None:
        raise typer.BadParameter("parquet needs a file", param_hint="--output")
    with _open_to_read(_path(warehouse), dissection) as opened:
        terminal.write(opened.ask(sql), format, output)


@app.command()
def modify(
    study_file: StudyFile,
    warehouse: WarehousePath = None,
    edit: Annotated[str | None, typer.Option(help="Only the edit of this name")] = None,
    overrides: Overrides = None,
    device: Device = None,
    dry_run: DryRun = False,
) -> None:
    """Try the study's edits on validation, judge the best of them on test beside its controls, save its network.

    Example: dissectdb modify studies/demo.toml --edit paper
    """
    study = _load_study(study_file, overrides, device, "modify")
    from extract import edit as edits
    from extract import protocol
    from reports import terminal

    asked = edits.choose(study.tried(), edit)
    path = _path(warehouse, study)
    folder = path.parent / "edits"
    plan, dissection = _find_dissection(study, path)
    if not dry_run:
        with _open_to_write(path) as opened:
            _build(opened)  # the rules read views, and a run that was stopped may have left them stale
    with _open_to_read(path, dissection) as opened:
        planned = edits.plan_edits(opened, plan, dissection, asked)
    if dry_run:
        terminal.show(protocol.describe(plan, planned, folder), title="Of these edits one would be chosen")
        return
    with _open_to_write(path) as opened:
        watch = partial(terminal.Progress, unit="predictions")
        chosen, checkpoint = protocol.run(opened, plan, planned, folder, watch, terminal.say)
        _build(opened)
        found = {name: opened.rows(query, {"edit_id": chosen.edit_id}) for name, query in terminal.EDIT.items()}
    terminal.show_edit(found, checkpoint, path)


@app.command()
def effects(
    study_file: StudyFile,
    warehouse: WarehousePath = None,
    overrides: Overrides = None,
    device: Device = None,
) -> None:
    """Silence neurons, one by one and by concept, and measure which classes suffer: the study's [effects].

    Example: dissectdb effects studies/demo.toml
    """
    study = _load_study(study_file, overrides, device, "effects")
    from extract import effects as silencing
    from reports import terminal

    path = _path(warehouse, study)
    plan, dissection = _find_dissection(study, path)
    with _open_to_write(path) as opened:
        _build(opened)
        watch = partial(terminal.Progress, unit="ablations")
        opened.load(silencing.run(opened, plan, dissection, watch, terminal.say))
        _build(opened)
    with _open_to_read(path, dissection) as opened:
        for name, query in terminal.AFTER_EFFECTS.items():
            terminal.show(opened.rows(query), title=name, empty="none")


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
) -> None:
    """Write one offline HTML page of what the warehouse shows.

    Example: dissectdb report -o report.html
    """
    from reports import compare as comparison
    from reports import export, page

    with _open_to_read(_path(warehouse), dissection) as opened:
        if compare:
            comparison.write(comparison.ask(opened.rows, *compare), output)
        else:
            rows = page.ask(opened.rows)
            links = page.write_layers(opened.rows, rows, output, budget=int(thumbnails * 1e6)) if every_neuron else ()
            page.write(rows, output, budget=int(thumbnails * 1e6), layer_pages=links)
            if charts:
                print(f"charts: {len(export.save_charts(rows, charts))} in {charts.resolve()}")
    print(f"report: {output.resolve()}")


@app.command()
def status(warehouse: WarehousePath = None) -> None:
    """What is in the warehouse, how large it is, and what is stale."""
    from reports import terminal

    path = _path(warehouse)
    with _open_to_read(path) as opened:
        print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")
        for name, question in terminal.STATUS.items():
            terminal.show(opened.rows(question), title=name, empty="none")
        stale = [built.view for built in opened.build(dry_run=True)]
    print(f"stale views: {', '.join(stale)}; run: dissectdb build" if stale else "every view is built")


@app.command()
def check(warehouse: WarehousePath = None) -> None:
    """Run every contract of sql/checks; a broken one exits 1 with its query and a sample of its rows."""
    from reports import terminal

    broken = 0
    with _open_to_read(_path(warehouse)) as opened:
        results = [(contract, opened.rows(contract.sql)) for contract in opened.checks()]
    for contract, rows in results:
        if len(rows):
            broken += 1
            print(f"{contract.name}: {len(rows):,} rows break it. {contract.meaning}\n\n{contract.sql}\n")
            terminal.show(rows.head(5))
    print(f"{len(results) - broken} of {len(results)} contracts hold")
    if broken:
        raise typer.Exit(1)


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
    study = _load_study(study_file, overrides, device, "train")
    from extract import training
    from reports import terminal

    def on_epoch(record: dict[str, float]) -> None:
        terminal.say("  ".join(f"{name} {value:.4g}" for name, value in record.items()))

    training.run(study, output, epochs=epochs, seed=seed, on_epoch=on_epoch)
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
    from extract.convert import convert as write

    print(f"arrays: {write(layer, images, texts, classes, output).resolve()}")


@concepts_app.command("list")
def list_concepts() -> None:
    """The concept sets that ship; a study names one as a source."""
    from extract import concepts
    from reports import terminal

    sets = {name: concepts.read(name) for name in concepts.shipped()}
    terminal.show([{"source": name, "concepts": len(each)} for name, each in sets.items()])


@concepts_app.command("check")
def check_concepts(
    source: Concepts,
    study_file: Annotated[Path, typer.Option("--study", help="A study, for its CLIP and prompts")],
    threshold: Threshold = 0.95,
    overrides: Overrides = None,
    device: Device = None,
) -> None:
    """Show concepts that CLIP hardly tells apart, and those that it puts nearer to a class they do not stand for.

    Example: dissectdb concepts check facial_expressions --study studies/demo.toml
    """
    from extract import concepts
    from reports import terminal

    classes_of = concepts.read(source)
    study = _load_study(study_file, overrides, device, "concepts check")
    from extract.concepts import overlaps  # torch loads here

    found = overlaps.check(overlaps.load(study), classes_of, threshold)
    terminal.show(found.near_duplicates, title="Near-duplicates", empty=f"none above {threshold:g}")
    terminal.show(found.nearer_elsewhere, title="Nearer to a class that they do not stand for", empty="none")


@concepts_app.command("generate")
def generate_concepts(
    classes: Classes,
    model: Model,
    number: Annotated[int, typer.Option(min=2, max=500, help="How many concepts to ask for")] = 25,
    about: About = "images",
    output: ConceptFile = Path("concepts.toml"),
    endpoint: Endpoint = None,
    study_file: Annotated[Path | None, typer.Option("--study", help="A study, for its CLIP")] = None,
    threshold: Threshold = 0.95,
    timeout: Timeout = 120.0,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Ask a language model for a concept set, show it and its near-duplicates, and write it as TOML.

    Example: dissectdb concepts generate --classes happy,sad --model gpt-4o --about "faces"
    """
    from extract.concepts import chat, making
    from reports import terminal

    names = making.class_names(classes)
    making.check_output(output, force)
    if dry_run:
        print(making.generate_prompt(names, number, about))
        return
    target = chat.connect(model, endpoint, timeout)
    reader = None
    if study_file is not None:
        study = _load_study(study_file, None, None, "concepts generate")
        from extract.concepts import overlaps

        reader = overlaps.load(study)  # before asking, so that a mistake in the study costs no answer
    made = making.generate(target, names, number, about)
    _keep_concepts(made, output)
    if len(made.concepts) != number:
        terminal.say(f"{model} named {len(made.concepts)} concepts; it was asked for {number}")
    if reader is None:
        terminal.say("duplicates were looked for by their text only; --study names a CLIP that compares meanings")
    else:
        pairs = overlaps.check(reader, made.concepts, threshold).near_duplicates
        terminal.show(pairs, title="Near-duplicates", empty=f"none above {threshold:g}")


@concepts_app.command("label")
def label_concepts(
    source: Concepts,
    classes: Classes,
    model: Model,
    about: About = "images",
    output: ConceptFile = Path("concepts.toml"),
    endpoint: Endpoint = None,
    timeout: Timeout = 120.0,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Ask a language model which classes each concept of a list stands for, and write the answer as TOML.

    Example: dissectdb concepts label my_concepts.txt --classes happy,sad --model gpt-4o
    """
    from extract import concepts
    from extract.concepts import chat, making

    given, names = list(concepts.read(source)), making.class_names(classes)
    making.check_output(output, force)
    if dry_run:
        print(making.label_prompt(given, names, about))
        return
    _keep_concepts(making.label(chat.connect(model, endpoint, timeout), given, names, about), output)


def _load_study(path: Path, overrides: list[str] | None, device: str | None, command: str | None = None) -> Study:
    """command: one that needs a network."""
    from extract.overrides import pairs
    from extract.study import Study

    study = Study.load(path, pairs(overrides or []) | ({"device": device} if device else {}))
    return study if command is None else study.with_network(command)


def _find_dissection(study: Study, path: Path) -> tuple[Plan, int]:
    """The study with its models loaded, and the dissection in the warehouse that it is about."""
    from extract import edit, jobs

    with _open_to_read(path) as opened:
        plan = jobs.make_plan(study)
        return plan, edit.find_dissection(opened, plan)


def _keep_concepts(made: Made, output: Path) -> None:
    """Show a concept set, then write it: what a model was asked for is not lost where the file cannot be written."""
    from extract.concepts import making
    from reports import terminal

    rows = [{"concept": concept, "classes": ", ".join(of)} for concept, of in made.concepts.items()]
    terminal.show(rows, title=f"{len(rows)} concepts")
    terminal.save(making.as_toml(made).encode(), output)
    print(f"concepts: {output.resolve()}")


def _path(named: Path | None, study: Study | None = None) -> Path:
    """The flag, else the study's, else the environment's, else ./warehouse.duckdb."""
    if named is None and study is not None:
        named = study.warehouse
    return named or Path(os.environ.get("DISSECTDB_WAREHOUSE") or "warehouse.duckdb")


def _open_to_read(path: Path, dissection: int | None = None) -> Warehouse:
    from warehouse import Warehouse

    return Warehouse(path, read_only=True, dissection=dissection)


def _open_to_write(path: Path, dry_run: bool = False) -> Warehouse:
    """For a dry run: what is there, read only, or an empty one in memory where there is none."""
    from warehouse import Warehouse

    if dry_run:
        return Warehouse(path, read_only=True) if path.exists() else Warehouse(":memory:")
    return Warehouse(path)


def _build(opened: Warehouse, **options: Any) -> None:
    from reports import terminal

    done = "stale" if options.get("dry_run") else "built"
    for built in opened.build(**options):
        terminal.say(f"{done} {built.view}: {built.rows:,} rows, {built.seconds:.1f} s")


def main() -> None:
    """Run a command; an expected failure is one line and its exit code, a bug is a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the unit that is under way is left out
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # what typer makes of an interrupt
            print("dissectdb: stopped; the same command goes on from what is committed", file=sys.stderr)
        raise
    except Exception as error:
        code = getattr(error, "exit_code", None)  # our own error classes carry theirs
        if code is None:
            raise
        print(f"dissectdb: {error}", file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    main()
