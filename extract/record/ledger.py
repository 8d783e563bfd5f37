"""The ledger: which images a split has, and which blocks of them are done.

A unit ends with the word that it is there, in the same transaction, so that what the ledger says is so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dissectdb.extract.record import catalog
from dissectdb.extract.record.blocks import Block, ProbingImage
from dissectdb.extract.store import Store


def blocks_done(warehouse: Store, fingerprint: str) -> set[int]:
    """The finished blocks of the extraction with this fingerprint."""
    rows = warehouse.rows(
        """
        select block from extraction_blocks
        inner join extractions on extraction_blocks.extraction_id = extractions.extraction_id
        where fingerprint = $fingerprint
        """,
        {"fingerprint": fingerprint},
    )
    return set(rows["block"])


def split_ids(warehouse: Store, dataset_id: int) -> dict[str, int]:
    """split → split_id of a dataset."""
    rows = warehouse.rows("select split, split_id from splits where dataset_id = $id", {"id": dataset_id})
    return dict(rows.rows())


def with_ledger(
    plan: Any, tables: Iterable[tuple[str, Any]], block: Block, extraction_ids: list[int], seconds: float
) -> Iterator[Any]:
    """A unit: the rows of a block, then the word that they are there. Runs in the writer's thread.

    plan: says whether activations are kept.
    """
    for table, rows in tables:
        if table != "activations" or plan.keep_activations:
            yield table, rows
    yield ledger_entries(block, extraction_ids, seconds)


def ledger_entries(block: Block, extraction_ids: Sequence[int], seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """The table and rows that say that a block is done."""
    entry = {"block": block.number, "images": len(block.images), "seconds": seconds, "finished_at": catalog.now()}
    return "extraction_blocks", [{"extraction_id": extraction_id, **entry} for extraction_id in extraction_ids]


def sound_images(warehouse: Store, split_id: int) -> list[ProbingImage]:
    """The images of a split that have no defect, in order of position."""
    rows = warehouse.rows(
        """
        select image_id, position, path, class from images
        where split_id = $split_id and defect is null order by position
        """,
        {"split_id": split_id},
    )
    return [ProbingImage(*row) for row in rows.iter_rows()]
