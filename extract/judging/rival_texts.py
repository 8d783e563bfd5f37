"""The texts of labels, embedded once by the judge's CLIP and kept in the table rival_texts.

texts = enter_texts(warehouse, plan.clip, clip_id, {("{}",): {"Smile", "Frown"}})
texts["{}",]["Smile"]        # its rival_text_id
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from dissectdb.extract.models.clip import Clip, ClipIdentity, warn_of_cut_texts
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few
from dissectdb.extract.warehouse_protocol import Store
from dissectdb.progress import Watch, unwatched

log = logging.getLogger("dissectdb")

TEXTS_AT_ONCE = 1024  # embedded in one transaction
Templates: TypeAlias = "tuple[str, ...]"
TextIds: TypeAlias = "dict[Templates, dict[str, int]]"  # prompts → text → rival_text_id


def enter_texts(
    warehouse: Store,
    clip: ClipIdentity,
    clip_id: int,
    asked: Mapping[Templates, Collection[str]],
    watch: Watch = unwatched,
) -> TextIds:
    """The ids of texts, by the prompts that they are put into. Writes the missing ones, many per transaction.

    A text that is a concept with the same prompts takes the concept's embedding. Raises StudyError if the CLIP is only
    known by its embeddings, and lacks one.
    """
    return {
        templates: _enter(warehouse, clip, clip_id, templates, sorted(texts), watch)
        for templates, texts in asked.items()
    }


def _enter(
    warehouse: Store, clip: ClipIdentity, clip_id: int, templates: Templates, texts: Sequence[str], watch: Watch
) -> dict[str, int]:
    ids = _stored_ids(warehouse, clip_id, templates)
    missing = [text for text in texts if text not in ids]
    known = _embeddings_of_concepts(warehouse, clip_id, templates) if missing else {}
    unknown = [text for text in missing if text not in known]
    if unknown and not isinstance(clip, Clip):
        raise StudyError(
            f"the study's arrays hold no text embedding of {few(unknown)}; judge labels that are concepts of the study"
        )
    if unknown and isinstance(clip, Clip):
        warn_of_cut_texts(clip, unknown, templates)
    if missing:
        with watch("embedding labels", unit="texts") as progress:
            for start in range(0, len(missing), TEXTS_AT_ONCE):
                chunk = missing[start : start + TEXTS_AT_ONCE]
                embeddings = {text: known[text] for text in chunk if text in known}
                if new := [text for text in chunk if text not in known]:
                    embeddings |= dict(zip(new, clip.embed_concepts(new, templates).tolist(), strict=True))
                _write(warehouse, clip_id, templates, embeddings)
                progress(start + len(chunk), len(missing))
        ids = _stored_ids(warehouse, clip_id, templates)
    return {text: ids[text] for text in texts}


def _write(warehouse: Store, clip_id: int, templates: Templates, embeddings: Mapping[str, Sequence[float]]) -> None:
    first = warehouse.next_id("rival_texts")
    count = len(embeddings)
    table = {
        "rival_text_id": pa.array(range(first, first + count), pa.int32()),
        "clip_id": pa.array([clip_id] * count, pa.int32()),
        "templates": pa.array([list(templates)] * count, pa.list_(pa.string())),
        "text": pa.array(list(embeddings), pa.string()),
        "embedding": pa.array(list(embeddings.values()), pa.list_(pa.float32())),
    }
    warehouse.write({"rival_texts": pa.table(table)})


def _stored_ids(warehouse: Store, clip_id: int, templates: Templates) -> dict[str, int]:
    rows = warehouse.rows(
        "select text, rival_text_id from rival_texts where clip_id = $clip and templates = $templates",
        {"clip": clip_id, "templates": list(templates)},
    )
    return dict(rows.iter_rows())


def _embeddings_of_concepts(warehouse: Store, clip_id: int, templates: Templates) -> dict[str, list[float]]:
    """concept → embedding, of all concept sets with these prompts."""
    rows = warehouse.rows(
        """
        select concept, arg_min(embedding, concepts.concept_id)
        from concepts
        inner join concept_sets using (concept_set_id)
        inner join concept_embeddings using (concept_id)
        where clip_id = $clip and templates = $templates group by concept
        """,
        {"clip": clip_id, "templates": list(templates)},
    )
    return dict(rows.iter_rows())


def read_texts(warehouse: Store, ids: Sequence[int]) -> np.ndarray:
    """The embeddings (text, dimension) of texts with these rising ids."""
    rows = warehouse.rows(
        "select embedding from rival_texts where rival_text_id in (select unnest($ids)) order by rival_text_id",
        {"ids": list(ids)},
    )
    return rows["embedding"].explode().to_numpy().reshape(len(rows), -1).astype(np.float32, copy=False)
