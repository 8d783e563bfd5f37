"""Which class of the images each output of a network stands for, by name.

names = name_outputs(study.network, 1000, source.classes)   # ("n01440764", "goldfish", …), one an output
warn(names, source.classes)                                 # what has no counterpart
refuse_unjudged(warehouse, plan, ["validation", "test"], "modify")

An output that meets a class takes the dataset's own spelling of it, so that everything downstream compares names for
equality; any other output keeps a name of its own, which is no class of the images.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from dissectdb.extract import study
from dissectdb.extract.store import Store
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few, meet

log = logging.getLogger("dissectdb")

IMAGENET = 1000  # outputs
LEAST_IMAGES = 30  # of a half, below which nothing is said of the order of outputs
LEAST_GAIN = 0.1  # in accuracy, for another order to be worth a line
MOST_ORDER = 20  # outputs of an order that is said
MOST_SWAPS = 100


def name_outputs(settings: study.Network, outputs: int, classes: Sequence[str]) -> tuple[str, ...]:
    """The name of each output: the class of the dataset that it meets, else its own. Raises StudyError.

    Named by the study, else as torchvision's, timm's and ImageNet's networks name theirs; where that meets too few of
    the classes and there are as many outputs, they are taken to be the classes in order.
    """
    if settings.classes:
        if len(settings.classes) != outputs:
            raise StudyError(
                f"network.classes names {len(settings.classes)} classes, the network has {outputs} outputs"
            )
        return _with_classes(settings.classes, meet(settings.classes, classes), classes)
    known = known_names(settings, outputs)
    # Two outputs of one name (ImageNet has two cranes) are no class: nothing tells which of them is meant.
    found = [meet([name for name, times in Counter(names).items() if times == 1], classes) for names in known]
    met = max(map(len, found), default=0)
    if len(classes) == outputs and 2 * met < outputs:
        log.info(
            "outputs are taken to be %s in this order; name them with network.classes if they are not", few(classes)
        )
        _warn_of_numbers(classes)
        return tuple(classes)
    own = known[0] if known else tuple(f"output {place}" for place in range(outputs))
    if not met:
        return own
    best = next(place for place, of in enumerate(found) if len(of) == met)
    log.info("outputs are named as the network's library names them; %s of %s classes are outputs", met, len(classes))
    by_place = {place: found[best][name] for place, name in enumerate(known[best]) if name in found[best]}
    return _unique([by_place.get(place, name) for place, name in enumerate(own)], by_place, classes)


def _warn_of_numbers(classes: Sequence[str]) -> None:
    """Say so where classes that only a number tells apart are in the order of their text: 10 before 2."""
    if len({re.sub(r"\d+", "0", name) for name in classes}) > 1:
        return
    counted = sorted(classes, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    if list(classes) == sorted(classes) != counted:
        log.warning(
            "the classes are in the order of their text (%s), as torchvision's ImageFolder has them; if the network's "
            "outputs are in the order of the numbers, set network.classes = [%s]",
            few(classes), few(map(json.dumps, counted), MOST_ORDER),
        )  # fmt: skip


def _with_classes(names: Sequence[str], met: Mapping[str, str], classes: Collection[str]) -> tuple[str, ...]:
    """The names, those that meet a class as the dataset spells it; what was read so is said."""
    if loosely := [f"{name} as {met[name]}" for name in names if met.get(name, name) != name]:
        log.info("%s outputs are matched to classes that are spelt otherwise: %s", len(loosely), few(loosely))
    by_place = {place: met[name] for place, name in enumerate(names) if name in met}
    return _unique([by_place.get(place, name) for place, name in enumerate(names)], by_place, classes)


def _unique(names: Sequence[str], met: Collection[int], classes: Collection[str]) -> tuple[str, ...]:
    """The names; one that is there twice, or is a class that its output did not meet, gets its place beside it."""
    counts, known = Counter(names), set(classes)
    return tuple(
        name if place in met or (counts[name] == 1 and name not in known) else f"{name} (output {place})"
        for place, name in enumerate(names)
    )


def known_names(settings: study.Network, outputs: int) -> list[tuple[str, ...]]:
    """Names that networks with so many outputs are known by, the most readable first; none for other networks."""
    library, _, name = settings.architecture.partition(":")
    found = []
    if library == "torchvision":
        import torchvision

        weights = list(torchvision.models.get_model_weights(name))
        found = [tuple(each.meta.get("categories", ())) for each in weights]
        found = [names for names in dict.fromkeys(found) if len(names) == outputs]
    if outputs != IMAGENET and library != "timm":
        return found
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if (subset := infer_imagenet_subset({"num_classes": outputs})) is None:
        return found
    imagenet = ImageNetInfo(subset)
    words = tuple(imagenet.label_descriptions())  # tench, Tinca tinca
    return [*found, tuple(each.partition(",")[0] for each in words), words, tuple(imagenet.label_names())]


def as_in_dataset(classes_of: Mapping[str, Sequence[str]], classes: Collection[str]) -> dict[str, tuple[str, ...]]:
    """A concept set whose classes are spelt as the dataset spells them, where they are classes of it at all."""
    met = meet((name for names in classes_of.values() for name in names), classes)
    return {word: tuple(dict.fromkeys(met.get(name, name) for name in of)) for word, of in classes_of.items()}


# ---------------------------------------------------------------- what has no counterpart


def warn(names: Sequence[str], classes: Sequence[str]) -> None:
    """Say which classes are no output, and which outputs are no class."""
    if not classes:
        log.info("the images have no classes: whether the network and the labels are right is unknown")
        return
    outputs, known = set(names), set(classes)
    missing = [name for name in classes if name not in outputs]
    if len(missing) == len(classes):
        log.warning(
            "accuracy is unknown: no class of the images (%s) is an output of the network, whose outputs are %s; "
            "name them with network.classes",
            few(classes), few(names),
        )  # fmt: skip
        return
    if missing:
        log.warning(
            "%s of %s classes are no output of the network: %s; whether their images are right is unknown",
            len(missing), len(classes), few(missing),
        )  # fmt: skip
    if spare := [name for name in names if name not in known]:
        many = len(spare) > len(classes)
        log.log(
            logging.INFO if many else logging.WARNING,
            "%s of %s outputs are no class of the images: %s", len(spare), len(names), few(spare),
        )  # fmt: skip


def warn_of_splits(counts: Mapping[tuple[str, str | None], int]) -> None:
    """Say which classes one split has and another lacks. counts: sound images by split and class (None: without)."""
    here: dict[str, set[str | None]] = {}
    for split, name in counts:
        here.setdefault(split, set()).add(name)
    everything = {name for names in here.values() for name in names if name is not None}
    for split, names in here.items():
        if not everything or not (missing := sorted(everything - names)):
            continue
        if names == {None}:
            log.warning("the %s images have no classes: whether they are recognised is unknown", split)
        else:
            log.warning("split %s has no image of %s, which another split has", split, few(missing))


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


def refuse_unjudged(warehouse: Store, plan: Any, splits: Sequence[str], command: str) -> None:
    """Raises StudyError where no image of a split has a class that is an output; says where only some have one."""
    counts = counts_by_split(warehouse, warehouse.find("datasets", plan.dataset))
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


def warn_of_order(warehouse: Store, plan: Any) -> None:
    """Say so where the network knows the classes, but in another order than its outputs are named in."""
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
    if halves.sum((1, 2)).min() < LEAST_IMAGES or (found := better_order(*halves)) is None:
        return
    order, own, other = found
    log.warning(
        "the network's outputs may be in another order than they are named in: it is right on %.0f %% of the images, "
        "and would be on %.0f %% were its outputs, in order, %s",
        100 * own, 100 * other, few((plan.network.classes[place] for place in order), MOST_ORDER),
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
    margin = max(LEAST_GAIN, 3 * np.sqrt((1 / images).sum()) / len(images))  # an image changes by 1 at most
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
    for _ in range(MOST_SWAPS):
        now = counts[:, output_of]  # (class, class whose output it would take)
        gain = now + now.T - np.diag(now)[:, None] - np.diag(now)[None]
        first, second = divmod(int(gain.argmax()), size)
        if gain[first, second] <= 0:
            break
        output_of[[first, second]] = output_of[[second, first]]
    return output_of
