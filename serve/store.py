"""Answers to questions: from memory where a copy is enough, from the file where it is not.

reading = store.reading(dissection=None)          # of one request
rows = reading.rows("neurons", text="smile", …)   # sql/questions/serve/neurons.sql
reading.asked                                     # the SQL of all questions so far
reading.as_of                                     # when the oldest outdated answer was read; None: all are current

The small views are copied into memory (snapshot.py), again in the background after the file has changed. Other answers
are kept until the file changes, and answers from the copies until they are copied again. While a job holds the file for
longer than PATIENCE, the last answer is given again, and the page says from when it is.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from dissectdb.reports.questions import Question, load
from dissectdb.serve.shared_file import Held, SharedFile
from dissectdb.serve.snapshot import VIEWS, Snapshot, copied, frame
from dissectdb.warehouse_file import WarehouseFile

if TYPE_CHECKING:
    import polars as pl

PATIENCE = 2.0  # seconds to wait for a job if there is an older answer
WAIT = 60.0  # seconds to wait if there is none
REST = 2.0  # seconds between two copies, and REST_SHARE times what one took
REST_SHARE = 10
KEPT_BYTES = 64 << 20
LEAST_BYTES = 4 << 10  # that an answer without rows takes
DISSECTIONS = 4  # of which copies are kept
AT_ONCE = 4  # questions that read the file at a time: fifty at once would need the memory of fifty


class Store:
    """The warehouse behind the pages. Its methods may be called by many threads at once."""

    def __init__(self, file: WarehouseFile, wait: float = WAIT) -> None:
        self.shared = SharedFile(file)
        self.path = self.shared.file.path
        self.wait = wait
        self._lock = threading.Lock()
        self._turn = threading.BoundedSemaphore(AT_ONCE)
        self._snapshots: OrderedDict[int | None, Snapshot] = OrderedDict()
        self._copying: dict[int | None, threading.Lock] = {}
        self._kept: OrderedDict[tuple, tuple[tuple[float, ...], float, pl.DataFrame]] = OrderedDict()
        self._bytes = 0

    def reading(self, dissection: int | None = None, *, keep: bool = True) -> Reading:
        """What one request asks. keep: its answers, for the next one that asks the same."""
        return Reading(self, dissection, keep)

    def warm_up(self) -> None:
        """Begin to copy the small views, so that the first page waits for less."""
        lock = self._copying.setdefault(None, threading.Lock())
        if lock.acquire(blocking=False):
            threading.Thread(target=self._copy_again, args=(None, lock), daemon=True).start()

    def close(self) -> None:
        """Close the file."""
        self.shared.close()

    def snapshot(self, dissection: int | None) -> Snapshot:
        """The newest copy; the first request of a dissection waits for it. Raises Held."""
        with self._lock:
            held = self._snapshots.get(dissection)
            one_at_a_time = self._copying.setdefault(dissection, threading.Lock())
        if held is None or self._is_of_another_file(held):
            with one_at_a_time:
                held = self._snapshots.get(dissection)
                if held is None or self._is_of_another_file(held):
                    held = self._copy(dissection, self.wait)
                return held
        age = time.time() - held.read_at
        is_due = age > REST + REST_SHARE * held.seconds and held.stamp != self.shared.stamp()
        if is_due and one_at_a_time.acquire(blocking=False):
            threading.Thread(target=self._copy_again, args=(dissection, one_at_a_time), daemon=True).start()
        return held

    def _is_of_another_file(self, held: Snapshot) -> bool:
        """Whether the file was replaced since, so that copies beside answers of now would mix two warehouses."""
        now = self.shared.stamp()[:2]
        return any(now) and held.stamp[:2] != now

    def _copy_again(self, dissection: int | None, lock: threading.Lock) -> None:
        import duckdb

        from dissectdb.warehouse import WarehouseError

        try:
            self._copy(dissection, self.wait)
        except (Held, WarehouseError, duckdb.Error):
            pass  # closing, or a job in the way: the older copy serves, and the next request tries again
        finally:
            lock.release()

    def _copy(self, dissection: int | None, wait: float) -> Snapshot:
        fresh = copied(self.shared, dissection, wait)
        with self._lock:
            self._snapshots[dissection] = fresh
            while len(self._snapshots) > DISSECTIONS:
                self._snapshots.popitem(last=False)
        return fresh

    def answer_of_copies(
        self, question: Question, values: Mapping[str, Any], snapshot: Snapshot, keep: bool
    ) -> pl.DataFrame:
        """The rows of a question that reads only the copies."""
        key = ("copies", question.sql, snapshot.dissection, *sorted(values.items()))
        with self._lock:
            kept = self._kept.get(key)
        if kept and kept[0] == (snapshot.read_at,):
            return kept[2]
        rows = snapshot.rows(question.sql, values)
        if keep:
            self._keep(key, ((snapshot.read_at,), snapshot.read_at, rows))
        return rows

    def answer(
        self, question: Question, values: Mapping[str, Any], dissection: int | None, keep: bool
    ) -> tuple[pl.DataFrame, float | None]:
        """The rows of a question from the file, and when they were read if that is outdated. Raises Held."""
        key = (question.sql, dissection, *sorted(values.items()))
        stamp = self.shared.stamp()
        with self._lock:
            kept = self._kept.get(key)
        if kept and kept[0] == stamp:
            return kept[2], None
        now = time.time()
        try:
            patience, reads = PATIENCE if kept else self.wait, _tables_read(question.sql)
            with self._turn, self.shared.cursor(dissection, patience, reads=reads) as cursor:
                rows = frame(cursor, question.sql, values)
        except Held:
            if not kept:
                raise
            return kept[2], kept[1]
        if keep:
            self._keep(key, (stamp, now, rows))
        return rows, None

    def _keep(self, key: tuple, answer: tuple[tuple[float, ...], float, pl.DataFrame]) -> None:
        with self._lock:
            if old := self._kept.pop(key, None):
                self._bytes -= _size(old[2])
            self._kept[key] = answer
            self._bytes += _size(answer[2])
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                _, (_, _, oldest) = self._kept.popitem(last=False)
                self._bytes -= _size(oldest)


class Reading:
    """What one request has asked so far."""

    def __init__(self, store: Store, dissection: int | None, keep: bool) -> None:
        self.store = store
        self._keep = keep
        self.dissection = dissection
        self.asked: list[tuple[str, str]] = []  # question and SQL
        self.as_of: float | None = None
        self._snapshot: Snapshot | None = None  # one for the whole request

    @property
    def snapshot(self) -> Snapshot:
        """The copies that the whole request reads; they say which dissection it shows. Raises Held."""
        if self._snapshot is None:
            self._snapshot = self.store.snapshot(self.dissection)
        return self._snapshot

    def rows(self, name: str, **values: Any) -> pl.DataFrame:
        """The rows of a question of sql/questions/serve. Raises Held, WarehouseError."""
        question = questions()[name]
        self.asked.append((question.title, question.with_values(**values)))
        if reads_copies(name):
            if self.snapshot.stamp != self.store.shared.stamp():
                self._is_from(self.snapshot.read_at)
            return self.store.answer_of_copies(question, values, self.snapshot, self._keep)
        rows, as_of = self.store.answer(question, values, self.snapshot.dissection, self._keep)
        self._is_from(as_of)
        return rows

    def _is_from(self, read_at: float | None) -> None:
        if read_at is not None:
            self.as_of = min(read_at, self.as_of or read_at)

    def records(self, name: str, **values: Any) -> list[dict[str, Any]]:
        """The same as dicts."""
        return self.rows(name, **values).to_dicts()


def _size(rows: pl.DataFrame) -> int:
    return max(int(rows.estimated_size()), LEAST_BYTES)


@cache
def questions() -> Mapping[str, Question]:
    """The questions of the pages, by name; those of a comparison are the report's, as compare_layers and so on."""
    return {**load("serve"), **{f"compare_{name}": question for name, question in load("compare").items()}}


@cache
def _tables_read(sql: str) -> set[str]:
    from dissectdb.warehouse import guard

    return guard.known_to_read(sql)


@cache
def reads_copies(name: str) -> bool:
    """Whether a question reads only views that are copied into memory."""
    import sqlglot
    from sqlglot import exp

    tree = sqlglot.parse_one(questions()[name].sql, dialect="duckdb")
    steps = {step.alias for step in tree.find_all(exp.CTE)}
    return {table.name for table in tree.find_all(exp.Table)} - steps <= set(VIEWS)
