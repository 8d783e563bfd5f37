"""The ledger: which blocks of a split's images are done.

A block's ledger entries are written in the same transaction as its rows, so every block in the ledger is in the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dissectdb.extract.record import catalog
from dissectdb.extract.record.blocks import Block, ProbingImage
from dissectdb.extract.warehouse_protocol import Store, TableRows


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


def images_done(warehouse: Store, fingerprint: str) -> int:
    """The number of images in the finished blocks of the extraction with this fingerprint."""
    rows = warehouse.rows(
        """
        select coalesce(sum(images), 0)::bigint as images from extraction_blocks
        inner join extractions on extraction_blocks.extraction_id = extractions.extraction_id
        where fingerprint = $fingerprint
        """,
        {"fingerprint": fingerprint},
    )
    return int(rows["images"][0])


def has_blocks(warehouse: Store, split_id: int) -> bool:
    """Whether a block of a split is done, of anything."""
    rows = warehouse.rows(
        """
        select 1 from extraction_blocks
        inner join extractions on extraction_blocks.extraction_id = extractions.extraction_id
        where split_id = $split_id
        union all
        select 1 from edit_blocks where split_id = $split_id
        limit 1
        """,
        {"split_id": split_id},
    )
    return not rows.is_empty()


def split_ids(warehouse: Store, dataset_id: int) -> dict[str, int]:
    """The splits of a dataset: name → split_id."""
    rows = warehouse.rows("select split, split_id from splits where dataset_id = $id", {"id": dataset_id})
    return dict(rows.iter_rows())


def with_ledger(
    tables: Iterable[TableRows],
    block: Block,
    extraction_ids: Sequence[int],
    seconds: float,
    *,
    keep_activations: bool = True,
) -> Iterator[TableRows]:
    """A unit: the rows of a block, then its ledger entries. It runs in the writer's thread.

    keep_activations: False leaves out the rows of `activations`, but not their sums.
    """
    for table, rows in tables:
        if table != "activations" or keep_activations:
            yield table, rows
    yield ledger_entries(block, extraction_ids, seconds)


def ledger_entries(block: Block, extraction_ids: Sequence[int], seconds: float) -> TableRows:
    """The rows of extraction_blocks for a block that is done."""
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


def in_blocks(warehouse: Store, split_id: int) -> list[Block]:
    """The sound images of a split in blocks of the size that the split has."""
    images = sound_images(warehouse, split_id)
    [size] = warehouse.rows("select block_images from splits where split_id = $id", {"id": split_id})["block_images"]
    starts = range(0, len(images), size)
    return [
        Block(number, images[start : start + size], split_id, start, len(images)) for number, start in enumerate(starts)
    ]
