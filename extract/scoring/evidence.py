"""The CLIP side of a dissection: embeddings of its images and concepts, and the classes and groups of the images.

evidence = read_evidence(warehouse, dissection_row)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from torch import Tensor

from dissectdb.extract.scoring.chunks import slices
from dissectdb.extract.scoring.halves import Halves, divide, group_numbers

if TYPE_CHECKING:
    from dissectdb.extract.warehouse_protocol import Row, Store

IMAGES_AT_ONCE = 16384  # whose embeddings are read at a time


@dataclass(frozen=True)
class Evidence:
    """The CLIP side of a dissection, in the order of image and concept ids. images (N, D), concepts (C, D)."""

    image_ids: np.ndarray
    images: Tensor
    concept_ids: np.ndarray
    concepts: Tensor
    classes: np.ndarray | None  # (N,) numbers; None: an image has no class
    groups: np.ndarray | None = None  # (N,) numbers, as halves.group_numbers gives them; None: no image has a group

    @cached_property
    def halves(self) -> Halves:
        """The positions of the images of each half."""
        return divide(len(self.image_ids), self.groups)


def read_evidence(warehouse: Store, row: Row) -> Evidence:
    """The embeddings of the probing images and of the concepts of a row of `dissections`, and the images' classes."""
    images = read_images(warehouse, row["split_id"])
    ids = images["image_id"].to_numpy()
    concepts = warehouse.rows(
        """
        select concepts.concept_id, embedding from concepts
        inner join concept_embeddings on concepts.concept_id = concept_embeddings.concept_id
        where clip_id = $clip and concept_set_id = $concepts order by position
        """,
        {"clip": row["clip_id"], "concepts": row["concept_set_id"]},
    )
    classes = None
    if images["class"].null_count() == 0:
        classes = np.unique(images["class"].to_numpy(), return_inverse=True)[1]
    return Evidence(
        ids,
        read_embeddings(warehouse, row["clip_id"], ids),
        concepts["concept_id"].to_numpy(),
        torch.tensor(_matrix(concepts)),
        classes,
        group_numbers(images["image_group"].to_list()),
    )


def read_images(warehouse: Store, split_id: int) -> pl.DataFrame:
    """image_id, class and image_group of the images of a split that networks were run on, in order."""
    return warehouse.rows(
        """
        select images.image_id, class, value as image_group from images
        left join image_attributes on images.image_id = image_attributes.image_id and attribute = 'group'
        where split_id = $split and defect is null order by images.image_id
        """,
        {"split": split_id},
    )


def read_embeddings(warehouse: Store, clip_id: int, ids: np.ndarray) -> Tensor:
    """The embeddings (image, D) of images with these rising ids; some at a time, so that they are held once."""
    embeddings = np.empty((0, 0), np.float32)
    for images in slices(len(ids), IMAGES_AT_ONCE):
        chunk_ids = ids[images]
        # A range of ids: joining and sorting rows that carry embeddings takes four times as long.
        rows = warehouse.rows(
            """
            select image_id, embedding from image_embeddings
            where clip_id = $clip and image_id >= $first and image_id <= $last
            """,
            {"clip": clip_id, "first": int(chunk_ids[0]), "last": int(chunk_ids[-1])},
        )
        order = rows["image_id"].arg_sort().to_numpy()
        order = order[np.searchsorted(rows["image_id"].to_numpy(), chunk_ids, sorter=order)]
        matrix = _matrix(rows)
        if not len(embeddings):
            embeddings = np.empty((len(ids), matrix.shape[1]), np.float32)
        np.take(matrix, order, axis=0, out=embeddings[images], mode="clip")
    return torch.from_numpy(embeddings)


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    """The embeddings (row, D), float32."""
    return rows["embedding"].explode().to_numpy().reshape(len(rows), -1).astype(np.float32, copy=False)
