"""The work behind the commands, as functions for notebooks and scripts: a study in, rows in a warehouse out.

from dissectdb import Study, Warehouse, pipeline

study = Study.load("study.toml")
pipeline.extract(study, "warehouse.duckdb")
with Warehouse("warehouse.duckdb", read_only=True) as warehouse:
    print(warehouse.rows("select layer, unit, concept, z, q from neuron_concepts order by z desc limit 5"))
pipeline.report("warehouse.duckdb", "report.html")

A warehouse is given by its path, or as a WarehouseFile, which also holds its limits of time, memory and threads.
`given` holds objects in place of the study's network and images (dissectdb.given; dissectdb.dissect makes both).
Two optional functions, `say` and `watch`, get the progress (dissectdb.progress); without them nothing is printed.
What the functions log for the user, assumptions and warnings, goes to the logger "dissectdb". Each command ends with
refuse_broken_contracts; a script that wants the same guarantee calls it too.

No other module imports both the warehouse and extract. They are imported inside the functions, so that importing this
module loads neither torch nor DuckDB.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dissectdb.completed_runs import Run
from dissectdb.finished_extraction import find_extraction
from dissectdb.given import NOTHING, Given
from dissectdb.progress import Say, Watch, part_of, silent, unwatched
from dissectdb.report_files import compare as compare
from dissectdb.report_files import report as report
from dissectdb.warehouse_file import IN_MEMORY, AnyWarehouse, WarehouseFile, as_file

if TYPE_CHECKING:
    import polars as pl

    from dissectdb.extract.record.plan import Plan, Step
    from dissectdb.extract.record.recheck import Finding
    from dissectdb.extract.record.shard_writer import Shard
    from dissectdb.extract.study import Study
    from dissectdb.warehouse import Warehouse
    from dissectdb.warehouse.contracts import Contract

log = logging.getLogger("dissectdb")
MUCH_WAITING = 0.1  # share of an extraction's time; if it is less, a faster disk would not help

# ---------------------------------------------------------------- extract


@dataclass(frozen=True)
class Computed:
    """What extract or judge did. computed: False if all was there before. dissection_id: of the study's last one."""

    computed: bool
    dissection_id: int


def extract(
    study: Study,
    warehouse: AnyWarehouse,
    *,
    keep_activations: bool = True,
    given: Given = NOTHING,
    rehash: bool = False,
    say: Say = silent,
    watch: Watch = unwatched,
) -> Computed:
    """Run the network and CLIP over the images that the warehouse lacks, label the neurons and build the views.

    keep_activations: False keeps only the top images and the sums of each neuron. given: objects in place of the
    study's network and images. rehash: read every file again, even if its size and times are as they were. A stopped
    run goes on where it was. Raises StudyError, WarehouseError.
    """
    file = as_file(warehouse)
    file.check_path(read_only=False)  # before the models are loaded
    run = Run("extract", study, file, given, keep_activations=keep_activations)
    if not rehash and (result := run.result()):
        return Computed(False, result["dissection_id"])
    from dissectdb.extract.judging import quality
    from dissectdb.extract.record import class_checks, extraction
    from dissectdb.extract.scoring import labels

    with run.listening():
        plan = _load_plan(study, keep_activations, say, watch, given)
        with file.to_write(deterministic=study.deterministic) as opened:
            older = _dissections(opened)
            computed = [_record(each, opened, say, watch) for each in extraction.all_plans(plan)]
            label(opened, study.device, watch=watch)
            dissection_ids = plan.dissection_ids(opened)
            _tell_new(dissection_ids, older)
            class_checks.warn_of_order(opened, plan)
            labels.tell_unlabelled(opened, dissection_ids)
            quality.tell_unmeasured(opened, dissection_ids)
            run.enter(opened, {"dissection_id": dissection_ids[-1]}, plan.network)
    return Computed(any(computed), dissection_ids[-1])


def _dissections(opened: Warehouse) -> list[int]:
    return list(opened.rows("select dissection_id from dissections order by dissection_id")["dissection_id"])


def _tell_new(dissection_ids: Sequence[int], older: Sequence[int]) -> None:
    """Log that a changed study made a dissection beside those that were there, and which one is shown now."""
    if older and (new := [number for number in dissection_ids if number not in older]):
        log.info(
            f"dissection {' and '.join(map(str, new))} is new, and older ones stay: the newest is shown, "
            f"--dissection {older[-1]} shows another; report --compare {older[-1]} {new[-1]} shows both"
        )


