"""The names of the classes of a map-style Dataset, also of one inside torch's Subset or ConcatDataset.

names, names_at = of_items(random_split(folder, [90, 10])[0])
names                                 # those of the folder
names_at(3)[label]                    # the name of the label of item 3

Imports no torch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from typing import Any

Names = tuple[str, ...]


def of_items(items: Any) -> tuple[Names, Callable[[int], Names]]:
    """All names in their order, and those that the label of an item counts in, by the item's index; () if unnamed.

    In a ConcatDataset each part counts its labels from 0, so that they have the names of their part.
    """
    if names := _own(items):
        return names, lambda index: names
    if _is_of_torch(items, "Subset"):
        names, names_at = of_items(items.dataset)
        return names, lambda index: names_at(int(items.indices[index]))
    if _is_of_torch(items, "ConcatDataset"):
        parts, starts = [of_items(part) for part in items.datasets], [0, *items.cumulative_sizes]

        def of_part(index: int) -> Names:
            place = bisect_right(starts, index) - 1
            return parts[place][1](index - starts[place])

        return tuple(dict.fromkeys(name for names, _ in parts for name in names)), of_part
    return (), lambda index: ()


def _is_of_torch(items: object, name: str) -> bool:
    """Whether it is torch's own class of this name; a class that is derived from it may count labels in another way."""
    return (type(items).__module__, type(items).__name__) == ("torch.utils.data.dataset", name)


def _own(items: object) -> Names:
    """The names in the attribute `classes` of a Dataset; none if it holds no names. Of several for a class, the first.

    A name that several classes have, as two of ImageNet do, gets the class's number.
    """
    given = getattr(items, "classes", None)
    if not isinstance(given, list | tuple) or not given:
        return ()
    names = [each[0] if isinstance(each, tuple | list) and each else each for each in given]
    if not all(isinstance(name, str) and name for name in names):
        return ()
    counts = Counter(names)
    return tuple(f"{name} (class {index})" if counts[name] > 1 else name for index, name in enumerate(names))
