"""Texts are embedded without the padding that their model does not read, and with the padding that it reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from dissectdb.extract.models import clip, text_tower
from tests.models.test_clip import CPU, TINY, write

TEXT = TINY["text_cfg"]
OF_THE_END = {  # causal, and read at the end of the text: as CLIP has it, and as open_clip's newer towers
    "clip": TINY,
    "custom": {**TINY, "custom_text": True},
    "end token": {**TINY, "custom_text": True, "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 49407}},
}
OF_THE_PADDING = {
    "last token": {**TINY, "custom_text": True, "text_cfg": {**TEXT, "pool_type": "last"}},
    "both ways": {**TINY, "custom_text": True, "text_cfg": {**TEXT, "no_causal_mask": True}},
    "coca": {**TINY, "custom_text": True, "text_cfg": {**TEXT, "embed_cls": True}},
}
NAMES = ["Smile", "!", "a very long frown of more than one word", "x", "", "Brow raised"]
TEMPLATES = ["{}", "a face with {}", "!{}"]


def load(folder: Path, config: dict[str, Any]) -> clip.Clip:
    return clip.load(write(folder, "mini-texts", config), CPU)


def by_the_model(loaded: clip.Clip) -> torch.Tensor:
    """The concepts' embeddings from open_clip's own encode_text, with all padding."""
    with torch.no_grad():
        means = [
            F.normalize(loaded.model.encode_text(loaded.tokenize([t.replace("{}", name) for t in TEMPLATES])), dim=1)
            for name in NAMES
        ]
        return F.normalize(torch.stack([mean.mean(0) for mean in means]), dim=1)


@pytest.mark.parametrize("kind", [*OF_THE_END, *OF_THE_PADDING])
def test_every_kind_of_tower_gives_the_models_own_embeddings(tmp_path: Path, kind: str) -> None:
    loaded = load(tmp_path, (OF_THE_END | OF_THE_PADDING)[kind])
    assert loaded.text_tower.cuts == (kind in OF_THE_END)
    torch.testing.assert_close(loaded.embed_concepts(NAMES, TEMPLATES), by_the_model(loaded), atol=1e-6, rtol=1e-5)


def test_the_model_gets_no_more_tokens_than_the_longest_text_of_a_batch_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tmp_path, TINY)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    shapes: list[tuple[int, ...]] = []
    encode = loaded.model.encode_text
    monkeypatch.setattr(loaded.model, "encode_text", lambda tokens: shapes.append((*tokens.shape,)) or encode(tokens))
    monkeypatch.setitem(clip.TEXTS_AT_ONCE, "cpu", 2)
    assert loaded.text_tower.cuts
    shapes.clear()
    loaded.embed_concepts(["one two three four five", "one", "one two", "one two three"], ["{}"])
    assert shapes == [(2, 4), (2, 7)], "start and end are tokens; texts of like length go together"
    assert loaded.model.attn_mask.shape == (16, 16)
    assert all(torch.equal(before[name], tensor) for name, tensor in loaded.model.state_dict().items())


def test_a_tower_that_reads_the_padding_is_found_by_what_it_computes(tmp_path: Path) -> None:
    """A tower that was taken for one that does not would give other embeddings."""
    loaded = load(tmp_path, OF_THE_PADDING["both ways"])
    tokens = loaded.tokenize(["Smile"])
    with torch.inference_mode():
        right, wrong = (replace(loaded.text_tower, cuts=cuts)(tokens) for cuts in (False, True))
    assert float((right - wrong).abs().max()) > 100 * text_tower.SAME
