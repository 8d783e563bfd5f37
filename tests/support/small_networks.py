"""A small VGGNet, and settings of a study that describe it."""

from __future__ import annotations

from typing import Any

import torch

from dissectdb.extract import study
from dissectdb.extract.models.vggnet import VGGNet

SMALL = {"channels": [2, 2, 2, 2], "hidden": 4}


def settings_of(architecture: str = "vggnet", **changes: Any) -> study.Network:
    values: dict[str, Any] = {"name": "net", "architecture": architecture, "layers": ["lin1"]}
    values |= {"input": {"size": 40, "mode": "grey"}, "classes": list("abcdefg")}
    values |= {"arguments": SMALL if architecture == "vggnet" else {}}
    return study.Network.model_validate(values | changes)


def small(seed: int = 0) -> VGGNet:
    torch.manual_seed(seed)
    return VGGNet(**SMALL)
