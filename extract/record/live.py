"""A study's models, ready to be asked about one text or one picture. Nothing is written.

models = LiveModels(study)
models.embed("a red nose", ["a face with {}"])     # CLIP's embedding of a text
models.look(Path("face.png").read_bytes())         # probabilities, and the activations of every layer
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from dissectdb.extract.images.decoding import Pixels, Unreadable, channels_of, decode, png
from dissectdb.extract.images.sources import open_source
from dissectdb.extract.models import clip, devices, hooks
from dissectdb.extract.models.networks import Network
from dissectdb.extract.record.network_plan import load_network, place, with_layers
from dissectdb.extract.study import NetworkStudy, Study

Way = tuple[str, str, int | None]  # module, pooling and call, as the table layers has them
SHOWN = 256  # pixels a side of the picture that is returned


class LiveModels:
    """The network and CLIP of a study, loaded. Raises StudyError. Its methods may be called by several threads."""

    def __init__(self, study: Study) -> None:
        device = devices.prepare(study)
        self.device = device
        self.clip = clip.load(study.clip, device) if study.clip is not None else None
        self.network: Network | None = None
        self._one_at_a_time = threading.Lock()
        if isinstance(study, NetworkStudy):
            of_sources = {source.bits for source in study.dataset.united()}
            self._bits = of_sources.pop() if len(of_sources) == 1 else study.dataset.bits
            self.network = load_network(study, open_source(study.dataset))
            self.taps = place(self.network, with_layers(study, self.network), device)

    @property
    def fingerprints(self) -> tuple[str | None, str | None]:
        """Of the network and of CLIP, as a warehouse has them."""
        return self.network.fingerprint if self.network else None, self.clip.fingerprint if self.clip else None

    def embed(self, text: str, templates: Sequence[str]) -> list[float]:
        """CLIP's embedding of a text, averaged over templates, of unit length."""
        if self.clip is None:
            raise ValueError("the study has no CLIP")
        with self._one_at_a_time:
            return self.clip.embed_concepts([text], list(templates))[0].tolist()

    def look(self, file: bytes) -> tuple[list[tuple[str, float]], dict[Way, list[float]], bytes]:
        """Classes with their probabilities, highest first; activations by layer and way; and a PNG of what was read.

        Raises ValueError for bytes that are no picture, or one that the network does not take.
        """
        if self.network is None:
            raise ValueError("the study has no network")
        try:
            pixels = decode(file, self._bits)
        except Unreadable as error:
            raise ValueError(f"This file could not be read as a picture: {error}") from error
        recipe = self.network.recipe
        channels = channels_of(pixels)
        if not recipe.takes(channels):
            raise ValueError(f"The network does not take a picture of {channels} channels: {recipe.described()}")
        with self._one_at_a_time, torch.inference_mode():
            images = recipe.apply([pixels] * self.network.answer.fewest, self.device)
            with hooks.record(self.network.model, self.taps) as found:
                logits = self.network.logits(images)
        shares = logits.double().softmax(1)[0].tolist() if self.network.classes else []
        classes = sorted(zip(self.network.classes, shares, strict=True), key=lambda pair: -pair[1])
        return classes, self._by_way(found), _small(pixels)

    def _by_way(self, found: Mapping[str, Tensor]) -> dict[Way, list[float]]:
        """The activations of one image by how the warehouse has a layer recorded: module, pooling and call."""
        return {
            (tap.layer, tap.read_as, tap.call): found[tap.name][0].double().tolist()
            for tap in self.taps
            if tap.name in found
        }


def _small(pixels: Pixels) -> bytes:
    picture = PIL.Image.fromarray(pixels)
    picture.thumbnail((SHOWN, SHOWN))
    return png(np.asarray(picture))
