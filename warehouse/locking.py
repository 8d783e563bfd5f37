"""The file of a warehouse, and who may open it when.

file = HeldFile(path, write=True, wait=10)
with file.use(write=True) as connection:   # opens the file if it is closed; no other process can open it meanwhile
    …
file.close()

While one process has a DuckDB file open for writing, no other process can open it. A job computes for hours and writes
for seconds, so it opens the file for writing only while it uses it. It closes the file when nothing has used it for
LINGER seconds, and for PAUSE seconds after a use if the file was open for BUSY seconds. In these gaps others can read.
They must not write, because a job relies on what it has read. So each job holds the lock on `warehouse.duckdb.lock`
from its start to its end. The kernel frees the lock of a process that dies: no lock is ever stale.

    file.attempt(work)   # work(connection); if memory runs out, again with a spill folder, then with fewer threads

Settings are locked once a file is open, so a change of the threads means opening it again.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb
from filelock import FileLock, Timeout

from dissectdb.warehouse import guard
from dissectdb.warehouse.errors import OutOfMemory, WarehouseUnavailable, is_out_of_memory, refuse_a_full_disk
from dissectdb.warehouse.spill import SpillFolder

if TYPE_CHECKING:
    from dissectdb.warehouse.resources import Resources

STORAGE = "v1.2.0"  # DuckDB from this version on can open what is written; it costs neither size nor time
LINGER = 0.25  # seconds; opening and closing take 25 ms
BUSY = 1.0
PAUSE = 0.05
POLL = 0.01  # well below PAUSE, so that a waiting process finds the gap
PATIENCE = 1.0  # after which a message names the process that is waited for

T = TypeVar("T")
Config = dict[str, str | bool | int | float | list[str]]  # as duckdb.connect has it

log = logging.getLogger("dissectdb")


def check_path(path: Path, *, read_only: bool) -> None:
    """Raise WarehouseUnavailable if no warehouse can be at this path. read_only: if it must be there already."""
    if read_only and not path.exists():
        beside = sorted(path.parent.glob("*.duckdb"))[:3] if path.parent.is_dir() else []
        there = f", or name with --warehouse: {', '.join(file.name for file in beside)}" if beside else ""
        raise WarehouseUnavailable(f"{path}: no such warehouse; make one with: dissectdb extract STUDY{there}")
    if not path.parent.is_dir():
        raise WarehouseUnavailable(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():  # opening a pipe would block for ever
        raise WarehouseUnavailable(f"{path} cannot be opened as a warehouse: it is not a file; name another")


class _OfThread(threading.local):
    uses = 0  # in which this thread is


class HeldFile:
    """A DuckDB file that is open no longer than it is used.

    write: take the lock of a job, and allow uses that write. wait: seconds to wait for other processes at the start; a
    job that has begun waits as long as it takes. deterministic: the same statements give the same rows to the last
    bit; for this the file is closed after every use, and the resources must have one thread. prepare: called with each
    new connection. Raises WarehouseUnavailable.
    """

    def __init__(
        self,
        path: Path,
        *,
        write: bool,
        wait: float,
        resources: Resources,
        deterministic: bool = False,
        prepare: Callable[[duckdb.DuckDBPyConnection, Path | None], None] = lambda connection, spill: None,
    ) -> None:
        self.path = path
        self.resources = resources
        self._prepare = prepare
        self._spill: SpillFolder | None = None
        self._deadline: float | None = time.monotonic() + wait
        # `prepare` locks a reader down further than this, once the file is open. Loading extensions must be forbidden
        # before: DuckDB loads one while it opens a file that it takes for one of SQLite.
        locked = {"lock_configuration": "true"}
        confined = (
            guard.CONFINED | locked if write else {key: guard.CONFINED[key] for key in guard.CONFINED if "auto" in key}
        )
        self._config: Config = {"storage_compatibility_version": STORAGE, **confined}
        # The join order depends on table statistics, and closing the file changes them.
        self._busy, self._pause = (0.0, 0.0) if deterministic else (BUSY, PAUSE)
        self._write = write
        self._changed = threading.Condition()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._is_writing = False
        self._users = 0
        self._own = _OfThread()
        self._writers_waiting = 0
        self._pinned = str(path) == ":memory:"
        self._closed = False
        self._given_up = threading.Event()
        self._opened_at = self._used_at = 0.0
        self._job: JobLock | None = None
        if write and not self._pinned:
            self._job = self._begin_job()
        try:
            with self.use(write):
                pass
        except BaseException:
            self.close()
            raise
        self._deadline = None

    @contextmanager
    def use(self, write: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """The connection, while the block lasts. Not within another use of the same thread."""
        with self._changed:
            connection = self._enter(write)
        self._own.uses += 1
        try:
            yield connection
        finally:
            self._own.uses -= 1
            with self._changed:
                self._leave()

    def pin(self) -> duckdb.DuckDBPyConnection:
        """The connection, open until close()."""
        with self.use(self._write) as connection:
            self._pinned = True
        return connection

    def attempt(self, work: Callable[[duckdb.DuckDBPyConnection], T], write: bool = True) -> T:
        """What `work(connection)` returns. If memory runs out, it runs again after economize().

        Raises OutOfMemory if that is not enough.
        """
        while True:
            try:
                with self.use(write) as connection:
                    return work(connection)
            except Exception as error:
                if not isinstance(error, OSError):  # an OSError is about another file, which the work writes
                    refuse_a_full_disk(error, self.path)
                if not is_out_of_memory(error):
                    raise
                if not self.economize():
                    raise OutOfMemory(self.too_little()) from error

    def economize(self) -> bool:
        """Open the file from now on with settings that need less memory; False if none are left to try.

        A reader is first given a folder to spill to. Then the threads are reduced, down to one.
        """
        with self._changed:
            if self._pinned or self._own.uses:  # the connection is in use
                return False
            self._changed.wait_for(lambda: not self._users)
            fewer = self.resources.with_fewer_threads()
            may_spill = self._write or self._spill is not None
            if not may_spill:
                self._disconnect()
                self._spill = SpillFolder(self.path)
            elif fewer is not None:
                self._disconnect()
                self.resources = fewer
            else:
                return False
            log.debug("%s ran out of memory; now with %s", self.path, self.resources)
            return True

    def too_little(self, what: str = "a query") -> str:
        """The message for a statement that needs more memory than it may use."""
        fewer = ", or fewer threads with --threads N" if self.resources.threads > 1 else ""
        return f"{self.path}: {what} needs more memory than {self.resources}; give it more with --memory SIZE{fewer}"

    def rest(self, unused: float = LINGER) -> None:
        """Close the file, so that others can open it, if nothing has used it for `unused` seconds."""
        with self._changed:
            if self._is_idle() and time.monotonic() - self._used_at >= unused:
                self._disconnect()

    def give_up(self) -> None:
        """Stop waiting for other processes: whatever waits raises WarehouseUnavailable."""
        self._given_up.set()

    def close(self) -> None:
        """Close the file and end the job."""
        with self._changed:
            self._closed = True
            self._disconnect()
            if self._spill is not None:
                self._spill.remove()
                self._spill = None
            if self._job is not None:
                self._job.release()
                self._job = None

    def remove(self) -> None:
        """Delete the file and end the job. The lock guarantees that no other process has written to it."""
        with self._changed:
            self._disconnect()
            self.path.unlink(missing_ok=True)
            self.path.with_name(f"{self.path.name}.wal").unlink(missing_ok=True)
        self.close()

    def _is_idle(self) -> bool:
        return self._is_writing and not self._users and not self._pinned

    def _enter(self, write: bool) -> duckdb.DuckDBPyConnection:
        if write and not self._is_writing:
            self._writers_waiting += 1
            try:
                self._changed.wait_for(lambda: not self._users or self._is_writing)
            finally:
                self._writers_waiting -= 1
        elif not self._is_writing:
            self._changed.wait_for(lambda: not self._writers_waiting)
        if self._closed:
            raise duckdb.ConnectionException(f"{self.path} is closed already")
        if write and self._write and not self._is_writing:
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect(write and self._write)
            self._is_writing, self._opened_at = write and self._write, time.monotonic()
        self._users += 1
        return self._connection

    def _leave(self) -> None:
        self._users -= 1
        self._used_at = time.monotonic()
        if self._is_idle() and self._used_at - self._opened_at > self._busy:
            self._disconnect()
            time.sleep(self._pause)
        self._changed.notify_all()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection, self._is_writing = None, False

    def _connect(self, write: bool) -> duckdb.DuckDBPyConnection:
        existed = self.path.exists()

        limits = {"memory_limit": f"{self.resources.memory}B", "threads": str(self.resources.threads)}

        def connect() -> duckdb.DuckDBPyConnection:
            read_only = not write and not self._pinned
            return duckdb.connect(str(self.path), read_only=read_only, config=self._config | limits)

        def attempt() -> duckdb.DuckDBPyConnection | str:
            try:
                return connect()
            except duckdb.ConnectionException:  # an object of this process still refers to the closed connection
                gc.collect()
                return connect()
            except duckdb.Error as error:
                text = str(error)
                # On Unix, and on Windows. Not "lock" alone: the path is in the text too.
                if "Could not set lock" in text or "File is already open in" in text:
                    holder = re.search(r"PID (\d+)", text)
                    return holder[1] if holder else ""
                if not existed:
                    self.path.unlink(missing_ok=True)  # half a header, which the next command would refuse
                refuse_a_full_disk(error, self.path)
                if is_out_of_memory(error):
                    raise OutOfMemory(self.too_little("to open it")) from error
                if "WAL" in text:
                    raise WarehouseUnavailable(
                        f"{self.path}: its log {self.path}.wal is damaged ({text.splitlines()[0][:200]}); move the log "
                        "away and run the same command again; it recomputes what only the log held"
                    ) from error
                raise WarehouseUnavailable(
                    f"{self.path} cannot be opened as a warehouse: {text.splitlines()[0]}"
                ) from error

        connection = self._wait_for(attempt)
        try:
            self._prepare(connection, self._spill.path if self._spill else None)
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin_job(self) -> JobLock:
        lock = JobLock(self.path)
        return self._wait_for(lambda: lock if lock.take() else lock.holder())

    def _wait_for(self, attempt: Callable[[], T | str]) -> T:
        """The result of `attempt`, called until it is not a str: the id of the process in the way, "" if unknown."""
        started, is_announced = time.monotonic(), False
        while isinstance(result := attempt(), str):
            holder = f"process {result}" if result else "another process"
            if self._given_up.is_set() or (self._deadline is not None and time.monotonic() >= self._deadline):
                raise WarehouseUnavailable(
                    f"{self.path} is held by {holder}; wait until it is done (longer: --wait SECONDS), or end it "
                    "(what it has committed stays)"
                )
            if not is_announced and time.monotonic() - started > PATIENCE:
                log.warning("waiting for %s, which holds %s", holder, self.path)
                is_announced = True
            self._given_up.wait(POLL)
        return result


class JobLock:
    """The lock that one job holds on a warehouse: a file beside it, which holds the id of the job's process.

    release() deletes the file. A process that was killed leaves the file behind, but not the lock.
    """

    def __init__(self, path: Path) -> None:
        self._warehouse = path
        path = path.resolve()  # two names of one file have one lock
        self._file = path.with_name(path.name + ".lock")
        # thread_local: any thread may close a warehouse. fallback_to_soft: where a file system has no locks, a marker
        # would stand in for the lock, and outlive a process that was killed.
        self._lock = FileLock(self._file, thread_local=False, fallback_to_soft=False, on_acquired=_write_process_id)

    def take(self) -> bool:
        """Take the lock; False if another job holds it. Raises WarehouseUnavailable if the file system refuses."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            if self._file.exists():
                return False
            return self._is_free_to_make()
        except OSError as error:
            refuse_a_full_disk(error, self._warehouse)
            if error.filename is None:  # the file could be opened
                raise WarehouseUnavailable(
                    f"{self._warehouse} cannot be locked: {error.strerror}; use a local disk"
                ) from error
            raise WarehouseUnavailable(
                f"{self._warehouse} cannot be written to: {error.strerror}: {self._file}"
            ) from error
        return True

    def _is_free_to_make(self) -> bool:
        """False, if a lock that was in the way has just gone. FileLock waits for a file that cannot be made, too."""
        try:
            self._file.touch()
        except OSError as error:
            raise WarehouseUnavailable(
                f"{self._warehouse} cannot be written to: no file can be made in {self._file.parent}; name another "
                "folder"
            ) from error
        return False

    def holder(self) -> str:
        """The id of the process that holds the lock; "" if the file does not hold it yet."""
        for start in (0, 1):  # Windows lets no other process read the byte that is locked, the first
            with contextlib.suppress(OSError, ValueError), self._file.open("rb") as file:
                file.seek(start)
                return str(int(file.read(20)))
        return ""

    def release(self) -> None:
        """Delete the file and free the lock."""
        with contextlib.suppress(OSError):  # Windows deletes no open file; there FileLock does it afterwards
            self._file.unlink()  # while the lock is held: later, the file could be the next job's
        self._lock.release()


def _write_process_id(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a full disk; the id is for messages only
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, f" {os.getpid()}".encode())  # from the second byte on: see holder()
