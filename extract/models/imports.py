"""Find where Python would look for the modules that a user's network imports. Imports no torch, and runs no code.

places(["blocks", "parts.heads"], ["nets"])   # [["blocks", "nets/blocks.py"], …]; a module that is nowhere has no row
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import NamedTuple


class Imports(NamedTuple):
    """names: of modules that the code asked for, with dots, found or not. folders: searched beside sys.path."""

    names: Sequence[str] = ()
    folders: Sequence[str] = ()


NO_IMPORTS = Imports()


def places(imports: Imports) -> list[tuple[str, str]]:
    """Each name with each file, or folder without __init__.py, that it may mean now, in the order of the search."""
    importlib.invalidate_caches()  # a file may be new
    folders = dict.fromkeys(os.path.abspath(folder) for folder in (*imports.folders, *sys.path))
    return [(name, place) for name in imports.names for folder in folders for place in _found(name, folder)]


def _found(name: str, folder: str) -> Iterable[str]:
    searched: Sequence[str] | None = [folder]
    spec: ModuleSpec | None = None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, searched) if searched else None
        if spec is None:
            return []
        searched = spec.submodule_search_locations
    return [spec.origin] if spec and spec.origin else list(searched or [])
