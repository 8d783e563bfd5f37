"""Load the code of a user's network so that its imports work, and hash all of it.

    code = UserCode(Path("nets/net.py"))
    model = code.function("make")(classes=7)
    model(images)                       # imports inside forward work too
    code.modules()                      # {"blocks": "9f86…", "net.yaml": "41c2…"}: its other files, with SHA-256
    code.packages()                     # {"einops"}: installed packages that the code imported

Imports in the file, and in modules beside it, search the file's folder first, as Python does for a script.
`from .blocks import Block` works too, with or without an `__init__.py` in the folders. Any module that is not installed
(found through PYTHONPATH, or in a folder that the code puts on sys.path) counts as the user's.

Each load keeps its modules in sys.modules under a private name, and only the user's own imports find them there. So a
file named `extract.py` or `utils.py` beside the network hides no module of ours, two networks may have different files
named `blocks.py`, and a changed file is read again.

Files that the code opens count too: a helper that it runs with exec, runpy or spec_from_file_location, and a small file
that it reads, such as its configuration (see opened_files). Modules that are imported only in training are missed, and
so are files that compiled code reads.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.machinery
import importlib.util
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from dissectdb.extract.models import opened_files
from dissectdb.extract.models.imports import Imports
from dissectdb.extract.models.opened_files import is_installed, is_ours

PREFIX = "dissectdb_user_"
_numbers = itertools.count()
_loaded: dict[str, UserCode] = {}  # private name → code
_late: set[str] = set()  # modules that _LastFinder found


class UserCode:
    """One load of a Python file, as the module's docstring describes it. Errors of the file pass through."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.name = f"{PREFIX}{next(_numbers)}"
        self.sources: dict[str, str] = {}  # full private name → SHA-256
        self.source_files: set[Path] = set()  # the files of these modules
        self.imported: set[str] = set()  # top-level names of the other modules that the code imported
        self.folders, name = _folders_and_name(self.path)
        self.opened = opened_files.Opened(self.path, self.folders)
        self.added: list[str] = []  # folders that the code put on sys.path; only its own imports search them
        self.builtins = {**vars(builtins), "__import__": self._import}
        root = types.ModuleType(self.name)
        root.__path__ = [str(folder) for folder in self.folders]
        sys.modules[self.name] = root
        _loaded[self.name] = self
        for module in [name for name in sys.modules if name.partition(".")[0] in _late]:
            del sys.modules[module]  # another network's, or an older version of the file
        _late.clear()
        importlib.invalidate_caches()  # a file may be new
        with self._on_the_path():
            self.main = importlib.import_module(f"{self.name}.{name}")

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return self.sources[self.main.__name__]

    def function(self, name: str) -> Callable[..., Any]:
        """A function of the file, wrapped so that it runs with the file's folder on sys.path. Raises AttributeError."""
        function = getattr(self.main, name)

        def call(**arguments: Any) -> Any:
            with self._on_the_path():
                return function(**arguments)

        return call

    def modules(self) -> dict[str, str]:
        """SHA-256 of each of the user's modules that is loaded, and of each other file that counts.

        The keys are modules' names, and files' paths from the folder of the network's file. That file is left out.
        """
        own_sources = {name: digest for name, digest in self.sources.items() if name != self.main.__name__}
        digests = {name.removeprefix(f"{self.name}."): digest for name, digest in own_sources.items()}
        others = self._modules_elsewhere()
        digests |= {name: _digest(file.read_bytes()) for name, file in others.items()}
        return digests | self.opened.digests({self.path, *self.source_files, *others.values()})

    def files(self) -> list[Path]:
        """Every file that the code was loaded from or has read, also those that are too large to count."""
        opened = {Path(file).resolve() for file in self.opened.read - self.opened.written}
        return sorted({self.path, *self.source_files, *self._modules_elsewhere().values(), *opened})

    def imports(self) -> Imports:
        """The modules that the code asked for, and the folders that it searches beside sys.path."""
        return Imports(sorted(self.opened.sought), [*map(str, self.folders), *self.added])

    def _modules_elsewhere(self) -> dict[str, Path]:
        """Loaded modules that the code imported from other folders and that are not installed, with their files."""
        not_installed = {name for name in self.imported if (origin := _origin(name)) and not is_installed(origin)}
        files = {
            name: Path(file).resolve()
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in not_installed and (file := getattr(module, "__file__", None))
        }
        return {name: file for name, file in files.items() if file.is_file() and not is_ours(file)}

    def packages(self) -> set[str]:
        """The installed packages that the user's modules have imported, without Python's standard library."""
        names = self.imported - sys.stdlib_module_names
        return {name for name in names if (origin := _origin(name)) and is_installed(origin)}

    def run(self, call: Callable[[], object]) -> object:
        """Call a function that runs the code, and note what the code imports and opens."""
        with self._on_the_path():
            return call()

    @contextmanager
    def _on_the_path(self) -> Iterator[None]:
        """Inside the block, importlib.import_module("blocks") finds the user's modules. Afterwards all is restored."""
        folders = [*map(str, self.folders), *self.added]
        modules, path = set(sys.modules), list(sys.path)
        sys.path.extend(folders)
        try:
            with self.opened.watch():
                yield
        finally:
            self.added += [entry for entry in sys.path if entry not in (*path, *folders)]
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None)
                if file and not name.startswith(PREFIX) and self._is_beside(Path(file)):
                    self.enter(f"{self.name}.{name}", file, Path(file).read_bytes())
                    del sys.modules[name]

    def enter(self, name: str, file: str, content: bytes) -> None:
        """Record a loaded module. name: its private name."""
        self.sources[name] = _digest(content)
        self.source_files.add(Path(file).resolve())

    def _is_beside(self, file: Path) -> bool:
        """Whether a file is the user's. A Python environment, or this project, may lie in the same folder."""
        beside = any(file.resolve().is_relative_to(folder) for folder in self.folders)
        return beside and not is_installed(file) and not is_ours(file)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        """Replaces __import__ in the user's modules."""
        if level:
            return builtins.__import__(name, globals, locals, fromlist, level)
        self.opened.sought.add(name)
        first = name.partition(".")[0]
        if not self._has(first):
            if not first.startswith(PREFIX):
                self.imported.add(first)
            return builtins.__import__(name, globals, locals, fromlist, 0)
        module = builtins.__import__(f"{self.name}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{self.name}.{first}"]

    def _has(self, name: str) -> bool:
        """Whether a module is the user's. A folder without __init__.py is one if no such package is installed."""
        private = f"{self.name}.{name}"
        if private in sys.modules:
            return True
        entries = [*self.added, *sys.path]
        other_folders = [
            entry
            for entry in entries
            if Path(entry).resolve() != opened_files.OURS and not is_installed(Path(entry) / "x")
        ]
        for folders in ([str(folder) for folder in self.folders], other_folders):
            spec = importlib.machinery.PathFinder.find_spec(private, folders)
            if spec is not None and (spec.origin is not None or not _is_known(name)):
                sys.modules[self.name].__path__ = folders  # the import that follows searches these
                return True
        return False


