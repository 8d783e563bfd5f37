"""Check a concept set with CLIP: find near-duplicates, and concepts that are nearer to another class.

reader = load(study)                                     # the study's CLIP, and its prompts
near_duplicates(reader.embed(words), words, 0.95)
nearer_elsewhere(classes_of, reader.embed(words), reader.embed(classes), classes)

The results are hints: CLIP's similarity of two texts shows what CLIP can tell apart, not what the texts mean. The view
concept_class_similarities has the same numbers for the concept sets of a warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dissectdb.extract import concepts
from dissectdb.extract.models import clip as clips
from dissectdb.extract.models import devices
from dissectdb.extract.study import NetworkStudy, Study

ROWS = 1024  # of all pairs at once


@dataclass(frozen=True)
class Reader:
    """A study's CLIP, with the study's prompts for words."""

    study: NetworkStudy
    clip: clips.Clip

    def embed(self, words: Sequence[str]) -> Tensor:
        """(word, dimension) of unit length."""
        return self.clip.embed_concepts(words, templates_for(self.study, words))


@dataclass(frozen=True)
class NearDuplicate:
    """Two concepts that CLIP hardly tells apart. similarity: cosine of their texts."""

    concept: str
    other: str
    similarity: float


@dataclass(frozen=True)
class NearerElsewhere:
    """A concept whose text is nearer to a class that it does not stand for than to any that it does."""

    concept: str
    stands_for: str
    similarity: float
    nearer_to: str
    its_similarity: float


@dataclass(frozen=True)
class Found:
    """The near-duplicates and misplaced concepts of a set, for the user to look at."""

    near_duplicates: list[NearDuplicate]
    nearer_elsewhere: list[NearerElsewhere]


def load(study: NetworkStudy) -> Reader:
    """Load only the CLIP of a study. Raises StudyError."""
    return Reader(study, clips.load(study.clip, devices.choose(study.device)))


def check(reader: Reader, classes_of: Mapping[str, Sequence[str]], threshold: float) -> Found:
    """Check a concept set. classes_of: concept → the classes that it stands for. threshold: of near-duplicates."""
    words, classes = list(classes_of), classes_to_compare(reader.study, classes_of)
    clips.warn_of_cut_texts(reader.clip, words, templates_for(reader.study, words))
    embeddings = reader.embed(words)
    elsewhere = nearer_elsewhere(classes_of, embeddings, reader.embed(classes), classes) if classes else []
    return Found(near_duplicates(embeddings, words, threshold), elsewhere)


def near_duplicates(embeddings: Tensor, names: Sequence[str], threshold: float) -> list[NearDuplicate]:
    """The pairs of concepts whose embeddings (concept, dimension) of unit length have a cosine above the threshold."""
    duplicates = []
    for start in range(0, len(names), ROWS):
        cosines = embeddings[start : start + ROWS] @ embeddings.T
        later = torch.ones_like(cosines, dtype=torch.bool).triu(start + 1)  # each pair once, none with itself
        duplicates += [
            NearDuplicate(names[start + row], names[column], float(cosines[row, column]))
            for row, column in torch.nonzero((cosines > threshold) & later).tolist()
        ]
    return sorted(duplicates, key=lambda pair: -pair.similarity)


def nearer_elsewhere(
    classes_of: Mapping[str, Sequence[str]], embeddings: Tensor, class_embeddings: Tensor, classes: Sequence[str]
) -> list[NearerElsewhere]:
    """The concepts that are nearest to a class which they do not stand for; those of no class are left out."""
    misplaced = []
    for (concept, mapped), cosines in zip(classes_of.items(), embeddings @ class_embeddings.T, strict=True):
        similarities = dict(zip(classes, cosines.tolist(), strict=True))
        nearest = max(similarities, key=similarities.__getitem__)
        if not mapped or nearest in mapped:
            continue
        best = max(mapped, key=similarities.__getitem__)
        if similarities[best] < similarities[nearest]:
            misplaced.append(
                NearerElsewhere(concept, ", ".join(mapped), similarities[best], nearest, similarities[nearest])
            )
    return sorted(misplaced, key=lambda row: row.similarity - row.its_similarity)


def classes_to_compare(study: NetworkStudy, classes_of: Mapping[str, Sequence[str]]) -> list[str]:
    """The classes of the study's network, as far as it names them, then all that a concept stands for."""
    mapped = [name for names in classes_of.values() for name in names]
    return list(dict.fromkeys([*study.network.classes, *mapped]))


def templates_for(study: Study, words: Sequence[str]) -> tuple[str, ...]:
    """The templates of the study's first concept set with all these words; the plain words if there is none."""
    for settings in study.concept_sets:
        if set(words) <= concepts.load(settings.source).classes_of.keys():
            return settings.templates
    return ("{}",)
