"""How Python and the command line name a CLIP in one word.

clip_keys("ViT-B-32/openai")     # {"architecture": "ViT-B-32", "weights": "openai"}
clip_keys("dissectdb-face-rn")   # the keys of the small CLIP for faces that ships, with its files
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dissectdb import ROOT

SHIPPED_CLIP = "dissectdb-face-rn"  # a small CLIP for faces, which the demo uses
WHOLE = ("hf-hub:", "local-dir:")  # the beginnings of names that hold their weights


def clip_keys(clip: str | Mapping[str, Any]) -> dict[str, Any]:
    """The keys of [clip]. clip: "ARCHITECTURE/TAG" or "ARCHITECTURE/FILE", the CLIP that ships, or keys."""
    if not isinstance(clip, str):
        return {key: str(value) if isinstance(value, os.PathLike) else value for key, value in clip.items()}
    if clip == SHIPPED_CLIP:
        files = {
            key: str(ROOT / "extract" / "demo" / f"{clip}.{end}")
            for key, end in (("config", "json"), ("weights", "safetensors"))
        }
        return {"architecture": clip, **files}
    if clip.startswith(WHOLE):
        return {"architecture": clip}
    architecture, _, tag = clip.partition("/")
    return {"architecture": architecture, "weights": tag} if tag else {"architecture": architecture}