def _origin(name: str) -> Path | None:
    """The file or folder of an imported module; None if it is not imported or is part of Python's executable."""
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), None)
    return Path(file) if file else None


def _is_known(name: str) -> bool:
    """Whether a module of that name is installed or loaded. This project's modules do not count."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return name in sys.modules
    return spec is not None and spec.origin is not None and not is_ours(Path(spec.origin))


def _folders_and_name(path: Path) -> tuple[list[Path], str]:
    """The folders that imports search, and the file's dotted name from the last of them.

    A file is treated as part of a package only if it has relative imports. Otherwise an __init__.py that the file does
    not need would run.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # loading the file reports the error
        return [path.parent], path.stem
    levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    if not levels:
        return [path.parent], path.stem
    parts, folder = [path.stem], path.parent
    while ((folder / "__init__.py").is_file() or len(parts) < max(levels)) and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return list(dict.fromkeys([path.parent, folder])), ".".join(parts)


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Runs the source, never a compiled file, because that may be older."""

    def get_code(self, fullname: str) -> types.CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class _Loader(_SourceLoader):
    """Runs exactly the bytes that are hashed, with UserCode's imports."""

    def get_code(self, fullname: str) -> types.CodeType:
        source = self.get_data(self.path)
        _loaded[fullname.partition(".")[0]].enter(fullname, self.path, source)
        return self.source_to_code(source, self.path)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = _loaded[module.__name__.partition(".")[0]].builtins
        super().exec_module(module)


class _Finder:
    """Finds modules under private names."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        private, _, plain = name.partition(".")
        opened = _loaded[private].opened if private in _loaded else opened_files.watching() if path is None else None
        if opened is not None:
            opened.sought.add(plain or name)
        if not name.startswith(PREFIX) or path is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _Loader(spec.name, spec.loader.path)
        elif spec is not None and spec.origin is not None and Path(spec.origin).is_file():  # a compiled extension
            _loaded[name.partition(".")[0]].enter(name, spec.origin, Path(spec.origin).read_bytes())
        return spec


class _LastFinder:
    """Finds a module beside the network that importlib or a helper imports while the network runs.

    The folder is no longer on sys.path then, and threads may run several networks. So the call stack tells which user's
    code is importing.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        code = _caller() if path is None and not name.startswith(PREFIX) else None
        if code is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, [*map(str, code.folders), *code.added])
        if spec is None or spec.origin is None:
            return None
        if type(spec.loader) is importlib.machinery.SourceFileLoader:
            spec.loader = _SourceLoader(spec.name, spec.loader.path)
        _late.add(name)
        return spec


def _caller() -> UserCode | None:
    """The user's code that is running in this thread; None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__")).partition(".")[0]
        if name.startswith(PREFIX):
            return _loaded.get(name)
        for code in reversed(_loaded.values()):
            if frame.f_code.co_filename in code.opened.read:
                return code
        frame = frame.f_back
    return None


sys.meta_path.insert(0, _Finder)
sys.meta_path.append(_LastFinder)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
