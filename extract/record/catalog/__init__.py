"""Find what a study names in a warehouse, by its content, or enter it with a new id.

network_id = catalog.enter_network(warehouse, plan.network)

Each enter_* function returns the id. It writes missing rows in one transaction, so that a killed process leaves either
all rows of a network (dataset, layer, …) or none.
"""

from datetime import UTC, datetime

from dissectdb.extract.record.catalog.concepts import (
    PlannedConcepts,
    concepts_without_embedding,
    embed_concept_set,
    enter_concept_set,
    plan_concepts,
)
from dissectdb.extract.record.catalog.images import SPLITS, ProbingSet, enter_dataset, sound_counts
from dissectdb.extract.record.catalog.models import (
    EnteredLayer,
    clip_of_dissection,
    edited_fingerprint,
    enter_clip,
    enter_layers,
    enter_network,
    layer_fingerprint,
    network_row,
)

__all__ = [
    "SPLITS",
    "EnteredLayer",
    "PlannedConcepts",
    "ProbingSet",
    "clip_of_dissection",
    "concepts_without_embedding",
    "edited_fingerprint",
    "embed_concept_set",
    "enter_clip",
    "enter_concept_set",
    "enter_dataset",
    "enter_layers",
    "enter_network",
    "layer_fingerprint",
    "network_row",
    "now",
    "plan_concepts",
    "sound_counts",
]


def now() -> datetime:
    """The current time in UTC, without a time zone, as the tables store it."""
    return datetime.now(UTC).replace(tzinfo=None)
