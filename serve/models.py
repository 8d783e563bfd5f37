"""What the explorer asks of CLIP and of the network, which somebody else loads: see dissectdb/live_models.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Seen:
    """What a network makes of a picture.

    classes: each with its probability, highest first; activations: the value of each unit, by the layer's module,
    pooling and call, as the table layers has them; picture: a PNG of what was read.
    """

    classes: list[tuple[str, float]]
    activations: dict[tuple[str, str, int | None], list[float]]
    picture: bytes


class Models(Protocol):
    """Models that are loaded in the background."""

    @property
    def state(self) -> str:
        """absent, loading, ready or failed."""
        ...

    @property
    def note(self) -> str:
        """A sentence on the state, for a page."""
        ...

    @property
    def fingerprints(self) -> tuple[str | None, str | None]:
        """Of the network and of CLIP, as the warehouse has them; None for what the study does not have."""
        ...

    def embed(self, text: str, templates: Sequence[str]) -> list[float]:
        """CLIP's embedding of a text in prompt templates, of unit length. Raises ValueError unless it is ready."""
        ...

    def look(self, file: bytes) -> Seen:
        """What the network makes of the bytes of a picture. Raises ValueError, also for what is no picture."""
        ...


class _None:
    state = "absent"
    note = "No study was given, so that no model can be loaded; start with: dissectdb serve --study STUDY"

    fingerprints = (None, None)

    def embed(self, text: str, templates: Sequence[str]) -> list[float]:
        raise ValueError(self.note)

    def look(self, file: bytes) -> Seen:
        raise ValueError(self.note)


NONE = _None()
