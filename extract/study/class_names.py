"""Match names of classes that are spelt differently, and list names in a message. Imports no torch.

meet(["Happy", "sad"], ["happy", "sad"])   # {"Happy": "happy", "sad": "sad"}
few(["a", "b", "c", "d", "e", "f"])        # "a, b, c, d, e, … (6 in all)"
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

MAX_LISTED = 5  # names in a message


def meet(names: Iterable[str], classes: Collection[str]) -> dict[str, str]:
    """name → the class that it means: the equal one, else the only one that differs just as loose_key allows."""
    names, known_classes = list(dict.fromkeys(names)), set(classes)
    met = {name: name for name in names if name in known_classes}
    keys, class_keys = Counter(map(loose_key, names)), Counter(map(loose_key, known_classes))
    by_key = {
        loose_key(class_name): class_name
        for class_name in known_classes
        if class_keys[loose_key(class_name)] == 1 and class_name not in met
    }
    by_key.pop("", None)
    return met | {
        name: by_key[loose_key(name)] for name in names if loose_key(name) in by_key and keys[loose_key(name)] == 1
    }


def loose_key(name: str) -> str:
    """A key that is equal for names that differ only in case, Unicode form, spaces, underscores or hyphens."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in folded if not letter.isspace() and letter not in "_-")


def few(names: Iterable[str], max_names: int = MAX_LISTED) -> str:
    """The first max_names names, as a list in a sentence."""
    names = list(names)
    return ", ".join(names[:max_names]) + (f", … ({len(names)} in all)" if len(names) > max_names else "")
