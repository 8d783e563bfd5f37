"""Several sources as one probing set, one after the other in the order of the study.

A repeat is found across sources as within one. Classes are united by name, as those of a folder's splits are: Happy of
one source is happy of an earlier one. Number 3 of two sources is refused where nothing names it. Each source decodes,
caches and splits its images itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby

from dissectdb.extract.images.decoding import Pixels
from dissectdb.extract.images.scan import Image, Record, Source
from dissectdb.extract.study import Dataset, StudyError
from dissectdb.extract.study.class_names import meet


class United(Source):
    """The images of several sources."""

    def __init__(self, dataset: Dataset, parts: Sequence[tuple[str, Source]]) -> None:
        """parts: each source with its name, in order."""
        super().__init__(dataset)
        self.name = f"dataset {dataset.name}"
        self.parts = parts
        self.class_of: dict[str, dict[str, str]] = {}  # source → its class → the class of all
        classes: list[str] = []
        left_out: Counter[tuple[str, str]] = Counter()
        for source_name, part in parts:
            met = meet(part.classes, classes)
            self._refuse_numbers_that_meet(source_name, met)
            self.class_of[source_name] = {name: met.get(name, name) for name in part.classes}
            classes += [name for name in part.classes if name not in met]
            left_out.update(part.left_out)
        self.classes, self.left_out = tuple(classes), left_out
        self.channels = frozenset().union(*(part.channels for _, part in parts))
        counts = [part.count for _, part in parts if part.count is not None]
        self.count = sum(counts) if len(counts) == len(parts) else None
        self.sizes: list[int] | None = None
        self.sound: dict[str, Counter[str]] = {}  # source → images without a defect per split

    def _refuse_numbers_that_meet(self, source_name: str, met: Mapping[str, str]) -> None:
        """Raise StudyError where classes would be one only because both are number 3: they may be a cat and a 3."""
        sources = dict(self.parts)
        for class_name, known in met.items():
            first = next(name for name, classes in self.class_of.items() if known in classes.values())
            for number_of in (source_name, first):
                if sources[number_of].has_unnamed_numbers:
                    raise StudyError(
                        f"{self.name}: class {class_name} of {source_name} and {known} of {first} may be different "
                        f"things: the classes of {number_of} are numbers without names; name them in that source, "
                        "classes = […], even if the names are the numbers"
                    )

    def fingerprint(self) -> str:
        parts = [(name, part.fingerprint()) for name, part in self.parts]
        return self.settings_hash(kind="sources", sources=parts).hexdigest()

    def scan(self) -> Iterator[Image]:
        self.sound = {name: Counter() for name, _ in self.parts}
        for image in super().scan():
            if image.defect is None and image.source is not None:
                self.sound[image.source][image.split] += 1
            yield image

    def assumptions(self, sound: Counter[str]) -> list[str]:
        return [
            f"{name}: {sentence}"
            for name, part in self.parts
            if self.sound[name]
            for sentence in part.assumptions(self.sound[name])
        ]

    def records(self) -> Iterator[Record]:
        """The records of all sources. Each source caches its own pixels."""
        sizes = []
        for name, part in self.parts:
            position, part.shown = -1, self.shown
            for position, record in enumerate(part.records()):
                if record.facts.defect is None and record.pixels is not None:
                    part.decoded.add(position, record.pixels)
                class_name = None if record.class_name is None else self.class_of[name][record.class_name]
                yield record._replace(class_name=class_name, pixels=None, source=name)
            sizes.append(position + 1)
        self.sizes = sizes

    def pixels(self, positions: list[int]) -> Iterator[Pixels]:
        if self.sizes is None:
            self.sizes = [part.size() for _, part in self.parts]
        starts = [0, *accumulate(self.sizes)]
        wanted = [position for position in positions if position < starts[-1]]
        part_of = {position: sum(position >= start for start in starts[1:]) for position in wanted}
        for index, of_part in groupby(wanted, part_of.__getitem__):
            yield from self.parts[index][1].read([position - starts[index] for position in of_part])
