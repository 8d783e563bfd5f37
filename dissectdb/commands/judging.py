"""The command that judges labels: judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dissectdb import pipeline
from dissectdb.commands.options import (
    WAIT,
    Device,
    Memory,
    Overrides,
    StudyFile,
    StudyWarehousePath,
    Threads,
    Wait,
    load_study,
    warehouse_file,
)


def judge(
    study_file: StudyFile,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A CSV of labels: layer, unit, label, or as another tool writes it; NAME=FILE names the method, "
            "NAME@LAYER=FILE one layer",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write an HTML page")] = None,
    warehouse: StudyWarehousePath = None,
    overrides: Overrides = None,
    device: Device = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Judge labels of neurons, those of files and the study's own, on the activations in the warehouse.

    Example: dissectdb judge study.toml --labels descriptions.csv --labels MILAN=milan.csv -o judge.html
    """
    from dissectdb.commands import next_steps, stages, terminal
    from dissectdb.extract.judging.rivals import AskedFile
    from dissectdb.reports import judge as judged_page

    study = load_study(study_file, overrides, device)
    file = warehouse_file(warehouse or study.warehouse, wait, memory, threads)
    done = pipeline.judge(study, file, labels or [], say=stages.say, watch=stages.Stage)
    if not done.computed:
        print("nothing to judge: all these labels are judged")
    with file.to_read(done.dissection_id) as opened:
        rows = judged_page.ask(opened.rows, [AskedFile.parse(text).method for text in labels or []])
    terminal.show_judged(rows["summary"], rows["pairs"])
    if output is not None:
        judged_page.write(rows, output)
        print(f"page: {output.resolve()}")
    run = next_steps.Run(file.path, study_file, overrides or ())
    of_files = [part for text in labels or [] for part in ("--labels", text)]
    page = () if output else (run.with_study("judge", *of_files, "-o", "judge.html"),)
    shown = rows["summary"]["rival_id"].unique().sort().to_list()
    scores = (run.query(next_steps.JUDGED.format(rivals=", ".join(map(str, shown)))),) if shown else ()
    next_steps.show(*page, *scores)
    pipeline.refuse_broken_contracts(file)
