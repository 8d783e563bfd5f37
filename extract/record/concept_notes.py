"""Log notes about concept sets that are new in a warehouse."""

from __future__ import annotations

from collections.abc import Iterable

from dissectdb.extract import concepts
from dissectdb.extract.models.clip import Clip, ClipIdentity, warn_of_cut_texts
from dissectdb.extract.record.catalog import PlannedConcepts
from dissectdb.extract.warehouse_protocol import Store


def note_new_concepts(warehouse: Store, clip: ClipIdentity, concept_sets: Iterable[PlannedConcepts]) -> None:
    """Log repeats, comments and long texts of the concept sets that are new in the warehouse or new for this CLIP."""
    is_new_clip = warehouse.find("clips", clip.fingerprint) is None
    for settings, classes_of, fingerprint, _ in concept_sets:
        is_new = warehouse.find("concept_sets", fingerprint) is None
        if is_new:
            concepts.read_list(settings.source)
        if (is_new or is_new_clip) and isinstance(clip, Clip):  # arrays come with the embeddings of their texts
            warn_of_cut_texts(clip, list(classes_of), settings.templates)
