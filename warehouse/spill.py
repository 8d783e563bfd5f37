"""A private folder for what does not fit into memory, and its removal if the process was killed.

folder = SpillFolder(Path("warehouse.duckdb"))
folder.path        # .dissectdb-spill-…, beside the file
folder.remove()
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock

from dissectdb.warehouse.errors import OutOfMemory, refuse_a_full_disk


class SpillFolder:
    """A folder that only this user may enter. It exists until remove().

    It is made beside the file, or among the temporary files if the file's folder cannot be written to. A process that
    was killed leaves its folder behind, but not the lock on it: the next SpillFolder in the same place removes it.
    """

    PREFIX = ".dissectdb-spill-"

    def __init__(self, path: Path) -> None:
        beside = path.resolve().parent
        parent = beside if os.access(beside, os.W_OK) else Path(tempfile.gettempdir())
        for folder in parent.glob(f"{self.PREFIX}*"):
            self._remove_unless_locked(folder)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=self.PREFIX, dir=parent))
        except OSError as error:
            refuse_a_full_disk(error, parent)
            raise OutOfMemory(
                f"{path}: too little memory, and nothing can be written to {parent}; use --memory SIZE"
            ) from error
        self._lock = _lock_in(self.path)
        with contextlib.suppress(OSError):  # a file system without locks: then nobody removes another's folder
            self._lock.acquire()

    def remove(self) -> None:
        """Delete the folder and everything in it."""
        self._lock.release()  # first: Windows deletes no open file
        shutil.rmtree(self.path, ignore_errors=True)

    @staticmethod
    def _remove_unless_locked(folder: Path) -> None:
        if folder.is_symlink() or not folder.is_dir():  # a link could lead to somebody else's files
            return
        try:
            with _lock_in(folder):
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its owner is alive, or it cannot be locked
            return
        with contextlib.suppress(OSError):
            folder.rmdir()  # on Windows the lock file could not be deleted while it was open


def _lock_in(folder: Path) -> FileLock:
    # One attempt: a free lock is free at once. Any thread may release it.
    return FileLock(folder / "lock", blocking=False, thread_local=False, fallback_to_soft=False)
