"""The commands that run networks: demo, extract, modify, effects, train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dissectdb import ROOT, pipeline
from dissectdb.commands import next_steps, stages
from dissectdb.commands.options import (
    WAIT,
    Deterministic,
    Device,
    DryRun,
    Memory,
    Overrides,
    Rehash,
    StudyFile,
    StudyWarehousePath,
    Threads,
    Wait,
    load_study,
    warehouse_file,
)

if TYPE_CHECKING:
    import polars as pl

    from dissectdb.extract.study import Study
    from dissectdb.warehouse_file import WarehouseFile

DEMO = ROOT / "studies" / "demo.toml"


def demo(
    folder: Annotated[Path, typer.Option(help="The folder for the warehouse and the report")] = Path("demo"),
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Explain and edit a network on built-in faces: extract, build, modify, effects, report; offline."""
    folder.mkdir(parents=True, exist_ok=True)
    study, path = load_study(DEMO, None), folder / "warehouse.duckdb"
    file = warehouse_file(path, WAIT, memory, threads)
    _extract(study, file)
    _modify(study, file)
    _effects(study, file)
    output = folder / "report.html"
    if not _is_newer(output, [path, *(ROOT / "reports").rglob("*"), *(ROOT / "sql").rglob("*.sql")]):
        with stages.Stage("writing the report", unit=""):
            pipeline.report(file, output)
    print(f"\nreport: {output.resolve()}")
    run = next_steps.Run(path)
    next_steps.show(run.query(), run.query(next_steps.NEEDED), "dissectdb init")


def _is_newer(output: Path, sources: Iterable[Path]) -> bool:
    """Whether a file is there and was written after all files that it is made from."""
    return output.is_file() and output.stat().st_mtime > max(source.stat().st_mtime for source in sources)


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
        str | None,
        typer.Option(metavar="I/N", help="Compute shard I of N, counted from 0. Default: from SLURM or torchrun"),
    ] = None,
    activations: Annotated[
        Literal["all", "none"], typer.Option(help="none keeps only the top images and sums of each neuron")
    ] = "all",
    dry_run: DryRun = False,
    rehash: Rehash = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Run the network and CLIP over the probing images, as far as it is not done, then build the views.

    Example: dissectdb extract studies/fer2013.toml --set dataset.path=fer2013.csv
    """
    from dissectdb.commands import tables

    study = load_study(study_file, overrides, device, deterministic)
    if shard is not None and sink is None:
        raise typer.BadParameter("a shard needs --sink parquet:DIR", param_hint="--shard")
    path = pipeline.IN_MEMORY if sink else warehouse or study.warehouse
    file, keep_activations = warehouse_file(path, wait, memory, threads), activations == "all"
    if dry_run:
        title = f"Of this, shard {pipeline.choose_shard(shard)}" if sink else ""
        steps = pipeline.plan_extraction(
            study, file, keep_activations=keep_activations, rehash=rehash, say=stages.say, watch=stages.Stage
        )
        tables.show(steps, title=title, empty="nothing is stale")
        return
    if sink is not None:
        written = pipeline.extract_shard(
            study, sink, shard, keep_activations=keep_activations, memory=memory, threads=threads, say=stages.say,
            watch=stages.Stage,
        )  # fmt: skip
        name = f"shard {written.shard}"
        print(f"{name}: {sink}" if written.computed else f"nothing is stale: {name} is in {sink}")
        return
    _extract(study, file, keep_activations=keep_activations, rehash=rehash)
    run = next_steps.Run(file.path, study_file, overrides or ())
    with_edits = study.network is not None and study.tried()
    more = [name for name, is_asked in (("modify", with_edits), ("effects", study.effects)) if is_asked]
    next_steps.show(run.report(), run.query(), *map(run.with_study, more))


def _extract(study: Study, file: WarehouseFile, *, keep_activations: bool = True, rehash: bool = False) -> None:
    """Extract, and print what is in the warehouse then."""
    from dissectdb.commands import terminal

    done = pipeline.extract(
        study, file, keep_activations=keep_activations, rehash=rehash, say=stages.say, watch=stages.Stage
    )
    if not done.computed:
        print("nothing is stale: every block of this study is in the warehouse")
    answers = _answers(file, terminal.AFTER_EXTRACT | terminal.FOUND, done.dissection_id)
    terminal.show_answers({title: answers[title] for title in terminal.AFTER_EXTRACT})
    terminal.show_found(terminal.found_labels(answers))
    pipeline.refuse_broken_contracts(file)


def modify(
    study_file: StudyFile,
    warehouse: StudyWarehousePath = None,
    edit: Annotated[str | None, typer.Option(help="Only the edit of this name")] = None,
    overrides: Overrides = None,
    device: Device = None,
    deterministic: Deterministic = False,
    dry_run: DryRun = False,
    rehash: Rehash = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Try the study's edits on validation, judge the best of them on test beside its controls, save its network.

    Example: dissectdb modify studies/demo.toml --edit paper
    """
    from dissectdb.commands import tables

    study = load_study(study_file, overrides, device, deterministic)
    file = warehouse_file(warehouse or study.warehouse, wait, memory, threads)
    if dry_run:
        planned = pipeline.plan_edits(study, file, edit=edit)
        tables.show(planned, title="Of these edits one would be chosen")
        return
    _modify(study, file, edit=edit, rehash=rehash)
    run = next_steps.Run(file.path, study_file, overrides or ())
    next_steps.show(run.report(), run.query(next_steps.FLIPS), *([run.with_study("effects")] if study.effects else []))


