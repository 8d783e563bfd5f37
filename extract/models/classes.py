"""Which class of the images each output of a network stands for, by name.

names = name_outputs(study.network, 1000, source.classes)   # ("n01440764", "goldfish", …), one an output
warn(names, source.classes)                                 # what has no counterpart

An output that meets a class takes the dataset's own spelling of it, so that everything downstream compares names for
equality; any other output keeps a name of its own, which is no class of the images.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from dissectdb.extract import study
from dissectdb.extract.study import StudyError
from dissectdb.extract.study.class_names import few, meet

log = logging.getLogger("dissectdb")

IMAGENET = 1000  # outputs
MAX_LISTED = 20  # classes in a message that gives their order


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
    """Warn if classes that differ only in a number are in the order of their text: 10 before 2."""
    if len({re.sub(r"\d+", "0", name) for name in classes}) > 1:
        return
    counted = sorted(classes, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    if list(classes) == sorted(classes) != counted:
        log.warning(
            "the classes are in the order of their text (%s), as torchvision's ImageFolder has them; if the network's "
            "outputs are in the order of the numbers, set network.classes = [%s]",
            few(classes), few(map(json.dumps, counted), MAX_LISTED),
        )  # fmt: skip


def _with_classes(names: Sequence[str], met: Mapping[str, str], classes: Collection[str]) -> tuple[str, ...]:
    """The names; those that match a class are spelt as in the dataset, which is logged."""
    if loosely := [f"{name} as {met[name]}" for name in names if met.get(name, name) != name]:
        log.info("%s outputs are matched to classes that are spelt otherwise: %s", len(loosely), few(loosely))
    by_place = {place: met[name] for place, name in enumerate(names) if name in met}
    return _unique([by_place.get(place, name) for place, name in enumerate(names)], by_place, classes)


def _unique(names: Sequence[str], met: Collection[int], classes: Collection[str]) -> tuple[str, ...]:
    """The names. A name that is there twice, or is a class that its output does not match, gets its place beside it."""
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
    """Warn of classes that are not outputs, and of outputs that are not classes."""
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
    """Warn of classes that one split has and another lacks. counts: sound images by split and class (None: without)."""
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
