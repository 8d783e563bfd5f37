"""docs/dissect.ipynb runs from top to bottom, and is stored without what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dissectdb import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = ROOT / "docs" / "dissect.ipynb"


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []
    assert NOTEBOOK.stat().st_size < 20_000


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown: list[dict[str, Any]] = [
        output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    summary, labels, card, chart, counts, again = shown
    assert "layer1" in summary["text/html"]
    assert "layer2" in summary["text/html"]
    assert "runner_up" in labels["text/html"]
    assert card["text/html"].count("<image ") == 8  # each in a drawing of where the neuron responds
    assert "image/svg+xml" in chart, "the chart needs no network"
    assert "concept" in counts["text/html"]
    assert again["text/plain"] == "True"
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == []
