"""What judged labels allow to say: whether a method fits the neurons of a layer best, and what it reaches.

standing = compared(methods, pairs)      # of one layer, on one set of images
standing.best                            # the row of the best method, if there is one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from dissectdb.reports.words import count, number, share

Row = dict[str, Any]
OTHER_Q = "q here is that of judge: it shuffles images within their classes. The q of extract does not"
FEW_OF_CLASS = (
    "rows by class without measures: each half of the images needs 20 of the label's classes and 20 of others"
)


@dataclass(frozen=True)
class Standing:
    """How methods compare. best: the row of the one that is better than each other, beyond chance, where both label.

    apart: how many pairs have too few neurons in common, of pairs.
    """

    methods: int
    pairs: int
    apart: int
    best: Row | None

    def why_none(self) -> str:
        """Why no method of several is called best."""
        if self.apart == self.pairs:
            return f"the {self.methods} methods label different neurons, so they cannot be compared"
        if self.apart:
            return f"some of the {self.methods} methods label different neurons, so none is called best"
        return f"none of {self.methods} methods is better than all others beyond chance"


def by_clip(summary: Sequence[Row]) -> list[Row]:
    """The rows with means that can be compared: by what CLIP sees, where something could be measured."""
    return [row for row in summary if row["reference"] == "clip" and row["pearson"] is not None]


def compared(methods: Sequence[Row], pairs: Sequence[Row]) -> Standing:
    """How the methods of a layer compare. methods: as by_clip returns them. pairs: rows of the question `pairs`.

    Two methods are compared by their correlations on the neurons that both label. A pair without an interval has
    fewer than two such neurons.
    """
    ids = [row["rival_id"] for row in methods]
    known = {(row["rival_id"], row["other_rival_id"]): row for row in pairs if row["low"] is not None}

    def surpasses(row: Row) -> bool:
        pairs_of = [known.get((row["rival_id"], other)) for other in ids if other != row["rival_id"]]
        return all(pair is not None and pair["low"] > 0 for pair in pairs_of)

    best = next((row for row in methods if len(ids) > 1 and surpasses(row)), None)
    of_two = list(combinations(ids, 2))
    apart = sum(pair not in known for pair in of_two)
    return Standing(len(methods), len(of_two), apart, best)


def fit(row: Row) -> str:
    """The mean correlation of a method's labels in a layer, and over how many neurons."""
    return f"mean correlation {number(row['pearson'])} over {count(row['measured'])} of {count(row['neurons'])} neurons"


def reached(row: Row) -> str:
    """What the labels of a method reach in a layer: the fit, and the share with a small q."""
    if row["share_believed"] is None:
        return fit(row)
    within = " within classes" if row["within_classes"] else ""
    random = "" if row["random_believed"] is None else f", of random ones {share(row['random_believed'])}"
    return f"{fit(row)}; {share(row['share_believed'])} of its labels have q ≤ 0.05{within}{random}"


def lacks_class(summary: Sequence[Row]) -> bool:
    """Whether rows by class are empty because too few images are of the classes."""
    return any(row["reference"] == "class" and row["measured"] == 0 for row in summary)
