"""What is said about concept sets when they are new in a warehouse."""

from __future__ import annotations

from typing import Any

from dissectdb.extract import concepts
from dissectdb.extract.models.clip import warn_of_cut_texts
from dissectdb.extract.store import Store


def note_new_concepts(plan: Any, warehouse: Store) -> None:
    """Say what is odd about the concept sets that the warehouse does not hold yet, for this CLIP."""
    is_new_clip = warehouse.find("clips", plan.clip.fingerprint) is None
    for settings, classes_of, fingerprint in plan.concept_sets:
        is_new = warehouse.find("concept_sets", fingerprint) is None
        if is_new:
            concepts.read_list(settings.source)
        if (is_new or is_new_clip) and not plan.study.arrays:  # arrays come with the embeddings of their texts
            warn_of_cut_texts(plan.clip, list(classes_of), settings.templates)
