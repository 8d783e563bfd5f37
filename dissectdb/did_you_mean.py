"""What an error says of a name that nothing has: the nearest few of those that there are, never all of a hundred."""

from __future__ import annotations

import difflib
from collections.abc import Collection

NEAREST = 5
FEW = 8  # names that are listed one by one


def fold(name: str) -> str:
    """DuckDB's idea of the same name: upper and lower case of the 26 letters are equal, of others not."""
    return name.encode().lower().decode()


def nearest(name: str, known: Collection[str], most: int = NEAREST) -> list[str]:
    """The known names that were probably meant, the likeliest first; none where no name is near enough."""
    folded = {fold(each): each for each in known}
    return [folded[near] for near in difflib.get_close_matches(fold(name), folded, n=most)]


def there_is(name: str, known: Collection[str]) -> str:
    """«did you mean a or b? there are 98 in all»; of few names all of them, of many with none near the first few."""
    names, near = sorted(known), nearest(name, known)
    if not names:
        return "there is: nothing yet"
    if len(names) <= FEW:
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{hint}there is: {', '.join(names)}"
    if near:
        meant = near[0] if len(near) == 1 else f"{', '.join(near[:-1])} or {near[-1]}"
        return f"did you mean {meant}? there are {len(names):,} in all"
    return f"there is: {', '.join(names[:NEAREST])} and {len(names) - NEAREST:,} more"
