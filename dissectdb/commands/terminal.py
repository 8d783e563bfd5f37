"""Prints tables, files of rows and progress: results to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from dissectdb.output import save
from dissectdb.reports.questions import load

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

TOO_FEW_IMAGES = "no label could be measured: each half of the images needs 20 with the concept and 20 without it"
# Columns that are NULL if the images or labels have no true class to compare with; such a NULL is shown as "unknown".
# The accuracy of a layer's interpretable neurons is not among them: it is also NULL if the layer has none.
UNKNOWN = ("correct", "accuracy", "loss", "overall_accuracy")

_SQL = {name: question.sql for name, question in load("terminal").items()}

# What commands show at their end: title of the table → query.
AFTER_EXTRACT = {
    "Images": _SQL["images_by_split"],
    "How often the network is right": _SQL["accuracies_of_shown"],
    "Layers": _SQL["layers"],
    "A few neurons": _SQL["strongest_neurons"],
}
EDIT = {"edit": _SQL["edit"], "results": _SQL["edit_results"], "controls": _SQL["edit_controls"]}
AFTER_EFFECTS = {
    "Concepts that a class needs most: its loss when their neurons are silent, beside random neurons": _SQL[
        "concepts_needed"
    ],
    "Single neurons that a class needs most": _SQL["neurons_needed"],
}
STATUS = {
    "Tables": _SQL["tables"],
    "Networks": _SQL["networks"],
    "Dissections": _SQL["dissections"],
    "Left out": _SQL["left_out"],
    "Unfinished extractions": _SQL["unfinished_extractions"],
}


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def public_views() -> pl.DataFrame:
    """The views that users query, each with the sentence that says what a row of it is."""
    from dissectdb.warehouse.view_files import load_views

    views = sorted((view.name, view.title) for view in load_views() if view.public)
    return pl.DataFrame(views, schema=["view", "one row is"], orient="row")


def show(rows: pl.DataFrame | Sequence[object], *, title: str = "", empty: str = "") -> None:
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


def show_judged(summary: pl.DataFrame) -> None:
    """Print one table per layer: each method with the means of its measures, and the correlation of its controls."""
    kept = (
        "method", "reference", "neurons", "labels", "most_sharing", "share_believed", "random_believed",
        "pearson", "pearson_low", "pearson_high", "random_pearson", "shuffled_pearson", "ap_corrected", "f1", "iou",
        "auc", "names_output", "output_similarity",
    )  # fmt: skip
    for (layer, dataset, split), rows in summary.group_by("layer", "dataset", "split", maintain_order=True):
        known = [name for name in kept if rows[name].null_count() < len(rows)]
        show(rows.select(known), title=f"Labels of {layer}, on {split} images of {dataset}")
    if summary["measured"].sum() == 0:
        print(TOO_FEW_IMAGES)


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

    def __init__(self, what: str, unit: str = "images", every: float = 10.0) -> None:
        self.what, self.every, self.unit = what, every, unit
        self.started = self.last = time.monotonic()
        self.bar: Bar | None = None

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
