"""Whether the images can tell if a network is right: classes that are outputs, and the order of the outputs.

refuse_unjudged(warehouse, plan, ["validation", "test"], "modify")
warn_of_order(warehouse, plan)
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np

from dissectdb.extract.record.plan import Plan
from dissectdb.extract.store import Store
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few

log = logging.getLogger("dissectdb")

MIN_IMAGES = 30  # of a half, for a verdict on the order of outputs
MIN_GAIN = 0.1  # in accuracy, for another order to be worth a line
MAX_LISTED = 20  # outputs in a message that gives their order
MAX_SWAPS = 100


def counts_by_split(warehouse: Store, dataset_id: int) -> dict[tuple[str, str | None], int]:
    """How many sound images of each class a split has."""
    rows = warehouse.rows(
        """
        select splits.split, images.class, count(*) as images
        from images inner join splits on images.split_id = splits.split_id
        where splits.dataset_id = $dataset_id and images.defect is null
        group by splits.split, splits.split_id, images.class order by splits.split_id
        """,
        {"dataset_id": dataset_id},
    )
    return {(split, name): images for split, name, images in rows.iter_rows()}


def refuse_unjudged(warehouse: Store, plan: Plan, splits: Collection[str], command: str) -> None:
    """Raises StudyError if no image of a split has a class that is an output; warns if only some have one."""
    dataset_id = warehouse.find("datasets", plan.probing_set.fingerprint)
    counts = {} if dataset_id is None else counts_by_split(warehouse, dataset_id)
    outputs = set(plan.network.classes)
    for split in splits:
        of_split = {name: images for (of, name), images in counts.items() if of == split}
        judged = sum(images for name, images in of_split.items() if name in outputs)
        if of_split and not judged:
            there = few(sorted(name for name in of_split if name is not None)) or "none"
            raise StudyError(
                f"{command} asks whether images are right, and no class of the {split} images ({there}) is an output "
                f"of the network, whose outputs are {few(plan.network.classes)}; name them with network.classes"
            )
        if judged < sum(of_split.values()):
            log.warning(
                "%s goes by %s of %s %s images: the class of the others is unknown, or no output",
                command, f"{judged:,}", f"{sum(of_split.values()):,}", split,
            )  # fmt: skip


# ---------------------------------------------------------------- the order of the outputs


def warn_of_order(warehouse: Store, plan: Plan) -> None:
    """Warn if the network distinguishes the classes, but in another order than its outputs are named in."""
    network_id = warehouse.find("networks", plan.network.fingerprint)
    rows = warehouse.rows(
        """
        select true_class, predicted_class, image_id % 2 as half, count(*) as images
        from image_predictions
        where network_id = $network_id and is_correct is not null
        group by all order by all
        """,
        {"network_id": network_id},
    )
    places = {name: place for place, name in enumerate(plan.network.classes)}
    halves = np.zeros((2, len(places), len(places)))
    for truth, said, half, images in rows.iter_rows():
        halves[half, places[truth], places[said]] += images
    if halves.sum((1, 2)).min() < MIN_IMAGES or (found := better_order(*halves)) is None:
        return
    order, own, other = found
    log.warning(
        "the network's outputs may be in another order than they are named in: it is right on %.0f %% of the images, "
        "and would be on %.0f %% were its outputs, in order, %s",
        100 * own, 100 * other, few((plan.network.classes[place] for place in order), MAX_LISTED),
    )  # fmt: skip


def better_order(chosen_on: np.ndarray, measured_on: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """An order of outputs in which a network is far more often right than in theirs: order, accuracy now, and then.

    Both (class, output) count images, of two halves: the order is chosen on one and measured on the other, so that no
    luck of the choice is in it. None unless the other order is right on more than half of the images, and on a tenth of
    them more, beyond three standard errors; all as means over classes. A network that knows nothing of the classes is
    right on one class in n in any order, and two classes that are hard to tell apart are not each mostly taken for the
    other: only one that knows the classes, some of them under other names, comes to that.
    order[output] is the place of the class that it would stand for.
    """
    own = _recall(measured_on, np.arange(len(measured_on)))
    images = measured_on.sum(1)
    images = images[images > 0]
    margin = max(MIN_GAIN, 3 * np.sqrt((1 / images).sum()) / len(images))  # an image changes by 1 at most
    if own + margin >= 1:
        return None
    output_of = assign(chosen_on)
    other = _recall(measured_on, output_of)
    if other <= max(0.5, own + margin):
        return None
    right = measured_on[np.arange(len(output_of)), output_of].sum()
    return np.argsort(output_of), measured_on.trace() / measured_on.sum(), right / measured_on.sum()


def _recall(counts: np.ndarray, output_of: np.ndarray) -> float:
    """The mean, over classes that have images, of the share that gets the output of the class."""
    images = counts.sum(1)
    there = np.flatnonzero(images)
    return float((counts[there, output_of[there]] / images[there]).mean())


def assign(counts: np.ndarray) -> np.ndarray:
    """class → output, one to one, so that many of the (class, output) counts are met.

    The largest count that is still free first, then pairs change places as long as that is better. The sum need not be
    the highest of all; what is said of it is measured, and so true of this order.
    """
    size = len(counts)
    output_of, free = np.full(size, -1), np.ones(size, bool)
    rows, columns = np.nonzero(counts)
    for place in np.argsort(-counts[rows, columns], kind="stable"):
        row, column = rows[place], columns[place]
        if output_of[row] < 0 and free[column]:
            output_of[row], free[column] = column, False
    output_of[output_of < 0] = np.flatnonzero(free)
    for _ in range(MAX_SWAPS):
        now = counts[:, output_of]  # (class, class whose output it would take)
        gain = now + now.T - np.diag(now)[:, None] - np.diag(now)[None]
        first, second = divmod(int(gain.argmax()), size)
        if gain[first, second] <= 0:
            break
        output_of[[first, second]] = output_of[[second, first]]
    return output_of
