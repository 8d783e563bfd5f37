"""Find which files are part of a user's network: those that its code opens while the network is built and run.

    opened = Opened(Path("nets/net.py"), [Path("nets")])
    with opened.watch():
        ...                     # the code runs; files that this thread opens are noted
    opened.digests(known)       # {"blocks.py": "9f86…", "../configs/net.yaml": "41c2…"}; known: files counted already

Code (.py, compiled extensions) counts anywhere, unless it is installed. Another file counts if it is read, is not
written and has at most a megabyte: larger files are data, or weights, which have their own fingerprint. Files that
differ between machines or runs do not count: caches, hidden and temporary files, and the system's files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

import torch

from dissectdb import ROOT

OURS = ROOT  # the checkout, or the package where it is installed
OUR_NAMES = {"bench", "cli", "commands", "dissectdb", "extract", "reports", "sql", "studies", "tests", "warehouse"}
CODE = {".py", ".so", ".pyd", ".dll", ".dylib"}
MAX_BYTES = 1_000_000  # of a file that is not code
SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var",
          "/Library", "/System", "/private/etc", "/private/var")  # fmt: skip
CACHES = ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "MPLCONFIGDIR")

_active = threading.local()
_code_before: dict[Path, set[str]] = {}  # the network's file → code that an earlier load of it opened


class Opened:
    """The files opened inside its watch() blocks. path: the network's file. folders: searched by its imports."""

    def __init__(self, path: Path, folders: Sequence[Path]) -> None:
        self.path = path
        self.near = [*folders, *(folder.parent for folder in folders if folder.parent not in _too_wide())]
        self.read: set[str] = set()
        self.written: set[str] = set()
        self.sought: set[str] = set()  # names of modules that were looked for, also of those that are not there

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Inside the block, note each file that this thread opens."""
        _listen()
        before, _active.opened = getattr(_active, "opened", None), self
        try:
            yield
        finally:
            _active.opened = before

    def note(self, path: object, writing: bool) -> None:
        """Add a file to those read or written, unless it is installed or ours."""
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a file descriptor
        file = os.path.abspath(os.fsdecode(path))
        if file.endswith(".pyc"):
            try:
                file = importlib.util.source_from_cache(file)
            except ValueError:
                return
        if file.startswith(_not_the_users()):
            return
        (self.written if writing else self.read).add(file)

    def digests(self, known: Collection[Path]) -> dict[str, str]:
        """SHA-256 of each file that counts, by its path from the network's folder, or by its name if it lies elsewhere.

        known: files that are counted already.
        """
        code = {file for file in self.read if Path(file).suffix in CODE}
        before = _code_before.setdefault(self.path, set())
        if before:  # modules that are still loaded are not opened again
            loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
            code |= before & {os.path.abspath(file) for file in loaded if isinstance(file, str)}
        before |= code
        contents: dict[str, list[str]] = {}
        for file in {Path(file).resolve() for file in code | (self.read - self.written)} - set(known):
            if self._counts(file):
                near = any(file.is_relative_to(folder) for folder in self.near)
                name = Path(os.path.relpath(file, self.path.parent)).as_posix() if near else file.name
                contents.setdefault(name, []).append(hashlib.sha256(file.read_bytes()).hexdigest())
        return {name: " ".join(sorted(hashes)) for name, hashes in contents.items()}

    def _counts(self, file: Path) -> bool:
        if is_installed(file) or is_ours(file) or not file.is_file() or not os.access(file, os.R_OK):
            return False
        nearest = next((folder for folder in self.near if file.is_relative_to(folder)), None)
        if nearest is None and file.is_relative_to(_temporary()):
            return False
        if file.suffix in CODE:
            return nearest is not None or not any(map(file.is_relative_to, ("/usr", "/lib", "/lib64")))
        parts = file.relative_to(nearest).parts if nearest else file.parts
        if any(part.startswith(".") for part in parts) or file.stat().st_size > MAX_BYTES:
            return False
        if any(file.is_relative_to(cache) for cache in _caches()):
            return False
        return nearest is not None or not any(file.is_relative_to(folder) for folder in _systems())


def watching() -> Opened | None:
    """What notes the files that this thread opens; None outside watch() blocks."""
    return getattr(_active, "opened", None)


def _hear(event: str, arguments: tuple) -> None:
    if event not in ("open", "import", "ctypes.dlopen", "os.rename"):
        return
    opened = watching()
    if opened is None or _is_for_a_message():
        return
    if event == "open":
        path, mode, flags = arguments
        writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else False
        opened.note(path, writes or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR)))
    else:
        opened.note(arguments[0 if event == "ctypes.dlopen" else 1], event == "os.rename")


def _is_for_a_message() -> bool:
    """Whether a source file is opened only to show a line of it in a warning or traceback."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(4):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == "linecache":
            return True
        frame = frame.f_back
    return False


@cache
def _listen() -> None:
    """Install an audit hook for opened files. Python cannot remove it; outside watch() blocks it does nothing."""
    sys.addaudithook(_hear)


# ---------------------------------------------------------------- places


def _library_paths() -> list[str]:
    """The folders of Python's library and of installed packages, with unresolved paths.

    sys.path is read too: a cluster's environment modules put such folders on PYTHONPATH, and a .pth file may name one.
    """
    standard = [sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return standard + [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


@cache
def _installed() -> tuple[Path, ...]:
    """The folders of Python's library and of installed packages, resolved."""
    paths = [*_library_paths(), *site.getsitepackages(), site.getusersitepackages()]
    return (*{Path(path).resolve() for path in paths},)


@cache
def _not_the_users() -> tuple[str, ...]:
    """The beginnings of paths of installed files and of ours: comparing text is quicker than resolving links."""
    ours = [f"{OURS / name}{end}" for name in OUR_NAMES for end in (os.sep, ".py")]
    return (*(f"{folder}{os.sep}" for folder in [*_library_paths(), *_installed()]), *ours)


def is_installed(file: Path) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    file = file.resolve()
    return file.suffix == ".zip" or any(file.is_relative_to(folder) for folder in _installed())


def is_ours(file: Path) -> bool:
    """Whether a file belongs to this project."""
    file = file.resolve()
    return file.is_relative_to(OURS) and file.relative_to(OURS).parts[0].removesuffix(".py") in OUR_NAMES


def _temporary() -> Path:
    return Path(tempfile.gettempdir()).resolve()


def _too_wide() -> set[Path]:
    """Folders that hold more than one project."""
    return {_temporary(), Path.home().resolve(), Path(Path.cwd().anchor)}


def _caches() -> list[Path]:
    named = [Path(os.environ[name]).resolve() for name in CACHES if os.environ.get(name)]
    return [*named, Path(torch.hub.get_dir()).resolve()]


def _systems() -> list[Path]:
    return [*map(Path, SYSTEM), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
