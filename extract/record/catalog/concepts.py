"""Enter concept sets, concepts and their embeddings into a warehouse."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from dissectdb.extract import fingerprints
from dissectdb.extract.concepts import ConceptList
from dissectdb.extract.models import classes
from dissectdb.extract.models.clip import ClipIdentity
from dissectdb.extract.study import ConceptSet
from dissectdb.extract.warehouse_protocol import Store
from dissectdb.progress import Progress, unshown

CONCEPTS_AT_ONCE = 1024  # embedded in one transaction


class PlannedConcepts(NamedTuple):
    """A concept set of a study.

    classes_of: concept → the classes that it stands for. category_of: concept → its category, if it has one.
    """

    settings: ConceptSet
    classes_of: Mapping[str, tuple[str, ...]]
    fingerprint: str
    category_of: Mapping[str, str]


def plan_concepts(settings: ConceptSet, listed: ConceptList, known_classes: Collection[str]) -> PlannedConcepts:
    """A concept set with its fingerprint: of its concepts, classes and templates, in order, but not its name.

    known_classes: of the images; the set's classes are spelt as they are.
    """
    classes_of = classes.as_in_dataset(listed.classes_of, known_classes)
    fingerprint = fingerprints.of_values(list(classes_of.items()), settings.templates)
    return PlannedConcepts(settings, classes_of, fingerprint, listed.category_of)


def enter_concept_set(warehouse: Store, planned: PlannedConcepts) -> int:
    """The id of a concept set. Writes it, with its concepts and their classes, if it is new."""
    settings, classes_of, fingerprint, category_of = planned
    if (stored_id := warehouse.find("concept_sets", fingerprint)) is not None:
        return stored_id
    set_id, first = warehouse.next_id("concept_sets"), warehouse.next_id("concepts")
    ids = {concept: first + position for position, concept in enumerate(classes_of)}
    pairs = [(ids[concept], name) for concept, names in classes_of.items() for name in names]
    warehouse.write(
        {
            "concepts": pa.table(
                {
                    "concept_id": list(ids.values()),
                    "concept_set_id": [set_id] * len(ids),
                    "position": list(range(len(ids))),
                    "concept": list(ids),
                    "category": pa.array([category_of.get(concept) for concept in ids], pa.string()),
                }
            ),
            "concept_classes": pa.table(
                {
                    "concept_id": pa.array([concept for concept, _ in pairs], pa.int32()),
                    "class": pa.array([name for _, name in pairs], pa.string()),
                }
            ),
            "concept_sets": [
                {
                    "concept_set_id": set_id,
                    "name": settings.name,
                    "templates": list(settings.templates),
                    "fingerprint": fingerprint,
                }
            ],
        }
    )
    return set_id


def concepts_without_embedding(warehouse: Store, clip_id: int, concept_set_id: int) -> list[tuple[int, str]]:
    """(concept_id, concept) of the set's concepts that have no embedding by this CLIP yet."""
    rows = warehouse.rows(
        """
        select concept_id, concept from concepts
        where concept_set_id = $set_id
        and concept_id not in (select concept_id from concept_embeddings where clip_id = $clip_id)
        order by position
        """,
        {"set_id": concept_set_id, "clip_id": clip_id},
    )
    return rows.rows()


def embed_concept_set(
    warehouse: Store,
    clip: ClipIdentity,
    clip_id: int,
    set_id: int,
    templates: Sequence[str],
    progress: Progress = unshown,
) -> None:
    """Embed the concepts without an embedding, many per transaction. Embeddings of the same texts are copied.

    progress: called with the concepts done and the concepts in all.
    """
    if copied := embeddings_of_same_texts(warehouse, clip_id, set_id, templates):
        warehouse.write({"concept_embeddings": _embedding_table(clip_id, *zip(*copied, strict=True))})
    missing = concepts_without_embedding(warehouse, clip_id, set_id)
    for start in range(0, len(missing), CONCEPTS_AT_ONCE):
        ids, names = zip(*missing[start : start + CONCEPTS_AT_ONCE], strict=True)
        embeddings = clip.embed_concepts(names, templates).tolist()
        warehouse.write({"concept_embeddings": _embedding_table(clip_id, ids, embeddings)})
        progress(start + len(ids), len(missing))


def embeddings_of_same_texts(
    warehouse: Store, clip_id: int, concept_set_id: int, templates: Sequence[str]
) -> list[tuple[int, list[float]]]:
    """(concept_id, embedding) of concepts that lack an embedding, if a set with the same templates has it."""
    rows = warehouse.rows(
        """
        select concepts.concept_id, arg_min(concept_embeddings.embedding, same.concept_id) as embedding
        from concepts
        inner join concepts as same on concepts.concept = same.concept
        inner join concept_sets on same.concept_set_id = concept_sets.concept_set_id
        inner join concept_embeddings on same.concept_id = concept_embeddings.concept_id
        where concepts.concept_set_id = $set_id
        and concept_sets.concept_set_id <> $set_id
        and concept_sets.templates = $templates
        and concept_embeddings.clip_id = $clip_id
        and concepts.concept_id not in (select concept_id from concept_embeddings where clip_id = $clip_id)
        group by concepts.concept_id
        order by concepts.concept_id
        """,
        {"set_id": concept_set_id, "clip_id": clip_id, "templates": list(templates)},
    )
    return rows.rows()


def _embedding_table(clip_id: int, concept_ids: Sequence[int], embeddings: Sequence[Sequence[float]]) -> pa.Table:
    return pa.table(
        {
            "clip_id": pa.array([clip_id] * len(concept_ids), pa.int32()),
            "concept_id": pa.array(concept_ids, pa.int32()),
            "embedding": pa.array(embeddings, pa.list_(pa.float32())),
        }
    )
