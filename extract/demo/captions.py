"""Texts about faces: prompts for zero-shot questions, and captions that the small CLIP is trained on.

prompts("Smile", TEMPLATES)                  # ["Smile", "a face with Smile", …]
captions(faces.truth, faces.emotions, rng)   # ["a photo of a happy face with smile and relaxed eyes", …]
auc(scores, truth)                           # one area under the ROC curve per concept
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dissectdb.extract.demo.faces import CLASSES, CONCEPTS

TEMPLATES = (
    "{}",
    "a face with {}",
    "a photo of a face with {}",
)  # of the figures, and of the demo's study
TRAINED_TEMPLATES = (*TEMPLATES, "a person with {}", "a {} face", "a photo of a {} face", "a face showing {}")
TEXTS = CONCEPTS + CLASSES  # everything that the CLIP learns a name for

_BARE = ("a face", "a photo of a face", "a person", "a portrait", "someone")
_FELT = ("a {} face", "a photo of a {} face", "a {} person", "someone {}", "a portrait of a {} person")


def prompts(text: str, templates: Sequence[str]) -> list[str]:
    """The text in each template."""
    return [template.format(text) for template in templates]


def captions(truth: NDArray[np.bool_], emotions: NDArray[np.int64], rng: np.random.Generator) -> list[str]:
    """One sentence per face: one to three of the concepts that it shows, in random order.

    It names the emotion with probability 0.3, and always if the face shows no concept.
    """
    return [_caption(np.flatnonzero(shown), emotion, rng) for shown, emotion in zip(truth, emotions, strict=True)]


def _caption(shown: NDArray[np.intp], emotion: int, rng: np.random.Generator) -> str:
    """A caption of one face. shown: the positions in CONCEPTS of the concepts that it shows."""
    if rng.random() < 0.3 or not len(shown):
        start = str(rng.choice(_FELT)).format(CLASSES[emotion])
    else:
        start = str(rng.choice(_BARE))
    named = [CONCEPTS[at].lower() for at in rng.permutation(shown)[: rng.integers(1, 4)]]
    if not named:
        return start
    return f"{start} with {', '.join(named[:-1])}{' and ' if named[:-1] else ''}{named[-1]}"


def auc(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area under the ROC curve of each column of scores (image, concept). truth: which image shows which concept.

    Ties count half. NaN for a concept that all images show, or none.
    """
    areas = np.full(scores.shape[1], np.nan)
    for column, (values, shown) in enumerate(zip(scores.T, truth.T, strict=True)):
        positives = int(shown.sum())
        if 0 < positives < len(shown):
            _, place, count = np.unique(values, return_inverse=True, return_counts=True)
            ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # from 1, the mean rank of a tie
            wins = ranks[shown].sum() - positives * (positives + 1) / 2
            areas[column] = wins / (positives * (len(shown) - positives))
    return areas
