"""The warehouse file, shared by all requests, and let go between them so that a job can write.

shared = SharedFile(WarehouseFile(Path("warehouse.duckdb")))
with shared.cursor(dissection=None, wait=10) as cursor:
    cursor.execute("select 1").fetchall()

DuckDB lets many processes read a file, or one write it. So the file is open only while requests read it. It is closed
once nobody has read for LINGER seconds, and it is closed for PAUSE seconds after HOLD seconds, however many requests
wait: a job looks for a gap more often than that (see warehouse/locking.py).

A job gives up if it cannot begin within ten seconds. So what is still being read GIVE_UP seconds after a job has made
its lock is stopped. A job that has begun waits as long as it takes, and stops nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from dissectdb.warehouse_file import WarehouseFile

if TYPE_CHECKING:
    import duckdb

    from dissectdb.warehouse import Warehouse

LINGER = 0.25  # seconds
HOLD = 1.0
PAUSE = 0.05
GIVE_UP = 5.0  # less than a job waits to begin: the option --wait
ONE_TRY = 0.5  # seconds that one attempt to open waits; between two, a request may give up


class Held(Exception):
    """A job has held the file for as long as the request was ready to wait, or waits for it; the message says which."""


def show(cursor: duckdb.DuckDBPyConnection, dissection: int | None) -> None:
    """Make the views show a dissection on this cursor. None: the newest."""
    cursor.execute(f"set variable dissection = {'null' if dissection is None else int(dissection)}")


class SharedFile:
    """A warehouse that is open while somebody reads it. Every method may be called by many threads at once."""

    def __init__(self, file: WarehouseFile) -> None:
        self.file = replace(file, path=file.path.absolute(), wait=ONE_TRY)
        self._changed = threading.Condition()
        self._warehouse: Warehouse | None = None
        self._readers = self._long_readers = 0
        self._cursors: set[duckdb.DuckDBPyConnection] = set()
        path = self.file.path.resolve()
        self._lock = path.with_name(f"{path.name}.lock")  # of a job
        self._is_opening = self._is_given_up = False
        self._opened_when = 0.0  # time.time()
        self._opened_at = self._read_at = self._closed_at = 0.0
        self._is_over = False
        self._thread = threading.Thread(target=self._let_go, daemon=True)
        self._thread.start()

    @contextmanager
    def cursor(
        self, dissection: int | None, wait: float, *, long: bool = False, reads: Iterable[str] = ()
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of one's own on the locked-down file, in which the views show `dissection`.

        long: it may be used for many seconds. Then others may read beside it for as long, because a job has to wait
        for it anyway. reads: the views that are asked. Raises Held after `wait` seconds, and WarehouseError if the file
        is none or one of `reads` is not built.
        """
        warehouse = self._enter(time.monotonic() + wait, long)
        try:
            warehouse.refuse_unbuilt(reads)
            with warehouse.use(write=False) as connection, connection.cursor() as cursor:
                show(cursor, dissection)
                self._cursors.add(cursor)
                try:
                    yield cursor
                except Exception as error:
                    if self._is_given_up:
                        raise Held("it waits for the file, so what was being read was stopped") from error
                    raise
                finally:
                    self._cursors.discard(cursor)
        finally:
            with self._changed:
                self._readers -= 1
                self._long_readers -= long
                self._read_at = time.monotonic()
                self._changed.notify_all()

    def columns(self, wait: float) -> dict[str, list[str]]:
        """The columns of every table and view, by name."""
        query = """
            select table_name, list(column_name order by column_index)
            from system.main.duckdb_columns() where not internal group by all
        """
        with self.cursor(None, wait) as cursor:
            return dict(cursor.execute(query).fetchall())

    def stamp(self) -> tuple[int, ...]:
        """Which file it is, with sizes and times of it and its log: what was read is current while they stay."""
        path, stamps = self.file.path, []
        for part in (path, path.with_name(f"{path.name}.wal")):
            try:
                facts = part.stat()
            except FileNotFoundError:  # the log is gone once it is merged into the file
                stamps += [0] * 4
            else:
                stamps += [facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size]
        return tuple(stamps)

    def close(self) -> None:
        """Stop what is being read, close the file, and open it no more."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
            while self._readers or self._is_opening:
                for cursor in list(self._cursors):
                    cursor.interrupt()  # again and again, because between two statements it has no effect
                self._changed.wait(PAUSE)
            self._disconnect()
        self._thread.join()

    def _enter(self, deadline: float, long: bool) -> Warehouse:
        with self._changed:
            while True:
                if self._is_over:
                    raise Held("the explorer is closing")
                now = time.monotonic()
                is_fresh = now - self._opened_at < HOLD
                may_join = not self._is_given_up and (is_fresh or (self._long_readers and not long))
                if self._warehouse is not None and may_join:
                    self._readers += 1
                    self._long_readers += long
                    return self._warehouse
                if self._warehouse is not None and not self._readers:
                    self._disconnect()
                if self._warehouse is None and not self._is_opening and now - self._closed_at >= PAUSE:
                    self._open(deadline)
                    continue
                if now > deadline:
                    raise Held(f"{self.file.path.name} is in use")
                self._changed.wait(min(PAUSE, max(deadline - now, 0.001)))

    def _open(self, deadline: float) -> None:
        """Open the file, outside of the lock, so that others can give up meanwhile."""
        from dissectdb.warehouse.errors import WarehouseUnavailable

        self._is_opening = True
        self._changed.release()
        opened, held = None, None
        try:
            opened = self.file.to_read()
        except WarehouseUnavailable as error:
            if " is held by " not in str(error):
                raise
            held = str(error).partition(";")[0]
        finally:
            self._changed.acquire()
            self._is_opening = False
            if opened is not None:
                self._warehouse, self._opened_at = opened, time.monotonic()
                self._read_at, self._opened_when, self._is_given_up = self._opened_at, time.time(), False
            self._changed.notify_all()
        if held and time.monotonic() > deadline:
            raise Held(held)

    def _let_go(self) -> None:
        """Close the file whenever nobody has read it for a while, or a job waits to begin, until the program ends."""
        with self._changed:
            while not self._is_over:
                self._changed.wait(LINGER / 2)
                now = time.monotonic()
                if self._warehouse is not None and not self._readers and now - self._read_at >= LINGER:
                    self._disconnect()
                elif self._warehouse is not None and self._readers and self._job_waits():
                    self._is_given_up = True
                    for cursor in list(self._cursors):
                        cursor.interrupt()  # and again the next time: between two statements it has no effect

    def _job_waits(self) -> bool:
        """Whether a job has waited to begin for GIVE_UP seconds: it made its lock when the file was open here."""
        try:
            began = self._lock.stat().st_mtime
        except OSError:
            return False
        # HOLD: between making its lock and its first attempt to open the file, a job is a moment late.
        return began > self._opened_when - HOLD and time.time() - began > GIVE_UP

    def _disconnect(self) -> None:
        if self._warehouse is not None:
            self._warehouse.close()
            self._warehouse, self._closed_at = None, time.monotonic()
