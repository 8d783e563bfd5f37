"""Measure what the end of a run costs: the labels, their tests and measures, and the views of a finished warehouse.

    cp warehouse.duckdb copy.duckdb
    python -m bench.labels copy.duckdb                  # every dissection is labelled anew
    python -m bench.labels copy.duckdb --dissection 3   # one of them
    python -m bench.labels --tiny                       # extract of the tests' tiny world instead

The warehouse is changed: its labels are computed again, and p within classes then comes from other draws.
CPU: seconds of all threads in user and system mode.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from bench.made import show
from dissectdb import pipeline
from dissectdb.extract.judging import quality
from dissectdb.extract.scoring import class_null, labels, robustness, several_words
from dissectdb.warehouse import Warehouse

STEPS: dict[str, tuple[object, str]] = {  # of pipeline.label; they do not overlap
    "null": (labels, "draw_null"),
    "scores": (labels, "score_layer"),
    "p within classes": (class_null, "within_classes"),
    "halves": (robustness, "split_half"),
    "several words": (several_words, "find_words"),
    "measures": (quality, "judged_unit"),
    "views": (pipeline, "build_views"),
}
TINY_RUNS = 5


class Clock:
    """Seconds of wall time, and of CPU time of all threads, by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        before, started = os.times(), time.perf_counter()
        try:
            yield
        finally:
            after, total = os.times(), self.seconds.setdefault(step, [0.0, 0.0])
            total[0] += time.perf_counter() - started
            total[1] += after.user + after.system - before.user - before.system

    def timed(self, step: str, work: Callable[..., object]) -> Callable[..., object]:
        """`work`, measured at each call."""

        def measured(*arguments: object, **named: object) -> object:
            with self.measure(step):
                return work(*arguments, **named)

        return measured


def label_anew(warehouse: Warehouse, dissection_ids: list[int], clock: Clock) -> None:
    """Discard the labels of dissections, and compute them again as extract does."""
    for dissection_id in dissection_ids:
        query = "select layer_id from labelled_layers where dissection_id = $id"
        layers = warehouse.rows(query, {"id": dissection_id})["layer_id"].to_list()
        warehouse.discard(labels.COMPUTED, {"dissection": dissection_id, "layers": layers})
    with ExitStack() as patches:
        for step, (module, name) in STEPS.items():
            patches.enter_context(patch.object(module, name, clock.timed(step, getattr(module, name))))
        with clock.measure("all"):
            pipeline.label(warehouse, "cpu")


def time_tiny_world(folder: Path, clock: Clock) -> None:
    """Extract the tests' tiny world several times."""
    from tests.support.worlds import make_world

    for run in range(TINY_RUNS + 1):
        world = make_world(folder / str(run))
        with clock.measure(f"extract {run}" if run else "first extract, which imports"):
            assert world.extract().code == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("warehouse", nargs="?", type=Path)
    parser.add_argument("--dissection", type=int)
    parser.add_argument("--threads", type=int, help="of torch and the database")
    parser.add_argument("--tiny", action="store_true")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    clock = Clock()
    if asked.tiny:
        with tempfile.TemporaryDirectory() as folder:
            time_tiny_world(Path(folder), clock)
    elif asked.warehouse is None:
        parser.error("name a warehouse, or --tiny")
    else:
        with Warehouse(asked.warehouse, threads=asked.threads) as warehouse:
            ids = warehouse.rows("select dissection_id from dissections order by 1")["dissection_id"].to_list()
            label_anew(warehouse, [asked.dissection] if asked.dissection else ids, clock)
    show(
        f"{torch.get_num_threads()} threads",
        ("step", "wall, s", "CPU, s"),
        ((step, *seconds) for step, seconds in clock.seconds.items()),
    )


if __name__ == "__main__":
    main()
