"""The modules of docs/site, which are no package: MkDocs loads them by their path; and the demo's warehouse, small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dissectdb import ROOT
from tests.support.worlds import command

sys.path.insert(0, str(ROOT / "docs" / "site"))

SMALL = """
dataset.images=200
network.layers=["conv4b", "lin2"]
dissections[0].null_draws=200
dissections[0].bootstraps=2
edits[0].layer=lin2
edits[0].factor=6
protocol.controls=3
protocol.shuffles=1
protocol.bootstraps=100
effects.controls=3
"""
FLAGS = SMALL.strip().splitlines()  # overrides of the study
LABELS = "layer,unit,label\n" + "".join(f"lin2,{unit},{('Smile', 'Frown', 'happy')[unit % 3]}\n" for unit in range(60))


@pytest.fixture(scope="session")
def demo_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What make demo leaves, of fewer images and layers, and with labels of another method judged. Only to be read."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "other.csv").write_text(LABELS)
    flags = [flag for line in FLAGS for flag in ("--set", line)]
    judge = ("judge", "--labels", f"OTHER={folder / 'other.csv'}")
    for name, *options in (("extract",), ("modify",), ("effects",), judge):
        done = command(name, ROOT / "studies" / "demo.toml", "-w", folder / "warehouse.duckdb", *options, *flags)
        assert done.code == 0, f"{name}: {done.err}"
    return folder / "warehouse.duckdb"
