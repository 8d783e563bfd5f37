"""Find the finished extraction of a study that an edit is based on; CLIP is loaded only if a file has changed since.

plan, dissection_id = find_extraction(study, file, ("validation", "test"), "modify", NOTHING)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from dissectdb.completed_runs import Run
from dissectdb.given import Given
from dissectdb.progress import Watch, unwatched
from dissectdb.warehouse_file import WarehouseFile

if TYPE_CHECKING:
    from dissectdb import Study, Warehouse
    from dissectdb.extract.models.clip import ClipIdentity
    from dissectdb.extract.record.network_plan import NetworkPlan


def find_extraction(
    study: Study,
    file: WarehouseFile,
    splits: Collection[str],
    command: str,
    given: Given,
    *,
    rehash: bool = False,
    watch: Watch = unwatched,
) -> tuple[NetworkPlan, int]:
    """The study's plan with its network loaded, and the id of its dissection.

    splits: those that need true classes. rehash: load CLIP too. Raises StudyError, WarehouseError.
    """
    from dissectdb.extract.editing import edits
    from dissectdb.extract.record import class_checks, network_plan

    with file.to_read() as opened:
        known = None if rehash else _known_clip(study, file, given, opened)
        with watch("loading the network" if known else "loading the network and CLIP", unit=""):
            plan = network_plan.make_plan(study.with_network(command), given, known)
        dissection_id = edits.find_dissection(opened, plan)
        class_checks.refuse_unjudged(opened, plan, splits, command)
        return plan, dissection_id


def _known_clip(study: Study, file: WarehouseFile, given: Given, opened: Warehouse) -> ClipIdentity | None:
    """The study's CLIP as its extraction entered it, if that is complete and no file has changed since."""
    from dissectdb.extract.record import catalog

    for keep in (True, False):
        if result := Run("extract", study, file, given, keep_activations=keep).known_in(opened):
            return catalog.clip_of_dissection(opened, result["dissection_id"])
    return None
