"""Each block of docs/how-to/recipes.md is part of a study that loads."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import dissectdb
from dissectdb import ROOT

PAGE = (ROOT / "docs" / "how-to" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
REST: dict[str, Any] = {
    "dataset": {"name": "photos", "kind": "folder", "path": "photos"},
    "network": {"name": "net", "architecture": "torchvision:resnet18", "weights": "pretrained", "layers": ["fc"]},
    "clip": {"architecture": "ViT-B-32", "weights": "openai"},
    "concept_sets": [{"name": "words", "source": ["dog", "cat"]}],
    "dissections": [{"concepts": "words"}],
}


@pytest.mark.parametrize("block", BLOCKS)
def test_the_block_is_part_of_a_study(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    part = tomllib.loads(block)
    rest = {
        key: value for key, value in REST.items() if "arrays" not in part or key not in ("dataset", "network", "clip")
    }
    study = dissectdb.Study(**(rest | part))
    for table in part:
        assert getattr(study, table) is not None


def test_the_page_has_blocks_for_images_layers_checkpoints_and_clip() -> None:
    assert len(BLOCKS) == 18
    for title in ("Images", "Layers", "Checkpoints", "CLIP"):
        assert "```toml" in PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
