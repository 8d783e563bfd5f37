"""Prints tables, files of rows and progress: results to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import polars as pl

from dissectdb.output import save

# Columns that are NULL if the images or labels have no true class to compare with; such a NULL is shown as "unknown".
# The accuracy of a layer's interpretable neurons is not among them: it is also NULL if the layer has none.
UNKNOWN = ("correct", "accuracy", "loss", "overall_accuracy")

AFTER_EXTRACT = {
    "Images": """
        select
            splits.split,
            count(*) filter (where defect is null) as images,
            count(*) filter (where defect like 'blank%') as blank,
            count(*) filter (where defect like 'repeat%') as repeats,
            count(*) filter (where defect like 'unreadable%') as unreadable
        from images
        inner join splits on images.split_id = splits.split_id
        where splits.dataset_id in (
            select probed.dataset_id
            from shown_dissection
            inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
            inner join splits as probed on dissections.split_id = probed.split_id
        )
        group by splits.split, splits.split_id
        order by splits.split_id
    """,
    "How often the network is right": """
        select
            network_accuracies.split,
            network_accuracies.images,
            network_accuracies.num_unknown,
            network_accuracies.correct,
            network_accuracies.accuracy
        from shown_dissection
        inner join dissections on shown_dissection.dissection_id = dissections.dissection_id
        inner join splits as probed on dissections.split_id = probed.split_id
        inner join network_accuracies on dissections.network_id = network_accuracies.network_id
        inner join splits
            on network_accuracies.split_id = splits.split_id and probed.dataset_id = splits.dataset_id
        order by network_accuracies.split_id
    """,
    "Layers": """
        select
            layer, neurons, num_interpretable, num_above_tau, num_calibrated, overall_accuracy,
            interpretable_accuracy, uninterpretable_accuracy, num_dead, num_sparse
        from layer_summary
        order by position
    """,
    "A few neurons": """
        select layer, unit, concept, similarity, runner_up, margin, z, q
        from neuron_concepts
        where calibrated or interpretable
        qualify
            row_number() over (
                partition by layer
                order by calibrated desc, z desc nulls last, similarity desc, unit
            ) = 1
        order by calibrated desc, z desc nulls last, similarity desc, layer
        limit 8
    """,
}

EDIT = {
    "edit": """
        select
            edits.name, coalesce(edited_layers.layer, edits.layer) as layer, edits.rule, networks.name as network,
            parents.name as parent
        from edits
        left join edited_layers on edits.edit_id = edited_layers.edit_id
        inner join networks on edits.network_id = networks.network_id
        left join networks as parents on networks.parent_network_id = parents.network_id
        where edits.edit_id = $edit_id
    """,
    "results": """
        select
            split, images, correct_before, correct_after, gained, lost, low, high, loss_before, loss_after, ece_before,
            ece_after, p_mcnemar, percentile, p_corrected, edits_tried, detectable, verdict, is_probing_set
        from edit_results
        where edit_id = $edit_id
        order by split_id
    """,
    "controls": """
        select split, control, draws, lowest, mean, highest, difference, percentile, p
        from edit_controls
        where edit_id = $edit_id
        order by split_id, control
    """,
}

AFTER_EFFECTS = {
    "Concepts that a class needs most: its loss when their neurons are silent, beside random neurons": """
        select layer, class, concept, neurons, delta_accuracy, delta_loss, random_delta_loss, excess, p, images
        from concept_effects
        where delta_loss > 0
        qualify row_number() over (partition by layer, split, class order by excess desc nulls last, concept) <= 2
        order by layer, class, excess desc
    """,
    "Single neurons that a class needs most": """
        select layer, unit, concept, class, delta_accuracy, delta_loss, loss_low, loss_high, flips, images
        from neuron_effects
        where class is not null
        qualify row_number() over (partition by layer, split, class order by delta_loss desc, unit) = 1
        order by layer, class
    """,
}

STATUS = {
    "Tables": "select table_name, estimated_size as rows from duckdb_tables() where estimated_size > 0 order by 2 desc",
    "Networks": """
        select network, dataset, split, images, num_unknown, correct, accuracy, loss from network_accuracies
        order by network_id, split_id
    """,
    "Dissections": """
        select
            dissection_id, network, dataset, probing_split, images, images_left_out, clip, concept_set, concepts,
            scorer, rule, shown
        from dissection_summary
        order by dissection_id
    """,
    "Left out": """
        with reasons as (
            select
                splits.dataset_id,
                regexp_extract(images.defect, '^\\w+') as reason,
                splits.split as detail,
                count(*) as files
            from images
            inner join splits on images.split_id = splits.split_id
            where images.defect is not null
            group by all
            union all
            select dataset_id, reason, detail, files from left_out
        )

        select named_datasets.dataset, reasons.reason, reasons.detail, reasons.files
        from reasons
        inner join named_datasets on reasons.dataset_id = named_datasets.dataset_id
        order by named_datasets.dataset_id, reasons.files desc, reasons.reason, reasons.detail
    """,
    "Unfinished extractions": """
        select extractions.target, extractions.extraction_id, splits.split, sum(extraction_blocks.images) as images
        from extractions
        inner join splits on extractions.split_id = splits.split_id
        left join extraction_blocks on extractions.extraction_id = extraction_blocks.extraction_id
        where extractions.extraction_id not in (select extraction_id from finished_extractions)
        group by all
        order by 2
    """,
}


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def show(rows: pl.DataFrame | Sequence[Any], *, title: str = "", empty: str = "") -> None:
    """Print rows (a frame, dicts or dataclasses) as a table with a title, or `empty` if there are none."""
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows))
    if title:
        print(f"\n{title}")
    if frame.is_empty() and empty:
        print(empty)
        return
    print(as_text(say_unknown(frame)))


def say_unknown(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with "unknown" in place of null in the columns of UNKNOWN."""
    texts = [
        pl.Series(name, [_number_or_unknown(value) for value in frame[name]])
        for name in UNKNOWN
        if name in frame.columns and frame[name].null_count()
    ]
    return frame.with_columns(texts)


def _number_or_unknown(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def show_edit(answers: Mapping[str, pl.DataFrame], checkpoint: Path, warehouse: Path) -> None:
    """Print what a chosen edit did: its numbers, its controls, and one sentence per split on whether it helped."""
    [edit] = answers["edit"].to_dicts()
    results = answers["results"]
    parent = f", itself an edit of {edit['parent']}" if edit["parent"] else ""
    title = f"Edit {edit['name']} of {edit['network']}{parent}, layer {edit['layer']}"
    show(results.drop("verdict", "is_probing_set", "edits_tried"), title=title)
    show(answers["controls"], title="Beside its controls: right images more or fewer than before", empty="none")
    print()
    for row in results.to_dicts():
        print(verdict(row))
    print(f"\ncheckpoint: {checkpoint}\nnext: dissectdb report --warehouse {warehouse}")


def verdict(row: Mapping[str, Any]) -> str:
    """One line on whether an edit helped on a split."""
    gain = row["correct_after"] - row["correct_before"]
    percentile = "" if row["percentile"] is None else f", {ordinal(100 * row['percentile'])} percentile of random edits"
    tried = row["edits_tried"]
    chosen = f" (the best of {tried:,} tried: p corrected {row['p_corrected']:.2g})" if tried > 1 else ""
    same_images = "; the labels were made on these very images" if row["is_probing_set"] else ""
    return (
        f"{row['split']}: {gain:+,} of {row['images']:,}, p = {row['p_mcnemar']:.2g}{percentile}{chosen}: "
        f"{row['verdict']}{same_images}"
    )


def ordinal(number: float) -> str:
    """A number in words of rank: 41st, 12th."""
    whole = round(number)
    ending = "th" if whole // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"


def as_text(frame: pl.DataFrame) -> str:
    """A frame as aligned text: every row and column, numbers with at most four decimals."""
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=-1,
        fmt_str_lengths=200,
        tbl_formatting="ASCII_BORDERS_ONLY_CONDENSED",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_cell_numeric_alignment="RIGHT",
        thousands_separator=",",
        float_precision=4,
    ):
        return str(frame)


def as_json(frame: pl.DataFrame) -> str:
    """A frame as a JSON list of objects. Bytes become base 64, decimals become numbers."""
    integers = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Decimal) and kind.scale == 0]
    frame = frame.with_columns(pl.col(integers).cast(pl.Int64, strict=False)).cast({pl.Decimal: pl.Float64})
    return frame.with_columns(pl.col(pl.Binary).bin.encode("base64")).write_json()


def as_csv(frame: pl.DataFrame) -> str:
    """A frame as CSV. Bytes become base 64, lists and structs become JSON."""
    frame = frame.with_columns(pl.col(pl.Binary).bin.encode("base64"))
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    texts = [
        pl.Series(name, [None if value is None else json.dumps(value, default=str) for value in frame[name].to_list()])
        for name in nested
    ]
    return frame.with_columns(texts).write_csv()


def write(frame: pl.DataFrame, format: Literal["table", "json", "csv", "parquet"], output: Path | None) -> None:
    """Write a frame to a file, or print it. Parquet needs a file."""
    if format == "parquet":
        assert output is not None  # the command refuses it
        content = io.BytesIO()
        frame.write_parquet(content)
        save(content.getvalue(), output)
        return
    text = {"table": as_text, "json": as_json, "csv": as_csv}[format](frame)
    if output is not None:
        save((text if text.endswith("\n") else f"{text}\n").encode(), output)
    else:
        print(text.rstrip("\n"))


class Progress:
    """with Progress("extracting") as progress: progress(done, total)

    On a terminal it is a bar with rate and time left; elsewhere one line every ten seconds and one at the end.
    """

    def __init__(self, what: str, every: float = 10.0, unit: str = "images") -> None:
        self.what, self.every, self.unit = what, every, unit
        self.started = self.last = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            rate = TextColumn("{task.fields[rate]:,.0f} " + f"{self.unit}/s")
            columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
            self.bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.what, total=None, rate=0)
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int | None) -> None:
        """Show what is done. total: None if it is not known yet."""
        now = time.monotonic()
        rate = done / max(now - self.started, 1e-9)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total, rate=rate)
        elif now - self.last >= self.every or done == total:
            self.last = now
            if total is None:
                say(f"{self.what}: {done:,} {self.unit}, {rate:,.0f} {self.unit}/s")
                return
            left = (total - done) / max(rate, 1e-9)
            say(f"{self.what}: {done:,} of {total:,} {self.unit}, {rate:,.0f} {self.unit}/s, {left:,.0f} s left")
