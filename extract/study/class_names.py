"""Match names of classes that are spelt differently, and list names in a message. Imports no torch.

meet(["Happy", "sad"], ["happy", "sad"])   # {"Happy": "happy", "sad": "sad"}
few(["a", "b", "c", "d", "e", "f"])        # "a, b, c, d, e, … (6 in all)"
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from dissectdb.extract.study.text_files import one_line

MAX_LISTED = 5  # names in a message
MAX_CLASSES = 100_000  # that are named by their numbers


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


def told_of_spellings(names: Iterable[str]) -> list[str]:
    """A sentence on classes whose names differ only as loose_key allows; none if there are none."""
    by_key: dict[str, set[str]] = {}
    for name in names:
        by_key.setdefault(loose_key(name), set()).add(name)
    apart = [" and ".join(map(one_line, sorted(spellings))) for spellings in by_key.values() if len(spellings) > 1]
    return [f"classes whose names differ only in spelling stay apart: {few(sorted(apart))}"] if apart else []


def few(names: Iterable[str], max_names: int = MAX_LISTED) -> str:
    """The first max_names names, as a list in a sentence."""
    names = list(names)
    return ", ".join(names[:max_names]) + (f", … ({len(names)} in all)" if len(names) > max_names else "")
