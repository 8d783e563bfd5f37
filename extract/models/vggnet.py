"""The VGGNet of arXiv 2105.03588, for FER2013.

VGGNet()                                            # 64, 128, 256, 512 channels, 4096 hidden units, 7 classes
VGGNet(channels=(8, 16, 32, 64), hidden=256)        # the same shape, small

Input: (image, 1, 40, 40), values 0 to 1. Module names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class VGGNet(nn.Module):
    """Four blocks of two 3×3 convolutions, each with batch norm and ReLU, then three linear layers."""

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512),
        hidden: int = 4096,
        classes: int = 7,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        before = 1
        for block, width in enumerate(channels, start=1):
            for half in "ab":
                self.add_module(f"conv{block}{half}", nn.Conv2d(before, width, 3, padding=1))
                self.add_module(f"bn{block}{half}", nn.BatchNorm2d(width))
                before = width
        self.blocks = len(channels)
        self.lin1 = nn.Linear(before * 2 * 2, hidden)
        self.lin2 = nn.Linear(hidden, hidden)
        self.lin3 = nn.Linear(hidden, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (image, class) of images (image, 1, 40, 40)."""
        features = images
        for block in range(1, self.blocks + 1):
            for half in "ab":
                convolve, normalise = getattr(self, f"conv{block}{half}"), getattr(self, f"bn{block}{half}")
                features = F.relu(normalise(convolve(features)))
            features = F.max_pool2d(features, 2)
        features = features.flatten(1)
        features = F.relu(self.drop(self.lin1(features)))
        features = F.relu(self.drop(self.lin2(features)))
        return self.lin3(features)
