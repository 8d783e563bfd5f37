"""Match the outputs of a network to the classes of the images, by name.

names = name_outputs(study.network, 1000, source.classes)   # ("n01440764", "goldfish", …), one per output
warn(names, source.classes)                                 # logs classes and outputs without a counterpart

An output that matches a class takes the dataset's spelling of it, so all later code compares names for equality. Any
other output keeps a name of its own that is not a class of the images.
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


def name_outputs(
    settings: study.Network, outputs: int, classes: Sequence[str], labels: Sequence[str] = ()
) -> tuple[str, ...]:
    """The name of each output: the class of the dataset that it matches, else its own name. Raises StudyError.

    Names come from the study, else from the network's own labels, torchvision, timm or ImageNet. If these match too
    few of the classes, and there are as many outputs as classes, the outputs are taken to be the classes in order.
    """
    if settings.classes:
        if len(settings.classes) != outputs:
            raise StudyError(
                f"network.classes names {len(settings.classes)} classes, the network has {outputs} outputs"
            )
        return _with_classes(settings.classes, meet(settings.classes, classes), classes)
    known_lists = [*([tuple(labels)] if len(labels) == outputs else []), *known_names(settings, outputs)]
    # Two outputs with one name (ImageNet has two cranes) match no class: either could be meant.
    matches = [meet([name for name, times in Counter(names).items() if times == 1], classes) for names in known_lists]
    most_matched = max(map(len, matches), default=0)
    if len(classes) == outputs and 2 * most_matched < outputs:
        log.info(
            "outputs are taken to be %s in this order; name them with network.classes if they are not", few(classes)
        )
        _warn_of_numbers(classes)
        return tuple(classes)
    own_names = known_lists[0] if known_lists else tuple(f"output {index}" for index in range(outputs))
    if not most_matched:
        return own_names
    best = next(index for index, matched in enumerate(matches) if len(matched) == most_matched)
    log.info(
        "outputs are named as the network's library names them; %s of %s classes are outputs",
        most_matched,
        len(classes),
    )
    name_by_index = {
        index: matches[best][name] for index, name in enumerate(known_lists[best]) if name in matches[best]
    }
    return _unique([name_by_index.get(index, name) for index, name in enumerate(own_names)], name_by_index, classes)


def _warn_of_numbers(classes: Sequence[str]) -> None:
    """Warn if classes that differ only in a number are sorted as text: 10 before 2."""
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
    """The names. One that matches a class takes the dataset's spelling; changed spellings are logged."""
    if respelt := [f"{name} as {met[name]}" for name in names if met.get(name, name) != name]:
        log.info("%s outputs are matched to classes that are spelt differently: %s", len(respelt), few(respelt))
    name_by_index = {index: met[name] for index, name in enumerate(names) if name in met}
    return _unique([name_by_index.get(index, name) for index, name in enumerate(names)], name_by_index, classes)


def _unique(names: Sequence[str], matched_indices: Collection[int], classes: Collection[str]) -> tuple[str, ...]:
    """The names. If a name occurs twice, or is a class that its output does not match, the output's index is added."""
    counts, known_classes = Counter(names), set(classes)
    return tuple(
        name
        if index in matched_indices or (counts[name] == 1 and name not in known_classes)
        else f"{name} (output {index})"
        for index, name in enumerate(names)
    )


def known_names(settings: study.Network, outputs: int) -> list[tuple[str, ...]]:
    """Known lists of names for a network with so many outputs, the most readable first; may be empty."""
    library, _, name = settings.architecture.partition(":")
    lists = []
    if library == "torchvision":
        import torchvision

        weights = list(torchvision.models.get_model_weights(name))
        lists = [tuple(weight_set.meta.get("categories", ())) for weight_set in weights]
        lists = [names for names in dict.fromkeys(lists) if len(names) == outputs]
    if outputs != IMAGENET and library != "timm":
        return lists
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if (subset := infer_imagenet_subset({"num_classes": outputs})) is None:
        return lists
    imagenet = ImageNetInfo(subset)
    words = tuple(imagenet.label_descriptions())  # tench, Tinca tinca
    return [*lists, tuple(word.partition(",")[0] for word in words), words, tuple(imagenet.label_names())]


def as_in_dataset(classes_of: Mapping[str, Sequence[str]], classes: Collection[str]) -> dict[str, tuple[str, ...]]:
    """A concept set with the dataset's spelling of each class that the dataset has."""
    met = meet((name for names in classes_of.values() for name in names), classes)
    return {word: tuple(dict.fromkeys(met.get(name, name) for name in of)) for word, of in classes_of.items()}


# ---------------------------------------------------------------- what has no counterpart


def warn(names: Sequence[str], classes: Sequence[str], kind: str = "folder") -> None:
    """Warn of classes that are not outputs, and of outputs that are not classes. kind: of the dataset."""
    if not classes:
        log.info("the images have no classes: whether the network and the labels are right is unknown")
        return
    if not names:  # the network has no classifier
        return
    outputs, known_classes = set(names), set(classes)
    missing = [name for name in classes if name not in outputs]
    if len(missing) == len(classes):
        unnamed = names[0] == "output 0"
        numbered = kind != "folder" and not unnamed and all(map(str.isdecimal, classes))  # labels without names
        log.warning(
            "accuracy is unknown: no class of the images (%s) is an output of the network, whose outputs are %s; "
            "name %s%s",
            few(classes), few(names),
            "the images' classes with dataset.classes" if numbered else "them with network.classes",
            ", or set network.output = 'none' if they are features" if unnamed else "",
        )  # fmt: skip
        return
    if missing:
        log.warning(
            "%s of %s classes are not an output of the network: %s; whether their images are right is unknown",
            len(missing), len(classes), few(missing),
        )  # fmt: skip
    if spare := [name for name in names if name not in known_classes]:
        many = len(spare) > len(classes)
        log.log(
            logging.INFO if many else logging.WARNING,
            "%s of %s outputs are not a class of the images: %s", len(spare), len(names), few(spare),
        )  # fmt: skip


def warn_of_splits(counts: Mapping[tuple[str, str | None], int]) -> None:
    """Warn of classes that one split has and another lacks. counts: sound images by split and class (None: without)."""
    classes_by_split: dict[str, set[str | None]] = {}
    for split, name in counts:
        classes_by_split.setdefault(split, set()).add(name)
    all_classes = {name for names in classes_by_split.values() for name in names if name is not None}
    for split, names in classes_by_split.items():
        if not all_classes or not (missing := sorted(all_classes - names)):
            continue
        if names == {None}:
            log.warning("the %s images have no classes: whether they are recognised is unknown", split)
        else:
            log.warning("split %s has no image of %s, which another split has", split, few(missing))
