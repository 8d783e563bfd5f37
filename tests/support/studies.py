"""Small studies, written to a file: one of a network, and one of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dissectdb.extract.study import Study, StudyError

NETWORK_STUDY = """
[dataset]
name = "faces"
kind = "folder"
path = "faces"
[network]
name = "net"
architecture = "vggnet"
layers = ["conv1a", "lin1"]
[network.input]
size = 40
[clip]
architecture = "ViT-B-16"
weights = "openai"
[[concept_sets]]
name = "emotions"
source = "emotions"
[[dissections]]
concepts = "emotions"
[[edits]]
name = "paper"
"""


def arrays_study(name: str, source: str, top_k: int, classes: Sequence[str] = ()) -> str:
    """A study of features.safetensors with one concept set; it ends in the dissection, so that keys can follow."""
    return f"""
warehouse = "warehouse.duckdb"
device = "cpu"
[arrays]
path = "features.safetensors"
name = "{name}"
classes = {list(classes)}
[[concept_sets]]
name = "words"
source = "{source}"
[[dissections]]
concepts = "words"
scorer = "soft_wpmi"
top_k = {top_k}
"""


def write_study(folder: Path, text: str = NETWORK_STUDY) -> Path:
    """Write small.toml; returns its path."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes(folder: Path, overrides: dict[str, str], text: str = NETWORK_STUDY) -> list[str]:
    """The lines of the error that a study with these overrides raises."""
    with pytest.raises(StudyError) as caught:
        Study.load(write_study(folder, text), overrides)
    return str(caught.value).splitlines()


def mistake(folder: Path, key: str, value: str) -> str:
    """The one line of the error that a small study with one override raises."""
    [line] = mistakes(folder, {key: value})
    return line
