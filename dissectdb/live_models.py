"""The models of a study for the explorer, loaded in the background.

models = LoadedLater(study)
models.start()
models.state, models.note        # loading, «The models are being loaded, …»
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dissectdb.serve.models import Seen

if TYPE_CHECKING:
    from dissectdb.extract.record.live import LiveModels
    from dissectdb.extract.study import Study

log = logging.getLogger("dissectdb")


class LoadedLater:
    """The models of a study; before they are loaded, what says so. It is what serve.models.Models asks for."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._loaded: LiveModels | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Load the models in a thread."""
        threading.Thread(target=self._load, daemon=True).start()

    @property
    def state(self) -> str:
        """loading, ready or failed."""
        return "ready" if self._loaded else "failed" if self._failure else "loading"

    @property
    def note(self) -> str:
        """A sentence on the state."""
        if self._failure:
            return f"The models of the study could not be loaded: {self._failure}"
        return "The models are ready." if self._loaded else "The models of the study are being loaded."

    @property
    def fingerprints(self) -> tuple[str | None, str | None]:
        """Of the network and of CLIP, as the warehouse has them."""
        return self._loaded.fingerprints if self._loaded else (None, None)

    def embed(self, text: str, templates: Sequence[str]) -> list[float]:
        """CLIP's embedding of a text in prompt templates, of unit length. Raises ValueError unless it is ready."""
        return self._ready().embed(text, templates)

    def look(self, file: bytes) -> Seen:
        """What the network makes of the bytes of a picture. Raises ValueError."""
        return Seen(*self._ready().look(file))

    def _ready(self) -> LiveModels:
        if self._loaded is None:
            raise ValueError(self.note)
        return self._loaded

    def _load(self) -> None:
        from dissectdb.extract.record.live import LiveModels

        try:
            self._loaded = LiveModels(self._study)
        except Exception as error:  # whatever code of users raises; the pages go on without the models
            self._failure = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning(self.note)