def _record(plan: Plan, opened: Warehouse, say: Say, watch: Watch) -> bool:
    """Write what the warehouse lacks of a plan but its labels; False if nothing is stale."""
    from dissectdb.extract.record import extraction
    from dissectdb.extract.record.judge_plan import JudgePlan

    if plan.is_done(opened):
        return False
    entered = extraction.enter(plan, opened, watch)
    with watch(f"extracting {plan.network.name}") as progress:
        waited = opened.load(extraction.run(plan, opened, entered, progress))
    if waited >= MUCH_WAITING:
        say(f"of this time, {waited:.0%} was spent waiting for the database")
    if isinstance(plan, JudgePlan):
        plan.appoint(opened)
    return True


def plan_extraction(
    study: Study,
    warehouse: AnyWarehouse,
    *,
    keep_activations: bool = True,
    given: Given = NOTHING,
    rehash: bool = False,
    say: Say = silent,
    watch: Watch = unwatched,
) -> list[Step]:
    """What extract would do; empty if nothing is stale. Writes nothing. Raises StudyError, WarehouseError."""
    file = as_file(warehouse)
    if not rehash and Run("extract", study, file, given, keep_activations=keep_activations).result():
        return []
    from dissectdb.extract.record import extraction

    plan = _load_plan(study, keep_activations, say, watch, given)
    with file.to_read() if file.path.exists() else replace(file, path=IN_MEMORY).to_write() as opened:
        return [step for each in extraction.all_plans(plan) for step in each.steps(opened)]


@dataclass(frozen=True)
class ShardExtraction:
    """What extract_shard did. computed: False if the files of the shard were there before."""

    shard: Shard
    computed: bool


def extract_shard(
    study: Study,
    sink: str,
    shard: str | None = None,
    *,
    keep_activations: bool = True,
    memory: str | None = None,
    threads: str | int | None = None,
    say: Say = silent,
    watch: Watch = unwatched,
) -> ShardExtraction:
    """Write the Parquet files of one shard to sink, "parquet:DIR", to be merged by import_folder. Raises StudyError.

    shard: as choose_shard takes it. memory, threads: limits of the small database that the shard's catalog is made in.
    """
    from dissectdb.extract.record import shard_writer
    from dissectdb.warehouse import exchange

    chosen = choose_shard(shard)
    shard_writer.open_sink(sink)  # to refuse a wrong one before the models are loaded
    plan = _load_plan(study, keep_activations, say, watch)
    if study.controls:
        say("shards leave out the control networks; extract on the merged warehouse computes them")
    if study.judge and study.judge.clip:
        say("shards leave out the CLIP of [judge]; extract on the merged warehouse runs it")
    catalog_file = WarehouseFile(IN_MEMORY, memory=memory, threads=threads)
    with catalog_file.to_write() as catalog, watch(f"extracting shard {chosen}") as progress:

        def export(folder: Path) -> object:
            return list(exchange.export(catalog, folder))

        return ShardExtraction(chosen, shard_writer.run(plan, catalog, sink, chosen, export, progress))


def choose_shard(text: str | None = None) -> Shard:
    """The shard that "I/N" names. Default: what SLURM or torchrun set for this process, else 0/1. Raises StudyError."""
    from dissectdb.extract.record import shard_writer

    return shard_writer.choose(text, os.environ)


def _load_plan(study: Study, keep_activations: bool, say: Say, watch: Watch, given: Given = NOTHING) -> Plan:
    """The plan of an extraction, with the network and CLIP loaded, or with the file of arrays opened."""
    from dissectdb.extract.record import extraction
    from dissectdb.extract.record.network_plan import NetworkPlan

    with watch("reading the arrays" if study.arrays else "loading the network and CLIP", unit=""):
        plan = extraction.make_plan(study, given)
    plan = replace(plan, keep_activations=keep_activations and plan.keep_activations)
    if isinstance(plan, NetworkPlan):
        say(plan.preprocessing())
    return plan


# ---------------------------------------------------------------- labels and views


