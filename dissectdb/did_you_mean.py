"""What an error offers in place of a name that does not exist: the nearest few names, never a list of a hundred."""

from __future__ import annotations

import difflib
from collections.abc import Collection

NEAREST = 5  # names that are offered of many
FEW = 8  # so many names are all listed


def fold(name: str) -> str:
    """The name as DuckDB compares it: A to Z in lower case, other letters unchanged."""
    return name.encode().lower().decode()


def nearest(name: str, known: Collection[str], most: int = NEAREST) -> list[str]:
    """The known names that were probably meant, the likeliest first; upper and lower case count as equal."""
    folded = {fold(candidate): candidate for candidate in known}
    return [folded[match] for match in difflib.get_close_matches(fold(name), folded, n=most)]


def did_you_mean(name: str, known: Collection[str], most: int = 1, *, before: str = "", after: str = "") -> str:
    """«did you mean a or b?» between `before` and `after`; empty if no known name is near."""
    names = nearest(name, known, most)
    if not names:
        return ""
    meant = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"{before}did you mean {meant}?{after}"


def choices(name: str, known: Collection[str], verb: str = "there is") -> str:
    """What exists in place of `name`: all of few names; of many the nearest, or the first few if none is near.

    choices("lin9", ["conv1", "lin1"])  # did you mean lin1? there is conv1, lin1
    """
    names = list(known)
    if len(names) <= FEW:
        return f"{did_you_mean(name, names, after=' ')}{verb} {', '.join(names) or 'none'}"
    if hint := did_you_mean(name, names, NEAREST):
        return f"{hint} there are {len(names):,} in all"
    return f"{verb} {', '.join(names[:NEAREST])} and {len(names) - NEAREST:,} more"
