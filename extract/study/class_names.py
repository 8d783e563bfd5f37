"""Names of classes: matched although they are spelled differently, and listed in a message. Imports no torch.

meet(["Happy", "sad"], ["happy", "sad"])   # {"Happy": "happy", "sad": "sad"}
few(["a", "b", "c", "d", "e", "f"])        # "a, b, c, d, e, … (6 in all)"
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

FEW = 5  # names in a message


def meet(names: Iterable[str], classes: Collection[str]) -> dict[str, str]:
    """name → the class that it means: the same, or the only one that differs in case, spaces, underscores, hyphens."""
    names, known = list(dict.fromkeys(names)), set(classes)
    met = {name: name for name in names if name in known}
    keys, class_keys = Counter(map(loose_key, names)), Counter(map(loose_key, known))
    by_key = {loose_key(each): each for each in known if class_keys[loose_key(each)] == 1 and each not in met}
    by_key.pop("", None)
    return met | {
        name: by_key[loose_key(name)] for name in names if loose_key(name) in by_key and keys[loose_key(name)] == 1
    }


def loose_key(name: str) -> str:
    """Equal for names that differ only in case, in how they are encoded, or in what separates their words."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in folded if not letter.isspace() and letter not in "_-")


def few(names: Iterable[str], most: int = FEW) -> str:
    """The first few of many names, as a list in a sentence."""
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "")
