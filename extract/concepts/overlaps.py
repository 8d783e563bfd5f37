"""Check a concept set with CLIP: find near-duplicates, and concepts that are nearer to another class.

reader = load(study)                                     # the study's CLIP, and its prompts
near_duplicates(reader.embed(words), words, 0.95).closest
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

ROWS = 256  # of the table of all pairs at once: 20,000 concepts take 20 MB
CONCEPTS_AT_ONCE = 1024  # embedded; many templates make many texts of each
CLOSEST = 50  # pairs that are listed


@dataclass(frozen=True)
class Reader:
    """A study's CLIP, with the study's prompts for words."""

    study: NetworkStudy
    clip: clips.Clip

    def embed(self, words: Sequence[str]) -> Tensor:
        """(word, dimension) of unit length."""
        templates = templates_for(self.study, words)
        starts = range(0, len(words), CONCEPTS_AT_ONCE)
        return torch.cat([self.clip.embed_concepts(words[at : at + CONCEPTS_AT_ONCE], templates) for at in starts])


@dataclass(frozen=True)
class NearDuplicate:
    """Two concepts that CLIP hardly tells apart. similarity: cosine of their texts."""

    concept: str
    other: str
    similarity: float


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs that CLIP hardly tells apart: the closest ones, the number of all, and of the concepts in them."""

    closest: list[NearDuplicate]
    pairs: int
    concepts: int


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

    near_duplicates: NearDuplicates
    nearer_elsewhere: list[NearerElsewhere]


def load(study: NetworkStudy) -> Reader:
    """Load only the CLIP of a study. Raises StudyError."""
    return Reader(study, clips.load(study.clip, devices.choose(study.device)))


def check(
    reader: Reader, classes_of: Mapping[str, Sequence[str]], threshold: float, most_pairs: int = CLOSEST
) -> Found:
    """Check a concept set. classes_of: concept → the classes that it stands for. threshold: of near-duplicates."""
    words, classes = list(classes_of), classes_to_compare(reader.study, classes_of)
    clips.warn_of_cut_texts(reader.clip, words, templates_for(reader.study, words))
    embeddings = reader.embed(words)
    elsewhere = nearer_elsewhere(classes_of, embeddings, reader.embed(classes), classes) if classes else []
    return Found(near_duplicates(embeddings, words, threshold, most_pairs), elsewhere)


def near_duplicates(
    embeddings: Tensor, names: Sequence[str], threshold: float, most_pairs: int = CLOSEST
) -> NearDuplicates:
    """The pairs of concepts whose embeddings (concept, dimension) of unit length have a cosine above the threshold.

    All pairs are counted, and the closest are listed. Memory grows with the number of concepts, not with its square.
    """
    closest: list[NearDuplicate] = []
    pairs, has_duplicate = 0, torch.zeros(len(names), dtype=torch.bool)
    for start in range(0, len(names), ROWS):
        cosines = embeddings[start : start + ROWS] @ embeddings[start:].T  # of these concepts with themselves and later
        rows, columns = cosines.shape
        cosines[:, :rows].masked_fill_(torch.ones(rows, rows, dtype=torch.bool).tril(), -2)  # each pair once
        is_near = cosines > threshold
        near = int(is_near.sum())
        if not near:
            continue
        pairs += near
        has_duplicate[start : start + rows] |= is_near.any(1)
        has_duplicate[start:] |= is_near.any(0)
        similarities, positions = cosines.flatten().topk(min(near, most_pairs))
        for similarity, position in zip(similarities.tolist(), positions.tolist(), strict=True):
            row, column = divmod(position, columns)
            closest.append(NearDuplicate(names[start + row], names[start + column], similarity))
        closest = sorted(closest, key=lambda pair: -pair.similarity)[:most_pairs]
    return NearDuplicates(closest, pairs, int(has_duplicate.sum()))


def nearer_elsewhere(
    classes_of: Mapping[str, Sequence[str]], embeddings: Tensor, class_embeddings: Tensor, classes: Sequence[str]
) -> list[NearerElsewhere]:
    """The concepts that are nearest to a class which they do not stand for; those of no class are left out."""
    misplaced = []
    for (concept, mapped), embedding in zip(classes_of.items(), embeddings, strict=True):
        if not mapped:
            continue
        similarities = dict(zip(classes, (class_embeddings @ embedding).tolist(), strict=True))
        nearest = max(similarities, key=similarities.__getitem__)
        if nearest in mapped:
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
