"""docs/features.md: its functions make a file that its study reads, from an encoder and from rows of patches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dissectdb import ROOT
from dissectdb.warehouse import Warehouse
from tests.support.image_files import noise, save
from tests.support.worlds import command

PAGE = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
IMAGES, PATCHES, WIDTH, FEATURES = 40, 4, 6, 30


class Clip:
    """What the page asks of open_clip's model."""

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :8]

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens


@pytest.fixture
def functions() -> dict[str, Any]:
    names: dict[str, Any] = {}
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/features.md", "exec"), names)
    return names


def encoder() -> tuple[Any, torch.Tensor]:
    """An encoder of a random autoencoder, and activations (image, patch, width)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(WIDTH, FEATURES, generator=generator)
    return lambda x: torch.relu(x @ weight - 1), torch.randn(IMAGES, PATCHES, WIDTH, generator=generator)


class Rows(np.ndarray):
    """What the page asks of scipy's CSR."""

    def toarray(self) -> np.ndarray:
        return np.asarray(self)


def dense(parts: dict[str, torch.Tensor]) -> np.ndarray:
    columns = np.zeros(parts["shape"].tolist(), np.float32)
    rows = np.repeat(np.arange(len(columns)), np.diff(parts["indptr"].numpy()))
    columns[rows, parts["indices"].numpy()] = parts["data"].numpy()
    return columns


def test_an_encoder_and_rows_of_patches_give_the_same_features(functions: dict[str, Any]) -> None:
    encode, activations = encoder()
    expected = encode(activations).amax(1).numpy()
    assert 0 < (expected == 0).sum() < expected.size
    np.testing.assert_allclose(dense(functions["encoded"](encode, activations.split(16))), expected, rtol=1e-6)
    [line] = re.findall(r"`batches = (.*?)` with `n` patches", PAGE)
    rows = encode(activations.flatten(0, 1)).numpy().view(Rows)  # as saev writes them
    batches = eval(line, {"torch": torch, "rows": rows, "n": PATCHES})
    np.testing.assert_allclose(dense(functions["encoded"](lambda x: x, batches)), expected, rtol=1e-6)


def test_the_study_of_the_page_reads_the_file(
    functions: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encode, activations = encoder()
    paths = [save(tmp_path / "photos" / f"{n:02}.png", noise(n, 9, 8)) for n in range(IMAGES)]
    words = ["a cat", "a dog", "the sky"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    random = torch.Generator().manual_seed(1)
    images, concepts = functions["embedded"](
        Clip(),
        lambda image: torch.from_numpy(noise(image, 3, 4).astype(np.float32)),
        lambda words: torch.randn(len(words), 8, generator=random),
        range(IMAGES),
        words,
    )
    functions["write"]("features.safetensors", functions["encoded"](encode, [activations]), images, concepts, paths)
    [study] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "features.toml").write_text(study)
    small = ["dissections[0].top_k=10", "dissections[0].null_draws=200"]
    done = command("extract", "features.toml", *[flag for each in small for flag in ("--set", each)])
    assert done.code == 0, done.err
    with Warehouse(tmp_path / "features.duckdb", read_only=True) as opened:
        assert len(opened.rows("select * from neuron_concepts where similarity is not null")) > 0
        top = opened.rows("select image_id, value from top_images where unit = 0 and rank = 1").row(0)
        [path] = opened.rows("select path from named_images where image_id = $id", {"id": top[0]})["path"]
    expected = encode(activations).amax(1)[:, 0]
    assert path == f"{int(expected.argmax()):02}.png"
    assert top[1] == pytest.approx(float(expected.max()))
