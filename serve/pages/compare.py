"""Two dissections side by side: layers, labels that moved, and images that only one network gets right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dissectdb.serve.asked import Asked, NotThere


def compare(asked: Asked) -> Mapping[str, Any]:
    """What differs between the dissections a and b of the address.

    Without them, b is the one that the pages show, and a the newest other one, if possible of the same network.
    """
    known = asked.records("dissections")
    numbers = [row["dissection_id"] for row in known]
    if len(numbers) < 2:
        return {"known": known, "a": None, "b": None}
    a, b = asked.number("a"), asked.number("b")
    shown = next((row for row in known if row["shown"]), known[0])
    others = [row for row in known if row is not shown]
    other = next((row for row in others if row["network"] == shown["network"]), others[0])
    a, b = other["dissection_id"] if a is None else a, shown["dissection_id"] if b is None else b
    for number in (a, b):
        if number not in numbers:
            raise NotThere(f"There is no dissection {number}; the warehouse has {', '.join(map(str, numbers))}")
    content: dict[str, Any] = {"known": known, "a": a, "b": b}
    if a == b:
        return content
    values = {"a": a, "b": b}
    content["totals"] = asked.records("compare_totals", **values)[0]
    for part in ("layers", "moves", "neurons", "flips"):
        content[part] = asked.records(f"compare_{part}", **values)
    return content
