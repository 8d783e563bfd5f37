"""bench.device measures everything that it names, at tiny sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dissectdb import ROOT

MEASURED = (
    "matrix product", "texts, CLIP ViT-B/32", "scores, soft_wpmi", "faces: study to labels", "faces: passes",
    "faces: a run with nothing to do", "faces: modify", "faces: effects", "photographs: study to labels",
)  # fmt: skip


def test_every_measurement_runs(tmp_path: Path) -> None:
    output = tmp_path / "device.md"
    command = [sys.executable, "-m", "bench.device", "--small", "--device", "cpu", "--minutes", "60", "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    table = output.read_text(encoding="utf-8")
    assert table in done.stdout
    assert "left out" not in table
    for name in MEASURED:
        [*_, row] = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
        assert any(digit in row.split("|")[4] for digit in "123456789"), row