def _modify(study: Study, file: WarehouseFile, *, edit: str | None = None, rehash: bool = False) -> None:
    """Modify, and print what the chosen edit did."""
    from dissectdb.commands import terminal

    done = pipeline.modify(study, file, edit=edit, rehash=rehash, say=stages.say, watch=stages.Stage)
    with file.to_read() as opened:
        answers = {name: opened.rows(query, {"edit_id": done.edit_id}) for name, query in terminal.EDIT.items()}
    terminal.show_edit(answers, done.checkpoint)
    pipeline.refuse_broken_contracts(file)


def effects(
    study_file: StudyFile,
    warehouse: StudyWarehousePath = None,
    overrides: Overrides = None,
    device: Device = None,
    deterministic: Deterministic = False,
    rehash: Rehash = False,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Silence neurons, one by one and by concept, and measure which classes suffer, as the study's effects say.

    Example: dissectdb effects studies/demo.toml
    """
    study = load_study(study_file, overrides, device, deterministic)
    file = warehouse_file(warehouse or study.warehouse, wait, memory, threads)
    _effects(study, file, rehash=rehash)
    run = next_steps.Run(file.path, study_file, overrides or ())
    next_steps.show(run.report(), run.query(next_steps.NEEDED))


def _effects(study: Study, file: WarehouseFile, *, rehash: bool = False) -> None:
    """Silence neurons, and print which classes need them."""
    from dissectdb.commands import terminal

    dissection_id = pipeline.effects(study, file, rehash=rehash, say=stages.say, watch=stages.Stage)
    answers = _answers(file, terminal.AFTER_EFFECTS, dissection_id)
    terminal.show_answers(answers)
    terminal.show_found(terminal.found_effects(answers))
    pipeline.refuse_broken_contracts(file)


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
    study = load_study(study_file, overrides, device).with_network("train")
    from dissectdb.extract.training import run

    def on_epoch(record: dict[str, float]) -> None:
        stages.say("  ".join(f"{name} {value:.4g}" for name, value in record.items()))

    run.run(study, output, epochs=epochs, seed=seed, on_epoch=on_epoch)
    print(f"checkpoint: {output.resolve()}")


def _answers(file: WarehouseFile, questions: Mapping[str, str], dissection_id: int) -> dict[str, pl.DataFrame]:
    """The answers to questions (title → SELECT) about a dissection."""
    with file.to_read(dissection_id) as opened:
        return {title: opened.rows(query) for title, query in questions.items()}
