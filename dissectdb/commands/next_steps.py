"""What to type after a command: commands with the paths and options of the one that has just run.

Run(file, study_file, overrides).show("report", "query")
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dissectdb.commands import screen

STRONGEST = "SELECT layer, unit, concept, z, q FROM neuron_concepts ORDER BY z DESC LIMIT 20"
NEEDED = "SELECT layer, class, concept, delta_accuracy, p FROM concept_effects ORDER BY delta_accuracy LIMIT 20"
FLIPS = "SELECT split, image_id, true_class, class_before, class_after FROM edit_flips LIMIT 20"
JUDGED = (
    "SELECT layer, unit, method, label, pearson, q FROM rival_scores "
    "WHERE control = 'none' AND reference = 'clip' AND rival_id IN ({rivals}) ORDER BY pearson DESC LIMIT 20"
)  # rivals: the methods that were shown; the view also has those of other images, networks and CLIPs


@dataclass(frozen=True)
class Run:
    """What the command that has run was given. warehouse: the file that it wrote."""

    warehouse: Path
    study_file: Path | None = None
    overrides: Sequence[str] = ()

    def report(self) -> str:
        return f"dissectdb report{self._warehouse()}"

    def query(self, select: str = STRONGEST) -> str:
        return f'dissectdb query{self._warehouse()} "{select}"'

    def with_study(self, command: str, *options: str) -> str:
        """A command that takes the study."""
        assert self.study_file is not None
        flags = [part for text in self.overrides for part in ("--set", text)]
        return f"dissectdb {shlex.join([command, shown(self.study_file), *flags, *options])}{self._warehouse()}"

    def _warehouse(self) -> str:
        return f" -w {shlex.quote(shown(self.warehouse))}"


def shown(path: Path) -> str:
    """A path as short as it can be typed in this folder."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive of Windows
        return str(path)
    return str(path) if relative.startswith("..") else relative


def show(*commands: str) -> None:
    """Print the commands that may come next, one per line."""
    screen.put()
    screen.put("Next", "bold")
    for command in commands:
        screen.put_command(command)
