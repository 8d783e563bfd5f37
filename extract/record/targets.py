"""What an extraction computes: targets, each over the images of one split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dissectdb.extract import fingerprints

EXTRACTION_VERSION = 1  # raise it if the same inputs give other rows


@dataclass(frozen=True)
class Target:
    """A table's rows over the images of a split: activations or maps of a layer, predictions, or image embeddings.

    source_fingerprint: of the layer, network or CLIP. values_per_image: how many numbers are computed per image.
    """

    kind: Literal["activations", "activation_maps", "image_embeddings", "predictions"]
    name: str
    split: str
    source_fingerprint: str
    values_per_image: int

    def fingerprint(self, dataset: str) -> str:
        """The fingerprint of everything that the rows depend on, without the name. dataset: its fingerprint."""
        return fingerprints.of_values(EXTRACTION_VERSION, self.kind, self.source_fingerprint, dataset, self.split)