def label(opened: Warehouse, device: str = "auto", *, watch: Watch = unwatched) -> None:
    """Compute what the dissections lack: null distributions, labels, their checks and measures, and the views.

    Activation maps that better images have overtaken are deleted.
    Views that labels.run reads are built first, also for the question which layers have no labels.
    """
    from dissectdb.extract.judging import quality
    from dissectdb.extract.models import devices
    from dissectdb.extract.record import maps
    from dissectdb.extract.scoring import labels
    from dissectdb.extract.scoring.chunks import threads_within_cores

    with watch("labelling and building", unit="views") as progress, threads_within_cores():
        counted = part_of(progress)
        build_views(opened, select=labels.READS, watch=counted)
        maps.discard_overtaken(opened)
        opened.load(labels.run(opened, devices.choose(device)))
        build_views(opened, select=quality.READS, watch=counted)
        opened.load(quality.run(opened))
        build_views(opened, watch=counted)


def build_views(opened: Warehouse, *, select: Collection[str] = (), watch: Watch = unwatched) -> None:
    """Build the stale views, or of them only `select` and what those read."""
    with watch("building", unit="views") as progress:
        for views, _ in enumerate(opened.build(select=select), start=1):
            progress(views, None)


def import_folder(folder: Path, warehouse: AnyWarehouse, *, watch: Watch = unwatched) -> Counter[str]:
    """Make a new warehouse from an export or from shards; returns table → rows. The neurons of shards are labelled."""
    from dissectdb.warehouse import shard_reader

    def finish(opened: Warehouse) -> None:
        if shard_reader.is_folder_of_shards(folder):  # an export holds its labels
            label(opened, watch=watch)

    return as_file(warehouse).import_folder(folder, finish)


# ---------------------------------------------------------------- edits and effects


@dataclass(frozen=True)
class Modification:
    """The edit that modify chose, and the checkpoint of the edited network."""

    edit_id: int
    checkpoint: Path


def modify(
    study: Study,
    warehouse: AnyWarehouse,
    *,
    edit: str | None = None,
    given: Given = NOTHING,
    rehash: bool = False,
    say: Say = silent,
    watch: Watch = unwatched,
) -> Modification:
    """Try the study's edits on validation, judge the best one on test beside its controls, and save its network.

    edit: try only the edit of this name. given, rehash: as of extract. Raises StudyError, WarehouseError.
    """
    file = as_file(warehouse)
    file.check_path(read_only=True)  # before torch is loaded
    run = Run("modify", study, file, given, edit=edit, folder=os.path.abspath(_checkpoints(file)))
    if not rehash and (result := run.result()):
        return Modification(result["edit_id"], _checkpoints(file) / result["checkpoint"])
    from dissectdb.extract.editing import edits, protocol

    tried = edits.choose(study.with_network("modify").tried(), edit)
    with run.listening():
        splits = (protocol.SEARCHED, protocol.OPENED)
        plan, dissection_id = find_extraction(study, file, splits, "modify", given, rehash=rehash, watch=watch)
        with file.to_write(deterministic=study.deterministic) as opened:
            build_views(opened, watch=watch)  # the rules read views, which a stopped run may have left stale
        with file.to_read(dissection_id) as opened:
            planned = edits.plan_edits(opened, plan, dissection_id, tried)
        with file.to_write(deterministic=study.deterministic) as opened:
            chosen, checkpoint = protocol.run(opened, plan, planned, _checkpoints(file), watch, say)
            build_views(opened, watch=watch)
            result = {"edit_id": chosen.edit_id, "checkpoint": checkpoint.name}
            run.enter(opened, result, plan.network, written=[checkpoint])
    return Modification(chosen.edit_id, checkpoint)


def plan_edits(
    study: Study, warehouse: AnyWarehouse, *, edit: str | None = None, given: Given = NOTHING
) -> list[dict[str, object]]:
    """What each edit that modify would try changes, a row per edit. Raises StudyError, WarehouseError."""
    file = as_file(warehouse)
    file.check_path(read_only=True)
    from dissectdb.extract.editing import edits, protocol

    tried = edits.choose(study.with_network("modify").tried(), edit)
    plan, dissection_id = find_extraction(study, file, (protocol.SEARCHED, protocol.OPENED), "modify", given)
    with file.to_read(dissection_id) as opened:
        planned = edits.plan_edits(opened, plan, dissection_id, tried)
    return protocol.describe(plan, planned, _checkpoints(file))


def _checkpoints(file: WarehouseFile) -> Path:
    """The folder for the checkpoints of edited networks, beside the warehouse."""
    return file.path.parent / "edits"


