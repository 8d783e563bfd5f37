"""The file of a warehouse, and who may have it when.

file = HeldFile(path, write=True, wait=10)
with file.use(write=True) as connection:   # opened if it is not; no other process can open it meanwhile
    …
file.close()

DuckDB shuts every other process out of a file that is open for writing. A job computes for hours and writes for
seconds, so it has the file open for writing only while it uses it: it is closed when it was not used for LINGER, and
for a moment (PAUSE) at the end of a use after it was open for BUSY. Between, others can read. What they must not do
is write, since a job knows what is there: each holds the lock on `warehouse.duckdb.lock` from its start to its end.
The kernel takes that lock from a process that dies, so none is ever stale.

    file.attempt(work)   # work(connection); again with a place to spill and fewer threads where memory runs out

Settings are locked once a file is open, so that fewer threads mean opening it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import duckdb

from dissectdb.warehouse import guard

if TYPE_CHECKING:
    from dissectdb.warehouse.resources import Resources

STORAGE = "v1.2.0"  # DuckDB from this version on can open what is written; it costs neither size nor time
LINGER = 0.25  # seconds; opening and closing take 25 ms
BUSY = 1.0
PAUSE = 0.05
POLL = 0.01  # well below PAUSE, so that who waits gets in
PATIENCE = 1.0  # after which it is said what is waited for

T = TypeVar("T")

log = logging.getLogger("dissectdb")


class WarehouseError(ValueError):
    """Something asked of the warehouse cannot be done; the warehouse is as it was."""

    exit_code = 1


class WarehouseUnavailable(WarehouseError):
    """The file is locked, unreadable, no warehouse, or made by a newer version."""

    exit_code = 3


class OutOfMemory(WarehouseError):
    """A statement needs more memory than the database may use, even with one thread and in small slices."""


class HeldFile:
    """A DuckDB file that is open no longer than it is used.

    write: take the lock of a job, and open it for writing where that is asked. wait: seconds to wait for others at
    the start; a job that has begun waits as long as it takes. deterministic: the same statements give the same rows to
    the last bit: the file is closed after every use, and the resources must have one thread. prepare: called with each
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
        # A reader is locked down by whoever opens it, which goes further and must come after; but to take a file of
        # SQLite for one that needs an extension, and load that, DuckDB does while it opens the file.
        locked = {"lock_configuration": "true"}
        confined = (
            guard.CONFINED | locked if write else {key: guard.CONFINED[key] for key in guard.CONFINED if "auto" in key}
        )
        self._config = {"storage_compatibility_version": STORAGE} | confined
        # How a join is done hangs on statistics, which are others before a file was closed than after it.
        self._busy, self._pause = (0.0, 0.0) if deterministic else (BUSY, PAUSE)
        self._write = write
        self._changed = threading.Condition()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._is_writing = False
        self._users = 0
        self._own = threading.local()  # .uses: of the thread that asks
        self._writers_waiting = 0
        self._pinned = str(path) == ":memory:"
        self._closed = False
        self._given_up = threading.Event()
        self._opened_at = self._used_at = 0.0
        self._job: int | None = None
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
        self._own.uses = getattr(self._own, "uses", 0) + 1
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
        """What `work` returns of the connection; where memory runs out, once more as economize() has it.

        Raises OutOfMemory where that is not enough.
        """
        while True:
            try:
                with self.use(write) as connection:
                    return work(connection)
            except Exception as error:
                if not isinstance(error, OSError):  # of another file, which the work writes
                    refuse_a_full_disk(error, self.path)
                if not is_out_of_memory(error):
                    raise
                if not self.economize():
                    raise OutOfMemory(self.too_little()) from error

    def economize(self) -> bool:
        """Open the file from now on so that less memory is needed; False where nothing is left to be tried.

        First a reader may spill to disk, then there are fewer threads, down to one.
        """
        with self._changed:
            if self._pinned or getattr(self._own, "uses", 0):  # somebody holds on to the connection
                return False
            self._changed.wait_for(lambda: not self._users)
            fewer = self.resources.with_fewer_threads()
            may_spill = self._write or self._spill is not None
            if may_spill and fewer is None:
                return False
            self._disconnect()
            if may_spill:
                self.resources = fewer
            else:
                self._spill = SpillFolder(self.path)
            log.debug("%s ran out of memory; now with %s", self.path, self.resources)
            return True

    def too_little(self, what: str = "a query") -> str:
        """One line for a statement that needs more memory than there is."""
        fewer = ", or fewer threads with --threads N" if self.resources.threads > 1 else ""
        return f"{self.path}: {what} needs more memory than {self.resources}; give it more with --memory SIZE{fewer}"

    def rest(self, unused: float = LINGER) -> None:
        """Let others have the file if it was not used for so many seconds."""
        with self._changed:
            if self._is_idle() and time.monotonic() - self._used_at >= unused:
                self._disconnect()

    def give_up(self) -> None:
        """Stop waiting for others: who waits gets WarehouseUnavailable."""
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
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_lock_of(self.path))  # while it is held, so that nobody else's is taken away
                os.close(self._job)
                self._job = None

    def remove(self) -> None:
        """Delete the file, and end the job: nobody else can have written to it meanwhile."""
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
            except duckdb.ConnectionException:  # something of ours still refers to the connection that was closed
                gc.collect()
                return connect()
            except duckdb.Error as error:
                text = str(error)
                if "Could not set lock" in text:  # not "lock" alone: the path is in the text too
                    holder = re.search(r"PID (\d+)", text)
                    return holder[1] if holder else ""
                if not existed:
                    self.path.unlink(missing_ok=True)  # half a header, which would be taken for somebody's file
                refuse_a_full_disk(error, self.path)
                if is_out_of_memory(error):
                    raise OutOfMemory(self.too_little("to open it")) from error
                if "WAL" in text:
                    raise WarehouseUnavailable(
                        f"{self.path}: its log {self.path}.wal is damaged ({text.splitlines()[0][:200]}); move the log "
                        "away and run the same command again: what only the log held is made anew"
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

    def _begin_job(self) -> int:
        """Take the lock of a job; returns its file descriptor."""
        lock = _lock_of(self.path)

        def attempt() -> int | str:
            try:
                descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            except OSError as error:
                refuse_a_full_disk(error, self.path)
                raise WarehouseUnavailable(f"{self.path} cannot be written to: {error.strerror}: {lock}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
                os.close(descriptor)
                return holder
            except OSError as error:  # a file system without locks
                os.close(descriptor)
                raise WarehouseUnavailable(
                    f"{self.path} cannot be locked: {error.strerror}; use a local disk"
                ) from error
            if not _is_file(descriptor, lock):  # the one before has just deleted it
                os.close(descriptor)
                return ""
            with contextlib.suppress(OSError):  # a full disk: the number is for messages only
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor

        return self._wait_for(attempt)

    def _wait_for(self, attempt: Callable[[], T | str]) -> T:
        """Attempt until it gives no str, which is the number of the process that is in the way, or empty."""
        started, said = time.monotonic(), False
        while isinstance(found := attempt(), str):
            who = f"process {found}" if found else "another process"
            if self._given_up.is_set() or (self._deadline is not None and time.monotonic() >= self._deadline):
                raise WarehouseUnavailable(
                    f"{self.path} is held by {who}; wait until it is done (longer: --wait SECONDS), or end it "
                    "(what it has committed stays)"
                )
            if not said and time.monotonic() - started > PATIENCE:
                log.warning("waiting for %s, which holds %s", who, self.path)
                said = True
            self._given_up.wait(POLL)
        return found


def refuse_a_full_disk(error: BaseException, path: Path) -> None:
    """What DuckDB and the views say of a disk that is full, of a quota or of a largest file, in one line."""
    if re.search("No space left|Disk quota exceeded|File too large|max_temp_directory_size", str(error)):
        raise WarehouseError(
            f"no space left for {path}: free some and run the same command again; what was committed is kept"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the database needs more memory than it may use; polars makes an error of its own of DuckDB's."""
    return isinstance(error, (duckdb.OutOfMemoryException, MemoryError)) or bool(
        re.search("Out of Memory Error|std::bad_alloc", str(error))
    )


class SpillFolder:
    """A folder that only this user may enter, for what does not fit into memory; gone with remove().

    It lies beside the file, where there is a disk, or among temporary files if nothing can be written there. One that
    a killed process left is removed by the next that makes one in the same place: the kernel took its lock away.
    """

    PREFIX = ".dissectdb-spill-"

    def __init__(self, path: Path) -> None:
        beside = path.resolve().parent
        parent = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
        for left in parent.glob(f"{self.PREFIX}*"):
            self._remove_unless_locked(left)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=self.PREFIX, dir=parent))
            self._lock = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            refuse_a_full_disk(error, parent)
            raise OutOfMemory(
                f"{path}: too little memory, and nothing can be written to {parent}; use --memory SIZE"
            ) from error
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Delete the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    @staticmethod
    def _remove_unless_locked(folder: Path) -> None:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _lock_of(path: Path) -> Path:
    path = path.resolve()  # two names of one file have one lock
    return path.with_name(path.name + ".lock")


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), found)
