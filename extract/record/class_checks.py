"""Check that images can judge a network: that their classes are outputs, and that the outputs are in order.

refuse_unjudged(warehouse, plan, ["validation", "test"], "modify")   # StudyError if no class is an output
warn_of_order(warehouse, plan)                                       # logs a likely order of the outputs
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np

from dissectdb.extract.record.plan import Plan
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few
from dissectdb.extract.warehouse_protocol import Store

log = logging.getLogger("dissectdb")

MIN_IMAGES = 30  # in each half, to judge the order of outputs
MIN_GAIN = 0.1  # in accuracy, to warn of another order
MAX_LISTED = 20  # outputs in a message that gives their order
MAX_SWAPS = 100


def counts_by_split(warehouse: Store, dataset_id: int) -> dict[tuple[str, str | None], int]:
    """(split, class) → number of sound images."""
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
    if not plan.network.classes:
        raise StudyError(f"{command} needs a network that predicts classes; {plan.network.name} has no classifier")
    dataset_id = warehouse.find("datasets", plan.probing_set.fingerprint)
    counts = {} if dataset_id is None else counts_by_split(warehouse, dataset_id)
    outputs = set(plan.network.classes)
    for split in splits:
        of_split = {name: images for (split_of_count, name), images in counts.items() if split_of_count == split}
        judged = sum(images for name, images in of_split.items() if name in outputs)
        if of_split and not judged:
            classes_there = few(sorted(name for name in of_split if name is not None)) or "none"
            raise StudyError(
                f"{command} needs images whose class is an output of the network, but no class of the {split} images "
                f"({classes_there}) is one of its outputs: {few(plan.network.classes)}; name them with network.classes"
            )
        if judged < sum(of_split.values()):
            log.warning(
                "%s uses %s of %s %s images: the class of the others is unknown, or is not an output of the network",
                command, f"{judged:,}", f"{sum(of_split.values()):,}", split,
            )  # fmt: skip


# ---------------------------------------------------------------- the order of the outputs


def warn_of_order(warehouse: Store, plan: Plan) -> None:
    """Warn if another order of the outputs' names would make the network right far more often."""
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
    indices = {name: index for index, name in enumerate(plan.network.classes)}
    halves = np.zeros((2, len(indices), len(indices)))
    for truth, predicted, half, images in rows.iter_rows():
        halves[half, indices[truth], indices[predicted]] += images
    if halves.sum((1, 2)).min() < MIN_IMAGES or (better := better_order(*halves)) is None:
        return
    order, own, other = better
    log.warning(
        "the names of the network's outputs may be in the wrong order: with them it is right on %.0f %% of the images, "
        "and with this order on %.0f %%: %s",
        100 * own, 100 * other, few((plan.network.classes[index] for index in order), MAX_LISTED),
    )  # fmt: skip


def better_order(chosen_on: np.ndarray, measured_on: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """An order of outputs that makes a network right far more often: (order, accuracy now, accuracy then), or None.

    chosen_on, measured_on: counts of images (class, output) in two halves. The order is chosen on one half and measured
    on the other, so the gain is not luck. order[output] is the index of the class that the output would stand for.

    None unless the mean recall over classes is above 0.5 in the new order, and higher than now by MIN_GAIN and by three
    standard errors. A network that has not learnt the classes has a recall of 1 / n in any order. Two similar classes
    are not both mostly taken for each other. So only a network that has learnt the classes under other names passes.
    """
    own = _recall(measured_on, np.arange(len(measured_on)))
    images = measured_on.sum(1)
    images = images[images > 0]
    margin = max(
        MIN_GAIN, 3 * np.sqrt((1 / images).sum()) / len(images)
    )  # one image changes the recall of its class by at most 1 / the number of images of that class
    if own + margin >= 1:
        return None
    output_of = assign(chosen_on)
    other = _recall(measured_on, output_of)
    if other <= max(0.5, own + margin):
        return None
    right = measured_on[np.arange(len(output_of)), output_of].sum()
    return np.argsort(output_of), measured_on.trace() / measured_on.sum(), right / measured_on.sum()


def _recall(counts: np.ndarray, output_of: np.ndarray) -> float:
    """The mean recall over classes that have images, if output_of[class] is the output of each class."""
    images = counts.sum(1)
    with_images = np.flatnonzero(images)
    return float((counts[with_images, output_of[with_images]] / images[with_images]).mean())


def assign(counts: np.ndarray) -> np.ndarray:
    """class → output, one to one, with a high sum of the (class, output) counts.

    Takes the largest free count first, then swaps pairs as long as the sum grows. The sum need not be the maximum: the
    accuracy is measured for the order that is returned.
    """
    size = len(counts)
    output_of, free = np.full(size, -1), np.ones(size, bool)
    rows, columns = np.nonzero(counts)
    for index in np.argsort(-counts[rows, columns], kind="stable"):
        row, column = rows[index], columns[index]
        if output_of[row] < 0 and free[column]:
            output_of[row], free[column] = column, False
    output_of[output_of < 0] = np.flatnonzero(free)
    for _ in range(MAX_SWAPS):
        gathered = counts[:, output_of]  # (class, class whose output it would take)
        gain = gathered + gathered.T - np.diag(gathered)[:, None] - np.diag(gathered)[None]
        first, second = divmod(int(gain.argmax()), size)
        if gain[first, second] <= 0:
            break
        output_of[[first, second]] = output_of[[second, first]]
    return output_of