def effects(
    study: Study,
    warehouse: AnyWarehouse,
    *,
    given: Given = NOTHING,
    rehash: bool = False,
    say: Say = silent,
    watch: Watch = unwatched,
) -> int:
    """Silence neurons, one by one and by concept, and measure each class without them; returns the dissection's id.

    given, rehash: as of extract. Raises StudyError, WarehouseError.
    """
    file, splits = as_file(warehouse), (study.effects.split,) if study.effects else ()
    file.check_path(read_only=True)  # before torch is loaded
    run = Run("effects", study, file, given)
    if not rehash and (result := run.result()):
        return result["dissection_id"]
    from dissectdb.extract.editing import ablations

    with run.listening():
        plan, dissection_id = find_extraction(study, file, splits, "effects", given, rehash=rehash, watch=watch)
        with file.to_write(deterministic=study.deterministic) as opened:
            build_views(opened, watch=watch)
            opened.load(ablations.run(opened, plan, dissection_id, watch, say))
            build_views(opened, watch=watch)
            run.enter(opened, {"dissection_id": dissection_id}, plan.network)
    return dissection_id


# ---------------------------------------------------------------- labels, judged


def judge(
    study: Study,
    warehouse: AnyWarehouse,
    labels: Sequence[str] = (),
    *,
    given: Given = NOTHING,
    say: Say = silent,
    watch: Watch = unwatched,
) -> Computed:
    """Judge the study's labels and those of files on the activations in the warehouse.

    labels: files, as FILE, NAME=FILE or NAME@LAYER=FILE. given: as of extract. Raises StudyError, LabelFileError,
    WarehouseError.
    """
    file = as_file(warehouse)
    file.check_path(read_only=True)
    from dissectdb.extract.judging import judge_rivals, probed_split, rivals

    asked = rivals.asked_files(labels)  # a wrong file is refused before the models are loaded
    with file.to_read() as opened:
        rivals.refuse_strangers(opened, asked)
    plan = _load_plan(study, True, say, watch, given)
    with file.to_read() as opened:
        probed_split.open_probed_split(opened, plan)
    with file.to_write(deterministic=study.deterministic) as opened:
        build_views(opened, watch=watch)  # a stopped run may have left the labels stale
        computed = judge_rivals.judge(opened, plan, asked, watch)
        build_views(opened, watch=watch)
        return Computed(computed, plan.dissection_ids(opened)[-1])


# ---------------------------------------------------------------- checks


def check(warehouse: AnyWarehouse) -> list[tuple[Contract, pl.DataFrame]]:
    """Each contract of sql/checks with the rows that break it; without those that read views that are not built.

    Raises WarehouseError if nothing was extracted.
    """
    from dissectdb.warehouse import WarehouseError

    file = as_file(warehouse)
    with file.to_read() as opened:
        if opened.rows("select 1 from extraction_blocks limit 1").is_empty():
            raise WarehouseError(
                f"{file.path}: nothing has been extracted, so there is nothing to check; run: dissectdb extract STUDY"
            )
        known = [contract for contract in opened.checks() if not opened.unbuilt(contract.sql)]
        return [(contract, opened.rows(contract.sql)) for contract in known]


def refuse_broken_contracts(warehouse: AnyWarehouse) -> None:
    """Check the contracts that take no time, as every command does at its end. Raises WarehouseError."""
    from dissectdb.warehouse import WarehouseError

    file = as_file(warehouse)
    with file.to_read() as opened:
        counts = {contract.name: len(opened.rows(contract.sql)) for contract in opened.checks() if contract.cheap}
    if broken := [f"{name} ({rows:,} rows)" for name, rows in counts.items() if rows]:
        raise WarehouseError(
            f"{file.path} breaks {', '.join(broken)}; to see the rows, run: dissectdb check -w {file.path}"
        )


def recheck(
    study: Study, warehouse: AnyWarehouse, *, images: int = 64, seed: int | None = None, given: Given = NOTHING
) -> tuple[int, list[Finding]]:
    """Compute a sample of a study's images again and compare it with what is stored; returns the seed and the findings.

    images: of each split. seed: of the sample. Default: drawn at random. Raises StudyError, WarehouseError.
    """
    from dissectdb.extract.record import extraction, recheck

    seed = secrets.randbelow(2**31) if seed is None else seed
    file = as_file(warehouse)
    file.check_path(read_only=True)  # before the models are loaded
    plan = extraction.make_plan(study, given)
    with file.to_read() as opened:
        return seed, list(recheck.recheck(plan, opened, images, seed))
